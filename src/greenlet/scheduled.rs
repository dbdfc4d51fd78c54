#![forbid(unsafe_code)]
//! The interface of greenlets to the hub.

pub(crate) use super::raw::{
    DetachedSpec, Owner, Payload, Resumed, Snapshot, Unwinding, begin_stack_period, close_thread,
    describe, drop_current_locals, for_each_alive, has_ended, made_count, main, marks,
    may_have_unused_stacks, panics, peek, pin, running, set_scheduler, spawn, trim_unused_stacks,
    wind_up,
};
