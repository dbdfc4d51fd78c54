#![forbid(unsafe_code)]
//! Generators: a body that yields values, as an [`Iterator`].
//!
//! Unlike a state machine made by the compiler, a body can yield from any call depth: from a recursion,
//! from a closure that a library calls, from a callback of C code.
//!
//! ```
//! use switchgrass::generator::{Generator, Yielder};
//!
//! fn hanoi(y: &Yielder<(char, char)>, disks: u32, from: char, to: char, via: char) {
//!     if disks > 0 {
//!         hanoi(y, disks - 1, from, via, to);
//!         y.yield_((from, to));
//!         hanoi(y, disks - 1, via, to, from);
//!     }
//! }
//!
//! let moves = Generator::new(|y| hanoi(&y, 3, 'A', 'C', 'B'));
//! assert_eq!(moves.count(), 7);
//! ```
//!
//! A generator is a greenlet ([`crate::greenlet`]) whose parent is the greenlet that requests the next
//! value:
//!
//! ```text
//!   consumer                            body
//!   next() ── sent, Resume ───────────► ...
//!                                       y.yield_(value)
//!   Some(value) ◄──── yielded, Paused ──┘
//!   next() ── sent, Resume ───────────► returns from yield_
//!                                       ... ends
//!   None ◄──────────────────── Paused ──┘
//! ```

use crate::greenlet::{AnyWeakGreenlet, BuildError, Greenlet, SwitchError, current, scoped};
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

/// What a consumer sends to the body. Private, so that no other switch can send it.
struct Resume;

/// What a body sends to the consumer. Private, so that no other switch can send it.
struct Paused;

/// The state shared by both sides of a generator.
struct Shared<Y, S> {
    yielded: Cell<Option<Y>>,
    sent: Cell<Option<S>>,
    /// The greenlet that awaits a value.
    consumer: Cell<Option<AnyWeakGreenlet>>,
    /// The greenlet that has yielded and is resumed next: the body's, or one made by the body.
    yielding: Cell<Option<AnyWeakGreenlet>>,
}

/// A body that yields values of type `Y`, and receives values of type `S` in return.
///
/// It is an [`Iterator`] if nothing is sent (`S` is `()`). The body starts with the first
/// [`Iterator::next`] or [`Generator::send`]. Dropping a generator before its end unwinds the body, so that
/// its destructors run.
///
/// # Examples
///
/// ```
/// use switchgrass::Generator;
///
/// let mut squares = Generator::new(|y| {
///     for n in 1_u32.. {
///         y.yield_(n * n);
///     }
/// });
/// assert_eq!(squares.next(), Some(1));
/// assert_eq!(squares.by_ref().take(3).collect::<Vec<_>>(), [4, 9, 16]);
/// ```
///
/// It cannot be sent to another thread:
///
/// ```compile_fail,E0277
/// let mut numbers = switchgrass::Generator::<u8>::new(|y| y.yield_(1));
/// std::thread::spawn(move || numbers.next());
/// ```
pub struct Generator<Y, S = ()> {
    body: Greenlet<Resume, Paused>,
    shared: Rc<Shared<Y, S>>,
}

/// Yields values to the consumer of a generator.
///
/// A yielder can be cloned and passed on. It yields from any greenlet to the consumer of its generator, as
/// long as that consumer awaits a value.
pub struct Yielder<Y, S = ()> {
    shared: Rc<Shared<Y, S>>,
}

impl<Y: 'static> Generator<Y> {
    /// Creates a generator of the values that `body` yields.
    ///
    /// See [`Generator::scoped`] for a body that borrows, and [`Generator::with_input`] for one that is
    /// sent values.
    ///
    /// # Panics
    ///
    /// If no stack can be allocated.
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn new(body: impl FnOnce(Yielder<Y>) + 'static) -> Self {
        Generator::with_input(|yielder, ()| body(yielder))
    }
}

impl<Y: 'static, S: 'static> Generator<Y, S> {
    /// Creates a generator that is sent values; `body` is called with the first one.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::Generator;
    ///
    /// let mut average = Generator::with_input(|y, first: f64| {
    ///     let (mut sum, mut count) = (first, 1.0);
    ///     loop {
    ///         sum += y.yield_(sum / count);
    ///         count += 1.0;
    ///     }
    /// });
    /// assert_eq!(average.send(1.0), Some(1.0));
    /// assert_eq!(average.send(2.0), Some(1.5));
    /// assert_eq!(average.send(6.0), Some(3.0));
    /// ```
    ///
    /// # Panics
    ///
    /// If no stack can be allocated.
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn with_input(body: impl FnOnce(Yielder<Y, S>, S) + 'static) -> Self {
        let shared = Rc::new(Shared::new());
        let run = Shared::body(Rc::clone(&shared), body);
        Generator { body: Greenlet::new(run), shared }
    }
}

