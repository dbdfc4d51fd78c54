#![forbid(unsafe_code)]
//! What can be done with a greenlet.

use super::error::{ParentError, SwitchError};
use super::raw::{self, AnyWeakGreenlet, Greenlet, Life, Payload, Untyped, WeakGreenlet};
use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};

/// A greenlet whose types are not known to the compiler. What it is sent is checked at each switch.
///
/// # Examples
///
/// ```
/// use switchgrass::{AnyGreenlet, Greenlet};
///
/// let all: Vec<AnyGreenlet> =
///     vec![Greenlet::new(|n: u8| n + 1).erase(), Greenlet::new(|s: &'static str| s.len()).erase()];
/// assert_eq!(all[0].switch_any::<u8, u8>(1), 2);
/// assert_eq!(all[1].switch_any::<&'static str, usize>("four"), 4);
/// ```
pub type AnyGreenlet = Greenlet<Untyped, Untyped>;

/// The greenlet that runs. Outside of every greenlet this is the thread's main greenlet, which is there
/// from the beginning.
///
/// # Examples
///
/// ```
/// use switchgrass::{Greenlet, current};
///
/// assert_eq!(current().name().as_deref(), Some("main"));
/// let greenlet = Greenlet::new(|()| current());
/// assert_eq!(greenlet.switch(()), greenlet);
/// ```
///
/// # Panics
///
/// When the thread is ending and has unwound its greenlets.
///
/// # Switching
///
/// Never switches.
#[track_caller]
pub fn current() -> AnyWeakGreenlet {
    raw::current().expect("the thread is ending and has unwound its greenlets")
}

/// How many greenlets of this thread have been made and are not dead. The main greenlet is not counted.
///
/// # Examples
///
/// ```
/// use switchgrass::{Greenlet, greenlet};
///
/// let greenlet = Greenlet::new(|()| ());
/// assert_eq!(greenlet::live_count(), 1);
/// drop(greenlet);
/// assert_eq!(greenlet::live_count(), 0);
/// ```
///
/// # Switching
///
/// Never switches.
pub fn live_count() -> usize {
    raw::live_count()
}

impl<In: 'static, Out: 'static> Greenlet<In, Out> {
    /// Makes a greenlet that will call `body` with the first value that it is sent. The current
    /// greenlet becomes its parent. See [`Builder`](crate::Builder) for a name, a size, another parent.
    ///
    /// A body that never returns needs the type of its result written, as in `|()| -> () { loop { .. } }`:
    /// without that the compiler takes it to be `!`, of which there are no values, so that nothing can be
    /// sent to whoever awaits one.
    ///
    /// # Panics
    ///
    /// When there is no stack for it: see [`BuildError`](crate::BuildError), which
    /// [`Builder::build`](crate::Builder::build) returns instead.
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn new(body: impl FnOnce(In) -> Out + 'static) -> Self {
        match raw::create(body) {
            Ok(greenlet) => greenlet,
            Err(error) => panic!("no greenlet was made: {error}"),
        }
    }
}

impl<In, Out> Greenlet<In, Out> {
    /// The same handle, its types forgotten by the compiler. See [`AnyGreenlet`].
    pub fn erase(self) -> AnyGreenlet {
        self.erase_types()
    }

    /// The same handle, its types known to the compiler.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::Greenlet;
    ///
    /// let any = Greenlet::new(|number: u64| number * 2).erase();
    /// let any = any.typed::<String, String>().expect_err("it accepts an u64");
    /// let double = any.typed::<u64, u64>().expect("it does");
    /// assert_eq!(double.switch(4), 8);
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the handle as it was if the greenlet was declared with other types. A thread's main
    /// greenlet has none.
    pub fn typed<T: 'static, R: 'static>(self) -> Result<Greenlet<T, R>, Self> {
        self.into_typed()
    }
}

