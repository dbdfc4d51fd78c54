#![forbid(unsafe_code)]
//! The wait loop that all operations of `sync` share.

use super::sharing::{Sharing, State, Waker};
use super::wait_list::{Token, WaitList, Waiter};
use crate::hub::{self, Deadline, Wake};

/// An object to wait for.
///
/// Its state, the way to find the wait list in it, and the name of the operation.
pub(super) struct Object<'a, S: Sharing, T, W, G> {
    pub(super) state: &'a S::State<T>,
    pub(super) list: fn(&mut T) -> &mut WaitList<W, G>,
    pub(super) purpose: &'static str,
}

/// Attempts an operation, and waits for a grant if it cannot complete.
///
/// Returns the result of the attempt or the grant. If `deadline` passes first, returns the waiter that was
/// in the list.
///
/// The last attempt and the entry into the list happen under one hold of the state, so no change in between
/// is missed. `enter` turns a waker into the list's entry. If a panic is raised in the current coroutine
/// during the wait, the entry is removed; a grant that it has received by then is passed to `give_back`.
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
    // A costly registration is made before the state is locked, so that other threads do not wait for it.
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
            ListEntry::new(object, registration, token, give_back).wait(deadline)
        }
    }
}

type Registration<S> = <<S as super::sharing::sealed::Sharing>::Waker as Waker>::Registration;

/// An entry in a wait list, removed when dropped.
pub(super) struct ListEntry<'a, S: Sharing, T, W: Waiter, G, B: FnOnce(G)> {
    object: Object<'a, S, T, W, G>,
    _registration: Registration<S>,
    token: Option<Token>,
    give_back: Option<B>,
}

impl<'a, S: Sharing, T, W: Waiter, G, B: FnOnce(G)> ListEntry<'a, S, T, W, G, B> {
    #[inline(always)]
    pub(super) fn new(
        object: Object<'a, S, T, W, G>,
        registration: Registration<S>,
        token: Token,
        give_back: B,
    ) -> Self {
        let (token, give_back) = (Some(token), Some(give_back));
        ListEntry { object, _registration: registration, token, give_back }
    }

    /// Enters the list unconditionally.
    pub(super) fn enter(
        object: Object<'a, S, T, W, G>,
        enter: impl FnOnce(S::Waker) -> W,
        give_back: B,
    ) -> Self {
        let (registration, waker) = S::Waker::register();
        let token = object.state.with(|state| (object.list)(state).push(enter(waker)));
        ListEntry::new(object, registration, token, give_back)
    }

    /// Waits for a grant. Returns the waiter if `deadline` passes first.
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

impl<S: Sharing, T, W: Waiter, G, B: FnOnce(G)> Drop for ListEntry<'_, S, T, W, G, B> {
    #[inline]
    fn drop(&mut self) {
        let Some(token) = self.token.take() else { return };
        let taken = self.object.state.with(|state| (self.object.list)(state).take(token));
        if let (Ok(grant), Some(give_back)) = (taken, self.give_back.take()) {
            give_back(grant);
        }
    }
}
