//! Locks of C whose holder, or whose place, is not what was noted of it.

use crate::patched;
use crate::scripts::{Call, after, c, compare, does};
use libc::{FILE, c_int, pthread_rwlock_t};
use std::cell::{Cell, UnsafeCell};
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write, pipe};
use std::mem::zeroed;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;
use switchgrass::coroutine::join_all;
use switchgrass::monkey::blocked_calls;
use switchgrass::{spawn, yield_now};

const SHORT: Duration = Duration::from_millis(10);

/// Memory that holds one lock after the other.
struct Place<T>(UnsafeCell<T>);

// SAFETY: used by functions of libc only.
unsafe impl<T> Send for Place<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Place<T> {}

/// Two handles of an empty file without a name.
fn two_handles() -> (File, File) {
    let path = std::env::temp_dir().join(format!("switchgrass-locks-{}", std::process::id()));
    let open =
        || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let both = (open().unwrap(), open().unwrap());
    std::fs::remove_file(&path).unwrap();
    both
}

/// A lock of ten bytes.
fn ten_bytes(whence: c_int) -> libc::flock {
    // SAFETY: numbers.
    let mut lock: libc::flock = unsafe { zeroed() };
    lock.l_type = libc::F_WRLCK as _;
    lock.l_whence = whence as _;
    lock.l_len = 10;
    lock
}

/// Where a lock begins that keeps a handle out.
fn kept_out_at(file: &File) -> i64 {
    let mut lock = ten_bytes(libc::SEEK_SET);
    lock.l_len = 0;
    // SAFETY: a lock.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) }, 0);
    assert_eq!(c_int::from(lock.l_type), libc::F_WRLCK, "nothing is locked");
    lock.l_start
}

/// A sibling moves the descriptor, or makes the file longer, while the call waits.
#[test]
fn a_lock_is_taken_where_the_descriptor_stood_when_it_was_asked_for() {
    for whence in [libc::SEEK_CUR, libc::SEEK_END] {
        patched(|| {
            let (mine, other) = two_handles();
            // SAFETY: a lock.
            let set = |file: &File, command| unsafe {
                libc::fcntl(file.as_raw_fd(), command, &ten_bytes(libc::SEEK_SET))
            };
            assert_eq!(set(&other, libc::F_OFD_SETLK), 0);
            let mine = Arc::new(mine);
            let theirs = Arc::clone(&mine);
            let waiter = spawn(move || {
                let lock = ten_bytes(whence);
                // SAFETY: this thread's errno, and a lock.
                unsafe {
                    *libc::__errno_location() = 77;
                    let result = libc::fcntl(theirs.as_raw_fd(), libc::F_OFD_SETLKW, &lock);
                    (result, *libc::__errno_location())
                }
            });
            yield_now();
            (&*mine).seek(SeekFrom::Start(100)).unwrap();
            (&*mine).write_all(b"longer").unwrap();
            thread::sleep(SHORT);
            assert!(!waiter.is_finished());
            let mut unlock = ten_bytes(libc::SEEK_SET);
            unlock.l_type = libc::F_UNLCK as _;
            // SAFETY: a lock.
            assert_eq!(unsafe { libc::fcntl(other.as_raw_fd(), libc::F_OFD_SETLK, &unlock) }, 0);
            assert_eq!(waiter.join().unwrap(), (0, 77));
            assert_eq!(kept_out_at(&other), 0);
        });
    }
}

unsafe extern "C" {
    #[link_name = "lockf"]
    fn lockf(fd: c_int, command: c_int, length: libc::off_t) -> c_int;
}

#[test]
fn lockf_locks_where_the_descriptor_stood_when_it_was_called() {
    patched(|| {
        let (mine, other) = two_handles();
        let (mut begun, begin) = pipe().unwrap();
        let (ends, end) = pipe().unwrap();
        // SAFETY: the child makes calls that one may make after a fork, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: as above.
            unsafe {
                libc::fcntl(other.as_raw_fd(), libc::F_SETLK, &ten_bytes(libc::SEEK_SET));
                libc::close(end.as_raw_fd());
                let mut byte = [1_u8];
                libc::syscall(libc::SYS_write, begin.as_raw_fd(), byte.as_ptr(), 1);
                libc::syscall(libc::SYS_read, ends.as_raw_fd(), byte.as_mut_ptr(), 1);
                libc::_exit(0);
            }
        }
        begun.read_exact(&mut [0]).unwrap();
        let mine = Arc::new(mine);
        let theirs = Arc::clone(&mine);
        // SAFETY: no memory is involved.
        let waiter = spawn(move || unsafe { lockf(theirs.as_raw_fd(), libc::F_LOCK, 10) });
        yield_now();
        (&*mine).seek(SeekFrom::Start(100)).unwrap();
        thread::sleep(SHORT);
        assert!(!waiter.is_finished());
        (&end).write_all(b"x").unwrap();
        assert_eq!(waiter.join().unwrap(), 0);
        assert_eq!(kept_out_at(&other), 0);
        // SAFETY: no status is asked for.
        assert_eq!(unsafe { libc::waitpid(child, ptr::null_mut(), 0) }, child);
    });
}

