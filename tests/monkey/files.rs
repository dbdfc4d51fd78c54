//! Regular files, and what is opened by a path.

use crate::{BLOCK, patched, row, together};
use libc::{c_int, iovec};
use std::cell::Cell;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{Error, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write, pipe};
use std::mem::zeroed;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;
use switchgrass::{JoinError, spawn, timeout, yield_now};

/// What the crate `libc` does not declare.
mod c {
    use libc::{c_int, c_void, iovec, off_t, off64_t, ssize_t};

    unsafe extern "C" {
        pub(super) fn preadv64v2(
            fd: c_int,
            parts: *const iovec,
            count: c_int,
            offset: off64_t,
            flags: c_int,
        ) -> ssize_t;
        pub(super) fn pwritev64v2(
            fd: c_int,
            parts: *const iovec,
            count: c_int,
            offset: off64_t,
            flags: c_int,
        ) -> ssize_t;
        pub(super) fn __pread_chk(
            fd: c_int,
            buffer: *mut c_void,
            length: usize,
            offset: off_t,
            room: usize,
        ) -> ssize_t;
        pub(super) fn __pread64_chk(
            fd: c_int,
            buffer: *mut c_void,
            length: usize,
            offset: off64_t,
            room: usize,
        ) -> ssize_t;
    }
}

/// A path of its own, of something that is gone afterwards.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("files-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
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

const SIZE: usize = 1 << 18;

fn bytes() -> Vec<u8> {
    (0..SIZE).map(|at| (at % 251) as u8).collect()
}

fn new_file() -> (File, Temporary) {
    let path = Temporary::new();
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path.0).unwrap();
    (file, path)
}

/// A file that has to be fetched from the disk.
fn cold_file() -> (File, Temporary) {
    let (mut file, path) = new_file();
    file.write_all(&bytes()).unwrap();
    file.sync_all().unwrap();
    file.rewind().unwrap();
    // SAFETY: no memory is involved.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    (file, path)
}

const OFFSET: usize = 5000;

/// Reads what is expected at a place, all of it.
fn reads(call: impl Fn(RawFd, &mut [u8]) -> isize + Copy + Send + 'static) {
    together(cold_file, move |(file, _path)| {
        let mut buffer = vec![0; SIZE];
        let got = call(file.as_raw_fd(), &mut buffer);
        assert_eq!(got, (SIZE - OFFSET) as isize, "{:?}", Error::last_os_error());
        buffer[..SIZE - OFFSET] == bytes()[OFFSET..]
    });
}

/// Two of them, and one that is empty.
fn parts(buffer: &[u8]) -> [iovec; 3] {
    let (first, second) = buffer.split_at(buffer.len().min(700));
    [first, &[], second]
        .map(|part| iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() })
}

fn parts_mut(buffer: &mut [u8]) -> [iovec; 3] {
    let (first, second) = buffer.split_at_mut(buffer.len().min(700));
    [first, &mut [], second]
        .map(|part| iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() })
}

#[test]
fn pread() {
    // SAFETY: a buffer.
    reads(|fd, buffer| unsafe {
        libc::pread(fd, buffer.as_mut_ptr().cast(), buffer.len(), OFFSET as _)
    });
}

#[test]
fn pread64() {
    // SAFETY: a buffer.
    reads(|fd, buffer| unsafe {
        libc::pread64(fd, buffer.as_mut_ptr().cast(), buffer.len(), OFFSET as _)
    });
}

#[test]
fn __pread_chk() {
    // SAFETY: a buffer.
    reads(|fd, buffer| unsafe {
        let room = buffer.len();
        c::__pread_chk(fd, buffer.as_mut_ptr().cast(), buffer.len(), OFFSET as _, room)
    });
}

#[test]
fn __pread64_chk() {
    // SAFETY: a buffer.
    reads(|fd, buffer| unsafe {
        let room = buffer.len();
        c::__pread64_chk(fd, buffer.as_mut_ptr().cast(), buffer.len(), OFFSET as _, room)
    });
}

