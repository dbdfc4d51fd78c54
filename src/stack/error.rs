#![forbid(unsafe_code)]
//! Why there is no stack.

use super::{MAX_SIZE, MIN_SIZE};
use std::{error, fmt, io};

/// Why a greenlet could not get a stack.
///
/// # Examples
///
/// ```
/// use switchgrass::{BuildError, Builder, stack::StackError};
///
/// let error = Builder::new().stack_size(10).build(|()| ()).unwrap_err();
/// assert!(matches!(error, BuildError::Stack(StackError::Size { asked: 10 })));
/// assert_eq!(error.to_string(), "a stack of 10 bytes: it must have 16384 to 1073741824");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum StackError {
    /// The size asked for is below [`MIN_SIZE`] or above [`MAX_SIZE`].
    Size {
        /// The size asked for in bytes.
        asked: usize,
    },
    /// The kernel gave no address space.
    Reserve {
        /// What was to be reserved in bytes.
        bytes: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel set no guard below the stack.
    Guard {
        /// How many stacks of this thread have one.
        guarded: usize,
        /// What the kernel said.
        source: io::Error,
    },
}

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StackError::Size { asked } => {
                write!(f, "a stack of {asked} bytes: it must have {MIN_SIZE} to {MAX_SIZE}")
            }
            StackError::Reserve { bytes, source } => write!(
                f,
                "no address space for a region of stacks ({bytes} bytes): {source}; the limits are \
                 `ulimit -v` and, where the sysctl vm.overcommit_memory is 2, vm.overcommit_ratio; \
                 a mapping too many is against vm.max_map_count"
            ),
            StackError::Guard { guarded, source } => write!(
                f,
                "no guard page below a stack, after {guarded} on this thread: {source}; without \
                 MADV_GUARD_INSTALL (Linux 6.13) a guard costs two mappings, and the limit is the \
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

/// The value of the sysctl that limits mappings, if it can be read.
struct MaxMapCount;

impl fmt::Display for MaxMapCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::fs::read_to_string("/proc/sys/vm/max_map_count") {
            Ok(value) => write!(f, " (now {})", value.trim()),
            Err(_) => Ok(()),
        }
    }
}
