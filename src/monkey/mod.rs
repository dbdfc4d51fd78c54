//! Unmodified blocking code, made cooperative.
//!
//! - `table.rs` is **the** table: a row a symbol of libc that is defined here;
//! - `hooks/` is what the symbols do in a coroutine, a file a kind;
//! - `gate.rs` decides whether a call is ours, `patch.rs` is how that is chosen, and `report.rs` what can be
//!   asked about it, `summary.rs` the same in words;
//! - `descriptors.rs` is what is known of the program's descriptors, `errno.rs` how calls of C fail;
//! - `addresses.rs` is who waits at an address, as by futex, and `parking.rs` who waits in `thread::park`;
//! - `elsewhere.rs` has a call that cannot but block made by another thread, and `aside.rs` one that may take
//!   for ever.
//!
//! What a kill or a limit does to each call is a column of the table, and can be asked by `self_check`.
//!
//! Nothing imports this module.

mod addresses;
mod aside;
mod descriptors;
mod elsewhere;
mod errno;
mod gate;
mod hooks;
mod parking;
mod patch;
mod report;
mod summary;
mod table;

pub use patch::{Patch, What, is_patched, patch_all};
pub use report::{OnKill, Symbol, self_check};
pub use summary::{Report, blocked_calls, report};
