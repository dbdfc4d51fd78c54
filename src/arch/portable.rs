//! The switch over `corosensei::Coroutine`, for every architecture that it supports.
//!
//! corosensei is asymmetric: a coroutine can only go back to whoever resumed it. So all of them are
//! resumed from one place, the thread's first stack, and a switch between two of them is a suspension
//! with the name of the next:
//!
//! ```text
//!    thread's stack             A's stack                 B's stack
//!    ──────────────             ─────────                 ─────────
//!    switch(main → A)
//!      └ drive ── resume ─────► ...
//!                               switch(A → B)
//!        drive ◄── suspend(B) ──┘
//!          └─────── resume ─────────────────────────────► ...
//!                                                         switch(B → main)
//!        drive ◄──────────────────────── suspend(main) ───┘
//!    switch returns
//! ```
//!
//! Two machine switches for one of ours, and a loop in between: for correctness, not for speed.
//!
//! The unwind tables are wrong in corosensei's switch, which is inlined here (see `x86_64/switch.rs`). So a
//! flag of the thread says that one is being made: see [`backtrace_is_safe`].

use super::{Entry, STACK_ALIGNMENT, Word};
use corosensei::stack::{Stack, StackPointer};
use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::cell::{Cell, UnsafeCell};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::compiler_fence;
use std::{mem, ptr};

thread_local! {
    /// Whether corosensei is changing from one stack to another on this thread.
    static IS_SWITCHING: AtomicBool = const { AtomicBool::new(false) };
}

/// Whether a signal handler on this thread may take a backtrace of what it has interrupted.
pub(crate) fn backtrace_is_safe() -> bool {
    !IS_SWITCHING.with(|flag| flag.load(Relaxed))
}

/// Stored on one stack and withdrawn on another, so by functions and not by a guard.
fn set_switching(is_switching: bool) {
    compiler_fence(SeqCst);
    IS_SWITCHING.with(|flag| flag.store(is_switching, Relaxed));
    compiler_fence(SeqCst);
}

/// What is handed over: from `drive` into a coroutine.
type Message = (Word, usize);

/// What a suspension says to `drive`: whom to go on with, and what to hand over.
struct Transfer {
    to: *const Context,
    message: Message,
}

type Fiber = Coroutine<Message, Transfer, (), Borrowed>;

/// A stretch of memory that somebody else owns, as a stack for corosensei.
struct Borrowed {
    top: StackPointer,
    bottom: StackPointer,
}

// SAFETY: `prepare` demands of its caller what this trait asks: memory that is used as nothing else,
// of at least 4 KiB, below which a guard page lies.
unsafe impl Stack for Borrowed {
    fn base(&self) -> StackPointer {
        self.top
    }

    fn limit(&self) -> StackPointer {
        self.bottom
    }
}

/// Where a suspended computation goes on.
pub(crate) struct Context {
    /// `None` for the computation that the thread began with.
    fiber: UnsafeCell<Option<Fiber>>,
    /// Set by the fiber itself when it starts; null for the thread's first computation.
    yielder: Cell<*const Yielder<Message, Transfer>>,
}

impl Drop for Context {
    /// A fiber that is still there is one that was left suspended: its frames stay as they are. (A
    /// `Coroutine` would unwind them.)
    fn drop(&mut self) {
        mem::forget(self.fiber.get_mut().take());
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}

impl Context {
    /// The context of a computation that is running: filled in when it first switches away.
    pub(crate) const fn new() -> Self {
        Context { fiber: UnsafeCell::new(None), yielder: Cell::new(ptr::null()) }
    }