#[test]
fn preadv() {
    // SAFETY: buffers.
    reads(|fd, buffer| unsafe { libc::preadv(fd, parts_mut(buffer).as_ptr(), 3, OFFSET as _) });
}

#[test]
fn preadv64() {
    // SAFETY: buffers.
    reads(|fd, buffer| unsafe { libc::preadv64(fd, parts_mut(buffer).as_ptr(), 3, OFFSET as _) });
}

#[test]
fn preadv2() {
    // SAFETY: buffers.
    reads(|fd, buffer| unsafe { libc::preadv2(fd, parts_mut(buffer).as_ptr(), 3, OFFSET as _, 0) });
}

/// At the descriptor's own position.
#[test]
fn preadv64v2() {
    // SAFETY: buffers.
    reads(|fd, buffer| unsafe {
        libc::lseek(fd, OFFSET as _, libc::SEEK_SET);
        c::preadv64v2(fd, parts_mut(buffer).as_ptr(), 3, -1, 0)
    });
}

#[test]
fn reads_of_std() {
    together(cold_file, |(mut file, path)| {
        file.seek(SeekFrom::Start(OFFSET as u64)).unwrap();
        let (mut first, mut second) = (vec![0; 700], vec![0; 9000]);
        let mut parts = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        assert_eq!(file.read_vectored(&mut parts).unwrap(), 9700);
        let mut rest = Vec::new();
        file.read_to_end(&mut rest).unwrap();
        assert!([first, second, rest].concat() == bytes()[OFFSET..]);
        fs::read(&path.0).unwrap() == bytes()
    });
}

/// Writes all, at a place.
fn writes(call: impl Fn(RawFd, &[u8]) -> isize + Copy + Send + 'static) {
    together(new_file, move |(file, path)| {
        assert_eq!(call(file.as_raw_fd(), &bytes()), SIZE as isize, "{:?}", Error::last_os_error());
        // And little.
        assert_eq!(call(file.as_raw_fd(), b"hello"), 5);
        let written = fs::read(&path.0).unwrap();
        let position = (&file).stream_position().unwrap();
        (position, written.len(), written[OFFSET..OFFSET + 5] == *b"hello")
    });
}

#[test]
fn pwrite() {
    // SAFETY: a buffer.
    writes(|fd, bytes| unsafe {
        libc::pwrite(fd, bytes.as_ptr().cast(), bytes.len(), OFFSET as _)
    });
}

#[test]
fn pwrite64() {
    // SAFETY: a buffer.
    writes(|fd, bytes| unsafe {
        libc::pwrite64(fd, bytes.as_ptr().cast(), bytes.len(), OFFSET as _)
    });
}

#[test]
fn pwritev() {
    // SAFETY: buffers.
    writes(|fd, bytes| unsafe { libc::pwritev(fd, parts(bytes).as_ptr(), 3, OFFSET as _) });
}

#[test]
fn pwritev64() {
    // SAFETY: buffers.
    writes(|fd, bytes| unsafe { libc::pwritev64(fd, parts(bytes).as_ptr(), 3, OFFSET as _) });
}

#[test]
fn pwritev2() {
    // SAFETY: buffers.
    writes(|fd, bytes| unsafe { libc::pwritev2(fd, parts(bytes).as_ptr(), 3, OFFSET as _, 0) });
}

/// At the descriptor's own position.
#[test]
fn pwritev64v2() {
    // SAFETY: buffers.
    writes(|fd, bytes| unsafe {
        libc::lseek(fd, OFFSET as _, libc::SEEK_SET);
        c::pwritev64v2(fd, parts(bytes).as_ptr(), 3, -1, 0)
    });
}

