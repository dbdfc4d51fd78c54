#![forbid(unsafe_code)]
//! The error of a stack that could not be made.

use super::{MAX_SIZE, MIN_SIZE};
use std::{error, fmt, io};

/// Error of a greenlet that could not get a stack.
///
/// # Examples
///
/// ```
/// use switchgrass::{BuildError, Builder, stack::StackError};
///
/// let error = Builder::new().stack_size(10).build(|()| ()).unwrap_err();
/// assert!(matches!(error, BuildError::Stack(StackError::Size { asked: 10 })));
/// assert_eq!(error.to_string(), "stack size must be 16384 to 1073741824 bytes, got 10");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum StackError {
    /// The requested size is below [`MIN_SIZE`] or above [`MAX_SIZE`].
    Size {
        /// The requested size in bytes.
        asked: usize,
    },
    /// The kernel refused to map address space for stacks.
    Reserve {
        /// The size of the mapping in bytes.
        bytes: usize,
        /// The kernel's error.
        source: io::Error,
    },
    /// The kernel refused to make a guard page below the stack.
    Guard {
        /// How many stacks of this thread have a guard.
        guarded: usize,
        /// The kernel's error.
        source: io::Error,
    },
}

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StackError::Size { asked } => {
                write!(f, "stack size must be {MIN_SIZE} to {MAX_SIZE} bytes, got {asked}")
            }
            StackError::Reserve { bytes, source } => write!(
                f,
                "cannot reserve {bytes} bytes of address space for stacks: {source}; raise \
                 `ulimit -v`, vm.overcommit_ratio (where the sysctl vm.overcommit_memory is 2), \
                 or vm.max_map_count"
            ),
            StackError::Guard { guarded, source } => write!(
                f,
                "cannot make a guard page below a stack, after {guarded} on this thread: {source}; \
                 without MADV_GUARD_INSTALL (Linux 6.13) each guard takes two mappings: raise the \
                 sysctl vm.max_map_count{}",
                MaxMapCount
            ),
        }
    }
}

impl error::Error for StackError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            StackError::Size { .. } => None,
            StackError::Reserve { source, .. } | StackError::Guard { source, .. } => Some(source),
        }
    }
}

/// Displays the current value of the sysctl that limits mappings, if it can be read.
struct MaxMapCount;

impl fmt::Display for MaxMapCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::fs::read_to_string("/proc/sys/vm/max_map_count") {
            Ok(value) => write!(f, " (now {})", value.trim()),
            Err(_) => Ok(()),
        }
    }
}
