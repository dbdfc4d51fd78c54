//! The pool of a thread's free stacks.
//!
//! A free stack is *warm*, and keeps the memory that it has touched, or *cold*, with its memory returned to
//! the kernel.

use super::region::Regions;
use super::{DEFAULT_SIZE, Header, Stack, StackError, usable_size};
use crate::sys::memory::{discard, page_size};
use std::ptr::NonNull;
use std::{io, iter};

/// The most warm stacks per size. Further stacks that are given back become cold.
const WARM: usize = 4096;

/// The most warm stacks per size that stay warm though the thread has not used them for a while.
const WARM_UNUSED: usize = 64;

/// A thread's stacks, by size. Dropping it unmaps their memory.
pub(crate) struct Pool {
    /// The stacks of [`DEFAULT_SIZE`].
    default: Class,
    others: Vec<Class>,
}

struct Class {
    regions: Regions,
    /// The warm free stacks, last in, first out: the first is the likeliest to be in the cache.
    warm: Option<Stack>,
    warm_count: usize,
    /// The lowest value of `warm_count` in the current period: the number of warm stacks not used in it.
    unused: usize,
    /// The cold free stacks. They have no memory, and so no header.
    cold: Vec<Cold>,
}

/// The place of a cold stack.
struct Cold {
    bottom: NonNull<u8>,
    end: NonNull<u8>,
}

impl Pool {
    pub(crate) fn new() -> Self {
        Pool { default: Class::new(DEFAULT_SIZE), others: Vec::new() }
    }

    /// Takes a stack of [`DEFAULT_SIZE`]: the one given back last, or a new one.
    #[inline]
    pub(crate) fn take_default(&mut self) -> Result<Stack, StackError> {
        self.default.take()
    }

    /// Takes a stack of at least `size` bytes.
    pub(crate) fn take(&mut self, size: usize) -> Result<Stack, StackError> {
        self.class(usable_size(size)?).take()
    }

    /// Takes a stack of at least `size` bytes that is all zero, and untouched but for its top page.
    pub(crate) fn take_clean(&mut self, size: usize) -> Result<Stack, StackError> {
        let class = self.class(usable_size(size)?);
        let stack = class.take()?;
        // SAFETY: it was just taken out of the free list, so nothing uses it or its content.
        Ok(unsafe { class.warm_up(class.cool(stack)) })
    }

    /// Takes back a stack that is not a custom one.
    ///
    /// # Safety
    ///
    /// Nothing uses the stack or its content any more, and the caller runs on another stack.
    #[inline]
    unsafe fn give_back_pooled(&mut self, stack: Stack) {
        let size = stack.size();
        let class = if size == DEFAULT_SIZE { &mut self.default } else { self.class(size) };
        if class.warm_count < WARM {
            class.warm_count += 1;
            stack.header().next.set(class.warm.replace(stack));
        } else {
            // SAFETY: this function's contract: the stack and its content are unused.
            unsafe { class.push_cold(stack) };
        }
    }

    /// Takes back a stack. Returns the owner of a custom stack, for the caller to drop.
    ///
    /// # Safety
    ///
    /// Nothing uses the stack or its content any more, and the caller runs on another stack.
    #[inline]
    pub(crate) unsafe fn give_back(
        &mut self,
        stack: Stack,
    ) -> Option<Box<dyn corosensei::stack::Stack>> {
        let custom = stack.header().custom.take();
        if custom.is_none() {
            // SAFETY: this function's contract; and the stack has no custom owner.
            unsafe { self.give_back_pooled(stack) };
        }
        custom
    }

    /// Returns the memory of all free stacks to the kernel.
    pub(crate) fn trim(&mut self) {
        self.classes().for_each(|class| class.trim(0, usize::MAX));
    }

    /// Whether there are more warm stacks than stay warm when unused.
    pub(crate) fn may_have_unused(&self) -> bool {
        let mut all = iter::once(&self.default).chain(&self.others);
        all.any(|class| class.warm_count > WARM_UNUSED)
    }

    /// Begins a period, in which no warm stack has been used yet.
    pub(crate) fn begin_period(&mut self) {
        self.classes().for_each(|class| class.unused = class.warm_count);
    }

    /// Returns the memory of stacks that were not used in this period to the kernel.
    ///
    /// At most `most` stacks per size, and not of the last [`WARM_UNUSED`]. Returns whether there were any.
    pub(crate) fn trim_unused(&mut self, most: usize) -> bool {
        let mut were_there = false;
        for class in self.classes() {
            let count = class.unused.saturating_sub(WARM_UNUSED).min(most);
            if count > 0 {
                were_there = true;
                // The free list begins with the stacks that were used.
                let used = class.warm_count - class.unused;
                class.trim(used + WARM_UNUSED, count);
            }
        }
        were_there
    }

    fn classes(&mut self) -> impl Iterator<Item = &mut Class> {
        iter::once(&mut self.default).chain(&mut self.others)
    }

    /// Returns the class of a valid stack size.
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
            // SAFETY: it was made by `cool`, and is out of the list, so it is warmed up once.
            Some(cold) => Ok(unsafe { self.warm_up(cold) }),
            None => {
                // Reserve room for every existing stack now: giving one back must not fail for lack of
                // memory.
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

    /// Makes at most `count` warm stacks cold, but not the first `keep` of the free list.
    fn trim(&mut self, keep: usize, count: usize) {
        let (mut last, mut next) = (None, self.warm);
        for _ in 0..keep {
            last = next;
            next = next.and_then(|stack| stack.header().next.get());
        }
        for _ in 0..count {
            let Some(stack) = next else { break };
            next = stack.header().next.take();
            // SAFETY: the stack is free and in no list any more, so nothing uses it.
            unsafe { self.push_cold(stack) };
            self.warm_count -= 1;
        }
        match last {
            Some(last) => last.header().next.set(next),
            None => self.warm = next,
        }
        self.unused = self.unused.min(self.warm_count);
    }

    /// Takes back a stack and returns all of its memory to the kernel.
    ///
    /// # Safety
    ///
    /// The contract of [`Class::cool`].
    #[cold]
    #[inline(never)]
    unsafe fn push_cold(&mut self, stack: Stack) {
        // SAFETY: this function's contract is that of `cool`.
        let cold = unsafe { self.cool(stack) };
        self.cold.push(cold);
    }

    /// Returns all of a stack's memory to the kernel, its header included.
    ///
    /// # Safety
    ///
    /// The content of the stack is not needed, and no copy of this `Stack` is used any more.
    unsafe fn cool(&self, stack: Stack) -> Cold {
        let (bottom, top) = (stack.bottom(), stack.top());
        let used = top.addr().get() + size_of::<Header>() - bottom.addr().get();
        // SAFETY: the header lies inside the stack's memory, so its end is in bounds.
        let end = unsafe { bottom.add(used) };
        // SAFETY: from the stack's bottom to the end of its last page: whole pages that only this stack
        // uses, and by this function's contract their content is not needed.
        unsafe { discard(bottom, used.next_multiple_of(page_size())) };
        Cold { bottom, end }
    }

    /// Makes a cold stack warm: writes a new header.
    ///
    /// # Safety
    ///
    /// `cold` is used once.
    unsafe fn warm_up(&self, cold: Cold) -> Stack {
        // SAFETY: memory of a region, which no stack uses since `cool`.
        unsafe { Stack::new(cold.bottom, cold.end, self.regions.size(), None) }
    }
}
