#![forbid(unsafe_code)]
//! Tracing: a hook that sees every switch of a thread.

use super::raw::{self, AnyWeakGreenlet, Hold, TraceKind};
use std::any::Any;
use std::rc::Rc;

/// A switch from one greenlet to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceEvent {
    /// A value was sent: by a switch, or by the end of a child.
    Switch {
        /// The greenlet that ran before.
        from: AnyWeakGreenlet,
        /// The greenlet that runs now.
        to: AnyWeakGreenlet,
    },
    /// A payload was thrown, or a child has ended by a panic.
    Throw {
        /// The greenlet that ran before.
        from: AnyWeakGreenlet,
        /// The greenlet that runs now.
        to: AnyWeakGreenlet,
    },
}

/// A function called at every switch.
pub type TraceHook = Rc<dyn Fn(&TraceEvent)>;

/// Installs `hook`, to be called at every switch of this thread.
///
/// The hook runs in the target of the switch, before the target's own code continues. `None` removes the
/// hook. Returns the previous one.
///
/// A hook may switch, and may remove or replace itself. A hook that panics is removed, unless it has
/// already replaced itself, and its panic is raised in the target of the switch.
///
/// Without a hook, switches cost nothing extra; with a hook, every switch takes the slow path.
///
/// # Examples
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// use switchgrass::{Greenlet, greenlet};
///
/// let count = Rc::new(Cell::new(0));
/// let counter = Rc::clone(&count);
/// greenlet::set_trace(Some(Rc::new(move |_| counter.set(counter.get() + 1))));
/// Greenlet::new(|()| ()).switch(());
/// greenlet::set_trace(None);
/// assert_eq!(count.get(), 2); // there and back
/// ```
///
/// # Switching
///
/// Never switches.
pub fn set_trace(hook: Option<TraceHook>) -> Option<TraceHook> {
    let tracer = hook.map(|hook| Rc::new(Hook(hook)) as raw::Tracer);
    raw::set_tracer(tracer).and_then(hook_of)
}

/// Returns the hook installed by [`set_trace`].
///
/// # Switching
///
/// Never switches.
pub fn trace() -> Option<TraceHook> {
    raw::tracer().and_then(hook_of)
}

fn hook_of(tracer: raw::Tracer) -> Option<TraceHook> {
    let any: Rc<dyn Any> = tracer;
    any.downcast::<Hook>().ok().map(|hook| Rc::clone(&hook.0))
}

struct Hook(TraceHook);

impl raw::Trace for Hook {
    fn switched(&self, kind: TraceKind, from: Hold, to: Hold) {
        let [from, to] = [from, to].map(AnyWeakGreenlet::untyped_of);
        self.0(&match kind {
            TraceKind::Switch => TraceEvent::Switch { from, to },
            TraceKind::Throw => TraceEvent::Throw { from, to },
        });
    }
}
