//! Files: as std's, and meanwhile the others run.

use proptest::prelude::*;
use std::cell::Cell;
use std::fmt::Debug;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::time::{Duration, SystemTime};
use switchgrass::fs::{self, File, OpenOptions, TryLockError};
use switchgrass::pool::{ThreadPool, unblock};
use switchgrass::{coroutine::join_all, sleep, spawn, timeout, yield_now};

/// A folder of the test's own.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// Where the file system never says that a read need not wait, if there is such a place.
    fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { Self::below(memory) } else { Self::new() }
    }

    fn below(base: &Path) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("switchgrass-files-{}-{count}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn file(&self, content: &[u8]) -> PathBuf {
        let path = self.path("file");
        std::fs::write(&path, content).unwrap();
        path
    }

    fn fifo(&self) -> PathBuf {
        let path = self.path("fifo");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    /// How many descriptors of this process are of files in here.
    fn descriptors(&self) -> usize {
        let all = std::fs::read_dir("/proc/self/fd").unwrap();
        all.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .filter(|path| path.starts_with(&self.0))
            .count()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// All threads of the global pool: what is given to it has not begun before this is dropped.
struct Occupied(Arc<(Mutex<bool>, Condvar)>);

impl Occupied {
    fn new() -> Self {
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        for _ in 0..10 {
            let gate = Arc::clone(&gate);
            let wait = move || {
                let closed = gate.0.lock().unwrap();
                drop(gate.1.wait_while(closed, |is_open| !*is_open).unwrap());
            };
            drop(ThreadPool::global().spawn(wait).unwrap());
        }
        Occupied(gate)
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

const SHORT: Duration = Duration::from_millis(3);

/// Calls `f` and gives up on it, which is on a pool without a free thread.
fn cancelled<T: Debug>(f: impl FnOnce() -> T) {
    let occupied = Occupied::new();
    timeout(SHORT, f).unwrap_err();
    drop(occupied);
}

/// To open a FIFO waits in the kernel until the other end is opened.
#[test]
fn others_run_while_a_fifo_is_opened() {
    let folder = Folder::new();
    let path = folder.fifo();
    let ticks = Rc::new(Cell::new(0));
    let reading = spawn({
        let (path, ticks) = (path.clone(), Rc::clone(&ticks));
        move || {
            let mut text = String::new();
            File::open(path).unwrap().read_to_string(&mut text).unwrap();
            (ticks.get(), text)
        }
    });
    for _ in 0..5 {
        sleep(Duration::from_millis(1));
        ticks.set(ticks.get() + 1);
    }
    assert!(!reading.is_finished());
    let mut writer = File::options().write(true).open(&path).unwrap();
    writer.write_all(b"hel").unwrap();
    yield_now();
    writer.write_all(b"lo").unwrap();
    drop(writer);
    assert_eq!(reading.join().unwrap(), (5, "hello".into()));
}

#[test]
fn others_run_while_the_pool_is_busy() {
    let folder = Folder::in_memory();
    let path = folder.file(b"hello");
    let mut file = File::options().read(true).write(true).open(&path).unwrap();
    let occupied = Occupied::new();
    let order = Rc::new(Cell::new(""));
    let syncing = spawn({
        let order = Rc::clone(&order);
        move || {
            file.write_all(b"J").unwrap();
            file.sync_all().unwrap();
            order.get()
        }
    });
    let whole = spawn(move || fs::read(path).unwrap());
    for word in ["one", "two", "three"] {
        sleep(Duration::from_millis(1));
        order.set(word);
    }
    assert!(!syncing.is_finished() && !whole.is_finished());
    drop(occupied);
    assert_eq!(syncing.join().unwrap(), "three");
    assert_eq!(whole.join().unwrap().len(), 5);
}

#[test]
fn a_big_file_is_written_synced_and_read_back() {
    let folder = Folder::new();
    let content: Vec<u8> = (0..3_000_017_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    let mut file = File::create_new(folder.path("big")).unwrap();
    file.write_all(&content).unwrap();
    file.sync_all().unwrap();
    file.sync_data().unwrap();
    assert_eq!(file.metadata().unwrap().len(), content.len() as u64);
    assert_eq!(file.rewind().map(|()| file.stream_position().unwrap()).unwrap(), 0);
    let mut back = Vec::new();
    assert_eq!(file.read_to_end(&mut back).unwrap(), content.len());
    assert!(back == content);
    assert!(fs::read(folder.path("big")).unwrap() == content);
}

/// {test_file_*}: lines of a file through a `BufReader`.
#[test]
fn lines_of_a_file() {
    let folder = Folder::in_memory();
    let path = folder.file(b"one\ntwo\nthree");
    let lines: Vec<_> =
        BufReader::new(File::open(path).unwrap()).lines().map(Result::unwrap).collect();
    assert_eq!(lines, ["one", "two", "three"]);
}

#[test]
fn a_hundred_read_at_once() {
    let (disk, memory) = (Folder::new(), Folder::in_memory());
    for folder in [&disk, &memory] {
        let content = [b'x'; 10_000];
        let path = folder.file(&content);
        let file = Rc::new(File::open(&path).unwrap());
        let all = (0..100).map(|number| {
            let (path, file) = (path.clone(), Rc::clone(&file));
            spawn(move || {
                let mut buffer = Vec::new();
                match number % 3 {
                    0 => drop(File::open(path).unwrap().read_to_end(&mut buffer).unwrap()),
                    1 => buffer = fs::read(path).unwrap(),
                    _ => {
                        buffer.resize(10_000, 0);
                        file.read_exact_at(&mut buffer, 0).unwrap();
                    }
                }
                buffer.len()
            })
        });
        assert!(join_all(all.collect::<Vec<_>>()).into_iter().all(|read| read.unwrap() == 10_000));
        assert_eq!(folder.descriptors(), 1, "the shared one");
        drop(file);
        assert_eq!(folder.descriptors(), 0);
    }
}

/// Neither can be read at an offset, and say what they hold only when asked; and they have an end.
#[test]
fn what_is_no_regular_file() {
    let mut text = String::new();
    File::open("/proc/version").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, std::fs::read_to_string("/proc/version").unwrap());
    assert_eq!(fs::read_to_string("/proc/version").unwrap(), text);

    let mut null = File::options().read(true).write(true).open("/dev/null").unwrap();
    assert_eq!(null.read(&mut [0; 4]).unwrap(), 0);
    null.write_all(b"gone").unwrap();
    let mut zeros = [1; 9];
    File::open("/dev/zero").unwrap().read_exact(&mut zeros).unwrap();
    assert_eq!(zeros, [0; 9]);

    let mut folder = File::open("/proc").unwrap();
    let error = std::fs::File::open("/proc").unwrap().read(&mut [0; 4]).unwrap_err();
    assert_eq!(folder.read(&mut [0; 4]).unwrap_err().raw_os_error(), error.raw_os_error());

    let fifo = Folder::new();
    let mut fifo = File::options().read(true).write(true).open(fifo.fifo()).unwrap();
    for error in [
        fifo.seek(SeekFrom::Start(1)).unwrap_err(),
        fifo.seek(SeekFrom::End(0)).unwrap_err(),
        fifo.read_at(&mut [0; 1], 0).unwrap_err(),
        fifo.write_at(b"x", 0).unwrap_err(),
    ] {
        assert_eq!(error.raw_os_error(), Some(libc::ESPIPE));
    }
    assert_eq!(fifo.write(b"ab").unwrap(), 2);
    assert_eq!(fifo.read(&mut [0; 1]).unwrap(), 1);
    assert_eq!(fifo.read(&mut [0; 9]).unwrap(), 1);
}

/// Whoever waits to read from a pipe does not keep another from writing to it, by the same handle.
#[test]
fn a_stream_is_read_from_and_written_to_at_once() {
    let folder = Folder::new();
    let fifo = Rc::new(File::options().read(true).write(true).open(folder.fifo()).unwrap());
    let reader = Rc::clone(&fifo);
    let reading = spawn(move || {
        let mut buffer = [0; 5];
        (&*reader).read_exact(&mut buffer).unwrap();
        buffer
    });
    sleep(SHORT);
    assert!(!reading.is_finished());
    (&*fifo).write_all(b"hello").unwrap();
    assert_eq!(reading.join().unwrap(), *b"hello");
}

/// The operations of a handle are made in the order in which they were begun.
#[test]
fn operations_come_one_after_the_other() {
    let folder = Folder::in_memory();
    let path = folder.path("file");
    let file = Rc::new(File::create_new(&path).unwrap());
    let all: Vec<_> = (0..50_u8)
        .map(|number| {
            let file = Rc::clone(&file);
            spawn(move || (&*file).write_all(&[number; 3]).unwrap())
        })
        .collect();
    assert!(join_all(all).into_iter().all(|end| end.is_ok()));
    let expected: Vec<u8> = (0..50).flat_map(|number| [number; 3]).collect();
    assert_eq!(std::fs::read(&path).unwrap(), expected);
}

/// A read that is given up has read nothing, as far as anybody can see.
#[test]
fn a_cancelled_read_loses_nothing() {
    let folder = Folder::in_memory();
    for path in [folder.file(b"hello"), "/proc/version".into()] {
        let content = std::fs::read(&path).unwrap();
        let mut file = File::open(&path).unwrap();
        cancelled(|| file.read(&mut [0; 3]));
        assert_eq!(file.stream_position().unwrap(), 0);
        let occupied = Occupied::new();
        timeout(SHORT, || file.read(&mut [0; 3])).unwrap_err();
        // Given up while it waits for the one before.
        timeout(SHORT, || file.read(&mut [0; 3])).unwrap_err();
        drop(occupied);
        let mut clone = file.try_clone().unwrap();
        cancelled(|| clone.read(&mut [0; 3]));
        let mut back = Vec::new();
        file.read_to_end(&mut back).unwrap();
        assert_eq!(back, content);
        cancelled(|| file.read_at(&mut [0; 3], 0));
        file.rewind().unwrap();
        cancelled(|| file.read(&mut [0; 3]));
        drop(clone);
        let mut back = String::new();
        file.into_std().read_to_string(&mut back).unwrap();
        assert_eq!(back.as_bytes(), content);
    }
}

/// What has no position cannot take back what was read: the next read has it.
#[test]
fn a_cancelled_read_of_a_pipe_leaves_its_bytes_to_the_next() {
    let folder = Folder::new();
    let path = folder.fifo();
    let mut fifo = File::options().read(true).write(true).open(&path).unwrap();
    let mut other = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    for _ in 0..3 {
        timeout(SHORT, || fifo.read(&mut [0; 16])).unwrap_err();
    }
    other.write_all(b"hello").unwrap();
    let mut buffer = [0; 2];
    for expected in [b"he", b"ll"] {
        fifo.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, expected);
    }
    fifo.write_all(b" world").unwrap();
    let mut rest = [0; 7];
    fifo.read_exact(&mut rest).unwrap();
    assert_eq!(&rest, b"o world");
}

#[test]
fn a_cancelled_write_is_made_before_the_next() {
    let folder = Folder::in_memory();
    let path = folder.path("file");
    let mut file = File::create_new(&path).unwrap();
    cancelled(|| file.write_all(b"one"));
    file.write_all(b"two").unwrap();
    let occupied = Occupied::new();
    timeout(SHORT, || file.write_all(b"three")).unwrap_err();
    timeout(SHORT, || file.flush()).unwrap_err();
    timeout(SHORT, || file.stream_position()).unwrap_err();
    drop(occupied);
    file.flush().unwrap();
    assert_eq!(file.stream_position().unwrap(), 11);
    cancelled(|| file.write_all_at(b"T", 3));
    file.set_len(8).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"oneTwoth");
    cancelled(|| file.set_len(4));
    assert_eq!(file.seek(SeekFrom::End(0)).unwrap(), 4);
}

#[test]
fn the_error_of_a_cancelled_write_is_the_next_ones() {
    let mut full = File::options().read(true).write(true).open("/dev/full").unwrap();
    let is_full = |result: io::Result<()>| {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::StorageFull);
    };
    is_full(full.write_all(b"x"));
    full.flush().unwrap();
    cancelled(|| full.write_all(b"x"));
    is_full(full.flush());
    full.flush().unwrap();
    cancelled(|| full.write_all(b"x"));
    assert_eq!(full.read(&mut [1; 3]).unwrap(), 3, "a read does not have it");
    is_full(full.set_len(0));
}

#[test]
fn a_cancelled_open_leaves_no_descriptor() {
    let folder = Folder::new();
    let path = folder.fifo();
    timeout(SHORT, || File::open(&path)).unwrap_err();
    // The one that was given up goes on when there is a writer.
    let writer = File::options().write(true).open(&path).unwrap();
    while folder.descriptors() > 1 {
        sleep(Duration::from_millis(1));
    }
    drop(writer);
    let file = folder.path("file");
    cancelled(|| File::create(&file));
    while !file.exists() || folder.descriptors() > 0 {
        sleep(Duration::from_millis(1));
    }
}

/// Killed at any moment, a reader of a file leaves to the next exactly what it has not returned.
#[test]
fn readers_that_give_up_and_go_on_read_all() {
    for folder in [Folder::in_memory(), Folder::new()] {
        let content: Vec<u8> = (0..4000_u32).map(|n| (n % 251) as u8).collect();
        let mut file = File::open(folder.file(&content)).unwrap();
        let (mut back, mut buffer, mut micros) = (Vec::new(), [0; 7], 0);
        loop {
            micros = (micros + 7) % 60;
            match timeout(Duration::from_micros(micros), || file.read(&mut buffer)) {
                Ok(Ok(0)) => break,
                Ok(got) => back.extend_from_slice(&buffer[..got.unwrap()]),
                Err(_) => {}
            }
        }
        assert!(back == content);
    }
}

/// On a thread of the pool it is done there: with all of them waiting for the pool, nobody would do it.
#[test]
fn files_are_used_on_the_threads_of_the_pool() {
    let all = Arc::new(Barrier::new(2));
    let read = || {
        let all = Arc::clone(&all);
        spawn(move || {
            unblock(move || {
                all.wait();
                let mut text = String::new();
                let mut file = File::open("/proc/version").unwrap();
                file.read_to_string(&mut text).unwrap();
                let here = fs::read_dir("src/fs").unwrap().map(Result::unwrap);
                (text == fs::read_to_string("/proc/version").unwrap(), here.count())
            })
        })
    };
    for handle in [read(), read()] {
        let (is_equal, count) = handle.join().unwrap();
        assert!(is_equal && count > 3);
    }
}

#[test]
fn a_clone_has_the_same_position() {
    let folder = Folder::new();
    let mut file = File::open(folder.file(b"hello")).unwrap();
    let mut clone = file.try_clone().unwrap();
    file.read_exact(&mut [0; 2]).unwrap();
    let mut rest = String::new();
    clone.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "llo");
    drop(file);
    let mut inner = clone.into_std();
    assert_eq!(inner.stream_position().unwrap(), 5);
    let mut back = File::from(inner.try_clone().unwrap());
    inner.rewind().unwrap();
    back.read_exact(&mut [0; 4]).unwrap();
    assert_eq!(inner.stream_position().unwrap(), 4);
}

