//! Stands in for floating-point control modes on other architectures: there they stay the thread's.

/// Whether the running computation has changed the control modes. Unknown here, so always `false`.
#[inline(always)]
pub(crate) fn float_modes_changed() -> bool {
    false
}

/// Whether [`float_modes_changed`] may be called on this processor.
pub(crate) fn float_probe_works() -> bool {
    true
}

/// The floating-point control modes. Empty here: they stay the thread's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FloatModes;

impl FloatModes {
    /// Returns the modes in force.
    pub(crate) fn current() -> Self {
        FloatModes
    }

    /// Puts these modes into force. A no-op here.
    pub(crate) fn restore(self) {}
}
