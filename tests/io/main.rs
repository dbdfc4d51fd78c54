//! Whatever has a descriptor and is no socket.

mod pipes;
mod readiness;
