#![forbid(unsafe_code)]
//! The methods of greenlet handles.

use super::error::{ParentError, SwitchError};
use super::raw::{self, AnyWeakGreenlet, Greenlet, Life, Payload, Untyped, WeakGreenlet};
use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};

/// A greenlet whose types are checked at run time, at each switch.
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

/// Returns the current greenlet.
///
/// Code that runs outside of every created greenlet runs in the thread's main greenlet, which always
/// exists.
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
/// If the thread is ending and has unwound its greenlets.
///
/// # Switching
///
/// Never switches.
#[track_caller]
pub fn current() -> AnyWeakGreenlet {
    raw::current().expect("the thread is ending and has unwound its greenlets")
}

/// Returns the number of greenlets of this thread that have not ended.
///
/// The main greenlet is not counted.
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
    /// Creates a greenlet that calls `body` with the first value sent to it.
    ///
    /// The current greenlet becomes its parent. [`Builder`](crate::Builder) sets a name, a stack size or
    /// another parent.
    ///
    /// A body that never returns needs an explicit result type, as in `|()| -> () { loop { .. } }`.
    /// Otherwise the compiler infers `!`, of which there are no values, so no value could be sent to a
    /// greenlet that awaits one.
    ///
    /// # Panics
    ///
    /// If the greenlet cannot be created, for instance for lack of stack memory.
    /// [`Builder::build`](crate::Builder::build) returns a [`BuildError`](crate::BuildError) instead.
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn new(body: impl FnOnce(In) -> Out + 'static) -> Self {
        match raw::create(body) {
            Ok(greenlet) => greenlet,
            Err(error) => panic!("cannot create a greenlet: {error}"),
        }
    }
}

impl<In, Out> Greenlet<In, Out> {
    /// Converts the handle to one whose types are checked at run time.
    ///
    /// See [`AnyGreenlet`].
    pub fn erase(self) -> AnyGreenlet {
        self.erase_types()
    }

    /// Converts the handle to one whose types are checked at compile time.
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
    /// Returns the handle unchanged if the greenlet was declared with other types. A thread's main greenlet
    /// is declared with no types.
    pub fn typed<T: 'static, R: 'static>(self) -> Result<Greenlet<T, R>, Self> {
        self.into_typed()
    }
}

/// Switching and throwing. These return the next value sent to the *current* greenlet.
impl<In: 'static, Out: 'static> WeakGreenlet<In, Out> {
    /// Sends `value` to this greenlet and suspends the current one.
    ///
    /// The first value starts the body, a later one is returned by the greenlet's pending switch. Returns
    /// the next value sent to the current greenlet, from any greenlet.
    ///
    /// A switch to the current greenlet returns the value at once. A switch to a dead greenlet goes to its
    /// first live ancestor.
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
    /// With the message of a [`SwitchError`] where [`WeakGreenlet::try_switch`] returns one. As an
    /// exception, if a child has ended with [`GreenletExit`](crate::GreenletExit) and `Out` is `()`,
    /// returns `()`.
    ///
    /// What is thrown into the current greenlet is raised here, and so is the panic of a child that ended
    /// by one.
    ///
    /// # Switching
    ///
    /// Always switches, unless it panics at once. Any greenlet may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// What is thrown into the current greenlet is raised here. `value` has been received by then.
    #[inline(always)]
    #[track_caller]
    pub fn switch(&self, value: In) -> Out {
        match self.switch_typed(value) {
            Ok(out) => out,
            Err(error) => without_value(error),
        }
    }

    /// Like [`WeakGreenlet::switch`], but returns errors as values.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::{Greenlet, SwitchError};
    ///
    /// let greenlet = Greenlet::new(|()| 5_u8);
    /// assert_eq!(greenlet.try_switch(()).unwrap(), 5);
    /// // The greenlet is dead now: the value goes to its parent, which awaits another type.
    /// let error = greenlet.try_switch(()).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "greenlet 'main' awaits a value of type `u8`, not `()`",
    /// );
    /// ```
    ///
    /// # Errors
    ///
    /// See the variants of [`SwitchError`]. Nothing was sent if the error holds the value.
    ///
    /// # Panics
    ///
    /// What is thrown into the current greenlet is raised here, and so is the panic of a child that ended
    /// by one.
    ///
    /// # Switching
    ///
    /// Always switches, unless the error holds the value. Any greenlet may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// What is thrown into the current greenlet is raised here. `value` has been received by then.
    #[inline(always)]
    pub fn try_switch(&self, value: In) -> Result<Out, SwitchError<In>> {
        self.switch_typed(value)
    }

