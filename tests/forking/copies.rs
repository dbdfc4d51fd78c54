//! Children that are forked by something else than this library: they have a copy of their parent's hub, and
//! never run it.

use crate::tests;
use std::cell::Cell;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use switchgrass::coroutine::{join_all, run_until_idle};
use switchgrass::multicore::Hubs;
use switchgrass::net::{UnixDatagram, UnixStream};
use switchgrass::pool::unblock;
use switchgrass::signal::{self, Signal};
use switchgrass::sync::{Event, Mutex, Queue, RLock, Semaphore};
use switchgrass::{Generator, JoinHandle, sleep, spawn, timeout, yield_now};

tests![
    what_its_parent_waits_for_stays_there,
    siblings_run_in_their_parent_alone,
    what_would_wait_says_so,
    what_need_not_wait_works,
    a_body_that_returns_in_a_child_ends_it,
    a_body_that_panics_in_a_child_ends_it,
    main_that_returns_in_a_child_ends_it,
    exit_in_a_child_unwinds_nobody,
    exit_in_a_child_of_a_program_with_hubs_waits_for_none_of_them,
    a_descriptor_that_is_dropped_in_a_child_stays_registered,
    a_callback_in_the_hub_that_forks,
    a_child_of_a_child,
    a_child_of_a_child_of_ours,
    a_program_that_is_executed_in_a_child,
    a_child_of_a_thread_without_coroutines_may_have_its_own,
    a_child_of_a_thread_with_coroutines_gets_none_on_another,
    a_child_that_is_forked_before_all_else_is_like_any_other,
    a_signal_that_its_parent_handles_ends_it,
    a_wake_up_in_a_child_wakes_nobody,
    forks_where_no_page_is_wiped,
];

const LONG: Duration = Duration::from_secs(50);

type Fork = fn() -> libc::pid_t;

fn by_libc() -> libc::pid_t {
    // SAFETY: what the child does is said by each test; there are no threads, or they hold nothing that it uses.
    unsafe { libc::fork() }
}

/// Without libc's `fork`, and so without the handlers of `pthread_atfork`.
fn by_number() -> libc::pid_t {
    let none = 0_usize;
    let flags = libc::SIGCHLD as usize;
    // SAFETY: as above; the child has the same stack, in a copy.
    unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) as libc::pid_t }
}

const WAYS: [Fork; 2] = [by_libc, by_number];

/// Waits for a child, which says with what it has ended.
#[track_caller]
fn status_of(child: libc::pid_t) -> i32 {
    assert!(child > 0);
    let mut status = 0;
    loop {
        // SAFETY: a place for the status.
        let found = unsafe { libc::waitpid(child, &mut status, 0) };
        if found == child {
            return status;
        }
        let error = std::io::Error::last_os_error();
        assert_eq!(error.kind(), std::io::ErrorKind::Interrupted, "{error}");
    }
}

#[track_caller]
fn code_of(child: libc::pid_t) -> i32 {
    let status = status_of(child);
    assert!(libc::WIFEXITED(status), "it was ended by a signal: {status:x}");
    libc::WEXITSTATUS(status)
}

fn exit_now(code: i32) -> ! {
    // SAFETY: no preconditions.
    unsafe { libc::_exit(code) }
}

/// Calls `body` in a child, which ends at once afterwards: with what it returns, or 99 if it panics.
fn child(fork: Fork, body: impl FnOnce() -> i32) -> libc::pid_t {
    match fork() {
        0 => exit_now(catch_unwind(AssertUnwindSafe(body)).unwrap_or(99)),
        child => child,
    }
}

/// Blocks in the kernel whatever is patched.
fn block_for(time: Duration) {
    let time = libc::timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos() as _ };
    // SAFETY: a valid time; the rest is not asked for.
    unsafe { libc::syscall(libc::SYS_nanosleep, &raw const time, 0_usize) };
}

/// Siblings that do things as often as they get the thread, and say in which process.
struct Siblings {
    log: PipeReader,
    all: Vec<JoinHandle<()>>,
    is_over: Rc<Cell<bool>>,
}

/// Says so when it is dropped.
struct Loud(PipeWriter);

impl Loud {
    fn say(&self) {
        let _ = (&self.0).write_all(&process::id().to_ne_bytes());
    }
}

