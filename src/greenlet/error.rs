#![forbid(unsafe_code)]
//! What can go wrong, one small enum an operation.

use crate::stack::StackError;
use std::{error, fmt};

/// The reason with which a greenlet is told to end: a normal end, not an error.
///
/// It is what dropping the last handle of a suspended greenlet throws into it, and may be thrown by
/// hand. A body that ends by it ends its greenlet without a result and without a report.
///
/// # Examples
///
/// ```
/// use switchgrass::{Greenlet, GreenletExit, SwitchError, current};
///
/// let worker = Greenlet::new(|()| -> () {
///     loop {
///         current().parent().unwrap().switch_any::<(), ()>(());
///     }
/// });
/// worker.switch(());
/// assert!(matches!(worker.throw(GreenletExit), Err(SwitchError::Exited(GreenletExit))));
/// assert!(worker.is_dead());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GreenletExit;

impl fmt::Display for GreenletExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a greenlet was told to end")
    }
}

impl error::Error for GreenletExit {}

/// Two types where there should be one, and the greenlet that they met at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    pub(super) greenlet: String,
    pub(super) awaited: &'static str,
    pub(super) sent: &'static str,
}

impl Mismatch {
    /// The greenlet that was to receive: its name in quotes, or `#` and its number.
    pub fn greenlet(&self) -> &str {
        &self.greenlet
    }

    /// The name of the type that it awaits.
    pub fn awaited(&self) -> &'static str {
        self.awaited
    }

    /// The name of the type that it was to be sent.
    pub fn sent(&self) -> &'static str {
        self.sent
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch { greenlet, awaited, sent } = self;
        write!(f, "greenlet {greenlet} awaits a value of type `{awaited}`, not `{sent}`")
    }
}

/// Why a switch brought no value. Where nothing was sent, the value comes back.
///
/// # Examples
///
/// ```
/// use switchgrass::{Greenlet, SwitchError};
///
/// let length = Greenlet::new(|text: String| text.len()).erase();
/// match length.try_switch_any::<i32, usize>(7) {
///     Err(SwitchError::WrongType { value, mismatch }) => {
///         assert_eq!(value, 7);
///         assert_eq!((mismatch.awaited(), mismatch.sent()), ("alloc::string::String", "i32"));
///     }
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum SwitchError<T> {
    /// The target, or its first live ancestor if it is dead, awaits another type. Nothing was sent,
    /// and the caller was not suspended.
    WrongType {
        /// What was not sent.
        value: T,
        /// Who awaits what.
        mismatch: Mismatch,
    },
    /// The thread that the target belongs to is ending, and has unwound its greenlets.
    ThreadEnded {
        /// What was not sent.
        value: T,
    },
    /// The caller is unwinding, and the count of panics that would have to go with it was not found
    /// in this build of std.
    Unwinding {
        /// What was not sent.
        value: T,
    },
    /// The target is suspended in a destructor that runs because it unwinds already; one more panic
    /// there would end the process. It can be switched to, and then goes on unwinding.
    TargetUnwinding {
        /// What was not thrown.
        value: T,
    },
    /// The hub's own greenlet takes no part in switches made by hand: it cannot be thrown into, and a
    /// callback that runs in it can neither switch nor throw.
    Scheduler {
        /// What was not sent.
        value: T,
    },
    /// The caller runs in a callback that has something borrowed or locked, such as a comparison of a
    /// priority queue: only greenlets that run for the callback can be switched to or thrown into.
    InCallback {
        /// What was not sent.
        value: T,
    },
    /// Nothing can be thrown in a program that is compiled with `panic = "abort"`.
    CannotUnwind {
        /// What was not thrown.
        value: T,
    },
    /// A greenlet of which the caller is the parent ended by [`GreenletExit`], and so without a
    /// result.
    Exited(GreenletExit),
    /// A greenlet of which the caller is the parent ended with a result that the caller does not
    /// await. The result was dropped.
    WrongResult(Mismatch),
}

