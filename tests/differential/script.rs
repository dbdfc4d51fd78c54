//! Scripts: which descriptors there are, and which actor makes which call, one step after the other.
//!
//! ```text
//! tcp pipe                      the slots: s0 and s1 are a connection, s2 and s3 a pipe
//! 0: 1 recv s0 10 MSG_WAITALL   step 0: actor 1 makes a call
//! 4: 3 dup s1                   step 4: its result is the slot r4
//! ```
//!
//! Actor 0 is main, 1 and 2 are coroutines of its thread, 3 is a thread. On the plain side all are threads.

use crate::calls::{self, Call};
use crate::fixtures::Fixture;
use crate::params::{Param, RESULTS, SHORT};
use crate::random::Random;
use std::sync::LazyLock;
use std::{env, fmt};

pub(crate) const ACTORS: usize = 4;

/// The actor that is a thread without coroutines.
pub(crate) const OUTSIDE: usize = 3;

#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) fixtures: Vec<&'static Fixture>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) number: usize,
    pub(crate) actor: usize,
    pub(crate) call: &'static Call,
    pub(crate) arguments: Vec<i64>,
}

impl Step {
    /// The slots that are used, and those of them that are closed or replaced.
    pub(crate) fn slots(&self, of: fn(&Param) -> bool) -> impl Iterator<Item = i64> {
        let pairs = self.call.params.iter().zip(&self.arguments);
        pairs.filter(move |(param, _)| of(param)).map(|(_, slot)| *slot)
    }

    /// Whether it may end by itself in a while.
    pub(crate) fn is_short(&self) -> bool {
        let mut values = self.call.params.iter().zip(&self.arguments);
        self.call.is_timed
            || values.any(|(param, value)| {
                matches!(param, Param::One(all) if all.contains(&("short", SHORT)))
                    && *value == SHORT
            })
    }
}

impl Script {
    pub(crate) fn random(seed: u64, only: Option<&str>) -> Self {
        let random = &mut Random::new(seed);
        let mut fixtures = vec![random.pick(crate::fixtures::FIXTURES)];
        if let Some(only) = only.and_then(crate::fixtures::find) {
            fixtures[0] = only;
        }
        let other = random.pick(crate::fixtures::FIXTURES);
        // Two of a kind would have the same paths.
        if random.one_in(3) && other.name != fixtures[0].name {
            fixtures.push(other);
        }
        let mut slots: Vec<i64> =
            (0..fixtures.iter().map(|fixture| fixture.slots as i64).sum()).collect();
        let families = fixtures.iter().fold(0, |all, fixture| all | fixture.family);
        let fitting = |call: &Call| call.family & families != 0;
        let mut steps = Vec::new();
        for number in 0..2 + random.below(9) {
            let call = loop {
                let call = random.pick(calls::all());
                let is_chosen = random.below(10) < call.weight;
                if is_chosen && is_allowed(call.name) && (fitting(call) || random.one_in(40)) {
                    break call;
                }
            };
            let actor = if call.name == "signal" { OUTSIDE } else { random.below(ACTORS) };
            let arguments = call.params.iter().map(|param| param.choose(random, &slots)).collect();
            if call.makes_a_slot {
                slots.push(RESULTS + number as i64);
            }
            steps.push(Step { number, actor, call, arguments });
        }
        // What may release those that are still blocked.
        let ends = ["shutdown", "close", "write", "read"];
        for slot in slots.iter().copied().filter(|slot| *slot < RESULTS) {
            let call = calls::find(ends[random.below(ends.len())]).expect("a row");
            let arguments = call.params.iter().map(|param| match param {
                Param::Fd | Param::Victim => slot,
                other => other.choose(random, &slots),
            });
            let number = steps.len();
            steps.push(Step { number, actor: OUTSIDE, call, arguments: arguments.collect() });
        }
        Script { fixtures, steps }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let fixtures =
            lines.next()?.split(' ').map(crate::fixtures::find).collect::<Option<_>>()?;
        let parse = |line: &str| {
            let (number, rest) = line.split_once(": ")?;
            let mut words = rest.split(' ');
            let actor = words.next()?.parse().ok().filter(|actor| *actor < ACTORS)?;
            let call = calls::find(words.next()?)?;
            let arguments: Vec<_> =
                call.params.iter().map(|param| param.read(words.next()?)).collect::<Option<_>>()?;
            let number = number.parse().ok()?;
            words.next().is_none().then_some(Step { number, actor, call, arguments })
        };
        let steps = lines.map(parse).collect::<Option<_>>()?;
        Some(Script { fixtures, steps })
    }

    /// Whether a kind of descriptor is used.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.fixtures.iter().any(|fixture| fixture.name == name)
    }

    /// Without one of its steps.
    pub(crate) fn without(&self, index: usize) -> Self {
        let mut shorter = self.clone();
        shorter.steps.remove(index);
        shorter
    }
}

/// Whether a call was not left out by its name.
fn is_allowed(name: &str) -> bool {
    static NAMES: LazyLock<String> =
        LazyLock::new(|| env::var("SWITCHGRASS_DIFFERENTIAL_WITHOUT").unwrap_or_default());
    NAMES.split(',').all(|without| without != name)
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.fixtures.iter().map(|fixture| fixture.name).collect();
        writeln!(f, "{}", names.join(" "))?;
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.number, self.actor, self.call.name)?;
        let pairs = self.call.params.iter().zip(&self.arguments);
        pairs.map(|(param, value)| param.write(*value)).try_for_each(|text| write!(f, " {text}"))
    }
}