    /// Raises `payload` at this greenlet's pending switch, without the panic hook.
    ///
    /// Suspends the current greenlet and returns the next value sent to it. What happens depends on this
    /// greenlet:
    ///
    /// - It catches the payload and switches on: the call returns when a value is sent back.
    /// - It does not catch it: it ends, and the payload is raised in its parent. If the payload is a
    ///   [`GreenletExit`](crate::GreenletExit), that is a normal end, and the parent receives
    ///   [`SwitchError::Exited`].
    /// - It has not started: its body is dropped, and it ends as above.
    /// - It is dead: a `GreenletExit` returns at once as [`SwitchError::Exited`]; any other payload is
    ///   raised in its first live ancestor.
    /// - It is the current greenlet: the payload is raised here.
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
    /// See the variants of [`SwitchError`]. Nothing was thrown if the error holds the payload.
    ///
    /// # Panics
    ///
    /// What is thrown into the current greenlet is raised here: `payload` itself, if the current greenlet
    /// is the parent of a greenlet that did not catch it.
    ///
    /// # Switching
    ///
    /// Always switches, unless the greenlet is the current one or dead, or the error holds the payload. Any
    /// greenlet may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// What is thrown into the current greenlet is raised here. `payload` has been received by then.
    pub fn throw<P: Any + Send>(&self, payload: P) -> Result<Out, SwitchError<Payload>> {
        self.throw_payload(Box::new(payload))
    }
}

/// Switching and throwing with types checked at run time.
impl<In, Out> WeakGreenlet<In, Out> {
    /// Like [`WeakGreenlet::switch`], but checks both types at run time.
    ///
    /// For a greenlet whose types the compiler does not know, or which awaits another type than its
    /// declared one.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::{Greenlet, current};
    ///
    /// let greenlet = Greenlet::new(|()| {
    ///     // Sends the parent a `u32`, which is not the result type, and awaits a `String`, not `()`.
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
    /// If the types do not match, and where [`WeakGreenlet::switch`] does.
    ///
    /// # Switching
    ///
    /// Always switches, unless it panics at once. Any greenlet may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// What is thrown into the current greenlet is raised here. `value` has been received by then.
    #[track_caller]
    pub fn switch_any<T: 'static, R: 'static>(&self, value: T) -> R {
        match self.switch_any_checked(value) {
            Ok(received) => received,
            Err(error) => without_value(error),
        }
    }

    /// Like [`WeakGreenlet::switch_any`], but returns errors as values.
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
    /// See the variants of [`SwitchError`]. Nothing was sent if the error holds the value.
    ///
    /// # Switching
    ///
    /// Always switches, unless the error holds the value. Any greenlet may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// What is thrown into the current greenlet is raised here. `value` has been received by then.
    pub fn try_switch_any<T: 'static, R: 'static>(&self, value: T) -> Result<R, SwitchError<T>> {
        self.switch_any_checked(value)
    }

    /// Like [`WeakGreenlet::throw`], but awaits a value of any type.
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
    /// See the variants of [`SwitchError`]. Nothing was thrown if the error holds the payload.
    ///
    /// # Switching
    ///
    /// Always switches, unless the greenlet is the current one or dead, or the error holds the payload. Any
    /// greenlet may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// What is thrown into the current greenlet is raised here. `payload` has been received by then.
    pub fn throw_any<R: 'static>(&self, payload: Payload) -> Result<R, SwitchError<Payload>> {
        self.throw_payload(payload)
    }
}

/// Turns a switch that returned no value into a panic, or into `()` if a child has exited and `R` is `()`.
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

/// Handles, parents and state.
impl<In, Out> WeakGreenlet<In, Out> {
    /// Returns a handle that keeps the greenlet alive.
    ///
    /// Returns `None` if the last such handle is gone.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::{Greenlet, current};
    ///
    /// // A greenlet returns a counted handle of itself, which a scheduler could put into its queue.
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

