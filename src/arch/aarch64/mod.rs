//! Backend for AArch64 (AAPCS64).

pub(super) mod counter;
pub(super) mod float;
#[cfg(not(feature = "portable"))]
pub(super) mod switch;
