//! Random programs of two hubs and plain threads that contend for locks of C of all kinds, with coroutines that
//! are killed and limited in time meanwhile. The oracle: a lock has one owner, or only readers; a semaphore
//! has given out no more than it had; a waiter receives an item that is there; and at the end
//! everything is free. A program is a function of its seed, as far as threads allow.

use crate::patched;
use crate::scripts::{after, c};
use libc::{
    FILE, c_int, pthread_cond_t, pthread_mutex_t, pthread_rwlock_t, pthread_spinlock_t, sem_t,
    timespec,
};
use std::cell::UnsafeCell;
use std::mem::{MaybeUninit, zeroed};
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;
use switchgrass::{JoinError, spawn, timeout, yield_now};

const HUBS: usize = 2;
const TASKS: usize = 6;
const THREADS: usize = 2;
const STEPS: usize = 40;
const TOKENS: isize = 3;

/// Type, robust, protocol, shared.
const MUTEXES: [(c_int, c_int, c_int, c_int); 8] = [
    (libc::PTHREAD_MUTEX_NORMAL, 0, 0, 0),
    (libc::PTHREAD_MUTEX_RECURSIVE, 0, 0, 0),
    (libc::PTHREAD_MUTEX_ERRORCHECK, 0, 0, 1),
    // PTHREAD_MUTEX_ADAPTIVE_NP.
    (3, 0, 0, 0),
    (libc::PTHREAD_MUTEX_NORMAL, 1, 0, 1),
    (libc::PTHREAD_MUTEX_RECURSIVE, 1, 0, 0),
    (libc::PTHREAD_MUTEX_NORMAL, 0, 1, 0),
    (libc::PTHREAD_MUTEX_RECURSIVE, 1, 1, 1),
];

/// Where each kind of lock stands in the order in which they are taken.
const RWLOCKS: [c_int; 2] = [0, 2];
const SPIN: usize = MUTEXES.len() + RWLOCKS.len();
const FILES: usize = SPIN + 1;
const SEMAPHORE: usize = FILES + 1;
const ALL: usize = SEMAPHORE + 1;

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        let factor = 6_364_136_223_846_793_005;
        self.0 = self.0.wrapping_mul(factor).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

struct World {
    mutexes: [UnsafeCell<pthread_mutex_t>; MUTEXES.len()],
    rwlocks: [UnsafeCell<pthread_rwlock_t>; RWLOCKS.len()],
    spin: UnsafeCell<pthread_spinlock_t>,
    file: *mut FILE,
    semaphore: UnsafeCell<sem_t>,
    /// One more than who is inside; of the locks of each place.
    owners: [AtomicUsize; ALL],
    readers: [AtomicIsize; ALL],
    items_lock: UnsafeCell<pthread_mutex_t>,
    condition: UnsafeCell<pthread_cond_t>,
    /// Protected by `items_lock`.
    items: AtomicIsize,
    /// Held by coroutines that end with it: one per hub.
    robust: [UnsafeCell<pthread_mutex_t>; HUBS],
    left: [AtomicUsize; HUBS],
}

// SAFETY: what is not atomic is used by functions of libc only.
unsafe impl Send for World {}
// SAFETY: as above.
unsafe impl Sync for World {}

fn mutex(
    (kind, robust, protocol, shared): (c_int, c_int, c_int, c_int),
) -> UnsafeCell<pthread_mutex_t> {
    let mut attributes = MaybeUninit::uninit();
    let made = UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER);
    // SAFETY: room for both; a mutex that was not used may be moved.
    unsafe {
        let at = attributes.as_mut_ptr();
        libc::pthread_mutexattr_init(at);
        libc::pthread_mutexattr_settype(at, kind);
        libc::pthread_mutexattr_setrobust(at, robust);
        c::pthread_mutexattr_setprotocol(at, protocol);
        libc::pthread_mutexattr_setpshared(at, shared);
        assert_eq!(libc::pthread_mutex_init(made.get(), at), 0);
    }
    made
}

fn rwlock(preference: c_int) -> UnsafeCell<pthread_rwlock_t> {
    unsafe extern "C" {
        fn pthread_rwlockattr_setkind_np(at: *mut libc::pthread_rwlockattr_t, kind: c_int)
        -> c_int;
    }
    let mut attributes = MaybeUninit::uninit();
    let made = UnsafeCell::new(libc::PTHREAD_RWLOCK_INITIALIZER);
    // SAFETY: room for both; a lock that was not used may be moved.
    unsafe {
        libc::pthread_rwlockattr_init(attributes.as_mut_ptr());
        assert_eq!(pthread_rwlockattr_setkind_np(attributes.as_mut_ptr(), preference), 0);
        assert_eq!(libc::pthread_rwlock_init(made.get(), attributes.as_ptr()), 0);
    }
    made
}

