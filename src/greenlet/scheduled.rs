#![forbid(unsafe_code)]
//! What only the hub needs of greenlets.

#[cfg(feature = "monkey")]
pub(crate) use super::raw::NO_THROW;
pub(crate) use super::raw::{
    Came, DetachedSpec, EXIT_GOES_ON, LEFT_BEHIND, Owner, Payload, close_thread, describe,
    drop_current_locals, for_each_alive, made_count, main, panics, running, set_scheduler, spawn,
};