/// It would wait for a coroutine that goes on after it.
#[test]
fn a_plain_mutex_of_a_coroutine_is_not_waited_for_in_a_callback_of_the_hub() {
    patched(|| {
        let mutex = Arc::new(Place(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER)));
        let theirs = Arc::clone(&mutex);
        let ended = spawn(|| ());
        let seen = Rc::new(Cell::new((0, 0)));
        let told = Rc::clone(&seen);
        // SAFETY: a mutex.
        assert_eq!(unsafe { libc::pthread_mutex_lock(mutex.0.get()) }, 0);
        ended.link_in_hub(move || {
            // SAFETY: a mutex, and a time.
            told.set(unsafe {
                let until = after(libc::CLOCK_REALTIME, SHORT);
                let late = libc::pthread_mutex_timedlock(theirs.0.get(), &until);
                (late, libc::pthread_mutex_lock(theirs.0.get()))
            });
        });
        ended.join().unwrap();
        (0..3).for_each(|_| yield_now());
        assert_eq!(seen.get(), (libc::EDEADLK, libc::EDEADLK));
        // SAFETY: a mutex.
        assert_eq!(unsafe { libc::pthread_mutex_unlock(mutex.0.get()) }, 0);
    });
}

/// The next file of C's is at the same address, and nobody has locked that one.
#[test]
fn a_file_that_was_closed_while_it_was_locked() {
    fn open() -> *mut FILE {
        // SAFETY: two strings.
        unsafe { libc::fopen(c"/dev/null".as_ptr(), c"w".as_ptr()) }
    }
    fn is_got(file: *mut FILE) -> bool {
        // SAFETY: a file.
        unsafe {
            if c::ftrylockfile(file) != 0 {
                return false;
            }
            c::funlockfile(file);
            c::flockfile(file);
            c::funlockfile(file);
        }
        true
    }
    patched(|| {
        for _ in 0..2 {
            let closed = spawn(|| {
                let file = open();
                // SAFETY: a file, which is locked twice, and closed by the one that has locked it.
                unsafe {
                    c::flockfile(file);
                    c::flockfile(file);
                    libc::fclose(file);
                }
                file.addr()
            });
            let closed = closed.join().unwrap();
            let (address, got) = spawn(|| {
                let file = open();
                let got = is_got(file);
                // SAFETY: a file.
                unsafe { libc::fclose(file) };
                (file.addr(), got)
            })
            .join()
            .unwrap();
            assert_eq!(address, closed, "the allocator gives out another address");
            assert!(got);
        }
    });
}

/// The lock is recursive, so its owner may close the file.
#[test]
fn pclose_of_a_file_that_the_caller_has_locked() {
    unsafe extern "C" {
        fn popen(command: *const libc::c_char, kind: *const libc::c_char) -> *mut FILE;
        fn pclose(file: *mut FILE) -> c_int;
    }
    let run = || {
        // SAFETY: two strings, and a file of a command.
        unsafe {
            let file = popen(c"exit 3".as_ptr(), c"r".as_ptr());
            c::flockfile(file);
            c::flockfile(file);
            pclose(file)
        }
    };
    patched(|| {
        let on_a_thread = thread::spawn(run).join().unwrap();
        assert_eq!(spawn(run).join().unwrap(), on_a_thread);
    });
}