/// How long a call may wait.
#[derive(Clone, Copy)]
enum How {
    Wait,
    Try,
    Until(c_int, timespec),
}

impl How {
    fn any(random: &mut Random) -> How {
        let clock = [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC][random.below(2)];
        match random.below(4) {
            0 => How::Try,
            1 => How::Until(clock, after(clock, Duration::from_micros(random.below(2000) as u64))),
            _ => How::Wait,
        }
    }
}

impl World {
    fn new() -> Arc<World> {
        // SAFETY: numbers; initialised below.
        let semaphore = UnsafeCell::new(unsafe { zeroed() });
        let world = World {
            mutexes: MUTEXES.map(mutex),
            rwlocks: RWLOCKS.map(rwlock),
            spin: UnsafeCell::new(0),
            // SAFETY: two strings.
            file: unsafe { libc::fopen(c"/dev/null".as_ptr(), c"w".as_ptr()) },
            semaphore,
            owners: [const { AtomicUsize::new(0) }; ALL],
            readers: [const { AtomicIsize::new(0) }; ALL],
            items_lock: mutex(MUTEXES[0]),
            condition: UnsafeCell::new(libc::PTHREAD_COND_INITIALIZER),
            items: AtomicIsize::new(0),
            robust: [0; HUBS].map(|_| mutex(MUTEXES[4])),
            left: [const { AtomicUsize::new(0) }; HUBS],
        };
        let world = Arc::new(world);
        // SAFETY: room for them.
        unsafe {
            assert_eq!(libc::pthread_spin_init(world.spin.get(), 0), 0);
            assert_eq!(libc::sem_init(world.semaphore.get(), 0, TOKENS as _), 0);
        }
        world
    }

    /// Locks what stands at a place. Whether that was done.
    fn lock(&self, at: usize, how: How, reads: bool) -> bool {
        // SAFETY: everything is initialised.
        let result = unsafe {
            match (at, how) {
                (SPIN, How::Try) => libc::pthread_spin_trylock(self.spin.get()),
                (SPIN, _) => libc::pthread_spin_lock(self.spin.get()),
                (FILES, How::Try) if c::ftrylockfile(self.file) != 0 => libc::EBUSY,
                (FILES, How::Try) => 0,
                (FILES, _) => {
                    c::flockfile(self.file);
                    0
                }
                (SEMAPHORE, How::Wait) => errno(libc::sem_wait(self.semaphore.get())),
                (SEMAPHORE, How::Try) => errno(libc::sem_trywait(self.semaphore.get())),
                (SEMAPHORE, How::Until(clock, until)) => {
                    errno(c::sem_clockwait(self.semaphore.get(), clock, &until))
                }
                (_, how) if at < MUTEXES.len() => {
                    let mutex = self.mutexes[at].get();
                    // What inherits a priority knows no other clock.
                    match how {
                        How::Wait => libc::pthread_mutex_lock(mutex),
                        How::Try => libc::pthread_mutex_trylock(mutex),
                        How::Until(clock, until) => {
                            c::pthread_mutex_clocklock(mutex, clock, &until)
                        }
                    }
                }
                (_, how) => {
                    let lock = self.rwlocks[at - MUTEXES.len()].get();
                    match (reads, how) {
                        (true, How::Wait) => libc::pthread_rwlock_rdlock(lock),
                        (true, How::Try) => libc::pthread_rwlock_tryrdlock(lock),
                        (true, How::Until(clock, until)) => {
                            c::pthread_rwlock_clockrdlock(lock, clock, &until)
                        }
                        (false, How::Wait) => libc::pthread_rwlock_wrlock(lock),
                        (false, How::Try) => libc::pthread_rwlock_trywrlock(lock),
                        (false, How::Until(clock, until)) => {
                            c::pthread_rwlock_clockwrlock(lock, clock, &until)
                        }
                    }
                }
            }
        };
        match how {
            _ if result == 0 => true,
            How::Try => {
                assert!([libc::EBUSY, libc::EAGAIN].contains(&result), "{at}: {result}");
                false
            }
            How::Until(..) => {
                assert!([libc::ETIMEDOUT, libc::EINVAL].contains(&result), "{at}: {result}");
                assert!(result != libc::EINVAL || MUTEXES[at].2 != 0);
                false
            }
            How::Wait => panic!("{at}: {result}"),
        }
    }

