//! Children that are not made by this library: their calls are the kernel's, whatever they were in their parent.

use crate::patched;
use std::cell::Cell;
use std::ffi::CStr;
use std::io::{Read, Write, pipe};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{self, Command};
use std::rc::Rc;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;
use switchgrass::{JoinHandle, spawn, yield_now};

/// A coroutine that gets all that is sent, byte by byte, and says in which processes it has run.
fn reader(mut stream: UnixStream, count: usize) -> (JoinHandle<Vec<u8>>, Rc<Cell<u32>>) {
    let foreign = Rc::new(Cell::new(0));
    let seen = Rc::clone(&foreign);
    let reading = spawn(move || {
        let mut bytes = vec![0; count];
        for byte in bytes.chunks_mut(1) {
            stream.read_exact(byte).unwrap();
            // SAFETY: no preconditions.
            let process = unsafe { libc::syscall(libc::SYS_getpid) } as u32;
            if process != process::id() {
                seen.set(seen.get() + 1);
            }
        }
        bytes
    });
    yield_now();
    (reading, foreign)
}

/// Between `fork` and `exec` a child blocks, and its parent gets all its bytes.
fn blocks_in_pre_exec(run: impl FnOnce(Command) -> JoinHandle<process::Output>) {
    let (here, mut there) = UnixStream::pair().unwrap();
    let (reading, foreign) = reader(here, 40);
    let (ready, is_ready) = pipe().unwrap();
    let (is_to_end, end) = pipe().unwrap();
    let mut command = Command::new("echo");
    command.arg("done");
    // SAFETY: it reads and writes, by calls that are allowed there, and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            (&is_ready).write_all(b"x")?;
            thread::sleep(Duration::from_millis(1));
            let mut word = [0];
            (&is_to_end).read_exact(&mut word)?;
            assert_eq!(&word, b"y");
            Ok(())
        });
    }
    let output = run(command);
    while !ready_now(&ready) {
        yield_now();
    }
    for number in 0..40 {
        there.write_all(&[number]).unwrap();
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(reading.join().unwrap(), (0..40).collect::<Vec<u8>>());
    (&end).write_all(b"y").unwrap();
    let output = output.join().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!((output.stdout, foreign.get()), (b"done\n".to_vec(), 0));
}

fn ready_now(ready: &impl AsRawFd) -> bool {
    let mut question = libc::pollfd { fd: ready.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one question; it does not wait.
    unsafe { libc::poll(&mut question, 1, 0) == 1 }
}

#[test]
fn a_closure_before_exec_that_blocks_takes_nothing_from_its_parent() {
    patched(|| blocks_in_pre_exec(|mut command| spawn(move || command.output().unwrap())));
}

#[test]
fn a_closure_before_exec_of_a_thread_takes_nothing_from_its_parent() {
    patched(|| {
        blocks_in_pre_exec(|mut command| {
            let thread = thread::spawn(move || command.output().unwrap());
            spawn(move || thread.join().unwrap())
        });
    });
}

#[test]
fn a_closure_before_exec_that_waits_by_this_library_fails() {
    patched(|| {
        let mut command = Command::new("true");
        // SAFETY: what is tested; it does not come back.
        unsafe {
            command.pre_exec(|| {
                switchgrass::sleep(Duration::from_millis(1));
                Ok(())
            });
        }
        // std has a panic there abort.
        let ended = spawn(move || command.status()).join().unwrap();
        assert!(ended.is_err() || !ended.unwrap().success());
    });
}

unsafe extern "C" {
    fn popen(command: *const libc::c_char, kind: *const libc::c_char) -> *mut libc::FILE;
    fn pclose(file: *mut libc::FILE) -> libc::c_int;
}

#[test]
fn children_of_the_c_library() {
    patched(|| {
        let (here, mut there) = UnixStream::pair().unwrap();
        let (reading, foreign) = reader(here, 3);
        let ended = spawn(|| {
            let mut line = [0; 32];
            // SAFETY: strings that end with a zero, and room for a line.
            unsafe {
                assert_eq!(libc::system(c"exit 3".as_ptr()), 3 << 8);
                let file = popen(c"echo said".as_ptr(), c"r".as_ptr());
                assert!(!libc::fgets(line.as_mut_ptr().cast(), 32, file).is_null());
                assert_eq!(pclose(file), 0);
            }
            CStr::from_bytes_until_nul(&line).unwrap().to_owned()
        });
        there.write_all(b"abc").unwrap();
        assert_eq!(ended.join().unwrap().as_bytes(), b"said\n");
        assert_eq!((reading.join().unwrap(), foreign.get()), (b"abc".to_vec(), 0));
    });
}

/// What a child does that has its parent's memory, and its result.
type Body = extern "C" fn(*mut libc::c_void) -> libc::c_int;

/// Calls `body` in a child by `clone`, on a stack of its own; returns when it has ended.
fn by_clone(body: Body, argument: *mut libc::c_void) -> libc::pid_t {
    let mut stack = vec![0_u128; 1 << 13];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: a stack that is used until the child has ended, which is when this returns.
    unsafe { libc::clone(body, stack.as_mut_ptr_range().end.cast(), flags, argument) }
}

// `vfork` returns twice, which Rust knows nothing of: so it is called here, where nothing of the frame is used that
// the child could change.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    "test_vfork:",
    "push rbx",
    "push r12",
    "sub rsp, 8",
    "mov rbx, rdi",
    "mov r12, rsi",
    "call vfork@PLT",
    "test eax, eax",
    "jnz 2f",
    "mov rdi, r12",
    "call rbx",
    "mov edi, eax",
    "call _exit@PLT",
    "2:",
    "add rsp, 8",
    "pop r12",
    "pop rbx",
    "ret",
);