#[test]
fn writes_of_std() {
    together(new_file, |(mut file, path)| {
        let all = bytes();
        let (first, rest) = all.split_at(700);
        let (second, rest) = rest.split_at(9000);
        let parts = [IoSlice::new(first), IoSlice::new(second)];
        assert_eq!(file.write_vectored(&parts).unwrap(), 9700);
        file.write_all(rest).unwrap();
        file.write_all_at(b"hello", 10).unwrap();
        let written = fs::read(&path.0).unwrap();
        (written[10..15] == *b"hello", written[15..] == all[15..])
    });
}

/// What is said of a descriptor that is no file, or not open in that way.
#[test]
fn files_that_refuse() {
    patched(|| {
        let number = || Error::last_os_error().raw_os_error();
        let (_file, path) = new_file();
        let read_only = File::open(&path.0).unwrap();
        assert_eq!((&read_only).write(b"x").unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!((&read_only).read(&mut [0; 1]).unwrap(), 0);
        let (reader, _writer) = pipe().unwrap();
        let mut byte = 0_u8;
        // SAFETY: room for a byte.
        let got = unsafe { libc::pread(reader.as_raw_fd(), (&raw mut byte).cast(), 1, 0) };
        assert_eq!((got, number()), (-1, Some(libc::ESPIPE)));
        // SAFETY: room for a byte.
        let got = unsafe { libc::pread(read_only.as_raw_fd(), (&raw mut byte).cast(), 1, -1) };
        assert_eq!((got, number()), (-1, Some(libc::EINVAL)));
        // SAFETY: room for a byte.
        let got = unsafe { libc::pread(12_345, (&raw mut byte).cast(), 1, 0) };
        assert_eq!((got, number()), (-1, Some(libc::EBADF)));
        // What the kernel makes up when it is asked.
        let status = fs::read_to_string("/proc/self/status").unwrap();
        assert!(status.contains(&format!("Pid:\t{}", std::process::id())));
    });
}

#[test]
fn fsync() {
    together(new_file, |(mut file, _path)| {
        file.write_all(b"hello").unwrap();
        file.sync_all().is_ok()
    });
}

#[test]
fn fdatasync() {
    together(new_file, |(mut file, _path)| {
        file.write_all(b"hello").unwrap();
        file.sync_data().is_ok()
    });
}

/// Calls `sync` with a file that was written to, by threads and by coroutines.
fn syncs(sync: impl Fn(RawFd) -> c_int + Copy + Send + 'static) {
    together(new_file, move |(mut file, _path)| {
        file.write_all(b"hello").unwrap();
        sync(file.as_raw_fd())
    });
}

#[test]
fn msync() {
    syncs(|fd| {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping of the file, which is gone afterwards.
        unsafe {
            let mapped = libc::mmap(std::ptr::null_mut(), 5, access, libc::MAP_SHARED, fd, 0);
            assert_ne!(mapped, libc::MAP_FAILED);
            let synced = libc::msync(mapped, 5, libc::MS_SYNC);
            libc::munmap(mapped, 5);
            synced
        }
    });
}

#[test]
fn syncfs() {
    // SAFETY: no memory is involved.
    syncs(|fd| unsafe { libc::syncfs(fd) });
}

#[test]
fn sync_file_range() {
    let flags = libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: no memory is involved.
    syncs(move |fd| unsafe { libc::sync_file_range(fd, 0, 0, flags) });
}

#[test]
fn flock() {
    row(|| {
        let (file, path) = new_file();
        let other = File::open(&path.0).unwrap();
        other.lock().unwrap();
        thread::spawn(move || {
            thread::sleep(BLOCK + Duration::from_millis(2));
            drop(other);
        });
        file.lock().unwrap();
        // Others that do not wait are told.
        let third = File::open(&path.0).unwrap();
        let told = third.try_lock().is_err();
        file.unlock().unwrap();
        (told, third.try_lock().is_ok())
    });
}

fn locks(command: c_int, call: impl Fn(RawFd, &libc::flock) -> c_int + Copy + Send + 'static) {
    row(move || {
        // SAFETY: all-zero, and then a lock of everything.
        let mut lock: libc::flock = unsafe { zeroed() };
        lock.l_type = libc::F_WRLCK as _;
        let (file, path) = new_file();
        let other = OpenOptions::new().write(true).open(&path.0).unwrap();
        // SAFETY: a lock.
        let taken = unsafe { libc::fcntl(other.as_raw_fd(), command, &lock) };
        assert_eq!(taken, 0, "{}", Error::last_os_error());
        thread::spawn(move || {
            thread::sleep(BLOCK + Duration::from_millis(2));
            drop(other);
        });
        call(file.as_raw_fd(), &lock)
    });
}

#[test]
fn fcntl_of_a_lock() {
    // SAFETY: a lock.
    locks(libc::F_OFD_SETLK, |fd, lock| unsafe { libc::fcntl(fd, libc::F_OFD_SETLKW, lock) });
}

#[test]
fn fcntl64() {
    unsafe extern "C" {
        fn fcntl64(fd: c_int, command: c_int, ...) -> c_int;
    }
    // SAFETY: a lock.
    locks(libc::F_OFD_SETLK, |fd, lock| unsafe { fcntl64(fd, libc::F_OFD_SETLKW, lock) });
}

/// A lock that another process has.
#[test]
fn a_lock_of_a_process() {
    patched(|| {
        let (file, path) = new_file();
        let (mut reader, mut writer) = pipe().unwrap();
        // SAFETY: all-zero, and then a lock of everything.
        let mut lock: libc::flock = unsafe { zeroed() };
        lock.l_type = libc::F_WRLCK as _;
        // SAFETY: the child calls only what is allowed there.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: a path and a lock; system calls only.
            unsafe {
                let fd = libc::syscall(libc::SYS_openat, -100, path.name().as_ptr(), libc::O_RDWR);
                libc::syscall(libc::SYS_fcntl, fd, libc::F_SETLK, &lock);
                libc::syscall(libc::SYS_write, writer.as_raw_fd(), b"x".as_ptr(), 1);
                libc::syscall(libc::SYS_read, libc::STDIN_FILENO, [0_u8; 8].as_mut_ptr(), 0);
                libc::usleep(100_000);
                libc::_exit(0);
            }
        }
        reader.read_exact(&mut [0; 1]).unwrap();
        writer.write_all(b"x").unwrap();
        let others = Rc::new(Cell::new(0));
        let counter = Rc::clone(&others);
        let other = spawn(move || counter.set(1));
        // SAFETY: a lock.
        assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLKW, &lock) }, 0);
        assert_eq!(others.get(), 1);
        other.join().unwrap();
        // SAFETY: without a place for the status.
        assert_eq!(unsafe { libc::waitpid(child, null_mut(), 0) }, child);
    });
}