impl Drop for Loud {
    fn drop(&mut self) {
        self.say();
    }
}

impl Siblings {
    fn new() -> Self {
        let (log, writer) = pipe().unwrap();
        let is_over = Rc::new(Cell::new(false));
        let make = |sleeps: bool| {
            let (loud, is_over) = (Loud(writer.try_clone().unwrap()), Rc::clone(&is_over));
            spawn(move || {
                while !is_over.get() {
                    match sleeps {
                        true => sleep(Duration::from_millis(1)),
                        false => yield_now(),
                    }
                    if sleeps {
                        loud.say();
                    }
                }
            })
        };
        let all = vec![make(true), make(false)];
        yield_now();
        Siblings { log, all, is_over }
    }

    /// Ends them; what they have said they have said here.
    #[track_caller]
    fn are_here(mut self) {
        self.is_over.set(true);
        join_all(self.all).into_iter().for_each(|end| end.unwrap());
        let mut said = Vec::new();
        self.log.read_to_end(&mut said).unwrap();
        assert!(said.chunks_exact(4).all(|id| id == process::id().to_ne_bytes()));
        assert!(!said.is_empty());
    }
}

/// The child looks as if it waited, in every way that blocks, while bytes come for its parent.
fn what_its_parent_waits_for_stays_there() {
    for fork in WAYS {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let reading = spawn(move || {
            let mut bytes = vec![0; 40];
            for byte in bytes.chunks_mut(1) {
                here.read_exact(byte).unwrap();
            }
            bytes
        });
        yield_now();
        let (mut to_end, end) = pipe().unwrap();
        let child = child(fork, || {
            thread::sleep(Duration::from_millis(20));
            let _ = to_end.read(&mut [0; 1]).unwrap();
            thread::sleep(Duration::from_millis(1));
            0
        });
        for number in 0..40 {
            there.write_all(&[number]).unwrap();
            sleep(Duration::from_millis(1));
        }
        assert_eq!(reading.join().unwrap(), (0..40).collect::<Vec<u8>>());
        (&end).write_all(b"x").unwrap();
        assert_eq!(code_of(child), 0);
    }
}

fn siblings_run_in_their_parent_alone() {
    for fork in WAYS {
        let siblings = Siblings::new();
        // In main, and in a coroutine.
        let block = || {
            thread::sleep(Duration::from_millis(10));
            thread::yield_now();
            let (mut reader, writer) = pipe().unwrap();
            let late = thread::spawn(move || {
                block_for(Duration::from_millis(5));
                (&writer).write_all(b"x").unwrap();
            });
            reader.read_exact(&mut [0]).unwrap();
            late.join().unwrap();
            let output = process::Command::new("echo").arg("said").output().unwrap();
            i32::from(output.stdout != b"said\n")
        };
        let first = child(fork, block);
        let second = spawn(move || child(fork, block)).join().unwrap();
        assert_eq!((code_of(first), code_of(second)), (0, 0));
        siblings.are_here();
    }
}

