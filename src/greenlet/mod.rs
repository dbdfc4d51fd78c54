//! Greenlets: computations with their own stacks that switch explicitly.
//!
//! A [`Greenlet<In, Out>`] receives an `In`, and a greenlet that switches to it awaits an `Out`. The switch
//! is *symmetric*: it suspends the caller and resumes the target, and there is no implicit return to the
//! caller. A switch returns the next value sent to its caller, from any greenlet.
//!
//! - `raw/` is the engine, and the only part with `unsafe`;
//! - `handle.rs`, `pair.rs`, `scope.rs`, `builder.rs` create greenlets and switch to them;
//! - `error.rs`, `trace.rs`, `local.rs` are errors, tracing and greenlet-local variables;
//! - `scheduled.rs` exports what a scheduler needs.
//!
//! This module does not depend on the event loop.
//!
//! The semantics are those of Python's greenlet (<https://greenlet.readthedocs.io>), with these
//! differences:
//!
//! - A switch is typed, and a type mismatch is an error at the sender.
//! - `current` and `parent` return weak handles, and a child does not keep its parent alive. When the last
//!   counted handle of a greenlet is dropped, the greenlet is unwound, and the results of its children go
//!   to its own parent.
//! - An end by [`GreenletExit`] carries no value: see [`SwitchError::Exited`]. On its way to a greenlet
//!   that can be notified, it ends ancestors that have not started.
//! - Handles stay on their thread, by their type.
//!
//! # Thread-local variables
//!
//! They share the thread's `thread_local!` variables. In a thread, frames end in the reverse order of their
//! start, and before the thread does. Across greenlets neither holds. This library cannot detect the
//! following three cases, in which *sound* code of other crates becomes unsound:
//!
//! - A greenlet that is suspended inside [`LocalKey::with`](std::thread::LocalKey::with) when its thread
//!   ends is unwound after that variable was destroyed, if the variable was first used after this library.
//!   End such greenlets earlier: drop them, or call [`unwind_all`].
//! - A crate that sets a thread-local variable to a borrowed value, and resets it at the end of a scope
//!   (for instance `scoped-tls`), breaks if two greenlets do not leave such scopes in last-in, first-out
//!   order. Do not switch inside such a scope.
//! - An initializer of a `thread_local!` variable that switches, while another greenlet initializes the
//!   same variable: std keeps the value of the initializer that finishes last, and drops the other value
//!   although there are references to it. Do not switch in an initializer.

mod builder;
mod error;
mod handle;
mod local;
mod pair;
mod raw;
pub(crate) mod scheduled;
mod scope;
mod trace;

pub use builder::Builder;
pub use error::{BuildError, GreenletExit, Mismatch, ParentError, SwitchError};
pub use handle::{AnyGreenlet, current, live_count};
pub use local::Local;
pub use pair::pair;
pub(crate) use raw::dropping;
pub use raw::{AnyWeakGreenlet, Greenlet, Untyped, WeakGreenlet, trim_stacks, unwind_all};
pub use scope::scoped;
pub use trace::{TraceEvent, TraceHook, set_trace, trace};