/// Switching and throwing. What these return is what the *current* greenlet is sent next.
impl<In: 'static, Out: 'static> WeakGreenlet<In, Out> {
    /// Suspends the current greenlet and sends `value` to this one: the first makes it begin, a later
    /// one is what its pending switch returns. Returns what is next sent to the current greenlet, by
    /// anybody.
    ///
    /// A switch to oneself returns the value at once. A switch to a dead greenlet goes to its first
    /// live ancestor.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::{Greenlet, current};
    ///
    /// let sum = Greenlet::new(|mut number: i32| -> i32 {
    ///     let parent = current().parent().unwrap();
    ///     let mut sum = 0;
    ///     loop {
    ///         sum += number;
    ///         number = parent.switch_any(sum);
    ///     }
    /// });
    /// assert_eq!(sum.switch(1), 1);
    /// assert_eq!(sum.switch(10), 11);
    /// assert_eq!(sum.switch(100), 111);
    /// ```
    ///
    /// # Panics
    ///
    /// With the message of a [`SwitchError`], where [`WeakGreenlet::try_switch`] returns one; but when a
    /// child has ended by [`GreenletExit`](crate::GreenletExit) and `Out` is `()`, it returns that.
    /// What is thrown into the current greenlet is raised here, and so is the panic of a child that
    /// has ended by one.
    ///
    /// # Switching
    ///
    /// Always switches, unless it panics at once. Everybody may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// If something is thrown into the current greenlet, it is raised here. The value has been
    /// received by then.
    #[inline(always)]
    #[track_caller]
    pub fn switch(&self, value: In) -> Out {
        match self.exchange(value) {
            Ok(out) => out,
            Err(error) => without_value(error),
        }
    }

    /// As [`WeakGreenlet::switch`], with the errors as values.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::{Greenlet, SwitchError};
    ///
    /// let greenlet = Greenlet::new(|()| 5_u8);
    /// assert_eq!(greenlet.try_switch(()).unwrap(), 5);
    /// // Now it is dead: what it is sent goes to its parent, who awaits something else.
    /// let error = greenlet.try_switch(()).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "greenlet 'main' awaits a value of type `u8`, not `()`",
    /// );
    /// ```
    ///
    /// # Errors
    ///
    /// The cases of [`SwitchError`]. In those that hold the value, nothing was sent.
    ///
    /// # Panics
    ///
    /// What is thrown into the current greenlet is raised here, and so is the panic of a child that
    /// has ended by one.
    ///
    /// # Switching
    ///
    /// Always switches, unless the error holds the value. Everybody may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// As for [`WeakGreenlet::switch`].
    #[inline(always)]
    pub fn try_switch(&self, value: In) -> Result<Out, SwitchError<In>> {
        self.exchange(value)
    }

    /// Raises `payload` at the pending switch of this greenlet, as a panic that prints nothing.
    /// Returns what is next sent to the current greenlet.
    ///
    /// - It catches it and switches on: that is what comes back sooner or later.
    /// - It does not: it ends, and the payload goes to its parent, where it is raised. If the payload
    ///   is a [`GreenletExit`](crate::GreenletExit), this is a normal end, and the parent gets
    ///   [`SwitchError::Exited`].
    /// - It has not begun: its body is dropped, and it ends as above.
    /// - It is dead: a `GreenletExit` comes straight back, anything else is raised in its first live
    ///   ancestor.
    /// - It is the current one: the payload is raised here.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::panic::{AssertUnwindSafe, catch_unwind};
    /// use switchgrass::{Greenlet, current};
    ///
    /// let careful = Greenlet::new(|()| {
    ///     let main = current().parent().unwrap();
    ///     let caught = catch_unwind(AssertUnwindSafe(|| main.switch_any::<(), ()>(())));
    ///     assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"wake up"));
    /// });
    /// careful.switch(());
    /// careful.throw("wake up").unwrap();
    /// assert!(careful.is_dead());
    /// ```
    ///
    /// # Errors
    ///
    /// The cases of [`SwitchError`]. In those that hold the payload, nothing was thrown.
    ///
    /// # Panics
    ///
    /// What is thrown into the current greenlet is raised here: the payload itself, if the current
    /// greenlet is the parent of one that did not catch it.
    ///
    /// # Switching
    ///
    /// Always switches, unless the greenlet is the current one or dead, or the error holds the
    /// payload.
    ///
    /// # Cancellation
    ///
    /// As for [`WeakGreenlet::switch`].
    pub fn throw<P: Any + Send>(&self, payload: P) -> Result<Out, SwitchError<Payload>> {
        self.raise(Box::new(payload))
    }
}

