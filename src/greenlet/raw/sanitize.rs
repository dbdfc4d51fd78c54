//! Which stack a switch goes to, for AddressSanitizer.

use super::block::{Core, Life};
use super::thread::Here;
use crate::sys::sanitizer;
use std::ffi::c_void;

/// Says that the next switch leaves `from`, for good if it is dead, and goes to `to`.
pub(super) fn leave(from: &Core, to: &Core) -> *mut c_void {
    let (bottom, size) = bounds(to).unwrap_or_else(|| Here::of_a_block().first_stack);
    let save = sanitizer::leave(bottom, size);
    if let (Life::Dead, Some((bottom, _))) = (from.life.get(), bounds(from)) {
        sanitizer::ended(bottom, save);
    }
    save
}

/// Bottom and size of a greenlet's stack. `None` for the thread's first.
fn bounds(core: &Core) -> Option<(usize, usize)> {
    let stack = core.cold().stack.get()?;
    let bottom = stack.bottom().addr().get();
    Some((bottom, stack.top().addr().get() - bottom))
}
