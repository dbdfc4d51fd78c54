//! Calls that are never restarted: sleeps, `poll` and its kin, waits for signals.

use crate::Case;
use crate::support::{
    HANDLED, alarm_after, alarm_every, handle, interrupted, later, mask, said, set_of,
};
use libc::{SA_RESTART, SIGALRM, SIGUSR1, SIGUSR2, c_int, timespec, timeval};
use std::mem::zeroed;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

macro_rules! both {
    ($($name:literal => $case:expr;)*) => {
        &[$(
            (concat!($name, " cut"), || $case(0)),
            (concat!($name, " with SA_RESTART"), || $case(SA_RESTART)),
        )*]
    };
}

const LONG: timespec = timespec { tv_sec: 30, tv_nsec: 0 };

pub(crate) const CASES: &[Case] = both! {
    "sleep" => sleep;
    "usleep" => |flags| interrupted(flags, || unsafe { libc::usleep(900_000).into() }, || ());
    "nanosleep" => nanosleep;
    "clock_nanosleep" => |flags| clock_nanosleep(flags, false);
    "clock_nanosleep until" => |flags| clock_nanosleep(flags, true);
    "poll of nothing" => |flags| interrupted(flags, || unsafe {
        libc::poll(ptr::null_mut(), 0, -1).into()
    }, || ());
    "poll" => poll;
    "ppoll" => |flags| interrupted(flags, || unsafe {
        libc::ppoll(ptr::null_mut(), 0, &LONG, ptr::null()).into()
    }, || ());
    "select" => select;
    "pselect" => |flags| interrupted(flags, || unsafe {
        let none = ptr::null_mut();
        libc::pselect(0, none, none, none, &LONG, ptr::null()).into()
    }, || ());
    "epoll_wait" => |flags| interrupted(flags, || unsafe {
        let fd = libc::epoll_create1(0);
        libc::epoll_wait(fd, &mut zeroed(), 1, -1).into()
    }, || ());
    "pause" => |flags| interrupted(flags, || unsafe { libc::pause().into() }, || ());
    "sigsuspend" => sigsuspend;
    "sigsuspend with one that is pending" => sigsuspend_pending;
    "sigwaitinfo of another" => |flags| interrupted(flags, || unsafe {
        mask(libc::SIG_BLOCK, &[SIGUSR1]);
        libc::sigwaitinfo(&set_of(&[SIGUSR1]), ptr::null_mut()).into()
    }, || ());
    "sigtimedwait of another" => |flags| interrupted(flags, || unsafe {
        mask(libc::SIG_BLOCK, &[SIGUSR1]);
        libc::sigtimedwait(&set_of(&[SIGUSR1]), ptr::null_mut(), &LONG).into()
    }, || ());
    "sigwaitinfo" => |_| waits_for_signal(|set| unsafe {
        let mut info = zeroed();
        let got = libc::sigwaitinfo(set, &mut info);
        assert_eq!((info.si_signo, info.si_code), (got, libc::SI_USER));
        got
    });
    "sigtimedwait" => |_| waits_for_signal(|set| unsafe {
        libc::sigtimedwait(set, ptr::null_mut(), &LONG)
    });
    "sigwait" => |_| waits_for_signal(|set| unsafe {
        let mut got = 0;
        assert_eq!(libc::sigwait(set, &mut got), 0);
        got
    });
    "sigtimedwait to the end" => |_| said(|| unsafe {
        mask(libc::SIG_BLOCK, &[SIGUSR1]);
        let start = Instant::now();
        let time = timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        let got = libc::sigtimedwait(&set_of(&[SIGUSR1]), ptr::null_mut(), &time);
        assert!(start.elapsed() >= Duration::from_millis(50));
        got.into()
    });
    "sigtimedwait of no time" => |_| said(|| unsafe {
        mask(libc::SIG_BLOCK, &[SIGUSR1]);
        let time = timespec { tv_sec: 0, tv_nsec: -1 };
        libc::sigtimedwait(&set_of(&[SIGUSR1]), ptr::null_mut(), &time).into()
    });
    "a handler that has run before" => |flags| {
        // It is the call that waits that is interrupted, not the next one.
        handle(SIGUSR1, flags);
        unsafe { libc::raise(SIGUSR1) };
        said(|| unsafe { libc::usleep(50_000).into() })
    };
    "siginterrupt" => |flags: c_int| {
        handle(SIGALRM, SA_RESTART);
        unsafe extern "C" { fn siginterrupt(signal: c_int, flag: c_int) -> c_int; }
        // After what `interrupted` installs.
        let call = move || {
            assert_eq!(unsafe { siginterrupt(SIGALRM, i32::from(flags == 0)) }, 0);
            read_once()
        };
        interrupted(SA_RESTART - flags, call, release_once)
    };
    "signal" => |flags: c_int| {
        unsafe extern "C" { fn siginterrupt(signal: c_int, flag: c_int) -> c_int; }
        let call = move || unsafe {
            if flags == 0 {
                siginterrupt(SIGALRM, 1);
            }
            let before = libc::signal(SIGALRM, count as *const () as usize);
            assert!(before > 1);
            read_once()
        };
        interrupted(0, call, release_once)
    };
    "sysv_signal" => |_| {
        unsafe extern "C" { fn sysv_signal(signal: c_int, handler: usize) -> usize; }
        let call = || unsafe {
            sysv_signal(SIGALRM, count as *const () as usize);
            let result = read_once();
            // Once only.
            assert_eq!(libc::signal(SIGALRM, libc::SIG_IGN), libc::SIG_DFL);
            result
        };
        interrupted(SA_RESTART, call, release_once)
    };
    "a thousand reads" => |flags: c_int| {
        // It comes again and again: as the hub begins to sleep, and as it wakes.
        handle(SIGALRM, flags & !SA_RESTART);
        alarm_every(Duration::from_micros(700));
        let cut = said(|| (0..1000).map(|_| read_once()).sum());
        alarm_every(Duration::ZERO);
        cut.split(", handled").next().unwrap().to_owned()
    };
    "a loop that SIGTERM ends" => |flags: c_int| {
        // What servers do: the handler says so, and the loop looks when its call has failed.
        handle(libc::SIGTERM, flags & !SA_RESTART);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        later(Duration::from_millis(50), move || {
            for _ in 0..3 {
                std::net::TcpStream::connect(address).unwrap();
            }
            thread::sleep(Duration::from_millis(300));
            unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
        });
        let mut accepted = 0;
        let accept = || unsafe {
            libc::accept(listener.as_raw_fd(), ptr::null_mut(), ptr::null_mut())
        };
        said(|| {
            while HANDLED.load(SeqCst) == 0 {
                accepted += i64::from(accept() >= 0);
            }
            accepted
        })
    };
    "many alarms and sleeps" => |flags| {
        handle(SIGALRM, flags);
        said(|| {
            let mut cut = 0;
            for _ in 0..5 {
                alarm_after(Duration::from_millis(40));
                cut += i64::from(unsafe { libc::usleep(900_000) });
            }
            cut
        })
    };
    "a lock of std goes on" => |flags| interrupted(flags, || {
        let lock = std::sync::Arc::new((std::sync::Mutex::new(false), std::sync::Condvar::new()));
        let other = std::sync::Arc::clone(&lock);
        later(Duration::from_millis(400), move || {
            *other.0.lock().unwrap() = true;
            other.1.notify_all();
        });
        let is_true = lock.1.wait_while(lock.0.lock().unwrap(), |is_true| !*is_true);
        i64::from(*is_true.unwrap())
    }, || ());
};