impl<Y> Generator<Y> {
    /// Calls `inside` with a generator whose body may borrow what is alive during this call.
    ///
    /// When `inside` returns or panics, the body is unwound if it has not ended. This does not depend on a
    /// destructor, which could be forgotten.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::Generator;
    ///
    /// let text = String::from("to be or not");
    /// let longest = Generator::scoped(
    ///     |y| text.split(' ').for_each(|word| y.yield_(word)),
    ///     |words| words.max_by_key(|word| word.len()),
    /// ).unwrap();
    /// assert_eq!(longest, Some("not"));
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the error of [`Builder::build`](crate::Builder::build) if the greenlet cannot be created.
    ///
    /// # Switching
    ///
    /// May switch: to the body, to unwind it, if it has begun and has not ended when `inside` ends.
    ///
    /// # Cancellation
    ///
    /// A kill that reaches `inside` unwinds the body as well.
    pub fn scoped<R>(
        body: impl FnOnce(Yielder<Y>),
        inside: impl FnOnce(&mut Generator<Y>) -> R,
    ) -> Result<R, BuildError> {
        Generator::scoped_with_input(|yielder, ()| body(yielder), inside)
    }
}

impl<Y, S> Generator<Y, S> {
    /// Like [`Generator::scoped`], but for a body that is sent values.
    ///
    /// # Errors
    ///
    /// Returns the error of [`Builder::build`](crate::Builder::build) if the greenlet cannot be created.
    ///
    /// # Switching
    ///
    /// May switch: to the body, to unwind it, if it has begun and has not ended when `inside` ends.
    ///
    /// # Cancellation
    ///
    /// A kill that reaches `inside` unwinds the body as well.
    pub fn scoped_with_input<R>(
        body: impl FnOnce(Yielder<Y, S>, S),
        inside: impl FnOnce(&mut Generator<Y, S>) -> R,
    ) -> Result<R, BuildError> {
        let shared = Rc::new(Shared::new());
        let run = Shared::body(Rc::clone(&shared), body);
        scoped(run, |greenlet| inside(&mut Generator { body: greenlet.clone(), shared }))
    }

    /// Sends `value` to the body and returns what it yields next; `None` when it has ended.
    ///
    /// The body is called with the first value. Each later one is returned by its [`Yielder::yield_`].
    ///
    /// # Panics
    ///
    /// - With the panic of the body, if it panics. The generator has ended then.
    /// - If the body's greenlet is an ancestor of the current one: it would become its own descendant.
    /// - If the greenlet that yielded last is not the body's and has ended, or if the end of another
    ///   greenlet arrives here instead of a value.
    ///
    /// # Switching
    ///
    /// Always switches: to the body, which may switch to others. Never switches after the body has ended.
    ///
    /// # Cancellation
    ///
    /// A kill or a panic thrown into the current greenlet unwinds from here. No consumer awaits a value
    /// then: if another greenlet resumes the body, its next yield gets an error.
    #[track_caller]
    pub fn send(&mut self, value: S) -> Option<Y> {
        if self.body.is_dead() {
            return None;
        }
        self.shared.resume(&self.body, value)
    }

    /// Ends the generator, as dropping it does: unwinds the body if it has not ended.
    ///
    /// # Switching
    ///
    /// May switch: to the body, to unwind it, if it has begun and has not ended.
    pub fn close(self) {}

    /// Whether the body has ended.
    pub fn is_finished(&self) -> bool {
        self.body.is_dead()
    }
}

impl<Y> Iterator for Generator<Y> {
    type Item = Y;

    #[track_caller]
    fn next(&mut self) -> Option<Y> {
        self.send(())
    }
}

impl<Y> std::iter::FusedIterator for Generator<Y> {}

impl<Y, S> Yielder<Y, S> {
    /// Passes `value` to the consumer, and returns what the consumer sends for the next one.
    ///
    /// # Panics
    ///
    /// If no consumer awaits a value: outside of the generator, or while the generator is dropped.
    /// [`Yielder::try_yield`] returns the value instead.
    ///
    /// # Switching
    ///
    /// Always switches: to the consumer. Others may run before it requests the next value.
    ///
    /// # Cancellation
    ///
    /// If the generator is dropped meanwhile, a [`GreenletExit`](crate::GreenletExit) is thrown here.
    #[track_caller]
    pub fn yield_(&self, value: Y) -> S {
        match self.try_yield(value) {
            Ok(sent) => sent,
            Err(_) => panic!("yield outside of a generator: no consumer awaits a value"),
        }
    }