/// The same without types.
impl<In, Out> WeakGreenlet<In, Out> {
    /// As [`WeakGreenlet::switch`], for a greenlet whose types the compiler does not know, or which is
    /// suspended in a wait for another type than it was declared with. What is sent and what is
    /// awaited are checked at run time.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::{Greenlet, current};
    ///
    /// let greenlet = Greenlet::new(|()| {
    ///     // Yields to the parent a type that is not its result's, and awaits one that is not `()`.
    ///     let got: String = current().parent().unwrap().switch_any(1_u32);
    ///     got.len()
    /// });
    /// let greenlet = greenlet.erase();
    /// assert_eq!(greenlet.switch_any::<(), u32>(()), 1);
    /// assert_eq!(greenlet.switch_any::<String, usize>("four".to_string()), 4);
    /// ```
    ///
    /// # Panics
    ///
    /// As [`WeakGreenlet::switch`].
    ///
    /// # Switching
    ///
    /// As [`WeakGreenlet::switch`].
    ///
    /// # Cancellation
    ///
    /// As [`WeakGreenlet::switch`].
    #[track_caller]
    pub fn switch_any<T: 'static, R: 'static>(&self, value: T) -> R {
        match self.switch_any_checked(value) {
            Ok(received) => received,
            Err(error) => without_value(error),
        }
    }

    /// As [`WeakGreenlet::switch_any`], with the errors as values.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::{Greenlet, SwitchError};
    ///
    /// let double = Greenlet::new(|n: u64| 2 * n).erase();
    /// let refused = double.try_switch_any::<&str, u64>("four").unwrap_err();
    /// assert_eq!(refused.into_value(), Some("four"));
    /// assert_eq!(double.try_switch_any::<u64, u64>(4).unwrap(), 8);
    /// ```
    ///
    /// # Errors
    ///
    /// The cases of [`SwitchError`]. In those that hold the value, nothing was sent.
    ///
    /// # Switching
    ///
    /// As [`WeakGreenlet::try_switch`].
    ///
    /// # Cancellation
    ///
    /// As [`WeakGreenlet::switch`].
    pub fn try_switch_any<T: 'static, R: 'static>(&self, value: T) -> Result<R, SwitchError<T>> {
        self.switch_any_checked(value)
    }

    /// As [`WeakGreenlet::throw`], awaiting a value of any type.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::{Greenlet, GreenletExit, SwitchError};
    ///
    /// let never_begun = Greenlet::new(|()| 1_u8).erase();
    /// let result = never_begun.throw_any::<u8>(Box::new(GreenletExit));
    /// assert!(matches!(result, Err(SwitchError::Exited(_))));
    /// ```
    ///
    /// # Errors
    ///
    /// As [`WeakGreenlet::throw`].
    ///
    /// # Switching
    ///
    /// As [`WeakGreenlet::throw`].
    ///
    /// # Cancellation
    ///
    /// As [`WeakGreenlet::switch`].
    pub fn throw_any<R: 'static>(&self, payload: Payload) -> Result<R, SwitchError<Payload>> {
        self.raise(payload)
    }
}

/// What a switch is worth that brought no value: a panic, but for the end of a child whose result would
/// have been `()`.
#[cold]
#[inline(never)]
#[track_caller]
fn without_value<T, R: 'static>(error: SwitchError<T>) -> R {
    if matches!(error, SwitchError::Exited(_)) {
        let unit: Box<dyn Any> = Box::new(());
        if let Ok(unit) = unit.downcast::<R>() {
            return *unit;
        }
    }
    panic!("{error}")
}

