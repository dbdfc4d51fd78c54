//! Greenlets: computations with a stack of their own that switch to each other explicitly.
//!
//! A [`Greenlet<In, Out>`] accepts an `In`, and whoever switches to it is next sent an `Out`. The
//! switch is *symmetric*: it suspends the caller and resumes the target, and there is no "return to the
//! caller". What a switch returns is whatever is next sent to the caller, by anybody.
//!
//! - `raw/` is the engine, and the only place here with `unsafe`;
//! - `handle.rs`, `pair.rs`, `scope.rs`, `builder.rs` are what one makes and switches to;
//! - `error.rs`, `trace.rs`, `local.rs` are what goes with them.
//!
//! Nothing here knows that there is a loop.
//!
//! The rules are greenlet's (<https://greenlet.readthedocs.io>), but for these:
//!
//! - a switch is typed, and a wrong type is an error of the sender;
//! - `current` and `parent` give handles that keep nobody alive, and a child does not keep its parent
//!   alive: when a greenlet's last counted handle goes it is unwound, and its children's results go to
//!   its own parent;
//! - an end by [`GreenletExit`] brings no value: see [`SwitchError::Exited`];
//! - handles stay on their thread, by their type.

mod builder;
mod error;
mod handle;
mod local;
mod pair;
mod raw;
mod scope;
mod trace;

pub use builder::Builder;
pub use error::{BuildError, GreenletExit, Mismatch, ParentError, SwitchError};
pub use handle::{AnyGreenlet, current, live_count};
pub use local::Local;
pub use pair::pair;
pub use raw::{AnyWeakGreenlet, Greenlet, Untyped, WeakGreenlet, trim_stacks};
pub use scope::scoped;
pub use trace::{TraceEvent, TraceHook, set_trace, trace};
