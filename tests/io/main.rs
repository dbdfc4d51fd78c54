//! Whatever has a descriptor and is no socket.

mod files;
mod pipes;
mod readiness;
