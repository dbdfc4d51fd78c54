#![forbid(unsafe_code)]
//! The queue of an object's waiters, with what each has been granted.
//!
//! ```text
//!            push                     grant                      take
//!   (free) ───────► waiting: a waker ───────► granted: a value ───────► (free)
//!                        │                                                ▲
//!                        └──────────── take: nothing was granted ─────────┘
//! ```
//!
//! A grant is made under the same borrow or lock as the change of the object that it stands for. The waiter
//! takes it when it resumes, or gives it back if it was killed meanwhile. So no grant is lost or delivered
//! twice, regardless of which comes first. Adding, granting and removing are O(1).
//!
//! In a forked child, entries of greenlets that do not continue there are skipped: they leave the queue and
//! receive no grant, and they are not dropped before the list is.

/// An entry of a list.
pub trait Waiter {
    /// Whether the process was forked and the waiter does not continue here.
    fn is_left_behind(&self) -> bool;
}

/// Identifies an entry from `push` to `take`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token(u32);

#[derive(Debug)]
pub(crate) struct WaitList<W, G = ()> {
    nodes: Vec<Node<W, G>>,
    free: u32,
    /// The first and the last waiting node.
    head: u32,
    tail: u32,
    waiting: u32,
}

#[derive(Debug)]
struct Node<W, G> {
    state: NodeState<W, G>,
    before: u32,
    after: u32,
}

#[derive(Debug)]
enum NodeState<W, G> {
    Free,
    Waiting(W),
    /// Not in the queue any more. See [`Waiter::is_left_behind`].
    LeftBehind(W),
    Granted(G),
}

const NONE: u32 = u32::MAX;

impl<W, G> WaitList<W, G> {
    pub(crate) const fn new() -> Self {
        WaitList { nodes: Vec::new(), free: NONE, head: NONE, tail: NONE, waiting: 0 }
    }
}

impl<W: Waiter, G> WaitList<W, G> {
    /// Whether no waiter is in the queue.
    #[inline]
    pub(crate) fn is_empty(&mut self) -> bool {
        self.skip_left_behind();
        self.head == NONE
    }

    /// Returns the number of waiters.
    pub(crate) fn len(&mut self) -> usize {
        self.skip_left_behind();
        self.waiting as usize
    }

    /// Returns the first waiter.
    pub(crate) fn first_mut(&mut self) -> Option<&mut W> {
        self.skip_left_behind();
        match &mut self.nodes.get_mut(self.head as usize)?.state {
            NodeState::Waiting(waker) => Some(waker),
            _ => unreachable!("a linked node is waiting"),
        }
    }

    /// Appends a waiter.
    #[inline]
    pub(crate) fn push(&mut self, waker: W) -> Token {
        let node = Node { state: NodeState::Waiting(waker), before: self.tail, after: NONE };
        let index = self.free;
        let index = if index == NONE {
            self.nodes.push(node);
            u32::try_from(self.nodes.len() - 1).expect("there are fewer than 2^32 waiters")
        } else {
            self.free = self.nodes[index as usize].after;
            self.nodes[index as usize] = node;
            index
        };
        match self.tail {
            NONE => self.head = index,
            tail => self.nodes[tail as usize].after = index,
        }
        self.tail = index;
        self.waiting += 1;
        Token(index)
    }

    /// Gives `grant` to the first waiter and removes it from the queue.
    ///
    /// Returns the waiter, to be woken, or the grant if the queue is empty.
    #[inline]
    pub(crate) fn grant(&mut self, grant: G) -> Result<W, G> {
        if self.is_empty() {
            return Err(grant);
        }
        let head = self.head;
        self.unlink(head);
        match std::mem::replace(&mut self.nodes[head as usize].state, NodeState::Granted(grant)) {
            NodeState::Waiting(waker) => Ok(waker),
            _ => unreachable!("a linked node is waiting"),
        }
    }

    /// Whether the entry has received a grant.
    #[inline]
    pub(crate) fn is_granted(&self, token: Token) -> bool {
        matches!(self.nodes[token.0 as usize].state, NodeState::Granted(_))
    }

