#![forbid(unsafe_code)]
//! The error types: one small enum per operation.

use crate::stack::StackError;
use std::{error, fmt};

/// The payload that asks a greenlet to end: a normal end, not an error.
///
/// It is thrown into a suspended greenlet when its last handle is dropped, and can be thrown explicitly
/// with [`throw`](crate::WeakGreenlet::throw). A body that unwinds with it ends its greenlet without a
/// result, and without a panic report.
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
        f.write_str("the greenlet was asked to exit")
    }
}

impl error::Error for GreenletExit {}

/// A type mismatch: the type that a greenlet awaits, and the type sent to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    pub(super) greenlet: String,
    pub(super) awaited: &'static str,
    pub(super) sent: &'static str,
}

impl Mismatch {
    /// Returns the receiver: its name in quotes, or `#` and its number.
    pub fn greenlet(&self) -> &str {
        &self.greenlet
    }

    /// Returns the name of the type that the receiver awaits.
    pub fn awaited(&self) -> &'static str {
        self.awaited
    }

    /// Returns the name of the type that was sent.
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

/// The reason why a switch or throw returned no value.
///
/// Variants with a `value` mean that nothing was sent; [`SwitchError::into_value`] returns it.
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
    /// The target awaits another type.
    ///
    /// If the target is dead, this concerns its first live ancestor. Nothing was sent, and the caller was
    /// not suspended.
    WrongType {
        /// The value that was not sent.
        value: T,
        /// The receiver and the two types.
        mismatch: Mismatch,
    },
    /// The target's thread is ending and has unwound its greenlets.
    ThreadEnded {
        /// The value that was not sent.
        value: T,
    },
    /// The caller is unwinding, and its panic count cannot be saved.
    ///
    /// A switch during an unwind takes std's count of active panics with it. The counter was not found in
    /// this build of std.
    Unwinding {
        /// The value that was not sent.
        value: T,
    },
    /// Nothing can be thrown into the target where it is suspended.
    ///
    /// It is suspended in a destructor that runs during an unwind, where one more panic would end the
    /// process; or in a call that must not unwind; or it waits for the end of a scoped greenlet. The target
    /// can still be switched to, and then continues.
    TargetUnwinding {
        /// The payload that was not thrown.
        value: T,
    },
    /// The target or the caller is the hub's own greenlet.
    ///
    /// The hub's greenlet cannot be thrown into, and a callback that runs in it can neither switch nor
    /// throw.
    Scheduler {
        /// The value that was not sent.
        value: T,
    },
    /// The caller runs in a callback that must not switch away.
    ///
    /// This library holds a borrow or a lock during the callback, such as a comparison of a priority queue.
    /// Only greenlets that run on behalf of the callback can be switched to or thrown into.
    InCallback {
        /// The value that was not sent.
        value: T,
    },
    /// The program is compiled with `panic = "abort"`, so nothing can be thrown.
    CannotUnwind {
        /// The payload that was not thrown.
        value: T,
    },
    /// A child of the caller ended with [`GreenletExit`], so without a result.
    Exited(GreenletExit),
    /// A child of the caller ended with a result of a type that the caller does not await. The result was
    /// dropped.
    WrongResult(Mismatch),
}

impl<T> SwitchError<T> {
    /// Returns the value that was not sent, if any.
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
                "cannot switch while unwinding: std's panic counter was not found in this build, \
                 so the count cannot be saved",
            ),
            SwitchError::TargetUnwinding { .. } => f.write_str(
                "nothing can be thrown into the greenlet where it is suspended: in a destructor during an \
                 unwind, in a call that must not unwind, or waiting for the end of a scope",
            ),
            SwitchError::Scheduler { .. } => f.write_str(
                "the hub's greenlet cannot be thrown into, and a callback that runs in it cannot switch: \
                 do it in a spawned coroutine",
            ),
            SwitchError::InCallback { .. } => f.write_str(
                "a comparison of a priority queue cannot switch to, or throw into, a greenlet that does not \
                 run on its behalf",
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

/// The reason why a greenlet was not created.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// No stack could be allocated.
    Stack(StackError),
    /// The body, which is stored on the stack, needs more than a quarter of it.
    Body {
        /// The size of the body in bytes.
        bytes: usize,
        /// The size of the stack in bytes.
        stack: usize,
    },
    /// The thread is ending and has unwound its greenlets.
    ThreadEnded,
    /// The caller is a callback in the hub, which cannot wait for the end of a scope.
    Scheduler,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Stack(source) => source.fmt(f),
            BuildError::Body { bytes, stack } => write!(
                f,
                "a body of {bytes} bytes is too large for a stack of {stack}: box what it captures, or raise \
                 the stack size with Builder::stack_size"
            ),
            BuildError::ThreadEnded => {
                f.write_str("the thread is ending and cannot create greenlets")
            }
            BuildError::Scheduler => f.write_str(
                "a callback in the hub cannot wait for the end of a scope: open it in a spawned coroutine",
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

/// The reason why a greenlet's parent was not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParentError {
    /// The greenlet would become its own ancestor.
    Cycle {
        /// The greenlet whose parent was to be set.
        greenlet: String,
        /// The requested parent: the greenlet itself or one of its descendants.
        parent: String,
    },
    /// A thread's main greenlet has no parent.
    Main,
    /// The parent of the hub's own greenlet is always main.
    Scheduler,
    /// The greenlet runs on behalf of a priority queue's comparison, and the new parent does not.
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
            ParentError::Scheduler => f.write_str("the parent of the hub's greenlet is always main"),
            ParentError::InCallback => f.write_str(
                "a greenlet that runs on behalf of a priority queue's comparison needs a parent that does \
                 so, too",
            ),
        }
    }
}

impl error::Error for ParentError {}
