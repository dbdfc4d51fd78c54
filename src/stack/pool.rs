//! The free stacks of a thread.

use super::region::Regions;
use super::{DEFAULT_SIZE, Header, Stack, StackError, usable_size};
use crate::sys::memory::{discard, page_size};
use std::ptr::NonNull;
use std::{io, iter};

/// So many free stacks of a size keep the memory that they have touched: the last given back, which
/// are taken first. The memory of a stack that is given back beyond that goes back to the kernel.
const WARM: usize = 4096;

/// So many of a size keep it also when the thread has not used them for a while.
const WARM_UNUSED: usize = 64;

/// A thread's stacks, by size. Dropped, their memory is unmapped.
pub(crate) struct Pool {
    /// Of [`DEFAULT_SIZE`].
    default: Class,
    others: Vec<Class>,
}

struct Class {
    regions: Regions,
    /// Free stacks, last in, first out: the first is the likeliest to be in the cache.
    warm: Option<Stack>,
    warm_count: usize,
    /// The lowest that `warm_count` was in the current period: so many were not used in it.
    unused: usize,
    /// Free stacks without memory: not even a header is there.
    cold: Vec<Cold>,
}

/// Where a stack was, and will be again.
struct Cold {
    bottom: NonNull<u8>,
    end: NonNull<u8>,
}

impl Pool {
    pub(crate) fn new() -> Self {
        Pool { default: Class::new(DEFAULT_SIZE), others: Vec::new() }
    }

    /// A stack of [`DEFAULT_SIZE`]: the one given back last, or a new one.
    #[inline]
    pub(crate) fn take_default(&mut self) -> Result<Stack, StackError> {
        self.default.take()
    }

    /// A stack of at least `size` bytes.
    pub(crate) fn take(&mut self, size: usize) -> Result<Stack, StackError> {
        self.class(usable_size(size)?).take()
    }

    /// As [`Pool::take`], and every byte of it is zero and its pages but the top one untouched.
    pub(crate) fn take_clean(&mut self, size: usize) -> Result<Stack, StackError> {
        let class = self.class(usable_size(size)?);
        let stack = class.take()?;
        // SAFETY: free a moment ago, and nobody has used it since.
        Ok(unsafe { class.warm_up(class.cool(stack)) })
    }

    /// Takes back a stack that is not a custom one.
    ///
    /// # Safety
    ///
    /// Nothing on it is used any more; the caller runs on another.
    #[inline]
    unsafe fn give_back_pooled(&mut self, stack: Stack) {
        let size = stack.size();
        let class = if size == DEFAULT_SIZE { &mut self.default } else { self.class(size) };
        if class.warm_count < WARM {
            class.warm_count += 1;
            stack.header().next.set(class.warm.replace(stack));
        } else {
            // SAFETY: the caller gives up what is on it.
            unsafe { class.push_cold(stack) };
        }
    }

    /// Takes back a stack. If it is a custom one its owner is returned, to be dropped by the caller.
    ///
    /// # Safety
    ///
    /// Nothing on it is used any more; the caller runs on another.
    #[inline]
    pub(crate) unsafe fn give_back(
        &mut self,
        stack: Stack,
    ) -> Option<Box<dyn corosensei::stack::Stack>> {
        let custom = stack.header().custom.take();
        if custom.is_none() {
            // SAFETY: as the caller says.
            unsafe { self.give_back_pooled(stack) };
        }
        custom
    }

    /// Gives the memory of all free stacks back to the kernel.
    pub(crate) fn trim(&mut self) {
        self.classes().for_each(|class| class.trim(0, usize::MAX));
    }

    /// Whether there are so many warm stacks that some may be unused.
    pub(crate) fn may_have_unused(&self) -> bool {
        let mut all = iter::once(&self.default).chain(&self.others);
        all.any(|class| class.warm_count > WARM_UNUSED)
    }

    /// Begins a period, in which no warm stack has been used yet.
    pub(crate) fn begin_period(&mut self) {
        self.classes().for_each(|class| class.unused = class.warm_count);
    }

