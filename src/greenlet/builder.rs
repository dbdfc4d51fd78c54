#![forbid(unsafe_code)]
//! What a greenlet can be told before it is made.

use super::error::BuildError;
use super::raw::{self, Greenlet, Spec, WeakGreenlet};
use corosensei::stack::Stack;
use std::borrow::Cow;
use std::fmt;

/// Makes greenlets that have a name, another stack or another parent.
///
/// # Examples
///
/// ```
/// use switchgrass::Builder;
///
/// let greenlet = Builder::new()
///     .name("parser")
///     .stack_size(64 * 1024)
///     .build(|text: String| text.len())
///     .unwrap();
/// assert_eq!(format!("{greenlet:?}"), r#"Greenlet("parser", unstarted)"#);
/// assert_eq!(greenlet.switch("four".into()), 4);
/// ```
#[must_use = "a builder makes nothing before `build`"]
#[derive(Default)]
pub struct Builder {
    spec: Spec,
}

impl Builder {
    /// A builder of greenlets as [`Greenlet::new`] makes them.
    pub fn new() -> Self {
        Self::default()
    }

    /// The name in messages and in `Debug`. Names need not differ.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.spec.name = Some(name.into());
        self
    }

    /// The size of the stack in bytes, rounded up to whole pages: from
    /// [`stack::MIN_SIZE`](crate::stack::MIN_SIZE) to [`stack::MAX_SIZE`](crate::stack::MAX_SIZE), and
    /// [`stack::DEFAULT_SIZE`](crate::stack::DEFAULT_SIZE) if it is not called.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.spec.stack_size = bytes;
        self
    }

    /// A stack of one's own, instead of one from the pool. It is dropped when the greenlet is dead, on
    /// the stack of whoever runs next.
    ///
    /// # Examples
    ///
    /// ```
    /// use corosensei::stack::DefaultStack;
    /// use switchgrass::Builder;
    ///
    /// let stack = DefaultStack::new(128 * 1024).unwrap();
    /// let greenlet = Builder::new().stack(stack).build(|()| 7).unwrap();
    /// assert_eq!(greenlet.switch(()), 7);
    /// ```
    pub fn stack(mut self, stack: impl Stack + 'static) -> Self {
        self.spec.stack = Some(Box::new(stack));
        self
    }

    /// Zeroes the stack first, so that [`WeakGreenlet::stack_high_water`] tells of this greenlet alone.
    /// Costs a system call and the page faults of a new stack. A stack of one's own is left as it is.
    pub fn clean_stack(mut self) -> Self {
        self.spec.clean = true;
        self
    }

    /// The greenlet that gets the result, instead of the current one. The link does not keep it alive.
    pub fn parent<T, R>(mut self, parent: &WeakGreenlet<T, R>) -> Self {
        self.spec.parent = Some(parent.to_untyped());
        self
    }

    /// Lets it use the [`Local`](crate::Local)s of the current greenlet, instead of its own.
    pub fn share_locals(mut self) -> Self {
        self.spec.share_locals = true;
        self
    }

    /// Makes the greenlet.
    ///
    /// # Errors
    ///
    /// - [`BuildError::Stack`]: the size is out of range, or the kernel gives no more memory; the
    ///   message names the limit and the sysctl that raises it.
    /// - [`BuildError::Body`]: what the body captures takes more than a quarter of the stack.
    /// - [`BuildError::ThreadEnded`]: in a destructor of a thread-local variable, at a thread's end.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn build<In: 'static, Out: 'static>(
        self,
        body: impl FnOnce(In) -> Out + 'static,
    ) -> Result<Greenlet<In, Out>, BuildError> {
        raw::build(self.spec, body)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.spec.name)
            .field("stack_size", &self.spec.stack_size)
            .field("own_stack", &self.spec.stack.is_some())
            .field("parent", &self.spec.parent)
            .finish_non_exhaustive()
    }
}
