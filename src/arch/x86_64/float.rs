//! Floating-point control modes of x86-64: MXCSR and the x87 control word.

use std::arch::asm;

/// Two numbers that the four rounding modes round to three different pairs; only to-nearest gives (1, 0).
#[repr(C, align(16))]
struct Probe([f32; 4]);
static PROBE: Probe = Probe([0.75, 0.25, 0.0, 0.0]);

/// Whether the running computation has set a rounding mode other than to-nearest.
///
/// If so, a bare switch must not leave it: the modes have to be carried along.
///
/// Reading MXCSR takes as long as the rest of a switch (`stmxcsr`: 0.8 ns of 1.9). Rounding two constants
/// in the current mode, with the inexact flag suppressed, gives the same answer in a tenth of that. It does
/// not see modes that were changed without the rounding mode: flush-to-zero, exception masks, x87
/// precision. These are carried along with a changed rounding mode, and otherwise belong to the thread.
#[inline(always)]
pub(crate) fn float_modes_changed() -> bool {
    let rounded: u64;
    // SAFETY: reads one static, and suppresses the inexact exception. `roundps` is SSE4.1, and is never
    // executed on a processor without it: `Here::make` (`greenlet/raw/thread.rs`) checks
    // `float_probe_works` first, and if that is false it sends all switches to the slow path before there
    // is a greenlet to switch to. Every other caller checks `must_take_slow_path()` first and does not get
    // here if that is true. Nor can the compiler move this above that branch: without the option `pure`,
    // the asm is not speculated.
    unsafe {
        asm!(
            "roundps {vector}, [rip + {probe}], 12",
            "movq {rounded}, {vector}",
            vector = out(xmm_reg) _,
            rounded = out(reg) rounded,
            probe = sym PROBE,
            options(readonly, nostack, preserves_flags),
        );
    }
    rounded != 1.0_f32.to_bits() as u64
}

/// Whether [`float_modes_changed`] may be called on this processor. Elsewhere it would raise SIGILL.
pub(crate) fn float_probe_works() -> bool {
    std::arch::is_x86_feature_detected!("sse4.1")
}

/// The control modes of SSE and x87: rounding, precision, exception masks, flush-to-zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FloatModes {
    mxcsr: u32,
    x87: u16,
}

impl FloatModes {
    /// The six sticky status flags of MXCSR. They belong to the thread and are never changed.
    const STATUS: u32 = 0x3f;

    /// Returns the modes in force.
    pub(crate) fn current() -> Self {
        let (mut mxcsr, mut x87) = (0_u32, 0_u16);
        // SAFETY: each instruction stores into the variable whose address it is given.
        unsafe {
            asm!("stmxcsr [{}]", in(reg) &mut mxcsr, options(nostack, preserves_flags));
            asm!("fnstcw [{}]", in(reg) &mut x87, options(nostack, preserves_flags));
        }
        FloatModes { mxcsr: mxcsr & !Self::STATUS, x87 }
    }

    /// Puts these modes into force, unless they already are.
    pub(crate) fn restore(self) {
        let now = Self::current();
        if now == self {
            return;
        }
        let mut mxcsr = 0_u32;
        // SAFETY: the values loaded were read from these registers, so they are valid: the control bits
        // from `self`, the status flags as they are now.
        unsafe {
            asm!("stmxcsr [{}]", in(reg) &mut mxcsr, options(nostack, preserves_flags));
            mxcsr = (mxcsr & Self::STATUS) | self.mxcsr;
            asm!("ldmxcsr [{}]", in(reg) &mxcsr, options(nostack, preserves_flags, readonly));
            asm!("fldcw [{}]", in(reg) &self.x87, options(nostack, preserves_flags, readonly));
        }
    }
}
