//! How many descriptors a process may have.

use std::io;

/// Raises the limit as far as it goes.
///
/// # Errors
///
/// If that is less than `needed`.
pub fn raise_limit(needed: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: room for a limit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: a valid limit.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_max < needed {
        let message = format!("{needed} descriptors are needed, and {} may be had", limit.rlim_max);
        return Err(io::Error::other(message));
    }
    Ok(())
}
