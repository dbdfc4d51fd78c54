//! What changes the action of a signal, and what waits for one. That handlers interrupt calls is tested in
//! tests/interrupted.

use crate::{alone, patched};
use libc::{SIG_DFL, SIG_ERR, SIG_IGN, SIGUSR1, SIGUSR2, c_int, c_void, siginfo_t, sigset_t};
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::mem::{MaybeUninit, zeroed};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::signal::{self as signals, Signal};
use switchgrass::watchdog::Watchdog;
use switchgrass::{spawn, timeout, yield_now};

type Setter = unsafe extern "C" fn(c_int, usize) -> usize;

/// What the crate `libc` does not have.
mod c {
    use libc::c_int;

    unsafe extern "C" {
        pub(super) fn __sigaction(
            signal: c_int,
            action: *const libc::sigaction,
            old: *mut libc::sigaction,
        ) -> c_int;
        pub(super) fn bsd_signal(signal: c_int, handler: usize) -> usize;
        pub(super) fn ssignal(signal: c_int, handler: usize) -> usize;
        pub(super) fn sysv_signal(signal: c_int, handler: usize) -> usize;
        pub(super) fn __sysv_signal(signal: c_int, handler: usize) -> usize;
        pub(super) fn sigset(signal: c_int, handler: usize) -> usize;
        pub(super) fn sigpause(which: c_int) -> c_int;
        pub(super) fn __xpg_sigpause(signal: c_int) -> c_int;
        pub(super) fn siginterrupt(signal: c_int, flag: c_int) -> c_int;
    }
}

static FIRST: AtomicUsize = AtomicUsize::new(0);
static SECOND: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn first(signal: c_int) {
    assert_eq!(signal, SIGUSR1);
    FIRST.fetch_add(1, SeqCst);
}

unsafe extern "C" fn second(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: what the kernel hands over.
    let told = unsafe { (*info).si_signo };
    assert!(told == signal && !context.is_null());
    SECOND.fetch_add(1, SeqCst);
}

fn first_handler() -> usize {
    first as *const () as usize
}

fn second_handler() -> usize {
    second as *const () as usize
}

fn counts() -> (usize, usize) {
    (FIRST.load(SeqCst), SECOND.load(SeqCst))
}

