//! Waits for peers: however many there are, they leave look-ups of names, files and each other alone.

use crate::{BLOCK, patched, row, together};
use libc::{c_char, c_int, c_long, c_void};
use std::cell::Cell;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{Error, Read, Write, pipe};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;
use switchgrass::coroutine::{JoinHandle, join_all};
use switchgrass::monkey::blocked_calls;
use switchgrass::{spawn, yield_now};

const MANY: usize = 2000;

/// What the crate `libc` does not declare.
mod c {
    use libc::{c_char, c_int, off_t, off64_t, sembuf, timespec};

    unsafe extern "C" {
        pub(super) fn semtimedop(
            set: c_int,
            all: *mut sembuf,
            count: usize,
            time: *const timespec,
        ) -> c_int;
        pub(super) fn lockf(fd: c_int, command: c_int, length: off_t) -> c_int;
        pub(super) fn lockf64(fd: c_int, command: c_int, length: off64_t) -> c_int;
        pub(super) fn __open_2(path: *const c_char, flags: c_int) -> c_int;
        pub(super) fn __open64_2(path: *const c_char, flags: c_int) -> c_int;
        pub(super) fn __openat_2(folder: c_int, path: *const c_char, flags: c_int) -> c_int;
        pub(super) fn __openat64_2(folder: c_int, path: *const c_char, flags: c_int) -> c_int;
    }
}

/// A path of its own, of something that is gone afterwards.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("waits-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        Temporary(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    fn name(&self) -> CString {
        CString::new(self.0.to_str().unwrap()).unwrap()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn make_fifo() -> Temporary {
    let path = Temporary::new();
    // SAFETY: a path.
    assert_eq!(unsafe { libc::mkfifo(path.name().as_ptr(), 0o600) }, 0);
    path
}

fn file_of(bytes: &[u8]) -> (File, Temporary) {
    let path = Temporary::new();
    fs::write(&path.0, bytes).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(&path.0).unwrap();
    (file, path)
}

fn number() -> Option<i32> {
    Error::last_os_error().raw_os_error()
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// Two thousand coroutines of one thread wait in `call`. Meanwhile others look up a name, and read and write a file.
/// The calls are then ended by `end`, or else by kills, and no thread stays behind.
fn many_wait<T: 'static, R: 'static>(
    given: impl Fn() -> T,
    call: impl Fn(T) -> R + Copy + 'static,
    end: impl FnOnce(&[JoinHandle<R>]),
) -> Vec<R> {
    let begun = Rc::new(Cell::new(0));
    let waiting: Vec<_> = (0..MANY)
        .map(|_| {
            let (own, begun) = (given(), Rc::clone(&begun));
            spawn(move || {
                begun.set(begun.get() + 1);
                call(own)
            })
        })
        .collect();
    while begun.get() < MANY {
        yield_now();
    }
    let (file, path) = file_of(&[7; 100_000]);
    file.sync_all().unwrap();
    // SAFETY: no memory is involved.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    let others: Vec<_> = (0..20)
        .map(|_| {
            let name = path.0.clone();
            spawn(move || {
                assert!(("localhost", 80).to_socket_addrs().unwrap().next().is_some());
                let file = File::open(&name).unwrap();
                file.sync_all().unwrap();
                fs::read(name).unwrap().len()
            })
        })
        .collect();
    for other in join_all(others) {
        assert_eq!(other.unwrap(), 100_000);
    }
    assert!(waiting.iter().all(|one| !one.is_finished()));
    end(&waiting);
    let results = join_all(waiting).into_iter().map(|one| one.unwrap()).collect();
    for _ in 0..1000 {
        if threads() < 600 {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    assert!(threads() < 600, "{} threads", threads());
    assert_eq!(blocked_calls(), []);
    results
}

fn kill_all<R: 'static>(all: &[JoinHandle<R>]) {
    all.iter().for_each(|one| one.kill());
}

#[test]
fn two_thousand_open_fifos() {
    patched(|| {
        let path = make_fifo();
        let name = path.0.clone();
        let errors = many_wait(
            || name.clone(),
            |name| File::open(name).unwrap_err().raw_os_error(),
            kill_all,
        );
        assert!(errors.iter().all(|error| *error == Some(libc::ECANCELED)));
        // Nobody has opened it in the end.
        let path = path.name();
        // SAFETY: a path.
        let fd = unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_NONBLOCK) };
        assert_eq!((fd, number()), (-1, Some(libc::ENXIO)));
    });
}