/// Handles, relatives and facts.
impl<In, Out> WeakGreenlet<In, Out> {
    /// A handle that keeps it alive, unless the last one of those has gone.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::{Greenlet, current};
    ///
    /// // A greenlet hands out a counted handle of itself: a scheduler would put it into its queue.
    /// let itself = Greenlet::new(|()| current().upgrade().unwrap());
    /// let weak = itself.downgrade();
    /// let counted = itself.switch(());
    /// drop(itself);
    /// assert!(weak.upgrade().is_some());
    /// drop(counted);
    /// assert!(weak.upgrade().is_none());
    /// ```
    pub fn upgrade(&self) -> Option<Greenlet<In, Out>> {
        self.to_counted()
    }

    /// The same handle, its types known to the compiler; `None` if the greenlet was declared with
    /// others. A thread's main greenlet has none.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::{Greenlet, current};
    ///
    /// let echo = Greenlet::new(|n: u32| {
    ///     let me = current();
    ///     assert!(me.to_types::<String, u32>().is_none());
    ///     me.to_types::<u32, u32>().unwrap().switch(n) // a switch to oneself
    /// });
    /// assert_eq!(echo.switch(3), 3);
    /// ```
    pub fn to_types<T: 'static, R: 'static>(&self) -> Option<WeakGreenlet<T, R>> {
        self.to_typed()
    }

    /// A handle that does not keep the greenlet alive.
    pub fn downgrade(&self) -> WeakGreenlet<In, Out> {
        self.clone()
    }

    /// The greenlet that gets this one's result, or its panic. By default the one that made it; `None`
    /// for a thread's main greenlet.
    ///
    /// A parent that is dead is returned as well: what goes to it goes to *its* parent.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::{Greenlet, current};
    ///
    /// let greenlet = Greenlet::new(|()| {
    ///     // Suspends itself: sends its parent a 1, and goes on when it is sent a unit.
    ///     current().parent().unwrap().switch_any::<i32, ()>(1);
    ///     2
    /// });
    /// assert_eq!(greenlet.parent().unwrap(), current());
    /// assert_eq!(greenlet.switch(()), 1);
    /// assert_eq!(greenlet.switch(()), 2);
    /// assert!(current().parent().is_none());
    /// ```
    pub fn parent(&self) -> Option<AnyWeakGreenlet> {
        self.core().parent()
    }

    /// Makes `parent` the one that gets this greenlet's result. The link does not keep it alive.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::{Greenlet, ParentError};
    ///
    /// let (child, other) = (Greenlet::new(|()| ()), Greenlet::new(|()| ()));
    /// child.set_parent(&other).unwrap();
    /// assert!(matches!(other.set_parent(&child), Err(ParentError::Cycle { .. })));
    /// ```
    ///
    /// # Errors
    ///
    /// [`ParentError::Cycle`] if this greenlet is `parent` or an ancestor of it, and
    /// [`ParentError::Main`] if it is a thread's main greenlet. Nothing is changed then.
    pub fn set_parent<T, R>(&self, parent: &WeakGreenlet<T, R>) -> Result<(), ParentError> {
        self.core().set_parent(parent)
    }

    /// Whether it has ended: its body has returned or unwound, or its thread has ended. A greenlet
    /// that has not begun is not dead.
    pub fn is_dead(&self) -> bool {
        matches!(self.core().life(), Life::Ending | Life::Dead)
    }

    /// Whether its body has begun. It may have ended since.
    pub fn is_started(&self) -> bool {
        self.core().life() != Life::Unstarted
    }

    /// Whether its body has begun and not ended: it runs, or is suspended.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::{Builder, current};
    ///
    /// let greenlet = Builder::new().name("worker").build(|()| current().is_active()).unwrap();
    /// assert!(!greenlet.is_started() && !greenlet.is_active() && !greenlet.is_dead());
    /// assert_eq!(greenlet.name().as_deref(), Some("worker"));
    /// assert!(greenlet.switch(()));
    /// assert!(greenlet.is_started() && !greenlet.is_active() && greenlet.is_dead());
    /// ```
    pub fn is_active(&self) -> bool {
        self.core().life() == Life::Started
    }