    /// Like [`Yielder::yield_`], but returns the value if no consumer awaits one.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::{cell::RefCell, rc::Rc};
    /// use switchgrass::Generator;
    ///
    /// let outside = Rc::new(RefCell::new(None));
    /// let slot = Rc::clone(&outside);
    /// let numbers = Generator::new(move |y| {
    ///     slot.replace(Some(y.clone()));
    ///     y.yield_(1);
    /// });
    /// assert_eq!(numbers.count(), 1);
    /// let yielder = outside.take().unwrap();
    /// assert_eq!(yielder.try_yield(2), Err(2));
    /// ```
    ///
    /// # Errors
    ///
    /// Returns `value` if no consumer awaits one.
    ///
    /// # Switching
    ///
    /// May switch: to the consumer, unless it returns an error. Others may run before the consumer requests
    /// the next value.
    ///
    /// # Cancellation
    ///
    /// If the generator is dropped meanwhile, a [`GreenletExit`](crate::GreenletExit) is thrown here.
    pub fn try_yield(&self, value: Y) -> Result<S, Y> {
        self.shared.yield_(value)
    }
}

impl<Y, S> Shared<Y, S> {
    fn new() -> Self {
        Shared {
            yielded: Cell::new(None),
            sent: Cell::new(None),
            consumer: Cell::new(None),
            yielding: Cell::new(None),
        }
    }

    /// Returns the function that the greenlet of a generator runs.
    fn body<F>(this: Rc<Self>, body: F) -> impl FnOnce(Resume) -> Paused
    where
        F: FnOnce(Yielder<Y, S>, S),
    {
        move |Resume| {
            let first = this.sent.take().expect("a consumer sends before it switches");
            body(Yielder { shared: this }, first);
            Paused
        }
    }

    #[track_caller]
    fn resume(&self, body: &Greenlet<Resume, Paused>, value: S) -> Option<Y> {
        /// Clears the consumer, however the wait ends: none awaits a value afterwards.
        struct Waiting<'a>(&'a Cell<Option<AnyWeakGreenlet>>);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.take();
            }
        }
        let me = current();
        if body.parent().as_ref() != Some(&me)
            && let Err(error) = body.set_parent(&me)
        {
            panic!("a generator was resumed by its own descendant: {error}");
        }
        // Left over if the last wait did not end with the value.
        drop(self.yielded.take());
        self.sent.set(Some(value));
        self.consumer.set(Some(me));
        let _waiting = Waiting(&self.consumer);
        let arrived = match self.yielding.take() {
            // A switch to it would lead to an ancestor, perhaps to the body of another generator.
            Some(yielding) if yielding.is_dead() => {
                panic!(
                    "a generator cannot continue: the greenlet that yielded its last value has ended"
                )
            }
            Some(yielding) => yielding.try_switch_any::<Resume, Paused>(Resume),
            None => body.try_switch(Resume),
        };
        match arrived {
            Ok(Paused) | Err(SwitchError::Exited(_)) => {
                let yielded = self.yielded.take();
                assert!(
                    yielded.is_some() || body.is_dead(),
                    "a generator cannot continue: the end of another greenlet arrived at the consumer",
                );
                yielded
            }
            Err(error) => panic!("a generator cannot continue: {error}"),
        }
    }

    fn yield_(&self, value: Y) -> Result<S, Y> {
        let Some(consumer) = self.consumer.take() else { return Err(value) };
        self.yielding.set(Some(current()));
        self.yielded.set(Some(value));
        let arrived =
            consumer.try_switch_any::<Paused, Resume>(Paused).map_err(SwitchError::into_value);
        match arrived {
            Ok(Resume) => Ok(self.sent.take().expect("a consumer sends before it switches")),
            // No switch was made: the consumer waits as before.
            Err(Some(Paused)) => {
                self.yielding.take();
                self.consumer.set(Some(consumer));
                Err(self.yielded.take().expect("no switch was made"))
            }
            Err(None) => {
                self.yielding.take();
                panic!(
                    "a generator's body was resumed by the end of a child greenlet, not by its consumer"
                )
            }
        }
    }
}

impl<Y, S> Clone for Yielder<Y, S> {
    fn clone(&self) -> Self {
        Yielder { shared: Rc::clone(&self.shared) }
    }
}

impl<Y, S> fmt::Debug for Generator<Y, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Generator").field(&self.body).finish()
    }
}

impl<Y, S> fmt::Debug for Yielder<Y, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Yielder").finish_non_exhaustive()
    }
}