#[test]
fn two_thousand_splice_from_idle_pipes() {
    patched(|| {
        let (file, _path) = file_of(b"");
        let file = file.as_raw_fd();
        let results = many_wait(
            || (pipe().unwrap(), pipe().unwrap()),
            move |((from, _writer), (_reader, to))| {
                let to = if from.as_raw_fd() % 2 == 0 { file } else { to.as_raw_fd() };
                // SAFETY: no offsets.
                let moved =
                    unsafe { libc::splice(from.as_raw_fd(), null_mut(), to, null_mut(), 100, 0) };
                (moved, number())
            },
            kill_all,
        );
        assert!(results.iter().all(|result| *result == (-1, Some(libc::ECANCELED))));
    });
}

#[test]
fn two_thousand_tee() {
    patched(|| {
        let results = many_wait(
            || (pipe().unwrap(), pipe().unwrap()),
            |((from, _writer), (_reader, to))| {
                // SAFETY: no memory is involved.
                (unsafe { libc::tee(from.as_raw_fd(), to.as_raw_fd(), 100, 0) }, number())
            },
            kill_all,
        );
        assert!(results.iter().all(|result| *result == (-1, Some(libc::ECANCELED))));
    });
}

/// Each has sent something when it is killed: that counts.
#[test]
fn two_thousand_send_files_to_slow_clients() {
    patched(|| {
        const SIZE: usize = 1 << 20;
        let (file, _path) = file_of(&[]);
        file.set_len(SIZE as u64).unwrap();
        let fd = file.as_raw_fd();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let results = many_wait(
            || {
                let client = TcpStream::connect(address).unwrap();
                let server = listener.accept().unwrap().0;
                let small: c_int = 1 << 14;
                let ends = [(&client, libc::SO_RCVBUF), (&server, libc::SO_SNDBUF)];
                for (end, option) in ends {
                    // SAFETY: an option of this type.
                    let set = unsafe {
                        let size = size_of::<c_int>() as libc::socklen_t;
                        let value = (&raw const small).cast();
                        libc::setsockopt(end.as_raw_fd(), libc::SOL_SOCKET, option, value, size)
                    };
                    assert_eq!(set, 0);
                }
                (client, server)
            },
            move |(_client, server)| {
                let mut offset = 0;
                // SAFETY: an offset.
                let sent = unsafe { libc::sendfile(server.as_raw_fd(), fd, &mut offset, SIZE) };
                (sent, offset)
            },
            |all| {
                // They have sent all that can be without a reader.
                thread::sleep(Duration::from_millis(200));
                kill_all(all);
            },
        );
        for (sent, offset) in results {
            assert!(sent > 0 && (sent as usize) < SIZE, "{sent}");
            assert_eq!(sent as i64, offset);
        }
    });
}

#[test]
fn two_thousand_wait_for_a_lock_of_a_file() {
    patched(|| {
        let (file, path) = file_of(b"");
        file.lock().unwrap();
        let name = path.0.clone();
        let got = Rc::new(Cell::new(0_usize));
        many_wait(
            || (File::open(&name).unwrap(), Rc::clone(&got)),
            |(file, got)| {
                file.lock().unwrap();
                got.set(got.get() + 1);
            },
            |_| file.unlock().unwrap(),
        );
        assert_eq!(got.get(), MANY);
    });
}

