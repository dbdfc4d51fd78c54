#![forbid(unsafe_code)]
//! How every operation here waits.

use super::sharing::{Sharing, State, Waker};
use super::wait_list::{Token, WaitList, Waiter};
use crate::hub::{self, Deadline, Wake};

/// What is waited for, and where in its state the list is of those that wait for it.
pub(super) struct Object<'a, S: Sharing, T, W, G> {
    pub(super) state: &'a S::State<T>,
    pub(super) list: fn(&mut T) -> &mut WaitList<W, G>,
    pub(super) purpose: &'static str,
}

/// Attempts something; if it cannot be done now, waits until it is granted, or `deadline` has passed.
/// Returns what the attempt or the grant was, or what was put into the list if neither came.
///
/// `attempt` is made again under the same hold of the state as the entry into the list: nothing that happens
/// in between is missed. `enter` makes the entry of a waker. If something is raised in the current coroutine
/// it leaves the list; if it has been granted something by then, that goes to `give_back`.
#[inline(always)]
pub(super) fn wait<S: Sharing, T, W: Waiter, G>(
    object: Object<'_, S, T, W, G>,
    deadline: Option<Deadline>,
    mut attempt: impl FnMut(&mut T) -> Option<G>,
    enter: impl FnOnce(S::Waker) -> W,
    give_back: impl FnOnce(G),
) -> Result<G, W> {
    let early = if S::Waker::IS_CHEAP { None } else { object.state.with(&mut attempt) };
    if let Some(done) = early {
        return Ok(done);
    }
    // Where it is not cheap, it is not to be waited for by others.
    let early = if S::Waker::IS_CHEAP { None } else { Some(S::Waker::register()) };
    let entered = object.state.with(|state| match attempt(state) {
        Some(done) => Err(done),
        None => {
            let (registration, waker) = early.unwrap_or_else(S::Waker::register);
            Ok((registration, (object.list)(state).push(enter(waker))))
        }
    });
    match entered {
        Err(done) => Ok(done),
        Ok((registration, token)) => {
            Place::new(object, registration, token, give_back).wait(deadline)
        }
    }
}

type Registration<S> = <<S as super::sharing::sealed::Sharing>::Waker as Waker>::Registration;

/// A place in a list, which is left when this is dropped.
pub(super) struct Place<'a, S: Sharing, T, W: Waiter, G, B: FnOnce(G)> {
    object: Object<'a, S, T, W, G>,
    _registration: Registration<S>,
    token: Option<Token>,
    give_back: Option<B>,
}

impl<'a, S: Sharing, T, W: Waiter, G, B: FnOnce(G)> Place<'a, S, T, W, G, B> {
    #[inline(always)]
    pub(super) fn new(
        object: Object<'a, S, T, W, G>,
        registration: Registration<S>,
        token: Token,
        give_back: B,
    ) -> Self {
        let (token, give_back) = (Some(token), Some(give_back));
        Place { object, _registration: registration, token, give_back }
    }

    /// Enters the list, whatever the state is.
    pub(super) fn enter(
        object: Object<'a, S, T, W, G>,
        enter: impl FnOnce(S::Waker) -> W,
        give_back: B,
    ) -> Self {
        let (registration, waker) = S::Waker::register();
        let token = object.state.with(|state| (object.list)(state).push(enter(waker)));
        Place::new(object, registration, token, give_back)
    }

    /// Waits for a grant.
    #[inline(always)]
    pub(super) fn wait(mut self, deadline: Option<Deadline>) -> Result<G, W> {
        let token = self.token.expect("taken below and when dropped");
        loop {
            let wake = hub::park(self.object.purpose, deadline);
            let outcome = self.object.state.with(|state| {
                let list = (self.object.list)(state);
                let is_over = wake == Wake::TimedOut || list.is_granted(token);
                is_over.then(|| list.take(token))
            });
            if let Some(outcome) = outcome {
                self.token = None;
                return outcome;
            }
        }
    }
}

impl<S: Sharing, T, W: Waiter, G, B: FnOnce(G)> Drop for Place<'_, S, T, W, G, B> {
    #[inline]
    fn drop(&mut self) {
        let Some(token) = self.token.take() else { return };
        let taken = self.object.state.with(|state| (self.object.list)(state).take(token));
        if let (Ok(grant), Some(give_back)) = (taken, self.give_back.take()) {
            give_back(grant);
        }
    }
}