#[test]
fn locks_wait_and_are_given_up() {
    let folder = Folder::new();
    let path = folder.file(b"");
    let open = || Rc::new(File::options().read(true).write(true).open(&path).unwrap());
    let (first, second, third) = (open(), open(), open());
    first.lock().unwrap();
    let error = second.try_lock_shared().unwrap_err();
    assert!(matches!(error, TryLockError::WouldBlock), "{error}");
    assert_eq!(io::Error::from(error).kind(), ErrorKind::WouldBlock);
    timeout(SHORT, || third.lock()).unwrap_err();
    let waiting = spawn({
        let second = Rc::clone(&second);
        move || second.lock_shared().unwrap()
    });
    sleep(SHORT);
    assert!(!waiting.is_finished());
    first.unlock().unwrap();
    waiting.join().unwrap();
    first.try_lock_shared().unwrap();
    assert!(matches!(third.try_lock(), Err(TryLockError::WouldBlock)));
    drop((first, second));
    third.try_lock().unwrap();
}

#[test]
fn an_aligned_buffer_for_direct_reads() {
    let folder = Folder::new();
    let path = folder.file(&[7; 8192]);
    let Ok(file) = File::options().read(true).custom_flags(libc::O_DIRECT).open(path) else {
        return; // Not all file systems have it.
    };
    let mut buffer = vec![0; 8192 + 1];
    assert_eq!((&file).read(&mut buffer[1..]).unwrap(), 8192);
    assert!(buffer[1..].iter().all(|byte| *byte == 7));
}

