#![forbid(unsafe_code)]
//! What the hub needs of greenlets, and nobody else.

pub(crate) use super::raw::{
    DetachedSpec, Owner, Payload, describe, for_each_alive, main, running, set_scheduler, spawn,
};
