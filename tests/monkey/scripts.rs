//! Scripts of calls that two actors make in turn: threads, and then coroutines of one thread. Both get the
//! same.

use crate::patched;
use libc::{c_int, timespec};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;
use switchgrass::coroutine::join_all;
use switchgrass::spawn;

/// How long an actor has for what it is let do, before the next step. A busy machine may need more.
const SETTLE: [Duration; 3] =
    [Duration::from_millis(15), Duration::from_millis(100), Duration::from_millis(500)];

pub(crate) type Call<L> = fn(&L) -> c_int;

pub(crate) struct Step<L> {
    actor: usize,
    call: Call<L>,
    /// It waits for what a later step does.
    waits: bool,
}

impl<L> Clone for Step<L> {
    fn clone(&self) -> Self {
        Step { ..*self }
    }
}

/// The actor makes a call.
pub(crate) fn does<L>(actor: usize, call: Call<L>) -> Step<L> {
    Step { actor, call, waits: false }
}

/// The actor makes a call, and the next step comes while it waits.
pub(crate) fn waits<L>(actor: usize, call: Call<L>) -> Step<L> {
    Step { actor, call, waits: true }
}

/// What the calls returned, and how many had been begun by then.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) results: Vec<c_int>,
    pub(crate) begun: Vec<usize>,
}

struct Stage<L> {
    locks: L,
    steps: Vec<Step<L>>,
    turn: AtomicUsize,
    results: Vec<AtomicI32>,
    begun: AtomicUsize,
    then: Vec<AtomicUsize>,
    /// No actor ends before all have done all.
    stay: bool,
    settle: Duration,
}

impl<L> Stage<L> {
    fn new(locks: L, steps: &[Step<L>], stay: bool, settle: Duration) -> Arc<Self> {
        Arc::new(Stage {
            locks,
            steps: steps.to_vec(),
            turn: AtomicUsize::new(0),
            results: steps.iter().map(|_| AtomicI32::new(c_int::MIN)).collect(),
            begun: AtomicUsize::new(0),
            then: steps.iter().map(|_| AtomicUsize::new(0)).collect(),
            stay,
            settle,
        })
    }

    fn act(&self, me: usize) {
        for (at, step) in self.steps.iter().enumerate().filter(|(_, step)| step.actor == me) {
            while self.turn.load(SeqCst) < at {
                thread::sleep(Duration::from_millis(1));
            }
            if at > 0
                && (self.steps[at - 1].waits || self.steps[..at].iter().any(|step| step.waits))
            {
                thread::sleep(self.settle);
            }
            if step.waits {
                self.turn.fetch_max(at + 1, SeqCst);
            }
            self.begun.fetch_add(1, SeqCst);
            let result = (step.call)(&self.locks);
            self.results[at].store(result, SeqCst);
            self.then[at].store(self.begun.load(SeqCst), SeqCst);
            self.turn.fetch_max(at + 1, SeqCst);
        }
        while self.stay && self.turn.load(SeqCst) < self.steps.len() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn outcome(&self) -> Outcome {
        let results = self.results.iter().map(|result| result.load(SeqCst)).collect();
        Outcome { results, begun: self.then.iter().map(|count| count.load(SeqCst)).collect() }
    }
}

fn actors<L>(steps: &[Step<L>]) -> usize {
    steps.iter().map(|step| step.actor + 1).max().unwrap_or(0)
}

fn on_threads<L: Send + Sync + 'static>(
    locks: L,
    steps: &[Step<L>],
    stay: bool,
    settle: Duration,
) -> Outcome {
    let stage = Stage::new(locks, steps, stay, settle);
    let threads = (0..actors(steps)).map(|actor| {
        let stage = Arc::clone(&stage);
        thread::spawn(move || stage.act(actor))
    });
    let threads: Vec<_> = threads.collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    stage.outcome()
}

fn in_coroutines<L: Send + Sync + 'static>(
    locks: L,
    steps: &[Step<L>],
    stay: bool,
    settle: Duration,
) -> Outcome {
    let stage = Stage::new(locks, steps, stay, settle);
    let tasks = (0..actors(steps)).map(|actor| {
        let stage = Arc::clone(&stage);
        spawn(move || stage.act(actor))
    });
    join_all(tasks.collect::<Vec<_>>()).into_iter().for_each(|task| task.unwrap());
    stage.outcome()
}

/// Asserts that coroutines get what threads get, and that it is this.
#[track_caller]
pub(crate) fn compare<L: Send + Sync + 'static>(
    what: impl Debug,
    locks: impl Fn() -> L,
    steps: &[Step<L>],
    results: &[c_int],
) {
    compare_all(what, locks, steps, Some(results), false);
}

#[track_caller]
fn compare_all<L: Send + Sync + 'static>(
    what: impl Debug,
    locks: impl Fn() -> L,
    steps: &[Step<L>],
    results: Option<&[c_int]>,
    stay: bool,
) {
    for settle in SETTLE {
        let wanted = on_threads(locks(), steps, stay, settle);
        let got = in_coroutines(locks(), steps, stay, settle);
        let is_right = got == wanted && results.is_none_or(|results| results == got.results);
        if is_right {
            return;
        }
        if settle == SETTLE[SETTLE.len() - 1] {
            panic!("{what:?}:\n threads {wanted:?}\n coroutines {got:?}\n expected {results:?}");
        }
    }
}

/// As [`compare`], in a process in which everything is patched.
#[track_caller]
pub(crate) fn script<L: Send + Sync + 'static>(
    locks: impl Fn() -> L,
    steps: &[Step<L>],
    results: &[c_int],
) {
    patched(|| compare("", locks, steps, results));
}