    /// Gives a grant to each waiter, in order. Returns the waiters, to be woken.
    pub(crate) fn grant_all(&mut self, mut grant: impl FnMut() -> G) -> Vec<W> {
        let mut wakers = Vec::with_capacity(self.len());
        while let Ok(waker) = self.grant(grant()) {
            wakers.push(waker);
        }
        wakers
    }

    /// Removes an entry. Returns its grant, or the waiter if it has received none.
    #[inline]
    pub(crate) fn take(&mut self, token: Token) -> Result<G, W> {
        let index = token.0;
        if let NodeState::Waiting(_) = self.nodes[index as usize].state {
            self.unlink(index);
        }
        let node = &mut self.nodes[index as usize];
        node.after = std::mem::replace(&mut self.free, index);
        match std::mem::replace(&mut node.state, NodeState::Free) {
            NodeState::Granted(grant) => Ok(grant),
            NodeState::Waiting(waker) | NodeState::LeftBehind(waker) => Err(waker),
            NodeState::Free => unreachable!("a token is used once"),
        }
    }

    /// Removes waiters that were left behind from the queue.
    ///
    /// Must be called before the head is used.
    ///
    /// Checking the head is enough: waiters that were left behind precede all that were added since the
    /// fork.
    #[inline]
    fn skip_left_behind(&mut self) {
        if self.head != NONE && self.is_left_behind(self.head) {
            self.take_out_left_behind();
        }
    }

    #[inline]
    fn is_left_behind(&self, index: u32) -> bool {
        matches!(&self.nodes[index as usize].state, NodeState::Waiting(waiter) if waiter.is_left_behind())
    }

    #[cold]
    #[inline(never)]
    fn take_out_left_behind(&mut self) {
        let mut index = self.head;
        while index != NONE {
            let after = self.nodes[index as usize].after;
            if self.is_left_behind(index) {
                self.unlink(index);
                let state = &mut self.nodes[index as usize].state;
                match std::mem::replace(state, NodeState::Free) {
                    NodeState::Waiting(waiter) => *state = NodeState::LeftBehind(waiter),
                    _ => unreachable!("a linked node is waiting"),
                }
            }
            index = after;
        }
    }

    #[inline]
    fn unlink(&mut self, index: u32) {
        let Node { before, after, .. } = self.nodes[index as usize];
        match before {
            NONE => self.head = after,
            before => self.nodes[before as usize].after = after,
        }
        match after {
            NONE => self.tail = before,
            after => self.nodes[after as usize].before = before,
        }
        self.waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waiters from 100 on count as left behind.
    impl Waiter for u32 {
        fn is_left_behind(&self) -> bool {
            *self >= 100
        }
    }

    #[test]
    fn a_waiter_left_behind_receives_no_grant() {
        let mut list: WaitList<u32, char> = WaitList::new();
        let [ghost, _, a, b] = [100, 101, 1, 2].map(|waiter| list.push(waiter));
        assert_eq!(list.len(), 2);
        assert_eq!((list.grant('x'), list.take(ghost)), (Ok(1), Err(100)));
        assert_eq!((list.grant('y'), list.grant('z')), (Ok(2), Err('z')));
        assert_eq!((list.take(a), list.take(b)), (Ok('x'), Ok('y')));
        let _ghost = list.push(102);
        assert!(list.is_empty());
        assert!(list.first_mut().is_none());
    }

    #[test]
    fn waiters_are_granted_once_and_in_order() {
        let mut list: WaitList<u32, char> = WaitList::new();
        let [a, b, c] = [1, 2, 3].map(|waker| list.push(waker));
        assert_eq!(list.take(b), Err(2), "it had received no grant");
        assert_eq!((list.grant('x'), list.grant('y')), (Ok(1), Ok(3)));
        assert_eq!(list.grant('z'), Err('z'));
        assert!(list.is_empty());
        let d = list.push(4);
        assert_eq!((list.take(c), list.take(a)), (Ok('y'), Ok('x')));
        assert_eq!((list.len(), list.grant('z')), (1, Ok(4)));
        assert!(list.is_granted(d));
        assert_eq!(list.take(d), Ok('z'));
    }
}
