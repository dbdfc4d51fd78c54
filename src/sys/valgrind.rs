//! Valgrind: told where stacks are, or it takes a change from one to another for a frame of great size, and
//! what lies in between for lost.
//!
//! It is told by instructions that do nothing, a rotation by all bits, and that it knows. They cost a
//! nanosecond, and are executed where a stack is made, which takes a call of the kernel anyway.

use std::num::NonZeroUsize;
use std::ptr::NonNull;

/// That a range is a stack, for as long as this lives. Nothing outside of Valgrind.
#[derive(Debug)]
pub(crate) struct KnownStack(NonZeroUsize);

const REGISTER: usize = 0x1501;
const DEREGISTER: usize = 0x1502;

impl KnownStack {
    /// Says that the `len` bytes from `bottom` are a stack. `None` if nobody listens.
    pub(crate) fn register(bottom: NonNull<u8>, len: usize) -> Option<Self> {
        let bottom = bottom.as_ptr().addr();
        NonZeroUsize::new(request([REGISTER, bottom, bottom + len - 1, 0, 0, 0])).map(KnownStack)
    }
}

impl Drop for KnownStack {
    fn drop(&mut self) {
        request([DEREGISTER, self.0.get(), 0, 0, 0, 0]);
    }
}

/// Makes a request, whose number comes first. 0 if nobody listens.
#[cfg(target_arch = "x86_64")]
fn request(words: [usize; 6]) -> usize {
    let answer;
    // SAFETY: `rdi` is rotated by 128 bits in all and `rbx` exchanged with itself, so that nothing is changed
    // but the flags; Valgrind reads the words and sets `rdx`.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") words.as_ptr(),
            inout("rdx") 0_usize => answer,
            options(nostack),
        );
    }
    answer
}

#[cfg(not(target_arch = "x86_64"))]
fn request(_words: [usize; 6]) -> usize {
    0
}
