//! Greenlets whose body may borrow from their creator.

use super::block::{Core, Life};
use super::dropping::drop_payload;
use super::handle::Greenlet;
use super::thread::Here;
use super::types::TypeKey;
use super::{create, end};
use crate::greenlet::error::BuildError;
use crate::sys::stderr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{mem, process};

/// Calls `inside` with a greenlet whose body may borrow what outlives this call.
///
/// **Invariant 9**: the greenlet is dead before this returns or unwinds. That does not depend on a
/// destructor that can be skipped: the value whose drop matters is on this frame, out of the reach of
/// `mem::forget`. If this frame is never resumed, neither it nor what the body borrows is ever used again.
pub(crate) fn scoped<In, Out, F, R>(
    body: F,
    inside: impl FnOnce(&Greenlet<In, Out>) -> R,
) -> Result<R, BuildError>
where
    In: 'static,
    Out: 'static,
    F: FnOnce(In) -> Out,
{
    if Here::ready().is_some_and(|here| here.is_scheduler(here.running())) {
        return Err(BuildError::Scheduler);
    }
    // SAFETY: the types of the handle are those of the body. `End` ensures that the greenlet is dead before
    // this call ends, which everything that `body` borrows outlives.
    let end = unsafe { End(Greenlet::<In, Out>::from_counted(create::create(body)?)) };
    Ok(inside(&end.0))
}

/// Ends the greenlet when it is dropped, by a return or an unwind.
struct End<In, Out>(Greenlet<In, Out>);

impl<In, Out> Drop for End<In, Out> {
    fn drop(&mut self) {
        /// Attempts to unwind: a body may catch an exit that it takes for that of an inner scope.
        const MAX_ATTEMPTS: usize = 100;
        let (here, core) = (Here::of_a_block(), self.0.core());
        // Aborts if a panic here would leave the scope before the body is gone.
        let alive = AbortOnDrop(core);
        let mut panics = Vec::new();
        for _ in 0..MAX_ATTEMPTS {
            let result = catch_unwind(AssertUnwindSafe(|| match core.life.get() {
                Life::Unstarted => {
                    end::discard_unstarted(here, core);
                    None
                }
                Life::Started if !cfg!(panic = "abort") => {
                    end::try_unwind(here, core, TypeKey::END)
                }
                Life::Started | Life::Ending | Life::Dead => None,
            }));
            panics.extend(result.unwrap_or_else(Some));
            match core.life.get() {
                Life::Dead => break,
                // Its body is being dropped on another stack, and `alive` aborts the process.
                Life::Ending => return,
                Life::Unstarted | Life::Started => {}
            }
        }
        if core.life.get() == Life::Dead {
            mem::forget(alive);
            let mut panics = panics.into_iter();
            if let Some(first) = panics.next() {
                panics.for_each(drop_payload);
                end::raise_unless_unwinding(first);
            }
        }
    }
}

/// Ends the process if it is dropped.
struct AbortOnDrop<'a>(&'a Core);

impl Drop for AbortOnDrop<'_> {
    fn drop(&mut self) {
        let title = self.0.title();
        stderr::write(&[&format!(
            "switchgrass: greenlet {title} borrows from a scope that has ended, and does not let itself \
             be unwound\n"
        )]);
        process::abort();
    }
}