#[test]
fn two_thousand_wait_for_any_child() {
    patched(|| {
        let (reader, holder) = pipe().unwrap();
        let mut child = std::process::Command::new("cat").stdin(reader).spawn().unwrap();
        let results = many_wait(
            || (),
            // SAFETY: no status is asked for.
            |()| (unsafe { libc::waitpid(-1, null_mut(), 0) }, number()),
            kill_all,
        );
        assert!(results.iter().all(|result| *result == (-1, Some(libc::ECANCELED))));
        drop(holder);
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn two_thousand_poll_with_a_mask() {
    patched(|| {
        let results = many_wait(
            || pipe().unwrap(),
            |(reader, _writer)| {
                let mut one =
                    libc::pollfd { fd: reader.as_raw_fd(), events: libc::POLLIN, revents: 0 };
                // SAFETY: a set that is filled first, and one question.
                unsafe {
                    let mut mask = std::mem::zeroed();
                    libc::sigfillset(&mut mask);
                    (libc::ppoll(&mut one, 1, std::ptr::null(), &mask), number())
                }
            },
            kill_all,
        );
        assert!(results.iter().all(|result| *result == (-1, Some(libc::ECANCELED))));
    });
}

#[test]
fn two_thousand_receive_messages_of_system_v() {
    patched(|| {
        // SAFETY: no memory is involved.
        let queue = unsafe { libc::msgget(libc::IPC_PRIVATE, 0o600) };
        let results = many_wait(
            || (),
            move |()| {
                let mut place = [0_u64; 4];
                // SAFETY: room for a message.
                let got = unsafe { libc::msgrcv(queue, place.as_mut_ptr().cast(), 8, 0, 0) };
                (got, number())
            },
            kill_all,
        );
        // SAFETY: no memory is involved.
        unsafe { libc::msgctl(queue, libc::IPC_RMID, null_mut()) };
        assert!(results.iter().all(|result| *result == (-1, Some(libc::ECANCELED))));
    });
}

/// The other end of a FIFO is opened a while later.
fn opens(call: impl Fn(&CString) -> c_int + Copy + Send + 'static) {
    row(move || {
        let path = make_fifo();
        let name = path.0.clone();
        let other = thread::spawn(move || {
            thread::sleep(BLOCK + Duration::from_millis(2));
            drop(OpenOptions::new().write(true).open(name).unwrap());
        });
        let fd = call(&path.name());
        assert!(fd >= 0, "{}", Error::last_os_error());
        while !other.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        other.join().unwrap();
        // SAFETY: what was opened.
        unsafe { libc::close(fd) }
    });
}

#[test]
fn __open_2() {
    // SAFETY: a path.
    opens(|path| unsafe { c::__open_2(path.as_ptr(), libc::O_RDONLY) });
}

#[test]
fn __open64_2() {
    // SAFETY: a path.
    opens(|path| unsafe { c::__open64_2(path.as_ptr(), libc::O_RDONLY) });
}

#[test]
fn __openat_2() {
    // SAFETY: a path.
    opens(|path| unsafe { c::__openat_2(libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY) });
}

#[test]
fn __openat64_2() {
    // SAFETY: a path.
    opens(|path| unsafe { c::__openat64_2(libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY) });
}

/// A descriptor of its own, from a stream that was opened.
fn descriptor(stream: *mut libc::FILE) -> c_int {
    if stream.is_null() {
        return -1;
    }
    // SAFETY: an open stream, which is closed.
    unsafe {
        let fd = libc::dup(libc::fileno(stream));
        libc::fclose(stream);
        fd
    }
}

#[test]
fn fopen() {
    // SAFETY: a path and a mode.
    opens(|path| descriptor(unsafe { libc::fopen(path.as_ptr(), c"r".as_ptr()) }));
}

#[test]
fn fopen64() {
    // SAFETY: a path and a mode.
    opens(|path| descriptor(unsafe { libc::fopen64(path.as_ptr(), c"r".as_ptr()) }));
}

#[test]
fn freopen() {
    // SAFETY: paths and modes, and an open stream.
    opens(|path| unsafe {
        let file = libc::fopen(c"/dev/null".as_ptr(), c"r".as_ptr());
        descriptor(libc::freopen(path.as_ptr(), c"r".as_ptr(), file))
    });
}

#[test]
fn freopen64() {
    // SAFETY: paths and modes, and an open stream.
    opens(|path| unsafe {
        let file = libc::fopen64(c"/dev/null".as_ptr(), c"r".as_ptr());
        descriptor(libc::freopen64(path.as_ptr(), c"r".as_ptr(), file))
    });
}

/// A child holds the lock for a while: it is one of processes.
fn locks(lock: impl Fn(c_int) -> c_int + Copy + Send + 'static) {
    row(move || {
        let (file, _path) = file_of(b"");
        let (mut begun, begin) = pipe().unwrap();
        // SAFETY: the child makes calls that one may make after a fork, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: as above.
            unsafe {
                let mut all: libc::flock = std::mem::zeroed();
                all.l_type = libc::F_WRLCK as _;
                libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &all);
                let byte = [1_u8];
                libc::syscall(libc::SYS_write, begin.as_raw_fd(), byte.as_ptr(), 1);
                let time = libc::timespec { tv_sec: 0, tv_nsec: 110_000_000 };
                libc::syscall(libc::SYS_nanosleep, &time, null_mut::<c_void>());
                libc::_exit(0);
            }
        }
        begun.read_exact(&mut [0; 1]).unwrap();
        let locked = lock(file.as_raw_fd());
        // SAFETY: no status is asked for.
        let waited = unsafe { libc::waitpid(child, null_mut(), 0) == child };
        (locked, waited)
    });
}

#[test]
fn lockf() {
    // SAFETY: no memory is involved.
    locks(|fd| unsafe { c::lockf(fd, libc::F_LOCK, 0) });
}

#[test]
fn lockf64() {
    // SAFETY: no memory is involved.
    locks(|fd| unsafe { c::lockf64(fd, libc::F_LOCK, 0) });
}

/// And the child's signals are the caller's: it can be ended.
#[test]
fn system() {
    row(|| {
        let script = format!("sleep {}; kill -TERM $$; exit 3", BLOCK.as_secs_f32() + 0.01);
        let script = CString::new(script).unwrap();
        // SAFETY: a string.
        let status = unsafe { libc::system(script.as_ptr()) };
        (libc::WIFSIGNALED(status), libc::WTERMSIG(status))
    });
}

/// Both ends of a terminal.
fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut master, mut slave) = (-1, -1);
    // SAFETY: places for two descriptors, which are new.
    unsafe {
        let made = libc::openpty(&mut master, &mut slave, null_mut(), null_mut(), null_mut());
        assert_eq!(made, 0);
        (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
    }
}