fn action_of(handler: usize, flags: c_int) -> libc::sigaction {
    // SAFETY: all-zero is a valid action.
    let mut action: libc::sigaction = unsafe { zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    action
}

/// Sets an action, if one is given. The one before it.
fn set(action: Option<libc::sigaction>) -> libc::sigaction {
    let mut old = action_of(0, 0);
    let action = action.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: actions of this file.
    assert_eq!(unsafe { libc::sigaction(SIGUSR1, action, &mut old) }, 0);
    old
}

fn raise() {
    // SAFETY: it is handled.
    unsafe { libc::raise(SIGUSR1) };
}

/// Before and after everything is patched, the program sees its own handlers.
#[test]
fn sigaction() {
    alone(|| {
        for round in 1..3 {
            let old = set(Some(action_of(first_handler(), libc::SA_RESTART)));
            assert!(round == 2 || old.sa_sigaction == SIG_DFL);
            raise();
            let flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            let old = set(Some(action_of(second_handler(), flags)));
            assert_eq!(old.sa_sigaction, first_handler());
            assert_ne!(old.sa_flags & libc::SA_RESTART, 0);
            raise();
            assert_eq!(counts(), (round, round));
            // What is there now is said, and nothing changes.
            for _ in 0..2 {
                let now = set(None);
                assert_eq!(now.sa_sigaction, second_handler());
                assert_eq!(now.sa_flags & (flags | libc::SA_RESTART), flags);
            }
            switchgrass::monkey::patch_all();
        }
        // In place: the old action lands where the new one was.
        let mut action = action_of(first_handler(), 0);
        let place = &raw mut action;
        // SAFETY: an action.
        assert_eq!(unsafe { libc::sigaction(SIGUSR1, place, place) }, 0);
        assert_eq!(action.sa_sigaction, second_handler());
        set(Some(action_of(SIG_IGN, 0)));
        raise();
        assert_eq!(set(Some(action_of(SIG_DFL, 0))).sa_sigaction, SIG_IGN);
        // SAFETY: it fails.
        let failed = unsafe { libc::sigaction(libc::SIGKILL, &action, ptr::null_mut()) };
        assert_eq!((failed, errno()), (-1, libc::EINVAL));
    });
}

fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

#[test]
fn __sigaction() {
    alone(|| {
        let mut old = action_of(0, 0);
        let action = action_of(first_handler(), 0);
        // SAFETY: actions.
        unsafe {
            assert_eq!(c::__sigaction(SIGUSR1, &action, ptr::null_mut()), 0);
            assert_eq!(c::__sigaction(SIGUSR1, ptr::null(), &mut old), 0);
        }
        assert_eq!(old.sa_sigaction, first_handler());
        raise();
        assert_eq!(counts(), (1, 0));
    });
}

/// The kernel forgets such a handler when it calls it.
#[test]
fn a_handler_that_is_called_once() {
    alone(|| {
        set(Some(action_of(first_handler(), libc::SA_RESETHAND)));
        raise();
        assert_eq!(set(None).sa_sigaction, SIG_DFL);
        assert_eq!(counts(), (1, 0));
    });
}

/// A handler that changes its own action, in the middle of being called.
#[test]
fn a_handler_that_replaces_itself() {
    unsafe extern "C" fn replace(_: c_int) {
        let old = set(Some(action_of(first_handler(), 0)));
        assert_eq!(old.sa_sigaction, replace as *const () as usize);
    }
    patched(|| {
        set(Some(action_of(replace as *const () as usize, 0)));
        raise();
        raise();
        assert_eq!(counts(), (1, 0));
    });
}

/// Two threads change one action while it is called: each call is one of either handler.
#[test]
fn two_threads_that_change_one_action() {
    patched(|| {
        set(Some(action_of(first_handler(), 0)));
        let changer = |handler: usize, flags: c_int| {
            move || {
                for _ in 0..2000 {
                    let old = set(Some(action_of(handler, flags)));
                    let is_known = [first_handler(), second_handler()].contains(&old.sa_sigaction);
                    assert!(is_known, "{:#x}", old.sa_sigaction);
                    // Which of the two this is, its flags say as well.
                    let is_second = old.sa_flags & libc::SA_SIGINFO != 0;
                    assert_eq!(is_second, old.sa_sigaction == second_handler());
                }
            }
        };
        let threads = [
            thread::spawn(changer(first_handler(), 0)),
            thread::spawn(changer(second_handler(), libc::SA_SIGINFO | libc::SA_RESTART)),
        ];
        let mut raised = 0;
        while !threads.iter().all(|thread| thread.is_finished()) {
            raise();
            raised += 1;
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let (first, second) = counts();
        assert_eq!(first + second, raised);
    });
}

/// More handlers than can be counted are called all the same.
#[test]
fn very_many_handlers() {
    unsafe extern "C" fn one<const NUMBER: usize>(_: c_int) {
        FIRST.store(NUMBER, SeqCst);
    }
    macro_rules! all {
        ($($upper:literal)*) => { all!(@ [0 1 2 3 4 5 6 7 8 9] $($upper)*) };
        (@ $digits:tt $($upper:literal)*) => { [$(all!(# $upper $digits)),*].concat() };
        (# $upper:literal [$($digit:literal)*]) => {
            vec![$((one::<{ $upper * 10 + $digit }> as *const () as usize)),*]
        };
    }
    alone(|| {
        let all: Vec<usize> = all!(0 1 2 3 4 5 6 7 8);
        for (number, handler) in all.iter().enumerate() {
            set(Some(action_of(*handler, 0)));
            assert_eq!(set(None).sa_sigaction, *handler);
            raise();
            assert_eq!(FIRST.load(SeqCst), number);
        }
    });
}

/// The functions that set a handler alone: what they return is the program's.
#[track_caller]
fn sets(setter: Setter, is_once: bool, flags: c_int) {
    // SAFETY: handlers of this file.
    let set_to = |handler| unsafe { setter(SIGUSR1, handler) };
    assert_eq!(set_to(first_handler()), SIG_DFL);
    let now = set(None);
    assert_eq!(now.sa_sigaction, first_handler());
    let all = libc::SA_RESTART | libc::SA_RESETHAND | libc::SA_NODEFER | libc::SA_SIGINFO;
    assert_eq!(now.sa_flags & all, flags);
    raise();
    assert_eq!(counts().0, 1);
    let before = set_to(SIG_IGN);
    assert_eq!(before, if is_once { SIG_DFL } else { first_handler() });
    raise();
    assert_eq!(set_to(SIG_DFL), SIG_IGN);
    // SAFETY: it fails.
    assert_eq!(unsafe { setter(libc::SIGKILL, first_handler()) }, SIG_ERR);
    assert_eq!(errno(), libc::EINVAL);
}

const ONCE: c_int = libc::SA_RESETHAND | libc::SA_NODEFER;

#[test]
fn signal() {
    alone(|| sets(libc::signal, false, libc::SA_RESTART));
}

#[test]
fn bsd_signal() {
    alone(|| sets(c::bsd_signal, false, libc::SA_RESTART));
}

#[test]
fn ssignal() {
    alone(|| sets(c::ssignal, false, libc::SA_RESTART));
}

#[test]
fn sysv_signal() {
    alone(|| sets(c::sysv_signal, true, ONCE));
}

#[test]
fn __sysv_signal() {
    alone(|| sets(c::__sysv_signal, true, ONCE));
}

#[test]
fn sigset() {
    alone(|| sets(c::sigset, false, 0));
}

/// With `SIG_HOLD` it blocks the signal, and says so afterwards.
#[test]
fn sigset_that_holds() {
    const SIG_HOLD: usize = 2;
    alone(|| {
        // SAFETY: a handler of this file, and none.
        unsafe {
            assert_eq!(c::sigset(SIGUSR1, first_handler()), SIG_DFL);
            assert_eq!(c::sigset(SIGUSR1, SIG_HOLD), first_handler());
            raise();
            assert_eq!(counts(), (0, 0));
            assert_eq!(c::sigset(SIGUSR1, first_handler()), SIG_HOLD);
        }
        assert_eq!(counts(), (1, 0));
    });
}

#[test]
fn siginterrupt() {
    alone(|| {
        let restarts = || set(None).sa_flags & libc::SA_RESTART != 0;
        // SAFETY: a handler of this file.
        unsafe {
            libc::signal(SIGUSR1, first_handler());
            assert!(restarts());
            for (flag, expected) in [(1, false), (1, false), (0, true), (1, false)] {
                assert_eq!(c::siginterrupt(SIGUSR1, flag), 0);
                assert_eq!(restarts(), expected);
                assert_eq!(set(None).sa_sigaction, first_handler());
            }
            // It is kept in mind.
            assert_eq!(libc::signal(SIGUSR1, first_handler()), first_handler());
            assert!(!restarts());
            assert_eq!(c::siginterrupt(1000, 1), -1);
            assert_eq!(errno(), libc::EINVAL);
        }
        raise();
        assert_eq!(counts(), (1, 0));
    });
}

/// A handler of the program, one of this library over it, and one of the program over that.
#[test]
fn handlers_over_each_other() {
    patched(|| {
        set(Some(action_of(first_handler(), 0)));
        let heard = Rc::new(RefCell::new(0));
        let count = Rc::clone(&heard);
        let handler = signals::on(Signal::USR1, move || *count.borrow_mut() += 1).unwrap();
        raise();
        switchgrass::sleep(Duration::from_millis(1));
        assert_eq!((counts(), *heard.borrow()), ((1, 0), 1));
        drop(handler);
        assert_eq!(set(None).sa_sigaction, first_handler());
        raise();
        assert_eq!(counts(), (2, 0));
    });
}

fn set_of(signals: &[c_int]) -> sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: room for a set, which is emptied first.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

fn block(signals: &[c_int]) {
    // SAFETY: a set.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set_of(signals), ptr::null_mut()) };
}

fn send_to_me(signal: c_int) {
    // SAFETY: it is handled, or blocked.
    unsafe { libc::pthread_kill(libc::pthread_self(), signal) };
}

/// Eight coroutines wait, and a sibling goes on meanwhile, which sends what they wait for: each gets one of those.
fn each_gets_one(call: impl Fn(&sigset_t) -> c_int + Copy + 'static) {
    patched(move || {
        let first = libc::SIGRTMIN();
        let all: Vec<c_int> = (first..first + 8).collect();
        block(&all);
        let waiters: Vec<_> = all
            .iter()
            .map(|_| {
                let set = set_of(&all);
                spawn(move || call(&set))
            })
            .collect();
        for _ in 0..5 {
            yield_now();
            assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
        }
        all.iter().for_each(|signal| send_to_me(*signal));
        let mut got: Vec<c_int> =
            waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect();
        got.sort();
        assert_eq!(got, all);
    });
}

#[test]
fn sigwait() {
    each_gets_one(|set| {
        let mut got = 0;
        // SAFETY: a set, and a place.
        assert_eq!(unsafe { libc::sigwait(set, &mut got) }, 0);
        got
    });
}

#[test]
fn sigwaitinfo() {
    each_gets_one(|set| {
        let mut info = MaybeUninit::<siginfo_t>::uninit();
        // SAFETY: a set, and a place.
        let got = unsafe { libc::sigwaitinfo(set, info.as_mut_ptr()) };
        // SAFETY: it was filled.
        assert_eq!(unsafe { info.assume_init() }.si_signo, got);
        got
    });
}

#[test]
fn sigtimedwait() {
    each_gets_one(|set| {
        let time = libc::timespec { tv_sec: 50, tv_nsec: 0 };
        // SAFETY: a set, a time, and no place.
        unsafe { libc::sigtimedwait(set, ptr::null_mut(), &time) }
    });
}

/// All coroutines of a thread that pause are interrupted by a handler that runs there.
#[test]
fn pause() {
    patched(|| {
        set(Some(action_of(first_handler(), libc::SA_RESTART)));
        let waiters: Vec<_> = (0..8)
            .map(|_| {
                // SAFETY: no preconditions.
                spawn(|| (unsafe { libc::pause() }, errno()))
            })
            .collect();
        yield_now();
        assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
        raise();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), (-1, libc::EINTR));
        }
        assert_eq!(counts(), (1, 0));
    });
}

/// A signal that was blocked is let in while `call` waits.
fn lets_in(call: fn() -> c_int) {
    patched(move || {
        set(Some(action_of(first_handler(), libc::SA_RESTART)));
        block(&[SIGUSR1]);
        let waiter = spawn(move || (call(), errno(), counts()));
        yield_now();
        assert!(!waiter.is_finished());
        send_to_me(SIGUSR1);
        assert_eq!(counts(), (0, 0));
        assert_eq!(waiter.join().unwrap(), (-1, libc::EINTR, (1, 0)));
    });
}

/// That of glibc takes a set.
#[test]
fn sigpause() {
    // SAFETY: no memory is involved.
    lets_in(|| unsafe { c::sigpause(1 << (SIGUSR2 - 1)) });
}

#[test]
fn __xpg_sigpause() {
    // SAFETY: no memory is involved.
    lets_in(|| unsafe { c::__xpg_sigpause(SIGUSR1) });
}

/// A mask lets a signal in for one coroutine's call, and for none of its siblings'.
#[test]
fn sigsuspend() {
    patched(|| {
        set(Some(action_of(first_handler(), 0)));
        block(&[SIGUSR1, SIGUSR2]);
        // SAFETY: a set.
        let waiter =
            spawn(|| (unsafe { libc::sigsuspend(&set_of(&[SIGUSR2])) }, errno(), counts()));
        yield_now();
        let mut now = set_of(&[]);
        // SAFETY: a place for a set.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &mut now) };
        // SAFETY: a set.
        assert_eq!(unsafe { libc::sigismember(&now, SIGUSR1) }, 1);
        send_to_me(SIGUSR1);
        assert_eq!(counts(), (0, 0));
        assert_eq!(waiter.join().unwrap(), (-1, libc::EINTR, (1, 0)));
    });
}

/// A kill is told once, as by other calls.
#[test]
fn a_kill_ends_a_wait_for_a_signal() {
    patched(|| {
        block(&[SIGUSR1]);
        // SAFETY: sets, places.
        let calls: [fn() -> c_int; 4] = [
            || unsafe { libc::pause() },
            || unsafe { libc::sigwaitinfo(&set_of(&[SIGUSR1]), ptr::null_mut()) },
            || unsafe { libc::sigsuspend(&set_of(&[SIGUSR1])) },
            || {
                // It says by its result what others say by errno.
                // SAFETY: a set, and a place.
                let error = unsafe { libc::sigwait(&set_of(&[SIGUSR1]), &mut 0) };
                // SAFETY: this thread's own place.
                unsafe { *libc::__errno_location() = error };
                -i32::from(error != 0)
            },
        ];
        for call in calls {
            let told = Rc::new(RefCell::new(None));
            let tell = Rc::clone(&told);
            let waiter = spawn(move || {
                *tell.borrow_mut() = Some((call(), errno()));
                yield_now();
                unreachable!("it was killed");
            });
            yield_now();
            waiter.kill();
            assert!(waiter.join().is_err());
            assert_eq!(told.take(), Some((-1, libc::ECANCELED)));
        }
    });
}

/// A profiler interrupts nobody who sleeps.
#[test]
fn clocks_of_processor_time_interrupt_no_call() {
    patched(|| {
        // SAFETY: an action of this file.
        unsafe {
            let action = action_of(second_handler(), libc::SA_SIGINFO);
            assert_eq!(libc::sigaction(libc::SIGPROF, &action, ptr::null_mut()), 0);
        }
        let sleeper = spawn(|| {
            // SAFETY: no preconditions.
            unsafe { libc::usleep(50_000) }
        });
        yield_now();
        send_to_me(libc::SIGPROF);
        assert_eq!(counts(), (0, 1));
        assert_eq!(sleeper.join().unwrap(), 0);
    });
}

/// What this library handles for itself, with no handler of the program's below it, is none of the program's.
#[test]
fn handlers_of_this_library_interrupt_no_call() {
    patched(|| {
        let heard = Rc::new(RefCell::new(0));
        let count = Rc::clone(&heard);
        let _handler = signals::on(Signal::USR1, move || *count.borrow_mut() += 1).unwrap();
        let sleeper = spawn(|| {
            // SAFETY: no preconditions.
            unsafe { libc::usleep(50_000) }
        });
        yield_now();
        raise();
        assert_eq!(sleeper.join().unwrap(), 0);
        assert_eq!(*heard.borrow(), 1);
    });
}

/// Nor does the watchdog, which asks by a signal who holds the thread.
#[test]
fn a_watchdog_interrupts_no_call() {
    patched(|| {
        let (tell, told) = std::sync::mpsc::channel();
        let limit = Duration::from_millis(10);
        let watchdog = Watchdog::with_report(limit, move |_| tell.send(()).unwrap()).unwrap();
        let sleeper = spawn(|| {
            // SAFETY: no preconditions.
            unsafe { libc::usleep(50_000) }
        });
        yield_now();
        // This one holds the thread until the watchdog has said so.
        let start = Instant::now();
        while told.try_recv().is_err() {
            assert!(start.elapsed() < Duration::from_secs(50));
        }
        assert_eq!(sleeper.join().unwrap(), 0);
        drop(watchdog);
    });
}

/// It passes a signal on to a handler of the program that was there before: that interrupts as the program has
/// said.
#[test]
fn a_handler_below_one_of_this_library_interrupts() {
    patched(|| {
        for (flags, reads, sleeps) in [(0, -1, -1), (libc::SA_RESTART, 1, -1)] {
            set(Some(action_of(first_handler(), flags)));
            let handler = signals::on(Signal::USR1, || ()).unwrap();
            let (reader, mut writer) = std::io::pipe().unwrap();
            let same = reader.try_clone().unwrap();
            let reading = spawn(move || read_one(&same));
            let sleeper = spawn(|| {
                // SAFETY: no preconditions.
                unsafe { libc::usleep(900_000) }
            });
            yield_now();
            raise();
            assert_eq!(sleeper.join().unwrap(), sleeps);
            writer.write_all(b"1").unwrap();
            assert_eq!(reading.join().unwrap(), reads);
            drop((handler, reader));
        }
    });
}

fn read_one(reader: &impl AsRawFd) -> isize {
    // SAFETY: room for one byte.
    unsafe { libc::read(reader.as_raw_fd(), (&raw mut *Box::leak(Box::new(0_u8))).cast(), 1) }
}

/// A handler interrupts the calls of its own thread alone.
#[test]
fn a_handler_on_another_thread_interrupts_nothing_here() {
    patched(|| {
        set(Some(action_of(first_handler(), 0)));
        let sleeper = spawn(|| {
            // SAFETY: no preconditions.
            unsafe { libc::usleep(100_000) }
        });
        yield_now();
        let interrupted = thread::spawn(|| {
            let sleeper = spawn(|| {
                // SAFETY: no preconditions.
                unsafe { libc::usleep(900_000) }
            });
            yield_now();
            raise();
            sleeper.join().unwrap()
        });
        assert_eq!(interrupted.join().unwrap(), -1);
        assert_eq!(sleeper.join().unwrap(), 0);
    });
}

/// `std` goes on where a signal has interrupted it, and so do waits of this library.
#[test]
fn sleeps_of_std_last_as_long_as_they_are_to() {
    patched(|| {
        set(Some(action_of(first_handler(), 0)));
        const TIME: Duration = Duration::from_millis(100);
        let sleepers: [fn(); 2] = [|| thread::sleep(TIME), || switchgrass::sleep(TIME)];
        let sleepers = sleepers.map(|sleep| {
            spawn(move || {
                let start = Instant::now();
                sleep();
                assert!(start.elapsed() >= TIME, "{:?}", start.elapsed());
            })
        });
        for _ in 0..10 {
            switchgrass::sleep(Duration::from_millis(5));
            raise();
        }
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
    });
}

/// Very many wait: each call is interrupted, by each signal.
#[test]
fn hundreds_that_wait_are_interrupted() {
    patched(|| {
        set(Some(action_of(first_handler(), 0)));
        let waiters: Vec<_> = (0..400)
            .map(|_| {
                let (reader, writer) = std::io::pipe().unwrap();
                spawn(move || {
                    let results = [(); 3].map(|()| read_one(&reader));
                    drop(writer);
                    results
                })
            })
            .collect();
        for _ in 0..3 {
            switchgrass::coroutine::run_until_idle();
            raise();
        }
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), [-1; 3]);
        }
    });
}