/// It is the same file of C's, and locked as before, whatever it is a file of.
#[test]
fn a_file_that_is_reopened_while_it_is_locked() {
    struct Locked(*mut FILE);
    // SAFETY: C's files may be used by all threads.
    unsafe impl Send for Locked {}
    // SAFETY: as above.
    unsafe impl Sync for Locked {}
    impl Locked {
        fn new() -> Self {
            // SAFETY: two strings.
            Locked(unsafe { libc::fopen(c"/dev/null".as_ptr(), c"r".as_ptr()) })
        }

        fn lock(&self) -> c_int {
            // SAFETY: a file.
            unsafe { c::flockfile(self.0) };
            0
        }

        fn reopen(&self) -> c_int {
            // SAFETY: two strings, and a file.
            c_int::from(
                unsafe { libc::freopen(c"/dev/zero".as_ptr(), c"r".as_ptr(), self.0) } != self.0,
            )
        }

        fn reopen_a_fifo(&self) -> c_int {
            static FIFOS: AtomicUsize = AtomicUsize::new(0);
            let number = FIFOS.fetch_add(1, SeqCst);
            let path = std::env::temp_dir()
                .join(format!("switchgrass-fifo-{}-{number}", std::process::id()));
            let name = CString::new(path.to_str().unwrap()).unwrap();
            // SAFETY: strings, and a file.
            unsafe {
                assert_eq!(libc::mkfifo(name.as_ptr(), 0o600), 0);
                let writer = thread::spawn({
                    let path = path.clone();
                    move || OpenOptions::new().write(true).open(path).unwrap()
                });
                let reopened = libc::freopen(name.as_ptr(), c"r".as_ptr(), self.0);
                drop(writer.join().unwrap());
                std::fs::remove_file(path).unwrap();
                c_int::from(reopened != self.0)
            }
        }

        fn trylock(&self) -> c_int {
            // SAFETY: a file.
            c_int::from(unsafe { c::ftrylockfile(self.0) } != 0)
        }

        fn unlock(&self) -> c_int {
            // SAFETY: a file.
            unsafe { c::funlockfile(self.0) };
            0
        }
    }
    patched(|| {
        let reopens: [Call<Locked>; 2] = [Locked::reopen, Locked::reopen_a_fifo];
        for (at, reopen) in reopens.into_iter().enumerate() {
            let steps = [
                does(0, Locked::lock),
                does(0, reopen),
                does(1, Locked::trylock),
                does(0, Locked::unlock),
                does(1, Locked::trylock),
            ];
            compare(at, Locked::new, &steps, &[0, 0, 1, 0, 0]);
        }
    });
}

/// Locks one in a coroutine and leaves it so, then has another lock made in its place, which a thread
/// holds. The coroutine waits for that one; its sibling unlocks it, by telling the thread.
fn in_place_of_one_that_was_left<T: 'static>(
    make: fn() -> T,
    lock: unsafe extern "C" fn(*mut T) -> c_int,
    unlock: unsafe extern "C" fn(*mut T) -> c_int,
) {
    patched(|| {
        let place = Arc::new(Place(UnsafeCell::new(make())));
        let (told, tell) = channel();
        let (go, gone) = channel();
        let holding = Arc::clone(&place);
        let reuse = Arc::new(AtomicBool::new(false));
        let is_reused = Arc::clone(&reuse);
        let holder = thread::spawn(move || {
            while !is_reused.load(SeqCst) {
                thread::sleep(Duration::from_millis(1));
            }
            // SAFETY: a lock.
            assert_eq!(unsafe { lock(holding.0.get()) }, 0);
            told.send(()).unwrap();
            gone.recv().unwrap();
            // SAFETY: a lock, which this thread has locked.
            assert_eq!(unsafe { unlock(holding.0.get()) }, 0);
        });
        let theirs = Arc::clone(&place);
        let waiter = spawn(move || {
            // SAFETY: a lock, and then memory that is used for another one.
            unsafe {
                assert_eq!(lock(theirs.0.get()), 0);
                theirs.0.get().write(make());
                reuse.store(true, SeqCst);
                tell.recv().unwrap();
                assert_eq!(lock(theirs.0.get()), 0);
                assert_eq!(unlock(theirs.0.get()), 0);
            }
        });
        let sibling = spawn(move || {
            (0..10).for_each(|_| thread::sleep(SHORT));
            go.send(()).unwrap();
        });
        sibling.join().unwrap();
        waiter.join().unwrap();
        holder.join().unwrap();
        assert_eq!(blocked_calls(), []);
    });
}

#[test]
fn a_recursive_mutex_in_place_of_one_that_was_left_locked() {
    in_place_of_one_that_was_left(
        || libc::PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP,
        libc::pthread_mutex_lock,
        libc::pthread_mutex_unlock,
    );
}

#[test]
fn a_lock_of_readers_and_writers_in_place_of_one_that_was_left_locked() {
    in_place_of_one_that_was_left(
        || libc::PTHREAD_RWLOCK_INITIALIZER,
        libc::pthread_rwlock_wrlock,
        libc::pthread_rwlock_unlock,
    );
}