/// Compares many scripts of calls that come back by themselves, chosen from a seed.
#[track_caller]
pub(crate) fn compare_random<L: Send + Sync + 'static>(
    what: impl Debug,
    locks: impl Fn() -> L,
    calls: &[Call<L>],
    seed: u64,
) {
    const SCRIPTS: usize = 12;
    const STEPS: usize = 12;
    let mut state = seed;
    let mut next = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for number in 0..SCRIPTS {
        let choices: Vec<_> = (0..STEPS).map(|_| (next(2), next(calls.len()))).collect();
        let steps: Vec<_> = choices.iter().map(|&(actor, call)| does(actor, calls[call])).collect();
        compare_all((&what, number, &choices), &locks, &steps, None, true);
    }
}

/// In `limit` from now, by a clock.
pub(crate) fn after(clock: libc::clockid_t, limit: Duration) -> timespec {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for the answer.
    unsafe { libc::clock_gettime(clock, &mut now) };
    let then = Duration::new(now.tv_sec as u64, now.tv_nsec as u32) + limit;
    timespec { tv_sec: then.as_secs() as _, tv_nsec: then.subsec_nanos().into() }
}

/// What the crate `libc` does not declare.
pub(crate) mod c {
    use libc::{
        FILE, c_int, c_void, clockid_t, pthread_cond_t, pthread_mutex_t, pthread_mutexattr_t,
        pthread_rwlock_t, pthread_t, sem_t, timespec,
    };

    unsafe extern "C-unwind" {
        pub(crate) fn pthread_mutex_clocklock(
            mutex: *mut pthread_mutex_t,
            clock: clockid_t,
            until: *const timespec,
        ) -> c_int;
        pub(crate) fn pthread_mutexattr_setprotocol(
            attributes: *mut pthread_mutexattr_t,
            protocol: c_int,
        ) -> c_int;
        pub(crate) fn pthread_cond_clockwait(
            condition: *mut pthread_cond_t,
            mutex: *mut pthread_mutex_t,
            clock: clockid_t,
            until: *const timespec,
        ) -> c_int;
        pub(crate) fn pthread_rwlock_timedrdlock(
            lock: *mut pthread_rwlock_t,
            until: *const timespec,
        ) -> c_int;
        pub(crate) fn pthread_rwlock_timedwrlock(
            lock: *mut pthread_rwlock_t,
            until: *const timespec,
        ) -> c_int;
        pub(crate) fn pthread_rwlock_clockrdlock(
            lock: *mut pthread_rwlock_t,
            clock: clockid_t,
            until: *const timespec,
        ) -> c_int;
        pub(crate) fn pthread_rwlock_clockwrlock(
            lock: *mut pthread_rwlock_t,
            clock: clockid_t,
            until: *const timespec,
        ) -> c_int;
        pub(crate) fn sem_clockwait(
            semaphore: *mut sem_t,
            clock: clockid_t,
            until: *const timespec,
        ) -> c_int;
        pub(crate) fn pthread_timedjoin_np(
            of: pthread_t,
            result: *mut *mut c_void,
            until: *const timespec,
        ) -> c_int;
        pub(crate) fn pthread_clockjoin_np(
            of: pthread_t,
            result: *mut *mut c_void,
            clock: clockid_t,
            until: *const timespec,
        ) -> c_int;
        pub(crate) fn pthread_once(control: *mut c_int, f: unsafe extern "C-unwind" fn()) -> c_int;
        pub(crate) fn call_once(flag: *mut c_int, f: unsafe extern "C-unwind" fn());
        pub(crate) fn flockfile(file: *mut FILE);
        pub(crate) fn ftrylockfile(file: *mut FILE) -> c_int;
        pub(crate) fn funlockfile(file: *mut FILE);
        pub(crate) fn mtx_init(mutex: *mut pthread_mutex_t, kind: c_int) -> c_int;
        pub(crate) fn mtx_lock(mutex: *mut pthread_mutex_t) -> c_int;
        pub(crate) fn mtx_timedlock(mutex: *mut pthread_mutex_t, until: *const timespec) -> c_int;
        pub(crate) fn mtx_trylock(mutex: *mut pthread_mutex_t) -> c_int;
        pub(crate) fn mtx_unlock(mutex: *mut pthread_mutex_t) -> c_int;
        pub(crate) fn mtx_destroy(mutex: *mut pthread_mutex_t);
        pub(crate) fn cnd_init(condition: *mut pthread_cond_t) -> c_int;
        pub(crate) fn cnd_wait(
            condition: *mut pthread_cond_t,
            mutex: *mut pthread_mutex_t,
        ) -> c_int;
        pub(crate) fn cnd_timedwait(
            condition: *mut pthread_cond_t,
            mutex: *mut pthread_mutex_t,
            until: *const timespec,
        ) -> c_int;
        pub(crate) fn cnd_signal(condition: *mut pthread_cond_t) -> c_int;
        pub(crate) fn cnd_broadcast(condition: *mut pthread_cond_t) -> c_int;
        pub(crate) fn thrd_create(
            thread: *mut pthread_t,
            f: extern "C" fn(*mut c_void) -> c_int,
            argument: *mut c_void,
        ) -> c_int;
        pub(crate) fn thrd_join(thread: pthread_t, status: *mut c_int) -> c_int;
        pub(crate) fn thrd_sleep(time: *const timespec, left: *mut timespec) -> c_int;
        pub(crate) fn thrd_yield();
    }
}
