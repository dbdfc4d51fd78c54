//! Floating-point control modes where nobody has written them down yet: they are the thread's.

/// Whether the running computation has changed the floating-point modes. Not known here.
#[inline(always)]
pub(crate) fn float_modes_changed() -> bool {
    false
}

/// Whether [`float_modes_changed`] may be asked on this processor.
pub(crate) fn float_probe_works() -> bool {
    true
}

/// The floating-point control modes. This backend leaves them to the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FloatModes;

impl FloatModes {
    /// The modes in force.
    pub(crate) fn current() -> Self {
        FloatModes
    }

    /// Puts these modes into force, if others are.
    pub(crate) fn restore(self) {}
}
