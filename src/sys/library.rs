//! Which library an address belongs to.

use std::ffi::{CStr, c_void};
use std::mem::MaybeUninit;

/// What a piece of code was loaded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Library {
    /// As it was found by the loader: the program, or a library.
    pub(crate) path: String,
    /// Where its first byte lies.
    pub(crate) base: usize,
}

/// What the code or data at an address was loaded from. `None` if that is not known.
pub(crate) fn of(address: *const c_void) -> Option<Library> {
    let mut info = MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: any address may be asked for; room for the answer.
    if unsafe { libc::dladdr(address, info.as_mut_ptr()) } == 0 {
        return None;
    }
    // SAFETY: it was answered. The name is the loader's, ends with a zero, and is copied at once.
    unsafe {
        let info = info.assume_init();
        if info.dli_fname.is_null() {
            return None;
        }
        let path = CStr::from_ptr(info.dli_fname).to_string_lossy().into_owned();
        Some(Library { path, base: info.dli_fbase.addr() })
    }
}

// A program that is linked statically was not loaded by anybody who would know.
#[cfg(all(test, not(target_feature = "crt-static")))]
mod tests {
    #[test]
    fn of_this_program_and_of_libc() {
        let here = super::of(of_this_program_and_of_libc as fn() as *const _).expect("it is code");
        let libc = super::of(libc::getpid as *const _).expect("it is code");
        assert!(libc.path.contains("libc.so"), "{libc:?}");
        assert_ne!(here, libc);
        assert_eq!(super::of(std::ptr::null()), None);
    }
}
