#![forbid(unsafe_code)]
//! What is to be patched.

use super::hooks::stdio;
use super::kinds::What;
use super::{addresses, descriptors, gate, owners, parking};
use crate::sys::fork::{self, Fork, Side};
use std::io;

/// Has all blocking calls of coroutines switch to others instead: see [`Patch`] to choose.
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

/// Whether calls of that kind are made cooperative.
pub fn is_patched(what: What) -> bool {
    gate::is_patched(what)
}

/// Which calls are to be made cooperative. It holds for the whole process and for ever; a thread without
/// coroutines does not notice.
///
/// # Examples
///
/// ```
/// use switchgrass::monkey::{Patch, What, is_patched};
///
/// Patch::new().sockets().sleep().apply();
/// assert!(is_patched(What::Sockets) && !is_patched(What::Files));
/// // Once more, and more of it: what is patched stays so.
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
    /// Nothing, to begin with.
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

    /// Adds all.
    pub const fn all(self) -> Self {
        self.sockets().sleep().sync().dns().files().process().poll().signals()
    }

    /// Has it be so from now on.
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

/// What is known of descriptors and waits, around a fork.
fn around_fork(fork: Fork<'_>) -> io::Result<Side> {
    let side = descriptors::around_fork(&mut || addresses::around_fork(fork));
    if matches!(side, Ok(Side::Child)) {
        parking::begin_anew();
        stdio::begin_anew();
        owners::begin_anew();
    }
    side
}
