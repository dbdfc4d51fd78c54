#![forbid(unsafe_code)]
//! What the hub needs of greenlets, and nobody else.

#[cfg(feature = "monkey")]
pub(crate) use super::raw::NO_THROW;
pub(crate) use super::raw::{
    DetachedSpec, EXIT_GOES_ON, Glimpse, LEFT_BEHIND, Owner, Payload, describe, for_each_alive,
    main, panics, peek, running, set_scheduler, spawn,
};
