#![forbid(unsafe_code)]
//! Watching every switch of a thread.

use super::raw::{self, AnyWeakGreenlet, Hold, TraceKind};
use std::any::Any;
use std::rc::Rc;

/// A change from one greenlet to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceEvent {
    /// A value was sent: by a switch, or by the end of a child.
    Switch {
        /// Who ran before.
        from: AnyWeakGreenlet,
        /// Who runs now.
        to: AnyWeakGreenlet,
    },
    /// Something was thrown, or a child has ended by a panic.
    Throw {
        /// Who ran before.
        from: AnyWeakGreenlet,
        /// Who runs now.
        to: AnyWeakGreenlet,
    },
}

/// A function that is told of every switch.
pub type TraceHook = Rc<dyn Fn(&TraceEvent)>;

/// Has `hook` called at every switch of this thread, in the greenlet that is switched to, before its
/// code goes on. Returns the hook that was there; `None` takes it away.
///
/// A hook may switch, and may remove or replace itself. A hook that panics is removed, unless it has replaced
/// itself already, and its panic is raised in the greenlet that was switched to.
///
/// Without a hook this costs a switch nothing; with one, each takes the long way.
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

/// The hook that [`set_trace`] has put in place.
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