#[test]
fn options_are_those_of_std() {
    let folder = Folder::new();
    let path = folder.path("file");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let file = OpenOptions::new().write(true).create(true).mode(0o400).open(&path).unwrap();
    assert_eq!(mode(&path), 0o400);
    file.set_permissions(std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(mode(&path), 0o640);
    let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    file.set_modified(moment).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), moment);
    assert_eq!(File::create_new(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let nothing = OpenOptions::new().open(&path).unwrap_err();
    assert_eq!(
        nothing.raw_os_error(),
        std::fs::OpenOptions::new().open(&path).unwrap_err().raw_os_error()
    );
    assert!(format!("{file:?}").contains("fd: "), "{file:?}");
}

/// The same of both: kind and message of an error, or the result.
#[track_caller]
fn same<T: PartialEq + Debug>(ours: io::Result<T>, of_std: io::Result<T>) {
    let said = |result: io::Result<T>| {
        result.map_err(|error| (error.kind(), error.raw_os_error(), error.to_string()))
    };
    assert_eq!(said(ours), said(of_std));
}

#[test]
fn functions_say_what_those_of_std_say() {
    let folder = Folder::new();
    let (file, gone, inside) =
        (folder.file(b"\xff"), folder.path("gone"), folder.path("file/inside"));
    let zero = PathBuf::from("a\0b");
    for path in [&file, &gone, &folder.0, &inside, &zero] {
        same(fs::read(path), std::fs::read(path));
        same(fs::read_to_string(path), std::fs::read_to_string(path));
        same(fs::exists(path), std::fs::exists(path));
        same(fs::canonicalize(path), std::fs::canonicalize(path));
        same(fs::read_link(path), std::fs::read_link(path));
        let length = |metadata: std::fs::Metadata| (metadata.len(), metadata.is_dir());
        same(fs::metadata(path).map(length), std::fs::metadata(path).map(length));
        same(fs::symlink_metadata(path).map(length), std::fs::symlink_metadata(path).map(length));
        same(fs::read_dir(path).map(|_| ()), std::fs::read_dir(path).map(|_| ()));
        same(fs::create_dir(path.join("a/b")), std::fs::create_dir(path.join("a/b")));
        same(File::open(path).map(|_| ()), std::fs::File::open(path).map(|_| ()));
    }
    for path in [&gone, &inside, &zero] {
        same(fs::remove_file(path), std::fs::remove_file(path));
        same(fs::remove_dir(path), std::fs::remove_dir(path));
        same(fs::remove_dir_all(path), std::fs::remove_dir_all(path));
        same(fs::rename(path, &file), std::fs::rename(path, &file));
        same(fs::hard_link(path, &gone), std::fs::hard_link(path, &gone));
        same(fs::copy(path, &file), std::fs::copy(path, &file));
    }
    let mut unreadable = File::options().append(true).open(&file).unwrap();
    let mut of_std = std::fs::File::options().append(true).open(&file).unwrap();
    same(unreadable.read(&mut [0; 1]), of_std.read(&mut [0; 1]));
    let mut readable = File::open(&file).unwrap();
    let mut of_std = std::fs::File::open(&file).unwrap();
    same(readable.write(b"x"), of_std.write(b"x"));
    same(readable.set_len(3), of_std.set_len(3));
    let (mut ours, mut theirs) = ([0; 9], [0; 9]);
    same(readable.read_exact(&mut ours), of_std.read_exact(&mut theirs));
    same(readable.read_exact_at(&mut ours, 0), of_std.read_exact_at(&mut theirs, 0));
    same(readable.read_at(&mut ours, u64::MAX), of_std.read_at(&mut theirs, u64::MAX));
}

#[test]
fn names_are_given_moved_and_taken_away() {
    let folder = Folder::new();
    let path = |name: &str| folder.path(name);
    fs::create_dir_all(path("a/b/c")).unwrap();
    fs::write(path("a/one"), "hello").unwrap();
    assert_eq!(fs::copy(path("a/one"), path("a/two")).unwrap(), 5);
    fs::hard_link(path("a/one"), path("a/three")).unwrap();
    fs::symlink("one", path("a/link")).unwrap();
    assert_eq!(fs::read_link(path("a/link")).unwrap(), Path::new("one"));
    assert!(fs::symlink_metadata(path("a/link")).unwrap().is_symlink());
    assert_eq!(fs::canonicalize(path("a/link")).unwrap(), path("a/one").canonicalize().unwrap());
    fs::rename(path("a/two"), path("a/b/two")).unwrap();
    assert_eq!(fs::read_to_string(path("a/b/two")).unwrap(), "hello");
    fs::set_permissions(path("a/one"), std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(fs::metadata(path("a/three")).unwrap().permissions().mode() & 0o777, 0o600);
    fs::remove_dir(path("a/b/c")).unwrap();
    fs::remove_file(path("a/one")).unwrap();
    assert!(!fs::exists(path("a/link")).unwrap());
    fs::create_dir(path("d")).unwrap();
    fs::remove_dir_all(path("a")).unwrap();
    let left: Vec<_> = fs::read_dir(&folder.0).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["d"]);
}

/// Many batches; and whoever gives up in between goes on where it was.
#[test]
fn a_folder_of_many_is_read() {
    let folder = Folder::new();
    for number in 0..1000 {
        std::fs::write(folder.path(&number.to_string()), [0; 3]).unwrap();
    }
    std::fs::create_dir(folder.path("folder")).unwrap();
    let mut entries = fs::read_dir(&folder.0).unwrap();
    let (mut numbers, mut given_up) = (Vec::new(), 0);
    loop {
        let occupied = (given_up < 3).then(Occupied::new);
        let next =
            timeout(Duration::from_millis(if occupied.is_some() { 1 } else { 10_000 }), || {
                entries.next().map(Result::unwrap)
            });
        drop(occupied);
        match next {
            Ok(None) => break,
            Err(_) => given_up += 1,
            Ok(Some(entry)) => {
                let name = entry.file_name().into_string().unwrap();
                assert_eq!(entry.path(), folder.path(&name));
                if name == "folder" {
                    assert!(entry.file_type().unwrap().is_dir());
                    continue;
                }
                assert!(entry.file_type().unwrap().is_file());
                if numbers.len() % 100 == 0 {
                    assert_eq!(entry.metadata().unwrap().len(), 3);
                }
                numbers.push(name.parse::<u32>().unwrap());
            }
        }
    }
    assert_eq!(given_up, 3);
    numbers.sort();
    assert!(numbers.into_iter().eq(0..1000));
    assert!(entries.next().is_none());
}

#[derive(Clone, Debug)]
enum Op {
    Read(usize),
    Write(Vec<u8>),
    Seek(SeekFrom),
    SetLen(u64),
    ReadAt(usize, u64),
    WriteAt(Vec<u8>, u64),
    Length,
    Sync,
    Clone,
}

fn op() -> impl Strategy<Value = Op> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..5000);
    let seek = prop_oneof![
        (0..9000_u64).prop_map(SeekFrom::Start),
        (-5000..5000_i64).prop_map(SeekFrom::Current),
        (-5000..5000_i64).prop_map(SeekFrom::End),
    ];
    prop_oneof![
        4 => (0..6000_usize).prop_map(Op::Read),
        4 => bytes().prop_map(Op::Write),
        3 => seek.prop_map(Op::Seek),
        1 => (0..9000_u64).prop_map(Op::SetLen),
        2 => (0..6000_usize, 0..9000_u64).prop_map(|(count, at)| Op::ReadAt(count, at)),
        2 => (bytes(), 0..9000_u64).prop_map(|(bytes, at)| Op::WriteAt(bytes, at)),
        1 => Just(Op::Length),
        1 => Just(Op::Sync),
        1 => Just(Op::Clone),
    ]
}

