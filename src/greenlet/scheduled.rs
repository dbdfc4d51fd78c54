#![forbid(unsafe_code)]
//! What the hub needs of greenlets, and nobody else.

#[cfg(feature = "monkey")]
pub(crate) use super::raw::NO_THROW;
pub(crate) use super::raw::{
    DetachedSpec, EXIT_GOES_ON, LEFT_BEHIND, Owner, Payload, begin_stack_period, describe,
    for_each_alive, main, may_have_unused_stacks, panics, running, set_scheduler, spawn,
    trim_unused_stacks,
};