    /// Gives the memory of stacks that were not used in this period back to the kernel: of `most` of a size,
    /// and not of the last few. Whether there were any.
    pub(crate) fn trim_unused(&mut self, most: usize) -> bool {
        let mut were_there = false;
        for class in self.classes() {
            let count = class.unused.saturating_sub(WARM_UNUSED).min(most);
            if count > 0 {
                were_there = true;
                // Those that were used are taken first.
                let used = class.warm_count - class.unused;
                class.trim(used + WARM_UNUSED, count);
            }
        }
        were_there
    }

    fn classes(&mut self) -> impl Iterator<Item = &mut Class> {
        iter::once(&mut self.default).chain(&mut self.others)
    }

    /// The class of a size that a stack can have.
    fn class(&mut self, size: usize) -> &mut Class {
        if size == DEFAULT_SIZE {
            return &mut self.default;
        }
        let found = self.others.iter().position(|class| class.regions.size() == size);
        let index = found.unwrap_or_else(|| {
            self.others.push(Class::new(size));
            self.others.len() - 1
        });
        &mut self.others[index]
    }
}

impl Class {
    fn new(size: usize) -> Self {
        let (regions, cold) = (Regions::new(size), Vec::new());
        Class { regions, warm: None, warm_count: 0, unused: 0, cold }
    }

    #[inline]
    fn take(&mut self) -> Result<Stack, StackError> {
        let Some(stack) = self.warm else { return self.take_cold() };
        self.warm = stack.header().next.take();
        if let Some(next) = self.warm {
            next.prefetch();
        }
        self.warm_count -= 1;
        if self.warm_count < self.unused {
            self.unused = self.warm_count;
        }
        Ok(stack)
    }

    #[cold]
    #[inline(never)]
    fn take_cold(&mut self) -> Result<Stack, StackError> {
        match self.cold.pop() {
            // SAFETY: free since `cool`.
            Some(cold) => Ok(unsafe { self.warm_up(cold) }),
            None => {
                // Room for each stack there is, now: giving one back must not fail for lack of memory.
                let room = self.regions.total() + 1;
                if self.cold.try_reserve(room).is_err() {
                    let bytes = room * size_of::<Cold>();
                    let source = io::ErrorKind::OutOfMemory.into();
                    return Err(StackError::Reserve { bytes, source });
                }
                self.regions.carve()
            }
        }
    }

    /// Gives the memory of at most `count` warm stacks back to the kernel, but not of the `keep` that are
    /// taken first.
    fn trim(&mut self, keep: usize, count: usize) {
        let (mut last, mut next) = (None, self.warm);
        for _ in 0..keep {
            last = next;
            next = next.and_then(|stack| stack.header().next.get());
        }
        for _ in 0..count {
            let Some(stack) = next else { break };
            next = stack.header().next.take();
            // SAFETY: it is free, and in no list any more.
            unsafe { self.push_cold(stack) };
            self.warm_count -= 1;
        }
        match last {
            Some(last) => last.header().next.set(next),
            None => self.warm = next,
        }
        self.unused = self.unused.min(self.warm_count);
    }

    /// Takes back a stack and keeps none of its memory.
    ///
    /// # Safety
    ///
    /// As for [`Class::cool`].
    #[cold]
    #[inline(never)]
    unsafe fn push_cold(&mut self, stack: Stack) {
        // SAFETY: as the caller says.
        let cold = unsafe { self.cool(stack) };
        self.cold.push(cold);
    }

    /// Gives all of a stack's memory back to the kernel, its header as well.
    ///
    /// # Safety
    ///
    /// Nobody needs what is on it, and nobody uses its name any more.
    unsafe fn cool(&self, stack: Stack) -> Cold {
        let (bottom, top) = (stack.bottom(), stack.top());
        let used = top.addr().get() + size_of::<Header>() - bottom.addr().get();
        // SAFETY: the header lies below the end, from which its colour separates it.
        let end = unsafe { bottom.add(used) };
        // SAFETY: from the stack's bottom to the end of its last page, which is the stack's alone.
        unsafe { discard(bottom, used.next_multiple_of(page_size())) };
        Cold { bottom, end }
    }

    /// Makes a stack again of what [`Class::cool`] has left.
    ///
    /// # Safety
    ///
    /// Once for each.
    unsafe fn warm_up(&self, cold: Cold) -> Stack {
        // SAFETY: memory of a region that is no stack at present.
        unsafe { Stack::new(cold.bottom, cold.end, self.regions.size(), None) }
    }
}