    fn unlock(&self, at: usize) {
        // SAFETY: everything is initialised, and locked by the caller.
        let result = unsafe {
            match at {
                SPIN => libc::pthread_spin_unlock(self.spin.get()),
                FILES => {
                    c::funlockfile(self.file);
                    0
                }
                SEMAPHORE => libc::sem_post(self.semaphore.get()),
                _ if at < MUTEXES.len() => libc::pthread_mutex_unlock(self.mutexes[at].get()),
                _ => libc::pthread_rwlock_unlock(self.rwlocks[at - MUTEXES.len()].get()),
            }
        };
        assert_eq!(result, 0, "{at}");
    }

    fn is_recursive(at: usize) -> bool {
        at == FILES || MUTEXES.get(at).is_some_and(|kind| kind.0 == libc::PTHREAD_MUTEX_RECURSIVE)
    }
}

fn errno(result: c_int) -> c_int {
    match result {
        0 => 0,
        _ => std::io::Error::last_os_error().raw_os_error().unwrap(),
    }
}

/// What an actor has locked, until it is dropped: also by unwinding.
struct Held<'a> {
    world: &'a World,
    at: usize,
    reads: bool,
    is_outer: bool,
}

impl<'a> Held<'a> {
    fn new(world: &'a World, at: usize, me: usize, how: How, reads: bool) -> Option<Self> {
        let reads = reads && (MUTEXES.len()..SPIN).contains(&at);
        if !world.lock(at, how, reads) {
            return None;
        }
        let inside = world.readers[at].load(SeqCst);
        let mut is_outer = true;
        if at == SEMAPHORE {
            assert!(world.readers[at].fetch_add(1, SeqCst) < TOKENS);
        } else if reads {
            world.readers[at].fetch_add(1, SeqCst);
            assert_eq!(world.owners[at].load(SeqCst), 0, "read while it is written");
        } else {
            let before = world.owners[at].swap(me + 1, SeqCst);
            is_outer = before == 0;
            assert!(
                is_outer || World::is_recursive(at) && before == me + 1,
                "{at}: {before} and {me}"
            );
            assert_eq!(inside, 0, "{at}");
        }
        Some(Held { world, at, reads, is_outer })
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.reads || self.at == SEMAPHORE {
            self.world.readers[self.at].fetch_sub(1, SeqCst);
        } else if self.is_outer {
            self.world.owners[self.at].store(0, SeqCst);
        }
        self.world.unlock(self.at);
    }
}

struct Actor {
    world: Arc<World>,
    me: usize,
    hub: Option<usize>,
    random: Random,
}

impl Actor {
    fn pause(&mut self) {
        match self.random.below(8) {
            0 => thread::sleep(Duration::from_micros(self.random.below(300) as u64)),
            1 => thread::yield_now(),
            // May raise a kill.
            2..4 if self.hub.is_some() => yield_now(),
            _ => {}
        }
    }

