#![forbid(unsafe_code)]
//! Configures a greenlet before it is created.

use super::error::BuildError;
use super::raw::{self, Greenlet, Spec, WeakGreenlet};
use corosensei::stack::Stack;
use std::borrow::Cow;
use std::fmt;

/// Configures a greenlet: its name, stack, parent and locals.
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
#[must_use = "a builder creates no greenlet until `build` is called"]
#[derive(Default)]
pub struct Builder {
    spec: Spec,
}

impl Builder {
    /// Creates a builder with the defaults of [`Greenlet::new`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the name shown in messages and by `Debug`. It need not be unique.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.spec.name = Some(name.into());
        self
    }

    /// Sets the size of the stack in bytes.
    ///
    /// The size is rounded up to whole pages. It must lie between
    /// [`stack::MIN_SIZE`](crate::stack::MIN_SIZE) and [`stack::MAX_SIZE`](crate::stack::MAX_SIZE), and
    /// defaults to [`stack::DEFAULT_SIZE`](crate::stack::DEFAULT_SIZE).
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.spec.stack_size = bytes;
        self
    }

    /// Uses `stack` instead of a stack from the pool.
    ///
    /// It is dropped after the greenlet has ended, on the stack of the greenlet that runs next.
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

    /// Zeroes the stack first, for an exact [`WeakGreenlet::stack_high_water`].
    ///
    /// Without this, the high-water mark may be that of an earlier greenlet on the same stack. Costs a
    /// system call and the page faults of a new stack. A stack passed to [`Builder::stack`] is left as it
    /// is.
    pub fn clean_stack(mut self) -> Self {
        self.spec.clean = true;
        self
    }

    /// Sets the parent, which receives the result. The default is the current greenlet.
    ///
    /// The link to the parent does not keep it alive.
    pub fn parent<T, R>(mut self, parent: &WeakGreenlet<T, R>) -> Self {
        self.spec.parent = Some(parent.to_untyped());
        self
    }

    /// Shares the [`Local`](crate::Local)s of the current greenlet.
    pub fn share_locals(mut self) -> Self {
        self.spec.share_locals = true;
        self
    }

    /// Creates the greenlet.
    ///
    /// # Errors
    ///
    /// - [`BuildError::Stack`]: the size is out of range, or the kernel refuses more memory; the message
    ///   names the limit and the sysctl that raises it.
    /// - [`BuildError::Body`]: the captures of the body need more than a quarter of the stack.
    /// - [`BuildError::ThreadEnded`]: called from a destructor of a thread-local variable while the thread
    ///   ends.
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
