#![forbid(unsafe_code)]
//! What the hub needs of greenlets, and nobody else.

#[cfg(feature = "monkey")]
pub(crate) use super::raw::NO_THROW;
pub(crate) use super::raw::{
    DetachedSpec, EXIT_GOES_ON, LEFT_BEHIND, Owner, Payload, describe, drop_current_locals,
    for_each_alive, main, panics, running, set_scheduler, spawn,
};