/// A file goes to one who does not read for a while.
fn sends(call: impl Fn(RawFd, RawFd) -> isize + Copy + Send + 'static) {
    row(move || {
        let (file, _path) = new_file();
        let size = 16 << 20;
        file.set_len(size).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut there, _) = listener.accept().unwrap();
        let reading = thread::spawn(move || {
            thread::sleep(BLOCK + Duration::from_millis(2));
            let mut all = Vec::new();
            there.read_to_end(&mut all).unwrap();
            all.len()
        });
        let mut sent = 0;
        while sent < size as isize {
            let part = call(here.as_raw_fd(), file.as_raw_fd());
            assert!(part > 0, "{}", Error::last_os_error());
            sent += part;
        }
        drop(here);
        while !reading.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        reading.join().unwrap()
    });
}

#[test]
fn sendfile() {
    // SAFETY: from where the file stands.
    sends(|to, from| unsafe { libc::sendfile(to, from, null_mut(), 1 << 30) });
}

#[test]
fn sendfile64() {
    // SAFETY: from where the file stands.
    sends(|to, from| unsafe { libc::sendfile64(to, from, null_mut(), 1 << 30) });
}

/// From a pipe that is written to later.
fn pipes(call: impl Fn(RawFd, RawFd) -> isize + Copy + Send + 'static) {
    row(move || {
        let (from, mut writer) = pipe().unwrap();
        let (mut reader, to) = pipe().unwrap();
        thread::spawn(move || {
            thread::sleep(BLOCK + Duration::from_millis(2));
            writer.write_all(b"hello").unwrap();
        });
        let count = call(from.as_raw_fd(), to.as_raw_fd());
        let mut got = [0; 5];
        reader.read_exact(&mut got).unwrap();
        (count, got)
    });
}

