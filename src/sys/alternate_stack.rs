//! The stack on which a thread's signal handlers run when the stack in use has overflowed.

use super::memory::{Guard, Mapping, page_size};
use std::cell::RefCell;
use std::{mem, ptr};

/// Enough for the largest register state of today's processors (AMX: 11 KiB) and a handler.
const SIZE: usize = 64 * 1024;

thread_local! {
    static OWN: RefCell<Option<Installed>> = const { RefCell::new(None) };
}

/// An alternate stack of ours; dropped, and the thread without one, when the thread ends.
struct Installed {
    mapping: Mapping,
}

/// Gives the calling thread an alternate signal stack, unless it has one (std gives one to `main` and
/// to the threads it starts). At a thread's very end it does nothing.
pub(crate) fn ensure() {
    let _ = OWN.try_with(|own| {
        // SAFETY: all-zero is a valid `stack_t`, and the call only writes to it.
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
        // SAFETY: the lowest page of a fresh mapping, of which only what lies above is used.
        unsafe { Guard::best().install(mapping.start(), page) }.ok()?;
        let stack = libc::stack_t {
            // SAFETY: inside the mapping.
            ss_sp: unsafe { mapping.start().as_ptr().add(page) }.cast(),
            ss_flags: 0,
            ss_size: SIZE,
        };
        // SAFETY: the memory lives until `drop`, which takes the alternate stack away first.
        let result = unsafe { libc::sigaltstack(&stack, ptr::null_mut()) };
        (result == 0).then_some(Installed { mapping })
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        // SAFETY: as in `new`. Another's stack, put in place of ours meanwhile, is left alone.
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
