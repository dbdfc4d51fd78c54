#![forbid(unsafe_code)]
//! What can be asked about all this.

use super::What;
use super::table::{first_definition, rows};
use std::ffi::CString;
use std::sync::atomic::Ordering::Relaxed;

/// What becomes of a call of libc's when something is to be raised in the coroutine that waits in it: a
/// kill, or the end of a [`timeout`](crate::timeout()). A function of C cannot unwind, so nothing is raised
/// in there: it is raised by the next call of this library's own that waits, and told to one call of C
/// before that, once.
///
/// # Examples
///
/// ```
/// use switchgrass::monkey::{OnKill, self_check};
///
/// let of = |name| self_check().iter().find(|symbol| symbol.name == name).unwrap().on_kill;
/// assert_eq!(of("recv"), OnKill::Fails);
/// assert_eq!(of("nanosleep"), OnKill::ReturnsEarly);
/// assert_eq!(of("flock"), OnKill::Deferred);
/// assert_eq!(of("dup"), OnKill::NeverWaits);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnKill {
    /// It fails with `ECANCELED` (a look-up of a name with `EAI_SYSTEM` and that, or `TRY_AGAIN`). What was
    /// read or written by then counts: then it succeeds with less.
    Fails,
    /// It succeeds too early, as if its time were over: `std` panics if a sleep fails.
    ReturnsEarly,
    /// It goes on to its end.
    Deferred,
    /// It never waits.
    NeverWaits,
}

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
