#![forbid(unsafe_code)]
//! What can be asked about all this.

use super::exports::{first_definition, rows};
use super::kinds::{OnKill, What};
use std::ffi::CString;
use std::sync::atomic::Ordering::Relaxed;

/// What is known of a symbol of libc's that this library defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Symbol {
    /// Its name.
    pub name: &'static str,
    /// With which it is patched: with any of them.
    pub what: &'static [What],
    /// Whether it is.
    pub is_patched: bool,
    /// What becomes of a call that waits when its coroutine is killed, or its time is over.
    pub on_kill: OnKill,
    /// Whether those who call it come here. Otherwise another library has defined it before.
    pub is_ours: bool,
    /// How many of its calls have held up a hub's thread, since there was no way to wait for what they wait
    /// for, or nobody to switch to.
    pub blocked: u64,
}

/// What is known of each symbol.
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
