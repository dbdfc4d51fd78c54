#![forbid(unsafe_code)]
//! Generators: a body that yields values, as an [`Iterator`].
//!
//! Unlike a state machine that the compiler makes, a body yields from any depth of calls: from a
//! recursion, from a closure that a library calls, from a callback of C code.
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
//! A generator is a greenlet ([`crate::greenlet`]) whose parent is whoever asks for the next value:
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

/// What a consumer sends, and nobody else has.
struct Resume;

/// What a consumer awaits, and nobody else has.
struct Paused;

/// What both sides of a generator know.
struct Shared<Y, S> {
    yielded: Cell<Option<Y>>,
    sent: Cell<Option<S>>,
    /// Who awaits a value.
    consumer: Cell<Option<AnyWeakGreenlet>>,
    /// Who has yielded and is to be resumed: the body, or a greenlet that the body has made.
    yielding: Cell<Option<AnyWeakGreenlet>>,
}

/// A body that yields values of type `Y`, and is sent values of type `S` in return.
///
/// It is an [`Iterator`] if nothing is sent (`S` is `()`). The body begins with the first
/// [`Iterator::next`] or [`Generator::send`]. Dropping a generator before its end unwinds the body, so
/// that its destructors run.
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
/// It does not leave its thread:
///
/// ```compile_fail,E0277
/// let mut numbers = switchgrass::Generator::<u8>::new(|y| y.yield_(1));
/// std::thread::spawn(move || numbers.next());
/// ```
pub struct Generator<Y, S = ()> {
    body: Greenlet<Resume, Paused>,
    shared: Rc<Shared<Y, S>>,
}

/// What a body yields by.
///
/// It can be cloned and handed on: whoever has it yields to the consumer of its generator, from
/// whatever greenlet, as long as that consumer awaits a value.
pub struct Yielder<Y, S = ()> {
    shared: Rc<Shared<Y, S>>,
}

impl<Y: 'static> Generator<Y> {
    /// A generator of what `body` yields. See [`Generator::scoped`] for one that borrows, and
    /// [`Generator::with_input`] for one that is sent values.
    ///
    /// # Panics
    ///
    /// When there is no stack for it.
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
    /// A generator that is sent values: `body` is called with the first.
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
    /// When there is no stack for it.
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
    /// When `inside` returns or panics, the body is unwound if it has not ended. No destructor has to
    /// run for that which could be forgotten.
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
    /// As [`Builder::build`](crate::Builder::build).
    ///
    /// # Switching
    ///
    /// Switches if the body has begun and not ended when `inside` has: to it, so that it unwinds.
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
    /// As [`Generator::scoped`], for a body that is sent values.
    ///
    /// # Errors
    ///
    /// As [`Builder::build`](crate::Builder::build).
    ///
    /// # Switching
    ///
    /// As [`Generator::scoped`].
    ///
    /// # Cancellation
    ///
    /// As [`Generator::scoped`].
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
    /// The first value is given to the body as it begins, a later one is what its
    /// [`Yielder::yield_`] returns.
    ///
    /// # Panics
    ///
    /// - A panic of the body is raised here. The generator has ended then.
    /// - When the body's greenlet is an ancestor of the current one: it would have to be its own
    ///   child.
    /// - When the body yielded in another greenlet, which has ended, or when the end of another greenlet
    ///   comes here instead of a value.
    ///
    /// # Switching
    ///
    /// Always switches, unless the body has ended: to the body. It may switch to others.
    ///
    /// # Cancellation
    ///
    /// What is thrown into the current greenlet is raised here. Nobody awaits a value then: a body that
    /// is resumed by somebody else and yields gets an error.
    #[track_caller]
    pub fn send(&mut self, value: S) -> Option<Y> {
        if self.body.is_dead() {
            return None;
        }
        self.shared.resume(&self.body, value)
    }

    /// Ends the generator: unwinds its body if it has not ended. The same as dropping it.
    ///
    /// # Switching
    ///
    /// Switches if the body has begun and not ended: to it, so that it unwinds.
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
    /// Hands `value` to the consumer, and returns what the consumer sends when it wants the next.
    ///
    /// # Panics
    ///
    /// When no consumer awaits a value: this is called outside of the generator, or the generator is
    /// being dropped. [`Yielder::try_yield`] returns the value instead.
    ///
    /// # Switching
    ///
    /// Always switches: to the consumer. Others may run before the next value is asked for.
    ///
    /// # Cancellation
    ///
    /// When the generator is dropped meanwhile, a [`GreenletExit`](crate::GreenletExit) is raised
    /// here.
    #[track_caller]
    pub fn yield_(&self, value: Y) -> S {
        match self.try_yield(value) {
            Ok(sent) => sent,
            Err(_) => panic!("yield outside of a generator: no consumer awaits a value"),
        }
    }

    /// As [`Yielder::yield_`], with the error as a value.
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
    /// Returns the value when no consumer awaits one.
    ///
    /// # Switching
    ///
    /// As [`Yielder::yield_`], unless it returns an error.
    ///
    /// # Cancellation
    ///
    /// As [`Yielder::yield_`].
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

    /// What the greenlet of a generator runs.
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
        /// However the wait ends, nobody awaits a value afterwards.
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
            panic!("a generator was asked for a value by its own descendant: {error}");
        }
        // Left over if the last wait was ended by something else than the value.
        drop(self.yielded.take());
        self.sent.set(Some(value));
        self.consumer.set(Some(me));
        let _waiting = Waiting(&self.consumer);
        let came = match self.yielding.take() {
            // A switch to it would lead to an ancestor, perhaps to the body of another generator.
            Some(yielding) if yielding.is_dead() => {
                panic!(
                    "a generator cannot go on: the greenlet that yielded its last value has ended"
                )
            }
            Some(yielding) => yielding.try_switch_any::<Resume, Paused>(Resume),
            None => body.try_switch(Resume),
        };
        match came {
            Ok(Paused) | Err(SwitchError::Exited(_)) => {
                let yielded = self.yielded.take();
                assert!(
                    yielded.is_some() || body.is_dead(),
                    "a generator cannot go on: another greenlet has ended, and its end came to the consumer",
                );
                yielded
            }
            Err(error) => panic!("a generator cannot go on: {error}"),
        }
    }

    fn yield_(&self, value: Y) -> Result<S, Y> {
        let Some(consumer) = self.consumer.take() else { return Err(value) };
        self.yielding.set(Some(current()));
        self.yielded.set(Some(value));
        let came =
            consumer.try_switch_any::<Paused, Resume>(Paused).map_err(SwitchError::into_value);
        match came {
            Ok(Resume) => Ok(self.sent.take().expect("a consumer sends before it switches")),
            // No switch was made: the consumer waits as before.
            Err(Some(Paused)) => {
                self.yielding.take();
                self.consumer.set(Some(consumer));
                Err(self.yielded.take().expect("nobody ran meanwhile"))
            }
            Err(None) => {
                self.yielding.take();
                panic!("a generator's body was resumed by a child's end, not by its consumer")
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