unsafe extern "C" fn count(_: c_int) {
    HANDLED.fetch_add(1, SeqCst);
}

static PIPE: std::sync::OnceLock<[c_int; 2]> = std::sync::OnceLock::new();

fn ends() -> [c_int; 2] {
    *PIPE.get_or_init(|| {
        let mut ends = [0; 2];
        assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
        ends
    })
}

fn read_once() -> i64 {
    let mut place = 0_u8;
    unsafe { libc::read(ends()[0], (&raw mut place).cast(), 1) as i64 }
}

fn release_once() {
    unsafe { libc::write(ends()[1], c"1".as_ptr().cast(), 1) };
}

/// What is left is rounded as the kernel's call does.
fn sleep(flags: c_int) -> String {
    interrupted(flags, || unsafe { libc::sleep(40).into() }, || ())
}

fn nanosleep(flags: c_int) -> String {
    let mut left = timespec { tv_sec: -1, tv_nsec: -1 };
    let said = interrupted(flags, || unsafe { libc::nanosleep(&LONG, &mut left).into() }, || ());
    format!("{said}, left {} s", left.tv_sec)
}

fn clock_nanosleep(flags: c_int, is_absolute: bool) -> String {
    let (mut left, mut time) = (timespec { tv_sec: -1, tv_nsec: -1 }, LONG);
    if is_absolute {
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
        time.tv_sec += 30;
    }
    let how = if is_absolute { libc::TIMER_ABSTIME } else { 0 };
    let call =
        || unsafe { libc::clock_nanosleep(libc::CLOCK_MONOTONIC, how, &time, &mut left).into() };
    let said = interrupted(flags, call, || ());
    format!("{said}, left {} s", left.tv_sec)
}

