//! The stack on which a thread's signal handlers run, in particular after a stack overflow.

use super::memory::{Guard, Mapping, page_size};
use std::cell::RefCell;
use std::{mem, ptr};

/// Enough for a handler and the largest register state of current processors (AMX: 11 KiB).
const SIZE: usize = 64 * 1024;

thread_local! {
    static OWN: RefCell<Option<Installed>> = const { RefCell::new(None) };
}

/// An alternate stack that this module has installed. Removed and unmapped when the thread ends.
struct Installed {
    mapping: Mapping,
}

/// Gives the calling thread an alternate signal stack, unless it has one.
///
/// std gives one to `main` and to the threads that it starts. Does nothing while the thread's thread-local
/// variables are destroyed.
pub(crate) fn ensure() {
    let _ = OWN.try_with(|own| {
        // SAFETY: an all-zero `stack_t` is valid, and the call only writes to it.
        let current = unsafe {
            let mut current: libc::stack_t = mem::zeroed();
            libc::sigaltstack(ptr::null(), &mut current);
            current
        };
        if current.ss_flags & libc::SS_DISABLE != 0 {
            *own.borrow_mut() = Installed::new();
        }
    });
}

impl Installed {
    fn new() -> Option<Self> {
        let page = page_size();
        let mapping = Mapping::reserve(SIZE + page).ok()?;
        // SAFETY: the lowest page of a new mapping; only the pages above it are used.
        unsafe { Guard::best().install(mapping.start(), page) }.ok()?;
        let stack = libc::stack_t {
            // SAFETY: one page from the start is in bounds of the mapping.
            ss_sp: unsafe { mapping.start().as_ptr().add(page) }.cast(),
            ss_flags: 0,
            ss_size: SIZE,
        };
        // SAFETY: the memory stays mapped until `drop`, which first removes it as alternate stack.
        let result = unsafe { libc::sigaltstack(&stack, ptr::null_mut()) };
        (result == 0).then_some(Installed { mapping })
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        // SAFETY: `current` is valid and writable. A stack that was installed in place of this one is left
        // alone.
        unsafe {
            let mut current: libc::stack_t = mem::zeroed();
            libc::sigaltstack(ptr::null(), &mut current);
            if self.mapping.contains(current.ss_sp.addr()) {
                current.ss_flags = libc::SS_DISABLE;
                libc::sigaltstack(&current, ptr::null_mut());
            }
        }
    }
}
