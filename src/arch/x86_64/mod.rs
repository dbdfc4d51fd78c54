//! Backend for x86-64 (System V ABI).

pub(super) mod counter;
pub(super) mod float;
#[cfg(not(feature = "portable"))]
pub(super) mod switch;