#[test]
fn tcdrain() {
    // SAFETY: no memory is involved.
    together(terminal, |(_master, slave)| unsafe { libc::tcdrain(slave.as_raw_fd()) });
}

#[test]
fn tcsendbreak() {
    // SAFETY: no memory is involved.
    together(terminal, |(_master, slave)| unsafe { libc::tcsendbreak(slave.as_raw_fd(), 0) });
}

#[test]
fn tcsetattr() {
    together(terminal, |(_master, slave)| {
        // SAFETY: a place for the settings.
        unsafe {
            let mut settings = std::mem::zeroed();
            assert_eq!(libc::tcgetattr(slave.as_raw_fd(), &mut settings), 0);
            settings.c_lflag &= !libc::ECHO;
            let set = libc::tcsetattr(slave.as_raw_fd(), libc::TCSADRAIN, &settings);
            assert_eq!(libc::tcgetattr(slave.as_raw_fd(), &mut settings), 0);
            (set, settings.c_lflag & libc::ECHO)
        }
    });
}

/// A queue of messages that has room for one.
struct Queue(c_int, CString);

impl Queue {
    fn new(flags: c_int) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("/waits-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let name = CString::new(name).unwrap();
        // SAFETY: a name and settings.
        let queue = unsafe {
            let mut settings: libc::mq_attr = std::mem::zeroed();
            (settings.mq_maxmsg, settings.mq_msgsize) = (1, 16);
            let flags = flags | libc::O_CREAT | libc::O_RDWR;
            libc::mq_open(name.as_ptr(), flags, 0o600, &settings)
        };
        assert!(queue >= 0, "{}", Error::last_os_error());
        Queue(queue, name)
    }

