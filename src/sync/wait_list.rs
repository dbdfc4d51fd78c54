#![forbid(unsafe_code)]
//! Who waits for an object, in order, and what each has been given.
//!
//! ```text
//!            push                     grant                      take
//!   (free) ───────► waiting: a waker ───────► granted: a value ───────► (free)
//!                        │                                                ▲
//!                        └──────────── take: nothing was granted ─────────┘
//! ```
//!
//! A grant is made under the same borrow or lock as the change of the object that it is about, and taken
//! by the one that waits, or given back if that was killed meanwhile: so nothing is lost and nothing
//! handed over twice, whoever is faster. Adding, granting and taking out are all O(1).
//!
//! In a forked child, entries of greenlets that do not go on there are skipped: they leave the queue, nothing
//! is granted to them, and nothing of them is dropped before the list is.

/// An entry of a list.
pub trait Waiter {
    /// Whether the process was forked since, and the waiting greenlet does not go on in this child.
    fn is_left_behind(&self) -> bool;
}

/// Names one that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token(u32);

#[derive(Debug)]
pub(crate) struct WaitList<W, G = ()> {
    nodes: Vec<Node<W, G>>,
    free: u32,
    /// The first and the last that wait.
    head: u32,
    tail: u32,
    waiting: u32,
}

#[derive(Debug)]
struct Node<W, G> {
    what: What<W, G>,
    before: u32,
    after: u32,
}

#[derive(Debug)]
enum What<W, G> {
    Free,
    Waiting(W),
    /// Not in the queue any more: see [`Waiter::is_left_behind`].
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
    /// Whether nobody waits.
    #[inline]
    pub(crate) fn is_empty(&mut self) -> bool {
        self.skip_left_behind();
        self.head == NONE
    }

    /// How many wait.
    pub(crate) fn len(&mut self) -> usize {
        self.skip_left_behind();
        self.waiting as usize
    }

    /// The first that waits.
    pub(crate) fn first_mut(&mut self) -> Option<&mut W> {
        self.skip_left_behind();
        match &mut self.nodes.get_mut(self.head as usize)?.what {
            What::Waiting(waker) => Some(waker),
            _ => unreachable!("what is linked waits"),
        }
    }

    /// To the end.
    #[inline]
    pub(crate) fn push(&mut self, waker: W) -> Token {
        let node = Node { what: What::Waiting(waker), before: self.tail, after: NONE };
        let index = self.free;
        let index = if index == NONE {
            self.nodes.push(node);
            u32::try_from(self.nodes.len() - 1).expect("fewer than 2^32 wait")
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

    /// Gives `grant` to the first that waits, and takes it out of the queue. Returns what wakes it, or the
    /// grant if nobody waits.
    #[inline]
    pub(crate) fn grant(&mut self, grant: G) -> Result<W, G> {
        if self.is_empty() {
            return Err(grant);
        }
        let head = self.head;
        self.unlink(head);
        match std::mem::replace(&mut self.nodes[head as usize].what, What::Granted(grant)) {
            What::Waiting(waker) => Ok(waker),
            _ => unreachable!("what is linked waits"),
        }
    }

    /// Whether one waits no more.
    #[inline]
    pub(crate) fn is_granted(&self, token: Token) -> bool {
        matches!(self.nodes[token.0 as usize].what, What::Granted(_))
    }

    /// Gives `grant` to all that wait, in their order. Returns what wakes them.
    pub(crate) fn grant_all(&mut self, mut grant: impl FnMut() -> G) -> Vec<W> {
        let mut wakers = Vec::with_capacity(self.len());
        while let Ok(waker) = self.grant(grant()) {
            wakers.push(waker);
        }
        wakers
    }

    /// Takes one out that waits no more, with what it was given, or else as it was put in.
    #[inline]
    pub(crate) fn take(&mut self, token: Token) -> Result<G, W> {
        let index = token.0;
        if let What::Waiting(_) = self.nodes[index as usize].what {
            self.unlink(index);
        }
        let node = &mut self.nodes[index as usize];
        node.after = std::mem::replace(&mut self.free, index);
        match std::mem::replace(&mut node.what, What::Free) {
            What::Granted(grant) => Ok(grant),
            What::Waiting(waker) | What::LeftBehind(waker) => Err(waker),
            What::Free => unreachable!("a token is used once"),
        }
    }

    /// To be called before the first in the queue is looked at. Those that were left behind came before all
    /// that have come since.
    #[inline]
    fn skip_left_behind(&mut self) {
        if self.head != NONE && self.is_left_behind(self.head) {
            self.take_out_left_behind();
        }
    }

    #[inline]
    fn is_left_behind(&self, index: u32) -> bool {
        matches!(&self.nodes[index as usize].what, What::Waiting(waiter) if waiter.is_left_behind())
    }

    #[cold]
    #[inline(never)]
    fn take_out_left_behind(&mut self) {
        let mut index = self.head;
        while index != NONE {
            let after = self.nodes[index as usize].after;
            if self.is_left_behind(index) {
                self.unlink(index);
                let what = &mut self.nodes[index as usize].what;
                match std::mem::replace(what, What::Free) {
                    What::Waiting(waiter) => *what = What::LeftBehind(waiter),
                    _ => unreachable!("what is linked waits"),
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

    /// From 100 on they are left behind.
    impl Waiter for u32 {
        fn is_left_behind(&self) -> bool {
            *self >= 100
        }
    }

    #[test]
    fn nothing_is_granted_to_those_that_were_left_behind() {
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
    fn grants_come_in_order_and_once() {
        let mut list: WaitList<u32, char> = WaitList::new();
        let [a, b, c] = [1, 2, 3].map(|waker| list.push(waker));
        assert_eq!(list.take(b), Err(2), "it was given nothing");
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
