//! A switch based on `corosensei::Coroutine`, for every architecture that it supports.
//!
//! corosensei is asymmetric: a coroutine can only suspend to its resumer. So all of them are resumed from
//! one place, the thread's first stack. A switch between two coroutines suspends the first with the address
//! of the second:
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
//! This takes two machine switches per switch, and a loop in between: it is for correctness, not for speed.
//!
//! The unwind tables are wrong inside corosensei's switch, which is inlined here (see `x86_64/switch.rs`).
//! So a thread-local flag is set during it: see [`backtrace_is_safe`].

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

/// Whether a signal handler on this thread may take a backtrace of the code it interrupted.
pub(crate) fn backtrace_is_safe() -> bool {
    !IS_SWITCHING.with(|flag| flag.load(Relaxed))
}

/// Sets the flag. A function and not a guard, since it is set on one stack and cleared on another.
fn set_switching(is_switching: bool) {
    compiler_fence(SeqCst);
    IS_SWITCHING.with(|flag| flag.store(is_switching, Relaxed));
    compiler_fence(SeqCst);
}

/// The values that `drive` passes into a coroutine.
type Message = (Word, usize);

/// The request of a suspended coroutine to `drive`: the context to resume next, and the values to pass.
struct Transfer {
    to: *const Context,
    message: Message,
}

type Fiber = Coroutine<Message, Transfer, (), Borrowed>;

/// Memory owned by other code, as a stack for corosensei.
struct Borrowed {
    top: StackPointer,
    bottom: StackPointer,
}

// SAFETY: by the contract of `prepare` the memory has the properties that this trait requires: nothing else
// uses it, it is at least 4 KiB long, and a guard page lies below it.
unsafe impl Stack for Borrowed {
    fn base(&self) -> StackPointer {
        self.top
    }

    fn limit(&self) -> StackPointer {
        self.bottom
    }
}

/// The place where a suspended computation resumes.
pub(crate) struct Context {
    /// `None` for the thread's first computation.
    fiber: UnsafeCell<Option<Fiber>>,
    /// Set by the fiber itself when it starts. Null for the thread's first computation.
    yielder: Cell<*const Yielder<Message, Transfer>>,
}

impl Drop for Context {
    /// Forgets a fiber that was left suspended, so that its frames stay as they are. A dropped `Coroutine`
    /// would unwind them.
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
    /// Creates the context of a running computation. Its first switch away fills it in.
    pub(crate) const fn new() -> Self {
        Context { fiber: UnsafeCell::new(None), yielder: Cell::new(ptr::null()) }
    }

    /// Makes this the context of a computation that will call `entry` on the stack below `top`.
    ///
    /// # Safety
    ///
    /// `bottom..top` is writable memory of at least 4 KiB, above a guard page, that nothing else uses while
    /// this context lives, and `top` is a multiple of [`STACK_ALIGNMENT`].
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
            // SAFETY: the context outlives its computation, by the contract of `switch`.
            unsafe { (*this).yielder.set(yielder) };
            // SAFETY: this is a fresh stack, and the arguments are those of the first switch.
            unsafe { entry(word, signal) }
        };
        // SAFETY: `body` borrows only this context, which outlives its fiber, and the memory is as this
        // function's contract requires. The computation is not running, so there is no reference into the
        // cell.
        unsafe { *self.fiber.get() = Some(Fiber::with_stack_unchecked(stack, body)) };
    }

    /// A no-op in this backend: the part of the stack that a switch reads first is unknown.
    pub(crate) fn prefetch_stack(&self) {}

    /// Releases a computation that will never be resumed.
    ///
    /// # Safety
    ///
    /// The computation has ended by a last [`switch`] away from it, or was never switched to.
    pub(crate) unsafe fn retire(&self) {
        self.yielder.set(ptr::null());
        // SAFETY: nothing runs in the fiber, so there is no other reference into the cell. A computation
        // that has ended owns nothing on its stack. One that was never started owns only `body`, which has
        // no destructor. So the reset loses nothing.
        unsafe {
            if let Some(mut fiber) = (*self.fiber.get()).take() {
                fiber.force_reset();
            }
        }
    }
}

/// Suspends the running computation in `from` and resumes `to`, passing `word` and `signal`.
///
/// Returns the word and signal passed by the next switch to `from`.
///
/// # Safety
///
/// `from` is the context of the running computation. `to` is suspended or fresh and belongs to this thread,
/// or is `from` itself: then this returns at once. Both outlive the switch.
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
        // SAFETY: the running computation has no fiber, so this is the thread's first stack, and the rest
        // is this function's contract.
        unsafe { drive(from, transfer) }
    } else {
        set_switching(true);
        // SAFETY: the yielder lies on the stack of the running fiber, which is that of `from`.
        let message = unsafe { (*yielder).suspend(transfer) };
        set_switching(false);
        message
    }
}

/// Resumes one fiber after another, on the thread's first stack, until one of them switches to `home`.
///
/// # Safety
///
/// The contract of [`switch`]; and this is the thread's first stack.
unsafe fn drive(home: &Context, first: Transfer) -> Message {
    let Transfer { mut to, mut message } = first;
    while !ptr::eq(to, home) {
        // SAFETY: `to` came from a `&Context` that outlives the switch. It is suspended or fresh, so there
        // is no reference into its cell. While it runs, only this function holds one.
        let fiber = unsafe { (*(*to).fiber.get()).as_mut() };
        let fiber = fiber.expect("only the thread's first computation has no fiber");
        set_switching(true);
        let result = fiber.resume(message);
        set_switching(false);
        match result {
            CoroutineResult::Yield(transfer) => Transfer { to, message } = transfer,
            CoroutineResult::Return(()) => unreachable!("an entry never returns"),
        }
    }
    message
}