/// Another thread is in it, and gets on when a coroutine of this one does.
#[test]
fn an_initialiser_of_another_thread_that_waits_for_a_coroutine() {
    static HAS_BEGUN: AtomicBool = AtomicBool::new(false);
    static MAY_END: AtomicBool = AtomicBool::new(false);
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    unsafe extern "C-unwind" fn initialise() {
        RUNS.fetch_add(1, SeqCst);
        HAS_BEGUN.store(true, SeqCst);
        while !MAY_END.load(SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
    }
    patched(|| {
        static CONTROL: AtomicI32 = AtomicI32::new(0);
        // SAFETY: a control, and a function.
        let enter = || unsafe { c::pthread_once(CONTROL.as_ptr(), initialise) };
        let first = thread::spawn(enter);
        while !HAS_BEGUN.load(SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        let waiter = spawn(enter);
        let sibling = spawn(|| {
            (0..150).for_each(|_| thread::sleep(SHORT));
            MAY_END.store(true, SeqCst);
        });
        sibling.join().unwrap();
        assert_eq!((waiter.join().unwrap(), first.join().unwrap(), RUNS.load(SeqCst)), (0, 0, 1));
        assert_eq!(blocked_calls(), []);
    });
}

/// `std::call_once` of C++ keeps what it calls in variables of the thread's, while siblings do the same.
#[test]
fn an_initialiser_of_cpp_that_throws_while_siblings_wait_for_it() {
    const SOURCE: &str = r#"
        #include <mutex>
        #include <unistd.h>
        static std::once_flag flags[2];
        static int runs[2];
        extern "C" int enter(int number, int fails) {
            try {
                std::call_once(flags[number], [=] {
                    usleep(5000);
                    if (fails)
                        throw 1;
                    runs[number]++;
                });
            } catch (int) {
                return -1;
            }
            return runs[number];
        }
    "#;
    patched(|| {
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
        let source = folder.join(format!("once-{}.cpp", std::process::id()));
        let library = source.with_extension("so");
        std::fs::write(&source, SOURCE).unwrap();
        let mut compiler = Command::new("g++");
        compiler.args(["-O1", "-std=c++11", "-shared", "-fPIC", "-pthread", "-o"]);
        match compiler.arg(&library).arg(&source).status() {
            Err(error) => return eprintln!("SKIPPED: there is no g++: {error}"),
            Ok(status) => assert!(status.success()),
        }
        let path = CString::new(library.to_str().unwrap()).unwrap();
        // SAFETY: the library was built by this test, and its function has that type.
        let enter: extern "C" fn(c_int, c_int) -> c_int = unsafe {
            let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
            std::mem::transmute(libc::dlsym(library, c"enter".as_ptr()))
        };
        std::fs::remove_file(source).unwrap();
        std::fs::remove_file(library).unwrap();
        // One that succeeds beside it leaves null in these variables.
        let calls = [(0, 1), (0, 0), (1, 0), (0, 0)];
        let tasks = calls.map(|(number, fails)| spawn(move || enter(number, fails)));
        let results = join_all(tasks).into_iter().map(|task| task.unwrap());
        assert_eq!(results.collect::<Vec<_>>(), [-1, 1, 1, 1]);
        assert_eq!(blocked_calls(), []);
    });
}

/// A lock of each kind, and what else a call of C waits for.
struct Waits {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    recursive: UnsafeCell<libc::pthread_mutex_t>,
    readers: UnsafeCell<pthread_rwlock_t>,
    spin: UnsafeCell<libc::pthread_spinlock_t>,
    condition: UnsafeCell<libc::pthread_cond_t>,
    semaphore: UnsafeCell<libc::sem_t>,
    barrier: UnsafeCell<libc::pthread_barrier_t>,
    file: *mut FILE,
}

// SAFETY: used by functions of libc only.
unsafe impl Send for Waits {}
// SAFETY: as above.
unsafe impl Sync for Waits {}

impl Waits {
    fn new() -> Arc<Self> {
        // SAFETY: numbers; initialised below. Two strings.
        let waits = Arc::new(unsafe {
            Waits {
                mutex: UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER),
                recursive: UnsafeCell::new(libc::PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP),
                readers: UnsafeCell::new(libc::PTHREAD_RWLOCK_INITIALIZER),
                spin: zeroed(),
                condition: UnsafeCell::new(libc::PTHREAD_COND_INITIALIZER),
                semaphore: zeroed(),
                barrier: zeroed(),
                file: libc::fopen(c"/dev/null".as_ptr(), c"w".as_ptr()),
            }
        });
        // SAFETY: room for them.
        unsafe {
            libc::pthread_spin_init(waits.spin.get(), 0);
            libc::sem_init(waits.semaphore.get(), 0, 0);
            libc::pthread_barrier_init(waits.barrier.get(), ptr::null(), 2);
        }
        waits
    }

    /// What is to be locked before a call, if anything is.
    fn before(&self, call: Waiting) {
        // SAFETY: everything is initialised.
        let result = unsafe {
            match call {
                Waiting::Mutex => libc::pthread_mutex_lock(self.mutex.get()),
                Waiting::Recursive => libc::pthread_mutex_lock(self.recursive.get()),
                Waiting::Readers => libc::pthread_rwlock_wrlock(self.readers.get()),
                Waiting::Spin => libc::pthread_spin_lock(self.spin.get()),
                Waiting::File => {
                    c::flockfile(self.file);
                    0
                }
                _ => 0,
            }
        };
        assert_eq!(result, 0);
    }

    /// The call that waits.
    fn call(&self, call: Waiting) -> c_int {
        // SAFETY: everything is initialised.
        unsafe {
            match call {
                Waiting::Mutex => libc::pthread_mutex_lock(self.mutex.get()),
                Waiting::Recursive => libc::pthread_mutex_lock(self.recursive.get()),
                Waiting::Readers => libc::pthread_rwlock_rdlock(self.readers.get()),
                Waiting::Spin => libc::pthread_spin_lock(self.spin.get()),
                Waiting::File => {
                    c::flockfile(self.file);
                    0
                }
                Waiting::Semaphore => libc::sem_wait(self.semaphore.get()),
                Waiting::Barrier => libc::pthread_barrier_wait(self.barrier.get()).max(0),
                Waiting::Condition => {
                    libc::pthread_mutex_lock(self.mutex.get());
                    libc::pthread_cond_wait(self.condition.get(), self.mutex.get())
                }
                Waiting::Thread => {
                    thread::spawn(|| thread::sleep(5 * SHORT)).join().is_err().into()
                }
            }
        }
    }

    /// What ends its wait.
    fn then(&self, call: Waiting) {
        // SAFETY: everything is initialised, and locked by the caller.
        let result = unsafe {
            match call {
                Waiting::Mutex => libc::pthread_mutex_unlock(self.mutex.get()),
                Waiting::Recursive => libc::pthread_mutex_unlock(self.recursive.get()),
                Waiting::Readers => libc::pthread_rwlock_unlock(self.readers.get()),
                Waiting::Spin => libc::pthread_spin_unlock(self.spin.get()),
                Waiting::File => {
                    c::funlockfile(self.file);
                    0
                }
                Waiting::Semaphore => libc::sem_post(self.semaphore.get()),
                Waiting::Barrier => libc::pthread_barrier_wait(self.barrier.get()).max(0),
                Waiting::Condition => libc::pthread_cond_signal(self.condition.get()),
                Waiting::Thread => 0,
            }
        };
        assert_eq!(result, 0);
    }
}

#[derive(Clone, Copy, Debug)]
enum Waiting {
    Mutex,
    Recursive,
    Readers,
    Spin,
    File,
    Semaphore,
    Barrier,
    Condition,
    Thread,
}

/// Calls of siblings that fail meanwhile are not the caller's.
#[test]
fn errno_is_as_it_was_after_a_wait_that_succeeds() {
    use Waiting::{Barrier, Condition, File, Mutex, Readers, Recursive, Semaphore, Spin, Thread};
    const BEFORE: c_int = 77;
    // SAFETY: this thread's errno.
    let set = |number| unsafe { *libc::__errno_location() = number };
    let get = || std::io::Error::last_os_error().raw_os_error();
    let all = [Mutex, Recursive, Readers, Spin, File, Semaphore, Barrier, Condition, Thread];
    patched(|| {
        for call in all {
            let waits = Waits::new();
            let theirs = Arc::clone(&waits);
            let sibling = spawn(move || {
                theirs.before(call);
                for _ in 0..3 {
                    thread::sleep(SHORT);
                    set(libc::ENOENT);
                }
                theirs.then(call);
                set(libc::ENOENT);
            });
            let caller = spawn(move || {
                thread::sleep(SHORT / 2);
                set(BEFORE);
                (waits.call(call), get())
            });
            assert_eq!(caller.join().unwrap(), (0, Some(BEFORE)), "{call:?}");
            sibling.join().unwrap();
        }
    });
}
