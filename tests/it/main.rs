//! What the library does, a module a behaviour. Cases of greenlet's own suite carry its names.

mod deadlock;
mod death;
mod dropping;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod floats;
mod futures;
mod generators;
mod hub_greenlet;
mod idle;
mod joining;
mod killing;
mod limits;
mod locals;
mod parents;
mod reentrancy;
mod scopes;
mod spawning;
mod stacks;
mod support;
mod switching;
mod threads;
mod throwing;
mod tracing;
mod unwinding;

mod links;
mod payloads;