/// Fills a socket.
fn fill(socket: &UnixStream) {
    let (bytes, flags) = ([0_u8; 4096], libc::MSG_DONTWAIT);
    // SAFETY: bytes to be sent.
    while unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), 4096, flags) } > 0 {}
}

/// The handler has run while the call waited, and there was room at the same time.
#[test]
fn a_handler_that_runs_beside_an_event_ends_the_rest_of_a_call() {
    patched(|| {
        set(Some(action_of(first_handler(), 0)));
        let (here, mut there) = UnixStream::pair().unwrap();
        fill(&here);
        let sender = spawn(move || {
            let all = vec![0_u8; 64 << 20];
            // SAFETY: as many bytes as is said.
            unsafe { libc::send(here.as_raw_fd(), all.as_ptr().cast(), all.len(), 0) }
        });
        yield_now();
        raise();
        there.set_nonblocking(true).unwrap();
        let mut room = vec![0_u8; 1 << 20];
        while there.read(&mut room).is_ok_and(|got| got > 0) {}
        let sent = timeout(Duration::from_secs(20), move || sender.join().unwrap());
        let sent = sent.expect("it goes on");
        assert!((1..64 << 20).contains(&sent) || sent == -1, "{sent}");
    });
}

/// The same of a call that has not begun to wait when the handler runs: a sibling has its turn first.
#[test]
fn a_handler_that_runs_before_a_call_waits_ends_it() {
    patched(|| {
        set(Some(action_of(first_handler(), 0)));
        let (reader, writer) = std::io::pipe().unwrap();
        let (_, target) = std::io::pipe().unwrap();
        let is_over = Rc::new(Cell::new(false));
        let spinner = spawn({
            let is_over = Rc::clone(&is_over);
            move || {
                // Whenever it has a turn, a handler runs.
                while !is_over.get() {
                    raise();
                    yield_now();
                }
            }
        });
        let splicer = spawn(move || {
            // SAFETY: no offsets.
            let call = || unsafe {
                libc::splice(reader.as_raw_fd(), null(), target.as_raw_fd(), null(), 1, 0)
            };
            (0..1000).all(|_| call() == -1 && errno() == libc::EINTR)
        });
        let result = timeout(Duration::from_secs(20), move || splicer.join().unwrap());
        is_over.set(true);
        spinner.join().unwrap();
        drop(writer);
        assert_eq!(result, Ok(true));
    });
}