fn poll(flags: c_int) -> String {
    let mut question = libc::pollfd { fd: ends()[0], events: libc::POLLIN, revents: 77 };
    let call = || unsafe { libc::poll(&mut question, 1, 30_000).into() };
    interrupted(flags, call, || ())
}

fn select(flags: c_int) -> String {
    let mut set: libc::fd_set = unsafe { zeroed() };
    unsafe { libc::FD_SET(ends()[0], &mut set) };
    let mut time = timeval { tv_sec: 30, tv_usec: 0 };
    let call = || unsafe {
        let none = ptr::null_mut();
        libc::select(ends()[0] + 1, &mut set, none, none, &mut time).into()
    };
    let said = interrupted(flags, call, || ());
    let is_set = unsafe { libc::FD_ISSET(ends()[0], &set) };
    format!("{said}, left {} s, set {is_set}", time.tv_sec)
}

fn sigsuspend(flags: c_int) -> String {
    mask(libc::SIG_BLOCK, &[SIGALRM]);
    interrupted(flags, || unsafe { libc::sigsuspend(&set_of(&[])).into() }, || ())
}

/// Of this thread, and not of the process: no other thread could take it.
fn sigsuspend_pending(flags: c_int) -> String {
    handle(SIGUSR2, flags);
    mask(libc::SIG_BLOCK, &[SIGUSR2, SIGUSR1]);
    unsafe { libc::pthread_kill(libc::pthread_self(), SIGUSR2) };
    assert_eq!(HANDLED.load(SeqCst), 0);
    let said = said(|| unsafe { libc::sigsuspend(&set_of(&[SIGUSR1])).into() });
    // The mask is as it was.
    unsafe { libc::pthread_kill(libc::pthread_self(), SIGUSR2) };
    format!("{said}, later {}", HANDLED.load(SeqCst))
}

fn waits_for_signal(call: fn(&libc::sigset_t) -> c_int) -> String {
    mask(libc::SIG_BLOCK, &[SIGUSR1, SIGUSR2]);
    later(Duration::from_millis(50), || unsafe {
        libc::kill(libc::getpid(), SIGUSR2);
    });
    let got = said(|| call(&set_of(&[SIGUSR1, SIGUSR2])).into());
    thread::yield_now();
    got
}
