//! Greenlets whose body may borrow from the one that makes them.

use super::core::Life;
use super::handle::Greenlet;
use super::thread::Here;
use super::{create, end};
use crate::greenlet::error::BuildError;
use crate::sys::stderr;
use std::process;

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
        let here = Here::of_a_block();
        // What is thrown into this greenlet meanwhile waits: nothing may be gone before its time.
        let mut thrown = None;
        for _ in 0..PATIENCE {
            match self.0.core().life.get() {
                Life::Dead => break,
                Life::Unstarted => end::discard_unstarted(here, self.0.block()),
                Life::Started if cfg!(panic = "abort") => break,
                Life::Started => thrown = end::try_unwind(here, self.0.block()).or(thrown),
            }
        }
        if self.0.core().life.get() == Life::Dead {
            return thrown.map_or((), end::raise_from_a_destructor);
        }
        let title = self.0.core().title();
        stderr::write(&[
            "switchgrass: greenlet ",
            &title,
            " borrows from a scope that has ended, and does not let itself be unwound\n",
        ]);
        process::abort();
    }
}
