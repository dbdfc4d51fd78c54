#![forbid(unsafe_code)]
//! What only the hub needs of greenlets.

#[cfg(feature = "monkey")]
pub(crate) use super::raw::NO_THROW;
pub(crate) use super::raw::{
    Came, DetachedSpec, EXIT_GOES_ON, LEFT_BEHIND, Owner, Payload, describe, drop_payload,
    end_thread, for_each_alive, main, panics, running, set_scheduler, spawn,
};
