//! Floating-point control modes of x86-64: MXCSR and the x87 control word.

use std::arch::asm;

/// Two numbers that the four rounding modes round to three different pairs, nearest alone to (1, 0).
#[repr(C, align(16))]
struct Probe([f32; 4]);
static PROBE: Probe = Probe([0.75, 0.25, 0.0, 0.0]);

/// Whether the running computation has set a rounding mode other than to-nearest, so that it must not
/// be left by a bare switch.
///
/// Reading MXCSR takes as long as all the rest of a switch (`stmxcsr`: 0.8 ns of 1.9). Rounding two
/// constants by the mode in force, with the inexact flag suppressed, tells the same at a tenth of it.
/// It is blind to what may be changed without the rounding mode: flush-to-zero, exception masks, the
/// precision of x87. These are carried with a rounding mode that is, and otherwise belong to the thread.
#[inline(always)]
pub(crate) fn float_modes_changed() -> bool {
    let rounded: u64;
    // SAFETY: reads one static, and suppresses the inexact exception. `roundps` is SSE4.1, and on a processor
    // without that this is not executed: `Here::make` (`greenlet/raw/thread.rs`) asks `float_probe_works`
    // first, and if it says no the thread's alarm is raised for good before there is a greenlet to switch to.
    // Each other caller asks `alarmed()` first and does not come here if that says yes. The compiler cannot
    // come here earlier on its own either: without the option `pure` the asm is not moved over that branch.
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

/// Whether [`float_modes_changed`] may be called on this processor. Where it may not, it would raise SIGILL.
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
    /// The six sticky status flags of MXCSR: they belong to the thread and are left as they are.
    const STATUS: u32 = 0x3f;

    /// The modes in force.
    pub(crate) fn current() -> Self {
        let (mut mxcsr, mut x87) = (0_u32, 0_u16);
        // SAFETY: both store into the variable whose address they are given.
        unsafe {
            asm!("stmxcsr [{}]", in(reg) &mut mxcsr, options(nostack, preserves_flags));
            asm!("fnstcw [{}]", in(reg) &mut x87, options(nostack, preserves_flags));
        }
        FloatModes { mxcsr: mxcsr & !Self::STATUS, x87 }
    }

    /// Puts these modes into force, if others are.
    pub(crate) fn restore(self) {
        let now = Self::current();
        if now == self {
            return;
        }
        let mut mxcsr = 0_u32;
        // SAFETY: the values loaded are valid, having been read from these registers before: control
        // bits of `self`, status flags as they stand.
        unsafe {
            asm!("stmxcsr [{}]", in(reg) &mut mxcsr, options(nostack, preserves_flags));
            mxcsr = (mxcsr & Self::STATUS) | self.mxcsr;
            asm!("ldmxcsr [{}]", in(reg) &mxcsr, options(nostack, preserves_flags, readonly));
            asm!("fldcw [{}]", in(reg) &self.x87, options(nostack, preserves_flags, readonly));
        }
    }
}