    fn send(&self) -> c_int {
        // SAFETY: a message.
        unsafe { libc::mq_send(self.0, c"hello".as_ptr(), 5, 3) }
    }

    fn receive(&self) -> (isize, u32) {
        let (mut buffer, mut priority) = ([0 as c_char; 16], 0);
        // SAFETY: room for a message.
        let got = unsafe { libc::mq_receive(self.0, buffer.as_mut_ptr(), 16, &mut priority) };
        (got, priority)
    }

    fn timed_receive(&self, until: &libc::timespec) -> isize {
        let mut buffer = [0 as c_char; 16];
        // SAFETY: room for a message, and a time.
        unsafe { libc::mq_timedreceive(self.0, buffer.as_mut_ptr(), 16, null_mut(), until) }
    }

    fn timed_send(&self, until: &libc::timespec) -> c_int {
        // SAFETY: a message, and a time.
        unsafe { libc::mq_timedsend(self.0, c"hello".as_ptr(), 5, 3, until) }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: an open queue.
        unsafe {
            libc::mq_close(self.0);
            libc::mq_unlink(self.1.as_ptr());
        }
    }
}

/// A moment a while later, on the clock of the day.
fn soon() -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &mut time) };
    time.tv_nsec += BLOCK.as_nanos() as c_long + 2_000_000;
    time.tv_sec += time.tv_nsec / 1_000_000_000;
    time.tv_nsec %= 1_000_000_000;
    time
}

#[test]
fn mq_receive() {
    row(|| {
        let queue = Queue::new(0);
        let copy = Queue(queue.0, queue.1.clone());
        let sending = thread::spawn(move || {
            thread::sleep(BLOCK + Duration::from_millis(2));
            let sent = copy.send();
            std::mem::forget(copy);
            sent
        });
        let got = queue.receive();
        (got, sending.join().unwrap())
    });
}

#[test]
fn mq_send() {
    row(|| {
        let queue = Queue::new(0);
        assert_eq!(queue.send(), 0);
        let copy = Queue(queue.0, queue.1.clone());
        let receiving = thread::spawn(move || {
            thread::sleep(BLOCK + Duration::from_millis(2));
            let got = copy.receive();
            std::mem::forget(copy);
            got
        });
        (queue.send(), receiving.join().unwrap())
    });
}

#[test]
fn mq_timedreceive() {
    row(|| {
        let queue = Queue::new(0);
        (queue.timed_receive(&soon()), number())
    });
}

#[test]
fn mq_timedsend() {
    row(|| {
        let queue = Queue::new(0);
        assert_eq!(queue.send(), 0);
        (queue.timed_send(&soon()), number())
    });
}

/// What a queue says at once is said at once.
#[test]
fn queues_that_do_not_block() {
    patched(|| {
        let call = || {
            let queue = Queue::new(libc::O_NONBLOCK);
            let empty = (queue.receive(), number());
            let timed = (queue.timed_receive(&soon()), number());
            let sent = queue.send();
            let full = (queue.send(), number());
            let wrong = libc::timespec { tv_sec: 0, tv_nsec: -1 };
            let refused = (queue.timed_send(&wrong), number());
            (empty, timed, sent, full, refused)
        };
        assert_eq!(spawn(call).join().unwrap(), thread::spawn(call).join().unwrap());
    });
}

