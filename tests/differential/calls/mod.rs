//! The calls: a row each, with what it takes, and how it is made.

mod copying;
mod files;
mod locks;
mod polling;
mod queues;
mod settings;
mod signals;
mod sockets;
mod stdio;
mod streams;
mod threads;
mod waiting;

use crate::fixtures::Family;
use crate::params::Param;
use std::sync::LazyLock;

pub(crate) struct Call {
    pub(crate) name: &'static str,
    /// How often it is chosen, of ten times that it would suit.
    pub(crate) weight: usize,
    /// The descriptors that it suits.
    pub(crate) family: Family,
    pub(crate) params: &'static [Param],
    /// Whether its result is a descriptor.
    pub(crate) makes_a_slot: bool,
    /// Whether something happens by itself a while later.
    pub(crate) is_timed: bool,
    /// Makes the call, as a step of this number, and says what has become of it.
    pub(crate) run: fn(usize, &[i64]) -> String,
}

impl Call {
    const fn new(
        name: &'static str,
        weight: usize,
        family: Family,
        params: &'static [Param],
        run: fn(usize, &[i64]) -> String,
    ) -> Self {
        Call { name, weight, family, params, makes_a_slot: false, is_timed: false, run }
    }

    const fn making_a_slot(mut self) -> Self {
        self.makes_a_slot = true;
        self
    }

    const fn timed(mut self) -> Self {
        self.is_timed = true;
        self
    }
}

/// All rows.
pub(crate) fn all() -> &'static [&'static Call] {
    static ALL: LazyLock<Vec<&'static Call>> = LazyLock::new(|| {
        let kinds = [
            sockets::CALLS,
            streams::CALLS,
            settings::CALLS,
            polling::CALLS,
            copying::CALLS,
            files::CALLS,
            threads::CALLS,
            locks::CALLS,
            stdio::CALLS,
            queues::CALLS,
            waiting::CALLS,
            signals::CALLS,
        ];
        kinds.into_iter().flatten().collect()
    });
    &ALL
}

pub(crate) fn find(name: &str) -> Option<&'static Call> {
    all().iter().find(|call| call.name == name).copied()
}