    /// Makes this the context of a computation that will call `entry` on the stack below `top`.
    ///
    /// # Safety
    ///
    /// From `bottom` up to `top` there is writable memory, at least 4 KiB of it, that nobody else
    /// uses for as long as this context lives; `top` is a multiple of [`STACK_ALIGNMENT`].
    pub(crate) unsafe fn prepare(&self, top: *mut u8, bottom: *mut u8, entry: Entry) {
        debug_assert_eq!(top.addr() % STACK_ALIGNMENT, 0);
        let bottom = bottom.addr().next_multiple_of(STACK_ALIGNMENT);
        let stack = Borrowed {
            top: StackPointer::new(top.addr()).expect("a stack is not at address zero"),
            bottom: StackPointer::new(bottom).expect("a stack is not at address zero"),
        };
        let this = ptr::from_ref(self);
        let body = move |yielder: &Yielder<Message, Transfer>, (word, signal): Message| {
            set_switching(false);
            // SAFETY: the context outlives its computation, as `switch` demands.
            unsafe { (*this).yielder.set(yielder) };
            // SAFETY: `entry` is called on a fresh stack with what the first switch handed over.
            unsafe { entry(word, signal) }
        };
        // SAFETY: `body` borrows nothing but this context, which outlives its fiber; the memory is as
        // the caller says. Nobody looks into the cell while it is replaced: it runs nothing yet.
        unsafe { *self.fiber.get() = Some(Fiber::with_stack_unchecked(stack, body)) };
    }

    /// Would ask for what a switch to this context reads first from its stack: where that is is not known.
    pub(crate) fn prefetch_stack(&self) {}

    /// Forgets a computation that will never be resumed.
    ///
    /// # Safety
    ///
    /// It has ended by a last [`switch`] away, or was never switched to.
    pub(crate) unsafe fn retire(&self) {
        self.yielder.set(ptr::null());
        // SAFETY: nothing runs in the fiber, so nobody else looks into the cell. A computation that
        // has ended owns nothing on its stack, and one never started owns only `body`, which has no
        // destructor: so there is nothing that a reset could lose.
        unsafe {
            if let Some(mut fiber) = (*self.fiber.get()).take() {
                fiber.force_reset();
            }
        }
    }
}

/// Suspends the running computation in `from` and goes on with `to`, handing over `word` and
/// `signal`. Returns what is handed over by whoever next switches to `from`.
///
/// # Safety
///
/// `from` is the context of the running computation, `to` of one that is suspended or fresh and
/// belongs to this thread (or is `from` itself: then this returns at once). Both outlive the switch.
#[inline]
pub(crate) unsafe fn switch(
    from: &Context,
    to: &Context,
    word: Word,
    signal: usize,
) -> (Word, usize) {
    if ptr::eq(from, to) {
        return (word, signal);
    }
    let transfer = Transfer { to, message: (word, signal) };
    let yielder = from.yielder.get();
    if yielder.is_null() {
        // SAFETY: the running computation has no fiber, so this is the thread's first stack.
        unsafe { drive(from, transfer) }
    } else {
        set_switching(true);
        // SAFETY: the yielder lies on the stack of the running fiber, which is `from`'s.
        let message = unsafe { (*yielder).suspend(transfer) };
        set_switching(false);
        message
    }
}

/// Resumes one fiber after another, on the thread's first stack, until one hands over to `home`.
///
/// # Safety
///
/// As for [`switch`]; called on the thread's first stack.
unsafe fn drive(home: &Context, first: Transfer) -> Message {
    let Transfer { mut to, mut message } = first;
    while !ptr::eq(to, home) {
        // SAFETY: `to` came from a `&Context` that outlives the switch. It is suspended or fresh, so
        // its cell is not being looked into; while it runs, only its own `drive` does, which is this.
        let fiber = unsafe { (*(*to).fiber.get()).as_mut() };
        let fiber = fiber.expect("only the thread's first computation has no fiber");
        set_switching(true);
        let result = fiber.resume(message);
        set_switching(false);
        match result {
            CoroutineResult::Yield(transfer) => Transfer { to, message } = transfer,
            CoroutineResult::Return(()) => unreachable!("an entry does not return"),
        }
    }
    message
}