impl<T> SwitchError<T> {
    /// The value that was not sent, if there is one.
    pub fn into_value(self) -> Option<T> {
        match self {
            SwitchError::WrongType { value, .. }
            | SwitchError::ThreadEnded { value }
            | SwitchError::Unwinding { value }
            | SwitchError::TargetUnwinding { value }
            | SwitchError::Scheduler { value }
            | SwitchError::InCallback { value }
            | SwitchError::CannotUnwind { value } => Some(value),
            SwitchError::Exited(_) | SwitchError::WrongResult(_) => None,
        }
    }
}

impl<T> fmt::Display for SwitchError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SwitchError::WrongType { mismatch, .. } => mismatch.fmt(f),
            SwitchError::ThreadEnded { .. } => {
                f.write_str("the greenlet's thread is ending and has unwound its greenlets")
            }
            SwitchError::Unwinding { .. } => f.write_str(
                "a switch while unwinding: the count of panics in this build of std was not found, \
                 so it cannot go with the switch",
            ),
            SwitchError::TargetUnwinding { .. } => f.write_str(
                "the greenlet is suspended in a destructor while it unwinds, and cannot be made to \
                 unwind again",
            ),
            SwitchError::Scheduler { .. } => f.write_str(
                "the hub's greenlet cannot be thrown into, and a callback that runs in it cannot switch: \
                 spawn a coroutine that does it",
            ),
            SwitchError::InCallback { .. } => f.write_str(
                "a comparison of a priority queue cannot switch to, or throw into, a greenlet that does not \
                 run for it",
            ),
            SwitchError::CannotUnwind { .. } => {
                f.write_str("nothing can be thrown in a program compiled with panic = \"abort\"")
            }
            SwitchError::Exited(_) => {
                f.write_str("a greenlet ended by GreenletExit, so its parent gets no result")
            }
            SwitchError::WrongResult(mismatch) => {
                write!(f, "a greenlet ended with a result that its parent cannot take: {mismatch}")
            }
        }
    }
}

impl<T: fmt::Debug> error::Error for SwitchError<T> {}

/// Why a greenlet was not made.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// There is no stack for it.
    Stack(StackError),
    /// Its body, which is kept on its stack, takes more than a quarter of it.
    Body {
        /// The size of the body in bytes.
        bytes: usize,
        /// The size of the stack in bytes.
        stack: usize,
    },
    /// The thread is ending and has unwound its greenlets.
    ThreadEnded,
    /// A callback that runs in the hub cannot have a scope: it would have to wait for the end of the
    /// greenlet.
    Scheduler,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Stack(source) => source.fmt(f),
            BuildError::Body { bytes, stack } => write!(
                f,
                "a body of {bytes} bytes for a stack of {stack}: box what it captures, or raise the \
                 stack size by Builder::stack_size"
            ),
            BuildError::ThreadEnded => {
                f.write_str("the thread is ending and makes no more greenlets")
            }
            BuildError::Scheduler => f.write_str(
                "a callback in the hub cannot wait for the end of a scope: spawn a coroutine that has it",
            ),
        }
    }
}

impl error::Error for BuildError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            BuildError::Stack(source) => Some(source),
            BuildError::Body { .. } | BuildError::ThreadEnded | BuildError::Scheduler => None,
        }
    }
}

/// Why a greenlet's parent was not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParentError {
    /// The greenlet would be its own ancestor.
    Cycle {
        /// The greenlet whose parent was to be set.
        greenlet: String,
        /// The parent that it was to have, one of its descendants or itself.
        parent: String,
    },
    /// A thread's main greenlet has no parent.
    Main,
    /// The parent of the hub's own greenlet is main.
    Scheduler,
    /// In a comparison of a priority queue, a greenlet that runs for it keeps a parent that does so.
    InCallback,
}

impl fmt::Display for ParentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParentError::Cycle { greenlet, parent } => {
                write!(
                    f,
                    "greenlet {parent} cannot be the parent of {greenlet}: a cycle of parents"
                )
            }
            ParentError::Main => f.write_str("a thread's main greenlet has no parent"),
            ParentError::Scheduler => f.write_str("the parent of the hub's greenlet stays main"),
            ParentError::InCallback => f.write_str(
                "the parent of a greenlet that runs for a comparison of a priority queue must do so, too",
            ),
        }
    }
}

impl error::Error for ParentError {}