#[test]
fn splice() {
    // SAFETY: two pipes.
    pipes(|from, to| unsafe { libc::splice(from, null_mut(), to, null_mut(), 100, 0) });
}

#[test]
fn tee() {
    // SAFETY: two pipes.
    pipes(|from, to| unsafe { libc::tee(from, to, 100, 0) });
}

#[test]
fn copy_file_range() {
    together(
        || (cold_file(), new_file()),
        |((from, _from_path), (to, to_path))| {
            let (mut from_offset, mut to_offset) = (OFFSET as i64, 3_i64);
            // SAFETY: two files, two offsets.
            let copied = unsafe {
                libc::copy_file_range(
                    from.as_raw_fd(),
                    &mut from_offset,
                    to.as_raw_fd(),
                    &mut to_offset,
                    SIZE,
                    0,
                )
            };
            assert!(fs::read(&to_path.0).unwrap()[3..] == bytes()[OFFSET..]);
            (copied, from_offset, to_offset)
        },
    );
}

#[test]
fn copies_of_std() {
    together(cold_file, |(_file, path)| {
        let copy = Temporary::new();
        fs::copy(&path.0, &copy.0).unwrap();
        fs::read(&copy.0).unwrap() == bytes()
    });
}

fn make_fifo() -> Temporary {
    let path = Temporary::new();
    // SAFETY: a path.
    assert_eq!(unsafe { libc::mkfifo(path.name().as_ptr(), 0o600) }, 0);
    path
}

/// Its other end is opened a while later.
fn opens(to_write: bool, call: impl Fn(&CString) -> c_int + Copy + Send + 'static) {
    row(move || {
        let path = make_fifo();
        let name = path.0.clone();
        let other = thread::spawn(move || {
            thread::sleep(BLOCK + Duration::from_millis(2));
            OpenOptions::new().read(to_write).write(!to_write).open(name).unwrap()
        });
        let fd = call(&path.name());
        assert!(fd >= 0, "{}", Error::last_os_error());
        while !other.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        drop(other.join().unwrap());
        // SAFETY: what was opened.
        unsafe { libc::close(fd) }
    });
}

#[test]
fn open() {
    // SAFETY: a path.
    opens(false, |path| unsafe { libc::open(path.as_ptr(), libc::O_RDONLY) });
}

#[test]
fn open64() {
    // SAFETY: a path.
    opens(true, |path| unsafe { libc::open64(path.as_ptr(), libc::O_WRONLY) });
}

#[test]
fn openat() {
    // SAFETY: a path.
    opens(false, |path| unsafe { libc::openat(libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY) });
}

#[test]
fn openat64() {
    // SAFETY: a path.
    opens(true, |path| unsafe { libc::openat64(libc::AT_FDCWD, path.as_ptr(), libc::O_WRONLY) });
}

#[test]
fn creat() {
    // SAFETY: a path.
    opens(true, |path| unsafe { libc::creat(path.as_ptr(), 0o600) });
}

#[test]
fn creat64() {
    // SAFETY: a path.
    opens(true, |path| unsafe { libc::creat64(path.as_ptr(), 0o600) });
}