#[track_caller]
fn is_refused<R>(f: impl FnOnce() -> R) {
    let Err(payload) = catch_unwind(AssertUnwindSafe(f)) else {
        panic!("it has not been refused");
    };
    let text = payload.downcast_ref::<String>().cloned();
    let text = text.or(payload.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap();
    assert!(text.contains("forked without Process::spawn"), "{text}");
}

fn what_would_wait_says_so() {
    for fork in WAYS {
        let siblings = Siblings::new();
        let (mut stream, _other) = UnixStream::pair().unwrap();
        let (event, queue) = (Event::new(), Queue::<i32>::new());
        let held = Rc::new(Mutex::new(0));
        let guard = held.lock().unwrap();
        let sibling = spawn(|| sleep(Duration::from_millis(1)));
        let body = || {
            is_refused(|| sleep(Duration::from_millis(1)));
            is_refused(|| drop(spawn(|| ())));
            is_refused(|| stream.read(&mut [0; 1]));
            is_refused(|| timeout(LONG, || ()).is_ok());
            is_refused(|| event.wait());
            is_refused(|| queue.get());
            is_refused(|| drop(held.lock()));
            is_refused(|| sibling.join());
            is_refused(UnixDatagram::unbound);
            is_refused(|| drop(switchgrass::process::Process::spawn(|| ())));
            0
        };
        let child = child(fork, body);
        assert_eq!(code_of(child), 0);
        drop(guard);
        siblings.are_here();
    }
}

fn what_need_not_wait_works() {
    for fork in WAYS {
        let siblings = Siblings::new();
        let (mut stream, mut other) = UnixStream::pair().unwrap();
        let (event, queue, again) = (Event::new(), Queue::new(), RLock::new());
        let lock = Rc::new(Mutex::new(0));
        // They wait, and are not there in the child.
        let guard = Cell::new(Some(lock.lock().unwrap()));
        let waiting = Rc::clone(&lock);
        let waiting = spawn(move || *waiting.lock().unwrap() += 1);
        let held = again.lock();
        let mut numbers =
            Generator::new(|yielder| (0..3).for_each(|number| yielder.yield_(number)));
        assert_eq!(numbers.next(), Some(0));
        yield_now();
        let me = switchgrass::coroutine::current().id();
        let body = || {
            yield_now();
            run_until_idle();
            other.write_all(b"abc").unwrap();
            let mut bytes = [0; 3];
            stream.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"abc");
            event.set();
            event.wait();
            queue.put(1).unwrap();
            assert_eq!(queue.get(), Ok(1));
            drop(again.lock());
            drop(guard.take());
            *lock.lock().unwrap() += 5;
            assert_eq!(*lock.lock().unwrap(), 5, "nobody else has had it");
            assert_eq!(numbers.by_ref().collect::<Vec<_>>(), [1, 2]);
            assert_eq!(switchgrass::coroutine::current().id(), me);
            waiting.kill();
            assert!(!waiting.is_finished());
            0
        };
        assert_eq!(code_of(child(fork, body)), 0);
        drop((held, guard.take()));
        waiting.join().unwrap();
        assert_eq!(*lock.lock().unwrap(), 1);
        siblings.are_here();
    }
}

fn a_body_that_returns_in_a_child_ends_it() {
    for fork in WAYS {
        let siblings = Siblings::new();
        let child = spawn(fork);
        let told = Rc::new(Cell::new(0));
        let tell = Rc::clone(&told);
        child.link(move || tell.set(process::id()));
        // It is woken in the parent alone.
        let child = child.join().unwrap();
        assert_ne!(child, 0);
        assert_eq!(code_of(child), 0);
        yield_now();
        assert_eq!(told.get(), process::id());
        siblings.are_here();
    }
}

fn a_body_that_panics_in_a_child_ends_it() {
    for fork in WAYS {
        let siblings = Siblings::new();
        let child = spawn(move || match fork() {
            0 => panic!("as expected"),
            child => child,
        });
        assert_eq!(code_of(child.join().unwrap()), 1);
        siblings.are_here();
    }
}

/// This test ends twice.
fn main_that_returns_in_a_child_ends_it() {
    for fork in WAYS {
        let siblings = Siblings::new();
        let (other, _peer) = UnixStream::pair().unwrap();
        let child = fork();
        if child == 0 {
            drop(other);
            return std::mem::forget(siblings.log);
        }
        assert_eq!(code_of(child), 0);
        siblings.are_here();
    }
}

fn exit_in_a_child_unwinds_nobody() {
    for fork in WAYS {
        let siblings = Siblings::new();
        let exiting = child(fork, || process::exit(3));
        let in_a_coroutine = spawn(move || child(fork, || process::exit(4))).join().unwrap();
        assert_eq!((code_of(exiting), code_of(in_a_coroutine)), (3, 4));
        siblings.are_here();
    }
}

/// What is to be done at the end of the parent is not done at the end of the child.
fn exit_in_a_child_of_a_program_with_hubs_waits_for_none_of_them() {
    for fork in WAYS {
        let hubs = Hubs::new(2).unwrap();
        let (mut reader, writer) = pipe().unwrap();
        let busy = switchgrass::thread::spawn(move || reader.read(&mut [0]).unwrap());
        let exiting = child(fork, || process::exit(3));
        let returning = hubs.spawn_on(0, fork);
        assert_eq!((code_of(exiting), code_of(returning.join().unwrap())), (3, 0));
        assert_eq!(hubs.spawn_on(1, || spawn(|| 4).join().unwrap()).join().unwrap(), 4);
        (&writer).write_all(b"x").unwrap();
        assert_eq!(busy.join().unwrap(), 1);
        assert!(hubs.shutdown(None));
    }
}

