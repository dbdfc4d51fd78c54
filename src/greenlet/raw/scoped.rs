//! Greenlets whose body may borrow from the one that makes them.

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

/// Makes a greenlet whose body may borrow what is alive during this call, and calls `inside` with it.
///
/// The greenlet is dead before this returns or unwinds. The guarantee does not hang on a destructor
/// that somebody could forget: the one that counts is on this frame, which nobody else can reach. If
/// this frame itself is never gone on with, neither it nor what it borrows from is ever used again.
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
    // SAFETY: the types are the declared ones. `End` sees to it that the greenlet is dead before
    // anything is gone that `body` borrows, which all outlives this call.
    let end = unsafe { End(Greenlet::<In, Out>::from_counted(create::create(body)?)) };
    Ok(inside(&end.0))
}

/// Ends the greenlet on every way out.
struct End<In, Out>(Greenlet<In, Out>);

impl<In, Out> Drop for End<In, Out> {
    fn drop(&mut self) {
        /// A body that catches its exit gets another: it may have caught one meant for an inner scope.
        const PATIENCE: usize = 100;
        let (here, core) = (Here::of_a_block(), self.0.core());
        // Whatever panics here, the scope is not left before the body is gone.
        let alive = AbortOnDrop(core);
        let mut panics = Vec::new();
        for _ in 0..PATIENCE {
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
                // Its body is being dropped on another's stack: that is not ours to wait for.
                Life::Ending => return,
                Life::Unstarted | Life::Started => {}
            }
        }
        if core.life.get() == Life::Dead {
            mem::forget(alive);
            let mut panics = panics.into_iter();
            if let Some(first) = panics.next() {
                panics.for_each(drop_payload);
                end::raise_from_a_destructor(first);
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
