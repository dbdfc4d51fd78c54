//! Queries and sets the processors that a thread may run on.

use std::io;

type Word = usize;
const WORD: usize = Word::BITS as usize;

/// Returns the processors that the calling thread may run on, in ascending order.
pub(crate) fn allowed() -> io::Result<Vec<usize>> {
    // If the kernel supports more processors than this, it fails with `EINVAL`.
    let mut mask: Vec<Word> = vec![0; 1024 / WORD];
    let bytes = loop {
        let size = mask.len() * size_of::<Word>();
        // SAFETY: `mask` has room for `size` bytes. Thread 0 is the calling thread.
        let bytes =
            unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, size, mask.as_mut_ptr()) };
        if let Ok(bytes) = usize::try_from(bytes) {
            break bytes;
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINVAL) || mask.len() > 1 << 20 {
            return Err(error);
        }
        mask.resize(2 * mask.len(), 0);
    };
    let is_set = |cpu: &usize| mask[cpu / WORD] & 1 << (cpu % WORD) != 0;
    Ok((0..bytes * 8).filter(is_set).collect())
}

/// Restricts the calling thread to one processor.
pub(crate) fn pin_to(cpu: usize) -> io::Result<()> {
    let mut mask: Vec<Word> = vec![0; cpu / WORD + 1];
    mask[cpu / WORD] = 1 << (cpu % WORD);
    let size = mask.len() * size_of::<Word>();
    // SAFETY: `mask` has `size` bytes. Thread 0 is the calling thread.
    match unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size, mask.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinning_applies_to_the_calling_thread_only() {
        let all = allowed().unwrap();
        let last = *all.last().expect("at least one processor is allowed");
        let pinned = std::thread::spawn(move || {
            pin_to(last).unwrap();
            allowed().unwrap()
        });
        assert_eq!(pinned.join().unwrap(), [last]);
        assert_eq!(allowed().unwrap(), all, "other threads are unchanged");
        assert!(pin_to(1 << 16).is_err(), "there is no such processor");
    }
}