/// It shares its parent's epoll instance: taking a descriptor off would take it off for both.
fn a_descriptor_that_is_dropped_in_a_child_stays_registered() {
    for fork in WAYS {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let place = Rc::new(Cell::new(None));
        let put = Rc::clone(&place);
        let reading = spawn(move || {
            let mut bytes = [0; 2];
            here.read_exact(&mut bytes[..1]).unwrap();
            put.set(Some(here));
            bytes[0]
        });
        yield_now();
        there.write_all(b"a").unwrap();
        assert_eq!(reading.join().unwrap(), b'a');
        let mut here = place.take().unwrap();
        let child = fork();
        if child == 0 {
            let _ = here.shutdown(Shutdown::Write);
            here.close();
            drop(here);
            exit_now(0);
        }
        assert_eq!(code_of(child), 0);
        let reading = spawn(move || {
            let mut bytes = [0; 1];
            here.read_exact(&mut bytes).unwrap();
            bytes[0]
        });
        yield_now();
        there.write_all(b"b").unwrap();
        assert_eq!(timeout(LONG, || reading.join().unwrap()).unwrap(), b'b');
    }
}

fn a_callback_in_the_hub_that_forks() {
    for fork in WAYS {
        let siblings = Siblings::new();
        let place = Rc::new(Cell::new(0));
        let put = Rc::clone(&place);
        let ended = spawn(|| ());
        ended.link_in_hub(move || put.set(fork()));
        ended.join().unwrap();
        while place.get() == 0 {
            yield_now();
        }
        assert_eq!(code_of(place.get()), 1);
        siblings.are_here();
    }
}

fn a_child_of_a_child() {
    for first in WAYS {
        for second in WAYS {
            let siblings = Siblings::new();
            let child = child(first, || {
                thread::sleep(Duration::from_millis(2));
                let grandchild = child(second, || {
                    thread::sleep(Duration::from_millis(5));
                    is_refused(|| sleep(Duration::from_millis(1)));
                    7
                });
                code_of(grandchild)
            });
            assert_eq!(code_of(child), 7);
            siblings.are_here();
        }
    }
}

fn a_child_of_a_child_of_ours() {
    for fork in WAYS {
        let siblings = Siblings::new();
        let ours = switchgrass::process::Process::spawn(|| {
            let siblings = Siblings::new();
            let child = child(fork, || {
                thread::sleep(Duration::from_millis(5));
                is_refused(|| sleep(Duration::from_millis(1)));
                5
            });
            sleep(Duration::from_millis(1));
            let code = code_of(child);
            siblings.are_here();
            let again = switchgrass::process::Process::spawn(|| spawn(|| 6).join().unwrap());
            code * 10 + again.unwrap().join().unwrap().code().unwrap()
        });
        assert_eq!(ours.unwrap().join().unwrap().code(), Some(56));
        siblings.are_here();
    }
}

fn a_program_that_is_executed_in_a_child() {
    for fork in WAYS {
        let siblings = Siblings::new();
        let body = || {
            let name = c"true".as_ptr();
            // SAFETY: a list of strings that ends with null.
            unsafe { libc::execlp(name, name, std::ptr::null::<libc::c_char>()) };
            1
        };
        assert_eq!(code_of(child(fork, body)), 0);
        siblings.are_here();
    }
}

/// As one that becomes a daemon, on a thread that has no coroutines.
fn a_child_of_a_thread_without_coroutines_may_have_its_own() {
    for fork in WAYS {
        let siblings = Siblings::new();
        // Its thread is idle, and is not there in the child.
        assert_eq!(unblock(|| 1), 1);
        let forking = thread::spawn(move || {
            child(fork, || {
                let all: Vec<_> = (0..3)
                    .map(|number| {
                        spawn(move || {
                            sleep(Duration::from_millis(2));
                            thread::sleep(Duration::from_millis(2));
                            number
                        })
                    })
                    .collect();
                let sum: i32 = join_all(all).into_iter().map(|end| end.unwrap()).sum();
                let (mut here, mut there) = UnixStream::pair().unwrap();
                let reading = spawn(move || here.read(&mut [0; 8]).unwrap() as i32);
                yield_now();
                there.write_all(b"hello").unwrap();
                let and_more = thread::spawn(|| spawn(|| 10).join().unwrap()).join().unwrap();
                sum + reading.join().unwrap() + unblock(|| 20) + and_more
            })
        });
        let child = forking.join().unwrap();
        assert_eq!(code_of(child), 3 + 5 + 20 + 10);
        siblings.are_here();
    }
}

