//! Finds the library and the symbol that an address belongs to.

use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;

/// The program or library that an address was loaded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Library {
    /// Its path, as the loader found it.
    pub(crate) path: String,
    /// The address of its first byte.
    pub(crate) base: usize,
    /// The function or variable at the address, if it is exported.
    pub(crate) symbol: Option<String>,
}

/// Returns what the code or data at an address was loaded from. `None` if it is unknown.
pub(crate) fn of(address: *const c_void) -> Option<Library> {
    let mut info = MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: `dladdr` takes any address, and `info` has room for the result.
    if unsafe { libc::dladdr(address, info.as_mut_ptr()) } == 0 {
        return None;
    }
    // SAFETY: `dladdr` succeeded, so it has filled in `info`.
    let info = unsafe { info.assume_init() };
    let text = |name: *const c_char| {
        // SAFETY: a string of the loader's, which ends with a zero and is copied at once.
        (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned())
    };
    let path = text(info.dli_fname)?;
    Some(Library { path, base: info.dli_fbase.addr(), symbol: text(info.dli_sname) })
}

/// Whether an address is in the code of the program itself, not of a library.
#[cfg(feature = "process")]
pub(crate) fn is_of_program(address: *const ()) -> bool {
    struct Query {
        address: usize,
        is_found: bool,
    }

    /// Checks the first module that it is called for, which is the program, and stops the iteration.
    unsafe extern "C" fn look(
        info: *mut libc::dl_phdr_info,
        _size: libc::size_t,
        query: *mut c_void,
    ) -> libc::c_int {
        // SAFETY: the loader passes a description of a loaded module, and the pointer given to
        // `dl_iterate_phdr` below.
        let (info, query) = unsafe { (&*info, &mut *query.cast::<Query>()) };
        for index in 0..usize::from(info.dlpi_phnum) {
            // SAFETY: there are `dlpi_phnum` headers.
            let segment = unsafe { &*info.dlpi_phdr.add(index) };
            let start = (info.dlpi_addr as usize).wrapping_add(segment.p_vaddr as usize);
            let is_code = segment.p_type == libc::PT_LOAD && segment.p_flags & libc::PF_X != 0;
            let is_inside = query.address.wrapping_sub(start) < segment.p_memsz as usize;
            query.is_found |= is_code && is_inside;
        }
        1
    }

    let mut query = Query { address: address.addr(), is_found: false };
    // SAFETY: `look` has the required type, and expects the `Query` that it is given.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut query).cast()) };
    query.is_found
}

// A statically linked program has no loader that could name libraries.
#[cfg(all(test, not(target_feature = "crt-static")))]
mod tests {
    #[test]
    fn of_this_program_and_of_libc() {
        let here = super::of(of_this_program_and_of_libc as fn() as *const _).expect("it is code");
        let libc = super::of(libc::getpid as *const _).expect("it is code");
        assert!(libc.path.contains("libc.so"), "{libc:?}");
        assert!(libc.symbol.as_ref().is_some_and(|name| name.contains("getpid")), "{libc:?}");
        assert_ne!(here, libc);
        assert_eq!(super::of(std::ptr::null()), None);
    }
}