    /// Returns a handle with types known to the compiler.
    ///
    /// Returns `None` if the greenlet was declared with other types. A thread's main greenlet is declared
    /// with no types.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::{Greenlet, current};
    ///
    /// let echo = Greenlet::new(|n: u32| {
    ///     let me = current();
    ///     assert!(me.to_types::<String, u32>().is_none());
    ///     me.to_types::<u32, u32>().unwrap().switch(n) // a switch to the current greenlet
    /// });
    /// assert_eq!(echo.switch(3), 3);
    /// ```
    pub fn to_types<T: 'static, R: 'static>(&self) -> Option<WeakGreenlet<T, R>> {
        self.to_typed()
    }

    /// Returns a handle that does not keep the greenlet alive.
    pub fn downgrade(&self) -> WeakGreenlet<In, Out> {
        self.clone()
    }

    /// Returns the parent: the greenlet that receives this one's result or panic.
    ///
    /// By default this is the greenlet that created it. Returns `None` for a thread's main greenlet.
    ///
    /// A dead parent is returned as well: what is sent to it goes to *its* parent.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::{Greenlet, current};
    ///
    /// let greenlet = Greenlet::new(|()| {
    ///     // Sends its parent a 1, and continues when it receives a `()`.
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

    /// Sets the parent, which receives this greenlet's result.
    ///
    /// The link does not keep the parent alive.
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
    /// Nothing is changed on an error.
    ///
    /// - [`ParentError::Cycle`]: this greenlet is `parent` or an ancestor of it.
    /// - [`ParentError::Main`]: this is a thread's main greenlet.
    /// - [`ParentError::Scheduler`]: this is the hub's own greenlet.
    /// - [`ParentError::InCallback`]: this greenlet runs on behalf of a priority queue's comparison, and
    ///   `parent` does not.
    pub fn set_parent<T, R>(&self, parent: &WeakGreenlet<T, R>) -> Result<(), ParentError> {
        self.core().set_parent(parent)
    }

    /// Returns whether the greenlet has ended.
    ///
    /// Its body has returned or unwound, or was dropped before it started, or its thread has ended. A
    /// greenlet that has not started is not dead.
    pub fn is_dead(&self) -> bool {
        matches!(self.core().life(), Life::Ending | Life::Dead)
    }

    /// Returns whether the body has started. It may have ended since.
    pub fn is_started(&self) -> bool {
        self.core().life() != Life::Unstarted
    }

    /// Returns whether the body has started and not ended: it runs or is suspended.
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

    /// Returns whether this is the current greenlet.
    pub fn is_current(&self) -> bool {
        self.core().is_current()
    }

    /// Returns the name set by the builder. A thread's main greenlet is named `main`.
    pub fn name(&self) -> Option<Cow<'static, str>> {
        self.core().name()
    }

    /// Returns the number that identifies the greenlet in messages if it has no name.
    ///
    /// Numbers are per thread, start at 1, and are never reused. A main greenlet has 0.
    pub fn id(&self) -> u64 {
        self.core().id()
    }

    /// Returns the size of the stack in bytes.
    ///
    /// Returns `None` for a main greenlet and for a dead one.
    pub fn stack_size(&self) -> Option<usize> {
        self.core().stack_size()
    }

    /// Returns the largest number of stack bytes in use so far.
    ///
    /// Returns `None` for a main greenlet and for a dead one.
    ///
    /// Stacks are reused, so this may include the use by an earlier greenlet, unless this one was built
    /// with [`Builder::clean_stack`](crate::Builder::clean_stack). Memory that a frame reserved but never
    /// wrote to is not counted.
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

/// Handles are equal if they refer to the same greenlet.
impl<In, Out, T, R> PartialEq<WeakGreenlet<T, R>> for WeakGreenlet<In, Out> {
    fn eq(&self, other: &WeakGreenlet<T, R>) -> bool {
        std::ptr::eq(self.core(), other.core())
    }
}

/// Handles are equal if they refer to the same greenlet.
impl<In, Out, T, R> PartialEq<Greenlet<T, R>> for WeakGreenlet<In, Out> {
    fn eq(&self, other: &Greenlet<T, R>) -> bool {
        *self == **other
    }
}

/// Handles are equal if they refer to the same greenlet.
impl<In, Out, T, R> PartialEq<Greenlet<T, R>> for Greenlet<In, Out> {
    fn eq(&self, other: &Greenlet<T, R>) -> bool {
        **self == **other
    }
}

/// Handles are equal if they refer to the same greenlet.
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
