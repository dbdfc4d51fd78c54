//! Floating-point control modes of AArch64: FPCR.

use std::arch::asm;

/// Whether the running computation has set control modes other than the architecture's defaults, so
/// that it must not be left by a bare [`switch`].
#[inline(always)]
pub(crate) fn float_modes_changed() -> bool {
    FloatModes::current() != FloatModes { fpcr: 0 }
}

/// Whether [`float_modes_changed`] may be asked on this processor.
pub(crate) fn float_probe_works() -> bool {
    true
}

/// The control modes: rounding, exception enables, flush-to-zero, default NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FloatModes {
    fpcr: u64,
}

impl FloatModes {
    /// The modes in force.
    #[inline(always)]
    pub(crate) fn current() -> Self {
        let fpcr;
        // SAFETY: reads a register that user code may read.
        unsafe { asm!("mrs {}, fpcr", out(reg) fpcr, options(nomem, nostack, preserves_flags)) };
        FloatModes { fpcr }
    }

    /// Puts these modes into force, if others are.
    pub(crate) fn restore(self) {
        if Self::current() != self {
            // SAFETY: the value was read from this register before.
            unsafe { asm!("msr fpcr, {}", in(reg) self.fpcr, options(nostack, preserves_flags)) };
        }
    }
}
