#![forbid(unsafe_code)]
//! Describes each patched symbol.

use super::exports::{first_definition, rows};
use super::kinds::{OnKill, What};
use std::ffi::CString;
use std::sync::atomic::Ordering::Relaxed;

/// A libc symbol that this library defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Symbol {
    /// The name of the C function.
    pub name: &'static str,
    /// The kinds that the symbol belongs to. It is patched if any of them is.
    pub what: &'static [What],
    /// Whether the symbol is patched.
    pub is_patched: bool,
    /// What a kill or a timeout does to a call that waits.
    pub on_kill: OnKill,
    /// Whether callers reach this library. `false` if another library defines the symbol first.
    pub is_ours: bool,
    /// Number of calls that blocked a hub's thread, because the wait cannot be made cooperative or there was
    /// no coroutine to switch to.
    pub blocked: u64,
}

/// Describes every symbol that this library defines.
///
/// # Examples
///
/// ```
/// use switchgrass::monkey::{patch_all, self_check};
///
/// patch_all();
/// for symbol in self_check() {
///     assert!(symbol.is_ours && symbol.is_patched, "{symbol:?}");
/// }
/// ```
///
/// # Switching
///
/// Never switches.
pub fn self_check() -> Vec<Symbol> {
    let rows = rows().map(|(row, ours)| {
        let name = CString::new(row.symbol).expect("a name without zeros");
        Symbol {
            name: row.symbol,
            what: row.what,
            on_kill: row.on_kill,
            is_patched: row.is_patched(),
            is_ours: first_definition(&name) == ours,
            blocked: row.blocked.load(Relaxed),
        }
    });
    rows.collect()
}
