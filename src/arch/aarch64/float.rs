//! Floating-point control modes of AArch64: the FPCR register.

use std::arch::asm;

/// Whether the running computation has changed the control modes from the architecture's defaults.
///
/// If so, a bare switch must not leave it: the modes have to be carried along.
#[inline(always)]
pub(crate) fn float_modes_changed() -> bool {
    FloatModes::current() != FloatModes { fpcr: 0 }
}

/// Whether [`float_modes_changed`] may be called on this processor. Always true here.
pub(crate) fn float_probe_works() -> bool {
    true
}

/// The control modes: rounding, exception enables, flush-to-zero, default NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FloatModes {
    fpcr: u64,
}

impl FloatModes {
    /// Returns the modes in force.
    #[inline(always)]
    pub(crate) fn current() -> Self {
        let fpcr;
        // SAFETY: user code may read this register, and the instruction has no other effect.
        unsafe { asm!("mrs {}, fpcr", out(reg) fpcr, options(nomem, nostack, preserves_flags)) };
        FloatModes { fpcr }
    }

    /// Puts these modes into force, unless they already are.
    pub(crate) fn restore(self) {
        if Self::current() != self {
            // SAFETY: the value was read from this register by `current`, so it is valid.
            unsafe { asm!("msr fpcr, {}", in(reg) self.fpcr, options(nostack, preserves_flags)) };
        }
    }
}
