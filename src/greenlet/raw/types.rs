//! Types as small numbers, so that a switch compares one word.

use std::any::{TypeId, type_name};
use std::cell::RefCell;

/// The number of a type. Valid on the thread that assigned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TypeKey(u32);

impl TypeKey {
    /// No type: a dead greenlet accepts this.
    pub(crate) const NONE: TypeKey = TypeKey(0);
    /// Any type; the value is not read.
    pub(crate) const ANY: TypeKey = TypeKey(1);
    /// `()`, the first of the frequent types.
    pub(crate) const UNIT: TypeKey = TypeKey(2);
    /// Only the end of a greenlet, or a value sent by that greenlet.
    pub(crate) const END: TypeKey = TypeKey(u32::MAX - 1);
    /// A reply key that matches no `accepts`, so that a switch takes the slow path.
    pub(crate) const CLOSED: TypeKey = TypeKey(u32::MAX);

    /// The first number assigned at run time; smaller ones are constants.
    const FIRST: u32 = 2 + FREQUENT;
}

/// Assigns constant numbers to the types that are sent most often.
macro_rules! frequent {
    ($($type:ty),* $(,)?) => {
        const FREQUENT: u32 = [$(stringify!($type)),*].len() as u32;

        /// The names of the frequent types, by number.
        const FREQUENT_NAMES: [fn() -> &'static str; FREQUENT as usize] = [$(type_name::<$type>),*];

        /// Returns the number of a frequent type. Folded to a constant.
        #[inline(always)]
        fn frequent<T: 'static>() -> Option<TypeKey> {
            let mut number = 2;
            $(
                if TypeId::of::<T>() == TypeId::of::<$type>() {
                    return Some(TypeKey(number));
                }
                number += 1;
            )*
            let _ = number;
            None
        }
    };
}

frequent!((), bool, char, u8, u16, u32, u64, usize, i32, i64, isize, f64, String, &'static str);

/// The numbers that a thread has assigned. A program sends few types, so the lookup is a linear search.
pub(super) struct TypeTable {
    known: RefCell<Vec<(TypeId, &'static str)>>,
}

impl TypeTable {
    pub(super) const fn new() -> Self {
        TypeTable { known: RefCell::new(Vec::new()) }
    }

    #[inline(always)]
    pub(super) fn key<T: 'static>(&self) -> TypeKey {
        frequent::<T>().unwrap_or_else(|| self.look_up(TypeId::of::<T>(), type_name::<T>()))
    }

    fn look_up(&self, id: TypeId, name: &'static str) -> TypeKey {
        let mut known = self.known.borrow_mut();
        let index = known.iter().position(|(other, _)| *other == id).unwrap_or_else(|| {
            known.push((id, name));
            known.len() - 1
        });
        TypeKey(TypeKey::FIRST + u32::try_from(index).expect("fewer than 2^32 types"))
    }

    pub(super) fn name(&self, key: TypeKey) -> &'static str {
        match key {
            TypeKey::NONE | TypeKey::CLOSED => "nothing",
            TypeKey::ANY => "anything",
            TypeKey::END => "the end of a greenlet",
            TypeKey(number) if number < TypeKey::FIRST => FREQUENT_NAMES[(number - 2) as usize](),
            TypeKey(number) => self.known.borrow()[(number - TypeKey::FIRST) as usize].1,
        }
    }
}