    /// Whether it is the one that runs.
    pub fn is_current(&self) -> bool {
        self.core().is_current()
    }

    /// The name that its builder gave it. A thread's main greenlet is called `main`.
    pub fn name(&self) -> Option<Cow<'static, str>> {
        self.core().name()
    }

    /// The number by which messages call it if it has no name: the first of a thread is 1, and no
    /// number is used twice.
    pub fn id(&self) -> u64 {
        self.core().id()
    }

    /// The size of its stack in bytes. `None` for a main greenlet and for a dead one.
    pub fn stack_size(&self) -> Option<usize> {
        self.core().stack_size()
    }

    /// The bytes of its stack that have been in use at most: how much did it really need? `None` for a
    /// main greenlet and for a dead one.
    ///
    /// Stacks are used again, so this may be what an earlier greenlet needed, unless this one was
    /// built with [`Builder::clean_stack`](crate::Builder::clean_stack). Memory that a frame reserved
    /// and never wrote to is not seen.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::{Builder, current};
    ///
    /// fn deep(levels: u32) -> u32 {
    ///     let frame = std::hint::black_box([levels; 256]); // 1 KiB
    ///     if levels == 0 { frame[0] } else { deep(levels - 1) + frame[1] }
    /// }
    /// let greenlet = Builder::new().clean_stack().build(|levels: u32| {
    ///     deep(levels);
    ///     current().stack_high_water()
    /// }).unwrap();
    /// let used = greenlet.switch(20).unwrap();
    /// assert!(used > 20 * 1024, "{used}");
    /// ```
    pub fn stack_high_water(&self) -> Option<usize> {
        self.core().stack_high_water()
    }
}

/// Handles are equal if they are of the same greenlet.
impl<In, Out, T, R> PartialEq<WeakGreenlet<T, R>> for WeakGreenlet<In, Out> {
    fn eq(&self, other: &WeakGreenlet<T, R>) -> bool {
        std::ptr::eq(self.core(), other.core())
    }
}

/// Handles are equal if they are of the same greenlet.
impl<In, Out, T, R> PartialEq<Greenlet<T, R>> for WeakGreenlet<In, Out> {
    fn eq(&self, other: &Greenlet<T, R>) -> bool {
        *self == **other
    }
}

/// Handles are equal if they are of the same greenlet.
impl<In, Out, T, R> PartialEq<Greenlet<T, R>> for Greenlet<In, Out> {
    fn eq(&self, other: &Greenlet<T, R>) -> bool {
        **self == **other
    }
}

/// Handles are equal if they are of the same greenlet.
impl<In, Out, T, R> PartialEq<WeakGreenlet<T, R>> for Greenlet<In, Out> {
    fn eq(&self, other: &WeakGreenlet<T, R>) -> bool {
        **self == *other
    }
}

impl<In, Out> Eq for Greenlet<In, Out> {}
impl<In, Out> Eq for WeakGreenlet<In, Out> {}

impl<In, Out> Hash for Greenlet<In, Out> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl<In, Out> Hash for WeakGreenlet<In, Out> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::ptr::from_ref(self.core()).hash(state);
    }
}

/// Shows the name or number, and the state: `main`, `unstarted`, `running`, `suspended` or `dead`.
impl<In, Out> fmt::Debug for Greenlet<In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Shows the name or number, and the state: `main`, `unstarted`, `running`, `suspended` or `dead`.
impl<In, Out> fmt::Debug for WeakGreenlet<In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Greenlet(")?;
        match self.name() {
            Some(name) => write!(f, "{name:?}")?,
            None => write!(f, "#{}", self.id())?,
        }
        let core = self.core();
        let state = match core.life() {
            Life::Unstarted => "unstarted",
            Life::Ending | Life::Dead => "dead",
            Life::Started if core.is_current() => "running",
            Life::Started => "suspended",
        };
        let main = if core.has_no_parent() { "main, " } else { "" };
        write!(f, ", {main}{state})")
    }
}