/// The same on its parent's stack, by `vfork`.
#[cfg(target_arch = "x86_64")]
fn by_vfork(body: Body, argument: *mut libc::c_void) -> libc::pid_t {
    unsafe extern "C" {
        fn test_vfork(body: Body, argument: *mut libc::c_void) -> libc::pid_t;
    }
    // SAFETY: the body ends the process, or returns to where that is done.
    unsafe { test_vfork(body, argument) }
}

const WAYS: &[fn(Body, *mut libc::c_void) -> libc::pid_t] = &[
    by_clone,
    #[cfg(target_arch = "x86_64")]
    by_vfork,
];

/// What the child has to do with.
struct Given {
    /// A socket that a sibling of the parent waits for.
    socket: libc::c_int,
    pipe: libc::c_int,
    way: fn(Body, *mut libc::c_void) -> libc::pid_t,
    depth: u32,
}

/// Blocks, and changes its own descriptors.
extern "C" fn body(given: *mut libc::c_void) -> libc::c_int {
    // SAFETY: as given below; the parent does not run meanwhile.
    let given = unsafe { &mut *given.cast::<Given>() };
    let mut byte = 0_u8;
    let mut none = libc::pollfd { fd: given.pipe, events: libc::POLLOUT, revents: 0 };
    // SAFETY: descriptors of the child's own, and places that are there.
    unsafe {
        libc::usleep(10_000);
        libc::sched_yield();
        libc::poll(&mut none, 1, 1);
        if libc::read(given.pipe, (&raw mut byte).cast(), 1) != 1 {
            return 1;
        }
        if given.depth > 0 {
            given.depth -= 1;
            let child = (given.way)(body, (&raw mut *given).cast());
            let mut status = -1;
            if libc::waitpid(child, &mut status, 0) != child || status != 0 {
                return 2;
            }
            libc::usleep(1000);
        }
        // Its own are closed, and set, and not its parent's.
        libc::fcntl(given.socket, libc::F_DUPFD, 100);
        if libc::dup2(given.pipe, given.socket) != given.socket || libc::close(given.socket) != 0 {
            return 3;
        }
        0
    }
}

#[test]
fn a_child_with_its_parents_memory_does_not_run_it() {
    patched(|| {
        for way in WAYS {
            for in_a_coroutine in [false, true] {
                let (here, mut there) = UnixStream::pair().unwrap();
                let socket = here.as_raw_fd();
                let (reading, foreign) = reader(here, 2);
                let (pipe, filler) = pipe().unwrap();
                (&filler).write_all(b"xyz").unwrap();
                let given = Given { socket, pipe: pipe.as_raw_fd(), way: *way, depth: 1 };
                let given = Box::into_raw(Box::new(given));
                there.write_all(b"a").unwrap();
                let make = move || way(body, given.cast());
                let child = if in_a_coroutine { spawn(make).join().unwrap() } else { make() };
                let mut status = -1;
                // SAFETY: a place for the status; the child has ended.
                let given = unsafe {
                    assert_eq!(libc::waitpid(child, &mut status, 0), child);
                    Box::from_raw(given)
                };
                assert_eq!((status, given.depth), (0, 0));
                yield_now();
                assert!(!reading.is_finished(), "its descriptor was not closed");
                there.write_all(b"b").unwrap();
                assert_eq!((reading.join().unwrap(), foreign.get()), (b"ab".to_vec(), 0));
            }
        }
    });
}

/// After it, the parent's calls are cooperative as before, on this thread and others.
#[test]
fn calls_are_cooperative_after_a_child_with_the_same_memory() {
    patched(|| {
        extern "C" fn nothing(_: *mut libc::c_void) -> libc::c_int {
            0
        }
        for way in WAYS {
            let children: Vec<_> = (0..3).map(|_| way(nothing, std::ptr::null_mut())).collect();
            let other = thread::spawn(move || way(nothing, std::ptr::null_mut()));
            let has_run = Rc::new(Cell::new(false));
            let run = Rc::clone(&has_run);
            let sibling = spawn(move || run.set(true));
            thread::sleep(Duration::from_millis(1));
            assert!(has_run.get(), "it has run meanwhile");
            sibling.join().unwrap();
            for child in children.into_iter().chain([other.join().unwrap()]) {
                // SAFETY: without a place for the status.
                assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child);
            }
        }
    });
}

