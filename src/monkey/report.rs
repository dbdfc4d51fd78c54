#![forbid(unsafe_code)]
//! What can be asked about all this.

use super::What;
use super::gate;
use super::table::{first_definition, rows};
use std::ffi::CString;
use std::sync::atomic::Ordering::Relaxed;

/// What is known of a symbol of libc's that this library defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Symbol {
    /// Its name.
    pub name: &'static str,
    /// With what it is patched.
    pub what: What,
    /// Whether that is so.
    pub is_patched: bool,
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
            is_patched: gate::is_patched(row.what),
            is_ours: first_definition(&name) == ours,
            blocked: row.blocked.load(Relaxed),
        }
    });
    rows.collect()
}