fn a_child_of_a_thread_with_coroutines_gets_none_on_another() {
    for fork in WAYS {
        let siblings = Siblings::new();
        let child = child(fork, || {
            // Whether the thread that is made has some or not: the one that was forked has none.
            let _ = thread::spawn(|| catch_unwind(|| spawn(|| ()).join())).join();
            is_refused(|| sleep(Duration::from_millis(1)));
            thread::sleep(Duration::from_millis(5));
            0
        });
        assert_eq!(code_of(child), 0);
        siblings.are_here();
    }
}

fn a_child_that_is_forked_before_all_else_is_like_any_other() {
    for fork in WAYS {
        let body = move || {
            let siblings = Siblings::new();
            sleep(Duration::from_millis(5));
            let code = code_of(child(fork, || 4));
            siblings.are_here();
            code
        };
        assert_eq!(code_of(child(fork, body)), 4);
    }
}

fn a_signal_that_its_parent_handles_ends_it() {
    for fork in WAYS {
        let count = Rc::new(Cell::new(0));
        let counter = Rc::clone(&count);
        let handler = signal::on(Signal::TERM, move || counter.set(counter.get() + 1)).unwrap();
        let (mut ready, is_ready) = pipe().unwrap();
        let child = child(fork, || {
            (&is_ready).write_all(b"x").unwrap();
            block_for(LONG);
            0
        });
        ready.read_exact(&mut [0]).unwrap();
        // SAFETY: no memory is involved.
        assert_eq!(unsafe { libc::kill(child, libc::SIGTERM) }, 0);
        let status = status_of(child);
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGTERM);
        sleep(Duration::from_millis(2));
        assert_eq!(count.get(), 0);
        // SAFETY: as above.
        assert_eq!(unsafe { libc::kill(process::id() as i32, libc::SIGTERM) }, 0);
        while count.get() == 0 {
            yield_now();
        }
        handler.cancel();
    }
}

/// Objects that threads share: a hub of another thread of its parent's is not told of anything either.
fn a_wake_up_in_a_child_wakes_nobody() {
    for fork in WAYS {
        let room = Arc::new(Semaphore::shared(0));
        let waiting = {
            let room = Arc::clone(&room);
            thread::spawn(move || room.acquire())
        };
        let here = {
            let room = Arc::clone(&room);
            spawn(move || room.acquire())
        };
        while room.waiting() < 2 {
            sleep(Duration::from_millis(1));
        }
        let body = || {
            room.release();
            room.release();
            assert_eq!((room.permits(), room.waiting()), (2, 0));
            0
        };
        assert_eq!(code_of(child(fork, body)), 0);
        assert_eq!((room.permits(), room.waiting()), (0, 2));
        room.release();
        room.release();
        waiting.join().unwrap();
        here.join().unwrap();
    }
}

/// As before Linux 4.14: `madvise` fails there, of this kind.
fn forks_where_no_page_is_wiped() {
    const WIPE: u32 = libc::MADV_WIPEONFORK as u32;
    let rule = |code: u32, jump: u8, miss: u8, value: u32| libc::sock_filter {
        code: code as u16,
        jt: jump,
        jf: miss,
        k: value,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    // The number of the call, and the lower half of its third argument.
    let mut rules = [
        rule(load, 0, 0, 0),
        rule(equal, 0, 3, libc::SYS_madvise as u32),
        rule(load, 0, 0, 32),
        rule(equal, 0, 1, WIPE),
        rule(answer, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32),
        rule(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: rules.len() as u16, filter: rules.as_mut_ptr() };
    // SAFETY: a valid program, which the kernel copies.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program), 0);
    }
    let siblings = Siblings::new();
    let child = child(by_libc, || {
        thread::sleep(Duration::from_millis(10));
        is_refused(|| sleep(Duration::from_millis(1)));
        3
    });
    assert_eq!(code_of(child), 3);
    siblings.are_here();
}
