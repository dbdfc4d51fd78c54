#![forbid(unsafe_code)]
//! Summarizes what is patched, as text.

use super::exports::first_definition;
use super::kinds::What;
use super::patch::is_patched;
use super::report::self_check;
use crate::sys::{library, panic_count};
use std::ffi::CString;
use std::fmt;

/// Returns the calls that have blocked a hub's thread, with their counts, most frequent first.
///
/// A call is counted if it cannot be made cooperative, or if there was no coroutine to switch to. Calls of
/// kinds that are not patched are not counted.
///
/// # Examples
///
/// ```
/// switchgrass::monkey::patch_all();
/// switchgrass::spawn(|| std::thread::yield_now()).join().unwrap();
/// assert_eq!(switchgrass::monkey::blocked_calls(), []);
/// ```
///
/// # Switching
///
/// Never switches.
pub fn blocked_calls() -> Vec<(&'static str, u64)> {
    let calls = self_check().into_iter().map(|symbol| (symbol.name, symbol.blocked));
    let mut calls: Vec<_> = calls.filter(|(_, count)| *count > 0).collect();
    calls.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
    calls
}

/// Returns a summary of what is patched, to be printed.
///
/// # Examples
///
/// ```
/// use switchgrass::monkey::{self, Patch};
///
/// Patch::new().sockets().sleep().apply();
/// let report = monkey::report();
/// assert!(report.foreign().is_empty() && report.carries_panics(), "{report}");
/// println!("{report}");
/// ```
///
/// # Switching
///
/// Never switches.
pub fn report() -> Report {
    let symbols = self_check();
    let foreign = symbols.iter().filter(|symbol| !symbol.is_ours);
    let foreign = foreign.map(|symbol| (symbol.name, whose(symbol.name)));
    Report {
        symbols: symbols.len(),
        kinds: What::ALL.into_iter().filter(|what| is_patched(*what)).collect(),
        foreign: foreign.collect(),
        carries_panics: panic_count::find().is_some(),
        blocked: blocked_calls(),
    }
}

/// Returns the path of the library whose definition of a symbol callers reach.
fn whose(name: &str) -> Option<String> {
    let name = CString::new(name).ok()?;
    library::of(first_definition(&name)).map(|library| library.path)
}

/// A summary of what is patched: the result of [`report`].
#[derive(Clone, Debug)]
pub struct Report {
    symbols: usize,
    kinds: Vec<What>,
    foreign: Vec<(&'static str, Option<String>)>,
    carries_panics: bool,
    blocked: Vec<(&'static str, u64)>,
}

impl Report {
    /// The kinds of calls that are patched.
    pub fn kinds(&self) -> &[What] {
        &self.kinds
    }

    /// Symbols that another library defines first, with the path of that library if the loader knows it.
    ///
    /// Calls of these symbols are not cooperative.
    pub fn foreign(&self) -> &[(&'static str, Option<String>)] {
        &self.foreign
    }

    /// Whether a coroutine may switch in a destructor that runs during a panic.
    ///
    /// If `false`, such a switch is an error: std's panic count was not found, and siblings would appear to
    /// be panicking.
    pub fn carries_panics(&self) -> bool {
        self.carries_panics
    }

    /// The calls that have blocked a hub's thread: see [`blocked_calls`].
    pub fn blocked(&self) -> &[(&'static str, u64)] {
        &self.blocked
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (patched, not): (Vec<_>, Vec<_>) =
            What::ALL.into_iter().partition(|what| self.kinds.contains(what));
        writeln!(f, "patched: {}", Names(&patched))?;
        writeln!(f, "not patched: {}", Names(&not))?;
        writeln!(
            f,
            "symbols that lead here: {} of {}",
            self.symbols - self.foreign.len(),
            self.symbols
        )?;
        for (name, library) in &self.foreign {
            let library = library.as_deref().unwrap_or("an unknown library");
            writeln!(f, "  {name} leads to {library}: it is not cooperative")?;
        }
        let found = match self.carries_panics {
            true => "found: a coroutine may switch while it panics",
            false => "not found: a coroutine must not switch while it panics",
        };
        writeln!(f, "std's count of panics: {found}")?;
        match &self.blocked[..] {
            [] => write!(f, "calls that held up a hub's thread: none"),
            calls => {
                write!(f, "calls that held up a hub's thread:")?;
                calls.iter().try_for_each(|(name, count)| write!(f, "\n  {name}: {count}"))
            }
        }
    }
}

/// Kinds, separated by commas.
struct Names<'a>(&'a [What]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(|what| format!("{what:?}")).collect();
        if names.is_empty() { f.write_str("nothing") } else { f.write_str(&names.join(", ")) }
    }
}