/// One that waits for a queue learns that it is closed, and the number is another's afterwards.
#[test]
fn mq_close() {
    patched(|| {
        let queue = Queue::new(0);
        let fd = queue.0;
        let waiting = spawn(move || {
            let mut buffer = [0 as c_char; 16];
            // SAFETY: room for a message.
            (unsafe { libc::mq_receive(fd, buffer.as_mut_ptr(), 16, null_mut()) }, number())
        });
        yield_now();
        drop(queue);
        let (mut here, mut there) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(here.as_raw_fd() == fd || there.as_raw_fd() == fd);
        assert_eq!(waiting.join().unwrap(), (-1, Some(libc::EBADF)));
        let reading = spawn(move || here.read(&mut [0; 8]).unwrap());
        yield_now();
        there.write_all(b"hello").unwrap();
        assert_eq!(reading.join().unwrap(), 5);
    });
}

fn message_queue() -> c_int {
    // SAFETY: no memory is involved.
    unsafe { libc::msgget(libc::IPC_PRIVATE, 0o600) }
}

fn message() -> [u64; 2] {
    [7, u64::from_ne_bytes(*b"a letter")]
}

#[test]
fn msgrcv() {
    row(|| {
        let queue = message_queue();
        thread::spawn(move || {
            thread::sleep(BLOCK + Duration::from_millis(2));
            // SAFETY: a message.
            unsafe { libc::msgsnd(queue, message().as_ptr().cast(), 8, 0) }
        });
        let mut place = [0_u64; 2];
        // SAFETY: room for a message.
        let got = unsafe { libc::msgrcv(queue, place.as_mut_ptr().cast(), 8, 0, 0) };
        // SAFETY: no memory is involved.
        unsafe { libc::msgctl(queue, libc::IPC_RMID, null_mut()) };
        (got, place)
    });
}

#[test]
fn msgsnd() {
    row(|| {
        let queue = message_queue();
        let send = move |flags| {
            // SAFETY: a message.
            unsafe { libc::msgsnd(queue, message().as_ptr().cast(), 8, flags) }
        };
        while send(libc::IPC_NOWAIT) == 0 {}
        assert_eq!(number(), Some(libc::EAGAIN));
        thread::spawn(move || {
            thread::sleep(BLOCK + Duration::from_millis(2));
            // SAFETY: room for a message.
            unsafe { libc::msgrcv(queue, [0_u64; 2].as_mut_ptr().cast(), 8, 0, 0) }
        });
        let sent = send(0);
        // SAFETY: no memory is involved.
        unsafe { libc::msgctl(queue, libc::IPC_RMID, null_mut()) };
        sent
    });
}

fn semaphores(call: impl Fn(c_int, &mut libc::sembuf) -> c_int + Copy + Send + 'static) {
    row(move || {
        // SAFETY: no memory is involved.
        let set = unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) };
        thread::spawn(move || {
            thread::sleep(BLOCK + Duration::from_millis(2));
            let mut up = libc::sembuf { sem_num: 0, sem_op: 1, sem_flg: 0 };
            // SAFETY: one operation.
            unsafe { libc::semop(set, &mut up, 1) }
        });
        let mut down = libc::sembuf { sem_num: 0, sem_op: -1, sem_flg: libc::SEM_UNDO as i16 };
        let done = (call(set, &mut down), number());
        // SAFETY: no memory is involved.
        unsafe { libc::semctl(set, 0, libc::IPC_RMID) };
        if done.0 == 0 { (0, None) } else { done }
    });
}

#[test]
fn semop() {
    // SAFETY: one operation.
    semaphores(|set, down| unsafe { libc::semop(set, down, 1) });
}

/// Its time is over before anything comes, and then it has more of it.
#[test]
fn semtimedop() {
    semaphores(|set, down| {
        let time = libc::timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        // SAFETY: one operation, and a time.
        let early = unsafe { c::semtimedop(set, down, 1, &time) };
        assert_eq!((early, number()), (-1, Some(libc::EAGAIN)));
        let time = libc::timespec { tv_sec: 50, tv_nsec: 0 };
        // SAFETY: one operation, and a time.
        unsafe { c::semtimedop(set, down, 1, &time) }
    });
}

