//! What the feature `monkey` costs: calls that do not wait, on threads with and without coroutines; and what
//! std's own ways of waiting cost coroutines, beside this library's.
//!
//! `cargo bench --features monkey --bench monkey`; `benches/README.md` says how to read it.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use scale::scale;
use std::ffi::{CStr, c_int, c_void};
use std::fs::File;
use std::hint::black_box;
use std::mem::transmute;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::monkey;
use switchgrass::sync::{Mutex, Queue};

#[path = "common/scale.rs"]
mod scale;

/// As many messages fit into a channel.
const ROOM: usize = 100;
/// As many take turns with a mutex.
const FOUR: u64 = 4;

/// Makes a call of C's.
type Call = Arc<dyn Fn() + Send + Sync>;

/// Runs `body` in a coroutine of its own.
fn in_a_coroutine<T: 'static>(body: impl FnOnce() -> T + 'static) -> T {
    switchgrass::spawn(body).join().expect("no panic")
}

fn times(call: &Call, iterations: u64) -> Duration {
    let start = Instant::now();
    (0..iterations).for_each(|_| call());
    start.elapsed()
}

/// What a symbol is without us: libc's.
fn original(name: &CStr) -> *mut c_void {
    // SAFETY: a string that ends with a zero.
    let address = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    assert!(!address.is_null(), "libc has no {name:?}");
    address
}

/// A call by the name that the program uses, and the same call past us.
fn calls(socket: RawFd, null: RawFd) -> Vec<(&'static str, Call, Call)> {
    macro_rules! calls {
        ($($name:ident($($argument:expr),*): fn($($type:ty),*) -> $result:ty;)*) => {
            vec![$({
                type Function = unsafe extern "C" fn($($type),*) -> $result;
                let name = concat!(stringify!($name), "\0");
                let address = original(CStr::from_bytes_until_nul(name.as_bytes()).expect("it ends"));
                // SAFETY: libc's function of this name has this type.
                let past_us: Function = unsafe { transmute(address) };
                // SAFETY: valid arguments: descriptors, or none, and room that is static, or none.
                let by_name: Call = Arc::new(move || { black_box(unsafe { libc::$name($($argument),*) }); });
                // SAFETY: as above.
                let past_us: Call = Arc::new(move || { black_box(unsafe { past_us($($argument),*) }); });
                (stringify!($name), by_name, past_us)
            }),*]
        };
    }
    /// There is no such clock: a sleep is refused at once. (One of no time takes some microseconds.)
    const CLOCK: libc::clockid_t = 9999;
    const NO_TIME: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    const BYTE: &[u8; 1] = b"x";
    calls! {
        // Nothing has come, and it is not to be waited for: no room is needed.
        recv(socket, ptr::null_mut(), 0, libc::MSG_DONTWAIT):
            fn(c_int, *mut c_void, usize, c_int) -> isize;
        write(null, BYTE.as_ptr().cast(), 1): fn(c_int, *const c_void, usize) -> isize;
        poll(ptr::null_mut(), 0, 0): fn(*mut libc::pollfd, libc::nfds_t, c_int) -> c_int;
        sched_yield(): fn() -> c_int;
        clock_nanosleep(CLOCK, 0, &NO_TIME, ptr::null_mut()):
            fn(libc::clockid_t, c_int, *const libc::timespec, *mut libc::timespec) -> c_int;
        close(-1): fn(c_int) -> c_int;
    }
}