/// Reads until there is no more room, or nothing more: of what the page cache has a part only, ours reads that
/// part.
fn fill(
    buffer: &mut [u8],
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match read(&mut buffer[got..], got as u64)? {
            0 => break,
            count => got += count,
        }
    }
    Ok(got)
}

/// What an operation says, of either.
macro_rules! apply {
    ($file:ident, $op:expr) => {{
        let (mut buffer, mut value) = (Vec::new(), 0);
        let result: io::Result<()> = match $op.clone() {
            Op::Read(count) => {
                buffer.resize(count, 0);
                let read = fill(&mut buffer, |rest, _| $file.read(rest));
                read.map(|got| buffer.truncate(got))
            }
            Op::Write(bytes) => $file.write(&bytes).map(|count| value = count as u64),
            Op::Seek(to) => $file.seek(to).map(|at| value = at),
            Op::SetLen(size) => $file.set_len(size),
            Op::ReadAt(count, at) => {
                buffer.resize(count, 0);
                let read = fill(&mut buffer, |rest, got| $file.read_at(rest, at + got));
                read.map(|got| buffer.truncate(got))
            }
            Op::WriteAt(bytes, at) => $file.write_at(&bytes, at).map(|count| value = count as u64),
            Op::Length => $file.metadata().map(|metadata| value = metadata.len()),
            Op::Sync => $file.sync_data(),
            Op::Clone => $file.try_clone().map(|clone| $file = clone),
        };
        let position = $file.stream_position().unwrap();
        (result.map_err(|error| error.to_string()), buffer, value, position)
    }};
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() })]

    /// One sequence of operations on a file of ours and on one of std's: the same results, the same content.
    #[test]
    fn a_file_does_what_one_of_std_does(
        ops in prop::collection::vec(op(), 1..30),
        (in_memory, reads, writes, appends) in any::<(bool, bool, bool, bool)>(),
    ) {
        let folder = if in_memory { Folder::in_memory() } else { Folder::new() };
        let (path, path_of_std) = (folder.path("ours"), folder.path("std"));
        let start: Vec<u8> = (0..7000_u32).map(|n| (n % 253) as u8).collect();
        std::fs::write(&path, &start).unwrap();
        std::fs::write(&path_of_std, &start).unwrap();
        let (reads, appends) = (reads || !writes, appends && writes);
        let mut options = File::options();
        let opened = options.read(reads).write(writes).append(appends).open(&path);
        let mut options = std::fs::File::options();
        let opened_by_std = options.read(reads).write(writes).append(appends).open(&path_of_std);
        let (mut file, mut of_std) = (opened.unwrap(), opened_by_std.unwrap());
        for op in &ops {
            prop_assert_eq!(apply!(file, op), apply!(of_std, op), "{:?}", op);
        }
        prop_assert!(std::fs::read(&path).unwrap() == std::fs::read(&path_of_std).unwrap());
    }
}
