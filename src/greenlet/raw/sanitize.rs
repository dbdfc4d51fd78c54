//! Announces the target stack of each switch to AddressSanitizer.

use super::block::{Core, Life};
use super::thread::Here;
use crate::sys::sanitizer;
use std::ffi::c_void;

/// Announces a switch from `from`, which does not return if `from` is dead, to `to`.
pub(super) fn leave(from: &Core, to: &Core) -> *mut c_void {
    let (bottom, size) = bounds(to).unwrap_or_else(|| Here::of_a_block().first_stack);
    let save = sanitizer::leave(bottom, size);
    if let (Life::Dead, Some((bottom, _))) = (from.life.get(), bounds(from)) {
        sanitizer::ended(bottom, save);
    }
    save
}

/// Returns the bottom and the size of a greenlet's stack. `None` for the thread's first stack.
fn bounds(core: &Core) -> Option<(usize, usize)> {
    let stack = core.cold().stack.get()?;
    let bottom = stack.bottom().addr().get();
    Some((bottom, stack.top().addr().get() - bottom))
}