/// - `libc`: past us, on a thread without coroutines;
/// - `thread`: the same through us;
/// - `coroutine`: by a coroutine that is alone.
///
/// `unpatched` is through us before anything is patched.
fn hooks(c: &mut Criterion) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let null = File::options().write(true).open("/dev/null").expect("/dev/null");
    let calls = calls(socket.as_raw_fd(), null.as_raw_fd());
    let mut group = c.benchmark_group("hook");
    let on_a_thread = |call: &Call, iterations| {
        let call = Arc::clone(call);
        thread::spawn(move || times(&call, iterations)).join().expect("no panic")
    };
    for (name, by_name, _) in &calls {
        group.bench_function(BenchmarkId::new("unpatched", name), |bencher| {
            assert!(!monkey::is_patched(monkey::What::Sockets), "too late");
            bencher.iter_custom(|iterations| on_a_thread(by_name, iterations));
        });
    }
    for (name, by_name, past_us) in &calls {
        group.bench_function(BenchmarkId::new("libc", name), |bencher| {
            bencher.iter_custom(|iterations| on_a_thread(past_us, iterations));
        });
        group.bench_function(BenchmarkId::new("thread", name), |bencher| {
            monkey::patch_all();
            bencher.iter_custom(|iterations| on_a_thread(by_name, iterations));
        });
        group.bench_function(BenchmarkId::new("coroutine", name), |bencher| {
            monkey::patch_all();
            bencher.iter_custom(|iterations| {
                let call = Arc::clone(by_name);
                in_a_coroutine(move || times(&call, iterations))
            });
        });
    }
    group.finish();
}

/// Four coroutines of one thread take turns; each hands on the thread while it holds the mutex, so that all
/// others wait for it. One turn is one iteration.
fn mutex(c: &mut Criterion) {
    monkey::patch_all();
    fn turns(iterations: u64, turn: impl Fn() + Clone + 'static) -> Duration {
        let rounds = iterations.div_ceil(FOUR);
        let elapsed = in_a_coroutine(move || {
            let start = Instant::now();
            let all = (0..FOUR).map(|_| {
                let turn = turn.clone();
                switchgrass::spawn(move || (0..rounds).for_each(|_| turn()))
            });
            let all = switchgrass::coroutine::join_all(all.collect::<Vec<_>>());
            all.into_iter().for_each(|result| result.expect("no panic"));
            start.elapsed()
        });
        scale(elapsed, iterations, rounds * FOUR)
    }
    let mut group = c.benchmark_group("contended_mutex");
    group.bench_function("std", |bencher| {
        let mutex = Arc::new(std::sync::Mutex::new(0_u64));
        bencher.iter_custom(|iterations| {
            let mutex = Arc::clone(&mutex);
            turns(iterations, move || {
                let mut count = mutex.lock().expect("nobody panics");
                *count += 1;
                switchgrass::yield_now();
            })
        });
    });
    group.bench_function("switchgrass", |bencher| {
        let mutex = std::rc::Rc::new(Mutex::new(0_u64));
        bencher.iter_custom(|iterations| {
            let mutex = std::rc::Rc::clone(&mutex);
            turns(iterations, move || {
                let mut count = mutex.lock().expect("nobody panics");
                *count += 1;
                switchgrass::yield_now();
            })
        });
    });
    group.finish();
}

/// From a thread without coroutines to a coroutine of another. One message is one iteration.
fn channel(c: &mut Criterion) {
    monkey::patch_all();
    let mut group = c.benchmark_group("channel_between_threads");
    group.bench_function("std", |bencher| {
        bencher.iter_custom(|messages| {
            in_a_coroutine(move || {
                let (sender, receiver) = sync_channel(ROOM);
                let start = Instant::now();
                let thread =
                    thread::spawn(move || (0..messages).for_each(|n| sender.send(n).unwrap()));
                (0..messages).for_each(|n| assert_eq!(receiver.recv(), Ok(n)));
                let elapsed = start.elapsed();
                thread.join().expect("no panic");
                elapsed
            })
        });
    });
    group.bench_function("switchgrass", |bencher| {
        bencher.iter_custom(|messages| {
            in_a_coroutine(move || {
                let queue = Arc::new(Queue::shared_bounded(ROOM));
                let sender = Arc::clone(&queue);
                let start = Instant::now();
                let thread =
                    thread::spawn(move || (0..messages).for_each(|n| sender.put(n).unwrap()));
                (0..messages).for_each(|n| assert_eq!(queue.get(), Ok(n)));
                let elapsed = start.elapsed();
                thread.join().expect("no panic");
                elapsed
            })
        });
    });
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(50)
}

criterion_group!(
    name = all;
    config = quick();
    targets = hooks, mutex, channel
);
criterion_main!(all);