/// Makes a call in a coroutine that has used up its share of time, so that a sibling has its turn before the call
/// waits. A handler runs in that turn, or, if there is none, while the call waits.
fn interrupted_in_a_turn_of_others(flags: c_int, call: impl FnOnce() -> c_int + 'static) {
    set(Some(action_of(first_handler(), flags)));
    let caller = spawn(move || {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(20) {}
        (call(), errno())
    });
    let sibling = spawn(raise);
    let result = timeout(Duration::from_secs(10), move || caller.join().unwrap());
    assert_eq!(result, Ok((-1, libc::EINTR)));
    sibling.join().unwrap();
}

/// What another thread waits for in the name of a coroutine: the handler has run before there was that thread.
#[test]
fn a_handler_that_runs_in_a_turn_before_the_wait_of_a_thread_ends_it() {
    patched(|| {
        // SAFETY: no memory is involved.
        let set = unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) };
        let mut operation = libc::sembuf { sem_num: 0, sem_op: -1, sem_flg: 0 };
        // SAFETY: an operation.
        interrupted_in_a_turn_of_others(0, move || unsafe { libc::semop(set, &mut operation, 1) });
        // SAFETY: no memory is involved.
        unsafe { libc::semctl(set, 0, libc::IPC_RMID) };

        // SAFETY: a semaphore that stays.
        let semaphore = unsafe {
            let semaphore = Box::into_raw(Box::new(std::mem::zeroed::<libc::sem_t>()));
            assert_eq!(libc::sem_init(semaphore, 0, 0), 0);
            semaphore
        };
        // SAFETY: as above.
        interrupted_in_a_turn_of_others(0, move || unsafe { libc::sem_wait(semaphore) });
        let never = libc::timespec { tv_sec: i64::from(i32::MAX), tv_nsec: 0 };
        let call = move || {
            // SAFETY: as above.
            unsafe { libc::sem_timedwait(semaphore, &never) }
        };
        interrupted_in_a_turn_of_others(libc::SA_RESTART, call);

        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        // SAFETY: no place for the status.
        let call = || unsafe { libc::waitpid(-1, ptr::null_mut(), 0) };
        interrupted_in_a_turn_of_others(0, call);
        child.kill().unwrap();
        child.wait().unwrap();

        let file = std::fs::File::open(file!()).unwrap();
        let held = std::fs::File::open(file!()).unwrap();
        // SAFETY: no memory is involved.
        assert_eq!(unsafe { libc::flock(held.as_raw_fd(), libc::LOCK_EX) }, 0);
        // SAFETY: as above.
        let call = move || unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) };
        interrupted_in_a_turn_of_others(0, call);
    });
}

