#![forbid(unsafe_code)]
//! Chooses what is patched.

use super::hooks::stdio;
use super::kinds::What;
use super::{addresses, descriptors, gate, owners, parking};
use crate::sys::fork::{self, Fork, Side};
use std::io;

/// Makes all blocking libc calls cooperative. [`Patch`] chooses kinds.
///
/// # Examples
///
/// ```
/// use std::thread;
/// use std::time::{Duration, Instant};
///
/// switchgrass::monkey::patch_all();
/// let start = Instant::now();
/// let sleepers = (0..100).map(|_| {
///     switchgrass::spawn(|| thread::sleep(Duration::from_millis(50)))
/// });
/// switchgrass::coroutine::join_all(sleepers.collect::<Vec<_>>());
/// assert!(start.elapsed() < Duration::from_secs(5), "all at once, on one thread");
/// ```
///
/// # Switching
///
/// Never switches.
pub fn patch_all() {
    Patch::new().all().apply();
}

/// Returns whether a kind of call is patched.
pub fn is_patched(what: What) -> bool {
    gate::is_patched(what)
}

/// Chooses the kinds of calls that are made cooperative.
///
/// A patch applies to the whole process and cannot be undone. Threads without coroutines do not notice it.
///
/// # Examples
///
/// ```
/// use switchgrass::monkey::{Patch, What, is_patched};
///
/// Patch::new().sockets().sleep().apply();
/// assert!(is_patched(What::Sockets) && !is_patched(What::Files));
/// // Kinds that are patched already stay patched.
/// Patch::new().dns().apply();
/// assert!(is_patched(What::Sockets) && is_patched(What::Dns));
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "nothing is patched before it is applied"]
pub struct Patch(u32);

macro_rules! kinds {
    ($($name:ident $what:ident;)*) => {$(
        #[doc = concat!("Adds [`What::", stringify!($what), "`].")]
        pub const fn $name(self) -> Self {
            Patch(self.0 | What::$what.bits())
        }
    )*};
}

impl Patch {
    /// Creates a patch of no kinds.
    pub const fn new() -> Self {
        Patch(0)
    }

    kinds! {
        sockets Sockets;
        sleep Sleep;
        sync Sync;
        dns Dns;
        files Files;
        process Process;
        poll Poll;
        signals Signals;
    }

    /// Adds all kinds.
    pub const fn all(self) -> Self {
        self.sockets().sleep().sync().dns().files().process().poll().signals()
    }

    /// Applies the patch to the whole process.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn apply(self) {
        fork::around_fork(around_fork);
        fork::own_unless_copied();
        gate::patch(self.0);
    }
}

/// Keeps the tables of descriptors and waits whole during a fork.
fn around_fork(fork: Fork<'_>) -> io::Result<Side> {
    let side = descriptors::around_fork(&mut || addresses::around_fork(fork));
    if matches!(side, Ok(Side::Child)) {
        parking::begin_anew();
        stdio::begin_anew();
        owners::begin_anew();
    }
    side
}
