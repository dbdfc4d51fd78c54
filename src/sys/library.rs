//! Which library an address belongs to, and which function.

use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;

/// What a piece of code was loaded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Library {
    /// As it was found by the loader: the program, or a library.
    pub(crate) path: String,
    /// Where its first byte lies.
    pub(crate) base: usize,
    /// The function or variable, if it is one that others can link to.
    pub(crate) symbol: Option<String>,
}

/// What the code or data at an address was loaded from. `None` if that is not known.
pub(crate) fn of(address: *const c_void) -> Option<Library> {
    let mut info = MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: any address may be asked for; room for the answer.
    if unsafe { libc::dladdr(address, info.as_mut_ptr()) } == 0 {
        return None;
    }
    // SAFETY: it was answered.
    let info = unsafe { info.assume_init() };
    let text = |name: *const c_char| {
        // SAFETY: the name is the loader's, ends with a zero, and is copied at once.
        (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned())
    };
    let path = text(info.dli_fname)?;
    Some(Library { path, base: info.dli_fbase.addr(), symbol: text(info.dli_sname) })
}

/// Whether an address is in the code of the program itself, and not of a library.
#[cfg(feature = "process")]
pub(crate) fn is_of_program(address: *const ()) -> bool {
    struct Question {
        address: usize,
        is_there: bool,
    }

    /// The first that it is called for is the program.
    unsafe extern "C" fn look(
        info: *mut libc::dl_phdr_info,
        _size: libc::size_t,
        question: *mut c_void,
    ) -> libc::c_int {
        // SAFETY: the loader's description of what it has loaded, and the question from below.
        let (info, question) = unsafe { (&*info, &mut *question.cast::<Question>()) };
        for index in 0..usize::from(info.dlpi_phnum) {
            // SAFETY: there are so many.
            let segment = unsafe { &*info.dlpi_phdr.add(index) };
            let start = (info.dlpi_addr as usize).wrapping_add(segment.p_vaddr as usize);
            let is_code = segment.p_type == libc::PT_LOAD && segment.p_flags & libc::PF_X != 0;
            let is_inside = question.address.wrapping_sub(start) < segment.p_memsz as usize;
            question.is_there |= is_code && is_inside;
        }
        1
    }

    let mut question = Question { address: address.addr(), is_there: false };
    // SAFETY: a function that takes what it is given here.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut question).cast()) };
    question.is_there
}

// A program that is linked statically was not loaded by anybody who would know.
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