/// Output that nobody takes holds up the thread, and that is counted, once.
#[test]
fn a_full_pipe_as_standard_output() {
    patched(|| {
        let (mut reader, writer) = pipe().unwrap();
        // SAFETY: no memory is involved.
        let (saved, fds) = unsafe {
            let saved = libc::dup(1);
            libc::dup2(writer.as_raw_fd(), 1);
            (saved, libc::fcntl(1, libc::F_GETPIPE_SZ) as usize)
        };
        let write = |length: usize| {
            // SAFETY: as many bytes as is said.
            unsafe { libc::write(1, vec![b'x'; length].as_ptr().cast(), length) }
        };
        assert_eq!(spawn(move || write(fds)).join().unwrap(), fds as isize);
        assert_eq!(blocked_calls(), []);
        let reading = thread::spawn(move || {
            thread::sleep(BLOCK);
            reader.read_exact(&mut vec![0; 70_000 + fds]).unwrap();
        });
        assert_eq!(spawn(move || write(70_000)).join().unwrap(), 70_000);
        assert_eq!(blocked_calls(), [("write", 1)]);
        reading.join().unwrap();
        // SAFETY: no memory is involved.
        unsafe { libc::dup2(saved, 1) };
        drop(writer);
    });
}

/// No descriptor is left, whether or not the other end is opened later.
#[test]
fn a_fifo_that_is_opened_after_the_kill() {
    patched(|| {
        // Of FIFOs.
        let descriptors = || -> Vec<PathBuf> {
            let all = fs::read_dir("/proc/self/fd").unwrap();
            let all = all.filter_map(|one| fs::read_link(one.unwrap().path()).ok());
            all.filter(|one| one.to_string_lossy().contains("waits-")).collect()
        };
        let path = make_fifo();
        for _ in 0..50 {
            let name = path.0.clone();
            let opening = spawn(move || File::open(name).is_err());
            thread::sleep(Duration::from_millis(1));
            opening.kill();
            let name = path.0.clone();
            let writing = spawn(move || fs::write(name, "x").is_err());
            writing.kill();
            assert!(opening.join().unwrap());
            let _ = writing.join();
        }
        assert_eq!(descriptors(), Vec::<PathBuf>::new());
        let name = path.0.clone();
        let reading = spawn(move || fs::read_to_string(name).unwrap());
        OpenOptions::new().write(true).open(&path.0).unwrap().write_all(b"hello").unwrap();
        assert_eq!(reading.join().unwrap(), "hello");
    });
}

/// Until a moment, and so the kernel makes it again.
#[test]
fn a_handler_with_sa_restart_ends_no_wait_for_a_message() {
    extern "C" fn nothing(_: c_int) {}
    let call = || {
        // SAFETY: all-zero is an action, with an empty mask.
        let me = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as *const () as usize;
            action.sa_flags = libc::SA_RESTART;
            assert_eq!(libc::sigaction(libc::SIGUSR1, &action, null_mut()), 0);
            libc::pthread_self()
        };
        let queue = Queue::new(0);
        let sender = thread::spawn(move || {
            thread::sleep(BLOCK / 2);
            // SAFETY: the thread lives until this one has ended.
            unsafe { libc::pthread_kill(me, libc::SIGUSR1) };
        });
        let received = (queue.timed_receive(&soon()), Error::last_os_error().raw_os_error());
        let full = queue.send();
        let sent = (queue.timed_send(&soon()), Error::last_os_error().raw_os_error());
        sender.join().unwrap();
        (received, full, sent)
    };
    patched(move || {
        let on_a_thread = thread::spawn(call).join().unwrap();
        assert_eq!(spawn(call).join().unwrap(), on_a_thread);
        let late = Some(libc::ETIMEDOUT);
        assert_eq!(on_a_thread, ((-1, late), 0, (-1, late)));
    });
}