/// A child that has a copy of the memory of one that has called `vfork` just before.
#[test]
fn children_of_a_parent_that_has_made_others_with_its_memory() {
    patched(|| {
        extern "C" fn nothing(_: *mut libc::c_void) -> libc::c_int {
            0
        }
        let (here, mut there) = UnixStream::pair().unwrap();
        let (reading, foreign) = reader(here, 2);
        there.write_all(b"a").unwrap();
        for way in WAYS {
            way(nothing, std::ptr::null_mut());
            // SAFETY: the child only sleeps, and ends.
            let child = unsafe {
                match libc::fork() {
                    0 => {
                        libc::usleep(5000);
                        libc::_exit(0)
                    }
                    child => child,
                }
            };
            // SAFETY: without a place for the status.
            assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child);
        }
        there.write_all(b"b").unwrap();
        assert_eq!((reading.join().unwrap(), foreign.get()), (b"ab".to_vec(), 0));
    });
}

/// Its memory is its parent's: what is noted of handlers must not be of that.
#[test]
fn a_child_that_ends_in_a_handler_leaves_its_parents_calls_cooperative() {
    static PARENT: AtomicI32 = AtomicI32::new(0);
    extern "C" fn handler(_: libc::c_int) {
        // SAFETY: no preconditions. The child ends.
        unsafe {
            if libc::getpid() != PARENT.load(Relaxed) {
                libc::_exit(3);
            }
        }
    }
    extern "C" fn body(_: *mut libc::c_void) -> libc::c_int {
        // SAFETY: no preconditions.
        unsafe { libc::raise(libc::SIGUSR1) }
    }
    /// In a frame below that of the one that has called the handler.
    #[inline(never)]
    fn sleeps_in_a_deep_frame() {
        let room = std::hint::black_box([0_u8; 1 << 14]);
        thread::sleep(Duration::from_millis(1));
        std::hint::black_box(&room);
    }
    patched(|| {
        // SAFETY: no preconditions, and a handler.
        unsafe {
            PARENT.store(libc::getpid(), Relaxed);
            libc::signal(libc::SIGUSR1, handler as extern "C" fn(libc::c_int) as usize);
        }
        for way in WAYS {
            let ended = spawn(move || {
                let has_run = Rc::new(Cell::new(false));
                let run = Rc::clone(&has_run);
                let sibling = spawn(move || run.set(true));
                let child = way(body, std::ptr::null_mut());
                sleeps_in_a_deep_frame();
                assert!(has_run.get(), "it has run meanwhile");
                sibling.join().unwrap();
                let mut status = 0;
                // SAFETY: a place for the status.
                assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
                libc::WEXITSTATUS(status)
            });
            assert_eq!(ended.join().unwrap(), 3);
        }
    });
}

/// Writes a byte when it is dropped in another process.
struct SaysSoInAChild(libc::pid_t, std::io::PipeWriter);

impl Drop for SaysSoInAChild {
    fn drop(&mut self) {
        // SAFETY: no preconditions; a byte.
        unsafe {
            if libc::getpid() != self.0 {
                libc::write(self.1.as_raw_fd(), c"!".as_ptr().cast(), 1);
            }
        }
    }
}

/// Its parent waits in the hub when it ends: what it would go back to is not the child's.
#[test]
fn a_child_of_a_greenlet_made_by_hand_does_not_go_back_into_its_parents_wait() {
    patched(|| {
        // SAFETY: no preconditions.
        let process = unsafe { libc::getpid() };
        let waits: [fn(); 2] = [
            || switchgrass::sleep(Duration::from_millis(500)),
            || thread::sleep(Duration::from_millis(500)),
        ];
        for wait in waits {
            let (reader, writer) = pipe().unwrap();
            let inner = Rc::new(std::cell::RefCell::new(None));
            let made = Rc::clone(&inner);
            let child = Rc::new(Cell::new(0));
            let forked = Rc::clone(&child);
            let owner = spawn(move || {
                let greenlet = switchgrass::Greenlet::new(move |()| {
                    let parent = switchgrass::current().parent().unwrap();
                    // Its parent waits then.
                    parent.switch_any::<(), ()>(());
                    // SAFETY: the child returns.
                    forked.set(unsafe { libc::fork() });
                    if forked.get() != 0 {
                        parent.switch_any::<(), ()>(());
                    }
                });
                greenlet.switch_any::<(), ()>(());
                *made.borrow_mut() = Some(greenlet);
                let _left = SaysSoInAChild(process, writer);
                wait();
            });
            yield_now();
            let other = spawn(move || {
                let greenlet = inner.borrow().clone().unwrap();
                greenlet.switch_any::<(), ()>(());
            });
            owner.join().unwrap();
            let mut status = 0;
            // SAFETY: a place for the status.
            assert_eq!(unsafe { libc::waitpid(child.get(), &mut status, 0) }, child.get());
            assert_eq!((libc::WIFEXITED(status), libc::WEXITSTATUS(status)), (true, 1));
            let mut said = String::new();
            { reader }.read_to_string(&mut said).unwrap();
            assert_eq!(said, "", "the child has gone on in its parent's wait");
            other.kill();
        }
    });
}