/// Also after a handler with `SA_RESTART`: signal(7) names them.
#[test]
fn calls_that_are_never_restarted_are_not_where_a_thread_makes_them() {
    patched(|| {
        set(Some(action_of(first_handler(), libc::SA_RESTART)));
        // SAFETY: no memory is involved.
        let (semaphores, queue) = unsafe {
            (libc::semget(libc::IPC_PRIVATE, 1, 0o600), libc::msgget(libc::IPC_PRIVATE, 0o600))
        };
        // SAFETY: places of that size, and what is named is there.
        let calls: [Box<dyn FnOnce() -> isize>; 5] = unsafe {
            let usr2 = set_of(&[libc::SIGUSR2]);
            [
                Box::new(move || {
                    let mut operation = libc::sembuf { sem_num: 0, sem_op: -1, sem_flg: 0 };
                    libc::semop(semaphores, &mut operation, 1) as isize
                }),
                Box::new(move || {
                    let mut place = [0_u64; 8];
                    libc::msgrcv(queue, place.as_mut_ptr().cast(), 8, 0, 0)
                }),
                Box::new(move || libc::ppoll(ptr::null_mut(), 0, ptr::null(), &usr2) as isize),
                Box::new(move || {
                    let none = ptr::null_mut;
                    libc::pselect(0, none(), none(), none(), ptr::null(), &usr2) as isize
                }),
                Box::new(move || {
                    let epoll = libc::epoll_create1(0);
                    let mut place = libc::epoll_event { events: 0, u64: 0 };
                    libc::epoll_pwait(epoll, &mut place, 1, -1, &usr2) as isize
                }),
            ]
        };
        for (number, call) in calls.into_iter().enumerate() {
            let caller = spawn(move || (call(), errno()));
            yield_now();
            raise();
            let result = timeout(Duration::from_secs(10), move || caller.join().unwrap());
            assert_eq!(result, Ok((-1, libc::EINTR)), "call number {number}");
        }
        // SAFETY: no memory is involved.
        unsafe {
            libc::semctl(semaphores, 0, libc::IPC_RMID);
            libc::msgctl(queue, libc::IPC_RMID, ptr::null_mut());
        }
    });
}

fn null() -> *mut libc::loff_t {
    ptr::null_mut()
}