/// One end of a FIFO that has no other, the other end by the same thread, and files with a mode.
#[test]
fn opens_that_are_cut_short() {
    patched(|| {
        let path = make_fifo();
        let name = path.0.clone();
        let open = move || File::open(&name).unwrap_err().raw_os_error();
        let mut told = None;
        timeout(Duration::from_millis(5), || told = Some(open())).unwrap_err();
        assert_eq!(told, Some(Some(libc::ECANCELED)));
        let opening = spawn(move || {
            assert_eq!(open(), Some(libc::ECANCELED));
            yield_now();
        });
        yield_now();
        opening.kill();
        assert!(matches!(opening.join(), Err(JoinError::Killed)));
        let name = path.0.clone();
        let reading = spawn(move || fs::read_to_string(name).unwrap());
        yield_now();
        fs::write(&path.0, "hello").unwrap();
        assert_eq!(reading.join().unwrap(), "hello");
        let (_file, other) = new_file();
        let missing = File::open(other.0.with_extension("none")).unwrap_err();
        assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&other.0).unwrap().permissions());
        assert_eq!(mode & 0o600, 0o600);
    });
}

/// Many wait for what never comes, each by a thread: whoever comes later is served all the same.
#[test]
fn a_call_that_is_stuck_keeps_nobody_waiting() {
    patched(|| {
        let path = make_fifo();
        let stuck = (0..40).map(|_| {
            let name = path.0.clone();
            spawn(move || {
                assert_eq!(File::open(name).unwrap_err().raw_os_error(), Some(libc::ECANCELED));
            })
        });
        let stuck: Vec<_> = stuck.collect();
        yield_now();
        let (file, _path) = new_file();
        spawn(move || file.sync_all().unwrap()).join().unwrap();
        assert!(stuck.iter().all(|one| !one.is_finished()));
        stuck.iter().for_each(|one| one.kill());
        stuck.into_iter().for_each(|one| one.join().unwrap());
    });
}

/// A panic looks for symbols in files, and holds locks of std's meanwhile.
#[test]
fn panics_in_several_that_read() {
    patched(|| {
        // SAFETY: nobody else looks at it meanwhile.
        unsafe { std::env::set_var("RUST_BACKTRACE", "1") };
        let all = (0..4).map(|number| {
            spawn(move || {
                let (file, _path) = cold_file();
                file.read_at(&mut [0; 10], 0).unwrap();
                panic!("coroutine {number}");
            })
        });
        for result in switchgrass::coroutine::join_all(all.collect::<Vec<_>>()) {
            assert!(matches!(result, Err(JoinError::Panicked(_))));
        }
    });
}

/// A function that a backtrace names whatever the build: it has a frame of its own, and needs no debug information.
#[inline(never)]
fn names_itself_in_a_backtrace() -> bool {
    let trace = std::backtrace::Backtrace::force_capture().to_string();
    std::hint::black_box(trace).contains("names_itself_in_a_backtrace")
}

/// std reads the program's own file for it, and holds a lock meanwhile.
#[test]
fn backtraces_are_captured_by_many() {
    patched(|| {
        let all = (0..8).map(|_| spawn(names_itself_in_a_backtrace));
        for found in switchgrass::coroutine::join_all(all.collect::<Vec<_>>()) {
            assert!(found.unwrap());
        }
    });
}

/// A regular file never says that it would block, whatever its flags.
#[test]
fn a_file_that_is_set_not_to_block_is_written() {
    use std::os::unix::fs::OpenOptionsExt;
    patched(|| {
        let name = format!("switchgrass-nonblocking-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut options = std::fs::File::options();
        options.write(true).create(true).truncate(true).custom_flags(libc::O_NONBLOCK);
        let mut file = options.open(&path).unwrap();
        let writing = spawn(move || (0..100).for_each(|_| file.write_all(b"hello").unwrap()));
        writing.join().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"hello".repeat(100));
        std::fs::remove_file(&path).unwrap();
    });
}
