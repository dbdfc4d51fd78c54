//! Greenlets: computations with a stack of their own that switch to each other explicitly.
//!
//! A [`Greenlet<In, Out>`] accepts an `In`, and whoever switches to it is next sent an `Out`. The
//! switch is *symmetric*: it suspends the caller and resumes the target, and there is no "return to the
//! caller". What a switch returns is whatever is next sent to the caller, by anybody.
//!
//! - `raw/` is the engine, and the only place here with `unsafe`;
//! - `handle.rs`, `pair.rs`, `scope.rs`, `builder.rs` are what one makes and switches to;
//! - `error.rs`, `trace.rs`, `local.rs` are what goes with them; `scheduled.rs` is what a scheduler needs.
//!
//! Nothing here knows that there is a loop.
//!
//! The rules are greenlet's (<https://greenlet.readthedocs.io>), but for these:
//!
//! - a switch is typed, and a wrong type is an error of the sender;
//! - `current` and `parent` give handles that keep nobody alive, and a child does not keep its parent
//!   alive: when a greenlet's last counted handle goes it is unwound, and its children's results go to
//!   its own parent;
//! - an end by [`GreenletExit`] brings no value: see [`SwitchError::Exited`]; on its way to one that
//!   can be told, it ends ancestors that have not begun;
//! - handles stay on their thread, by their type.
//!
//! # What greenlets of a thread share
//!
//! Its `thread_local!` variables. What is true of a whole thread, that frames end in the reverse of
//! the order in which they began, and before the thread does, is not true of frames of different
//! greenlets. Three things follow that this library cannot see, and that can make *sound* code of others
//! unsound:
//!
//! - A greenlet that is suspended inside [`LocalKey::with`](std::thread::LocalKey::with) when its
//!   thread ends is unwound after that variable was destroyed, if the variable was first used after
//!   this library. End such greenlets before: by dropping them, or by [`unwind_all`].
//! - A crate that sets a thread-local variable to a borrowed value, and resets it at the end of a scope
//!   (`scoped-tls`, for one), is broken by two greenlets that leave such scopes in another order than
//!   last-in, first-out. Do not switch inside such a scope.
//! - An initializer of a `thread_local!` variable that switches, while another greenlet initializes the same
//!   variable: std keeps the value of the one that finishes last, and drops the other under references to it.
//!   Do not switch in an initializer.

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