    /// Takes some locks in their order, and leaves them.
    fn hold(&mut self) {
        let world = Arc::clone(&self.world);
        let (mut held, mut at) = (Vec::new(), 0);
        for _ in 0..1 + self.random.below(3) {
            at += self.random.below(ALL - at);
            let is_again = held.iter().any(|held: &Held<'_>| held.at == at);
            let how = How::any(&mut self.random);
            let reads = self.random.below(3) > 0;
            // A spin lock is held for a moment only.
            if !is_again || World::is_recursive(at) {
                held.extend(Held::new(&world, at, self.me, how, reads));
                if at != SPIN || self.hub.is_some() {
                    self.pause();
                }
            }
        }
        while let Some(last) = held.pop() {
            drop(last);
            self.pause();
        }
    }

    /// Puts an item there, and then waits for one, or for a while.
    fn exchange(&mut self) {
        let world = Arc::clone(&self.world);
        let (mutex, condition) = (world.items_lock.get(), world.condition.get());
        // SAFETY: a mutex, and a condition variable.
        unsafe {
            assert_eq!(libc::pthread_mutex_lock(mutex), 0);
            world.items.fetch_add(1, SeqCst);
            let is_early = self.random.below(2) == 0;
            if is_early {
                assert_eq!(libc::pthread_cond_signal(condition), 0);
            }
            assert_eq!(libc::pthread_mutex_unlock(mutex), 0);
            if !is_early {
                assert_eq!(libc::pthread_cond_signal(condition), 0);
            }
        }
        self.pause();
        let how = How::any(&mut self.random);
        // SAFETY: a mutex, and a condition variable.
        unsafe {
            assert_eq!(libc::pthread_mutex_lock(mutex), 0);
            let mut is_late = matches!(how, How::Try);
            while world.items.load(SeqCst) == 0 && !is_late {
                let result = match how {
                    How::Until(clock, until) => {
                        c::pthread_cond_clockwait(condition, mutex, clock, &until)
                    }
                    _ => libc::pthread_cond_wait(condition, mutex),
                };
                is_late = result == libc::ETIMEDOUT;
                assert!(is_late || result == 0, "{result}");
            }
            if world.items.load(SeqCst) > 0 {
                world.items.fetch_sub(1, SeqCst);
            }
            assert_eq!(libc::pthread_mutex_unlock(mutex), 0);
        }
    }

    /// Takes what siblings have ended with.
    fn inherit(&mut self, hub: usize) {
        let mutex = self.world.robust[hub].get();
        // SAFETY: a mutex.
        unsafe {
            match libc::pthread_mutex_lock(mutex) {
                libc::EOWNERDEAD => {
                    assert!(self.world.left[hub].swap(0, SeqCst) > 0, "nobody has ended with it");
                    assert_eq!(libc::pthread_mutex_consistent(mutex), 0);
                }
                result => assert_eq!((result, self.world.left[hub].load(SeqCst)), (0, 0)),
            }
            assert_eq!(libc::pthread_mutex_unlock(mutex), 0);
        }
    }

    fn run(mut self) {
        for _ in 0..STEPS {
            match (self.hub, self.random.below(8)) {
                (_, 0..2) => self.exchange(),
                (Some(hub), 2) => self.inherit(hub),
                (Some(_), 3) => {
                    let limit = Duration::from_micros(self.random.below(1000) as u64);
                    let _ = timeout(limit, || self.hold());
                }
                _ => self.hold(),
            }
            self.pause();
        }
        if let Some(hub) = self.hub
            && self.random.below(2) == 0
        {
            self.inherit(hub);
            let mutex = self.world.robust[hub].get();
            // SAFETY: a mutex.
            let got = unsafe { libc::pthread_mutex_trylock(mutex) };
            if got == 0 {
                self.world.left[hub].store(1, SeqCst);
            }
        }
    }
}

/// Runs coroutines of one hub, some of which it kills.
fn hub(world: &Arc<World>, number: usize, seed: u64) {
    let mut random = Random(seed);
    let tasks = (0..TASKS).map(|task| {
        let actor = Actor {
            world: Arc::clone(world),
            me: number * TASKS + task,
            hub: Some(number),
            random: Random(seed.wrapping_mul(31).wrapping_add(task as u64)),
        };
        spawn(move || actor.run())
    });
    let tasks: Vec<_> = tasks.collect();
    for _ in 0..random.below(TASKS) {
        switchgrass::sleep(Duration::from_micros(random.below(3000) as u64));
        tasks[random.below(TASKS)].kill();
    }
    for task in tasks {
        if let Err(error) = task.join() {
            assert!(matches!(error, JoinError::Killed), "{error:?}");
        }
    }
}

fn program(seed: u64) {
    let world = World::new();
    let hubs = (0..HUBS).map(|number| {
        let world = Arc::clone(&world);
        thread::spawn(move || hub(&world, number, seed * 10 + number as u64))
    });
    let hubs: Vec<_> = hubs.collect();
    let threads = (0..THREADS).map(|number| {
        let actor = Actor {
            world: Arc::clone(&world),
            me: HUBS * TASKS + number,
            hub: None,
            random: Random(seed * 10 + (HUBS + number) as u64),
        };
        thread::spawn(move || actor.run())
    });
    let threads: Vec<_> = threads.collect();
    hubs.into_iter().chain(threads).for_each(|thread| thread.join().unwrap());
    for at in 0..ALL {
        let how = How::Try;
        let free = Held::new(&world, at, ALL, how, false);
        assert!(free.is_some(), "{at} is still locked");
        assert_eq!(world.readers[at].load(SeqCst), isize::from(at == SEMAPHORE), "{at}");
    }
    let mut value = 0;
    // SAFETY: a semaphore, and a file that nobody uses any more.
    unsafe {
        assert_eq!(libc::sem_getvalue(world.semaphore.get(), &mut value), 0);
        libc::fclose(world.file);
    }
    assert_eq!(value as isize, TOKENS);
}

/// `SWITCHGRASS_LOCKS=100:50` runs 50 programs from seed 100 on.
#[test]
fn random_programs_of_locks() {
    let range = std::env::var("SWITCHGRASS_LOCKS").unwrap_or_else(|_| "1:12".into());
    let (from, count) = range.split_once(':').expect("a seed and a number");
    let [from, count]: [u64; 2] = [from, count].map(|number| number.parse().unwrap());
    patched(|| {
        for seed in from..from + count {
            eprintln!("seed {seed}");
            program(seed);
        }
    });
}
