//! When no thread can be made for what blocks.

use crate::own_process::alone;
use std::io::ErrorKind;
use switchgrass::fs::{self, File};
use switchgrass::net::{TcpStream, ToSocketAddrs};
use switchgrass::{io, spawn};

/// Has no address space left while `f` is called, so that there is none for a thread's stack.
fn without_threads<R>(f: impl FnOnce() -> R) -> R {
    let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: room for the limit, and valid limits.
    unsafe {
        libc::getrlimit(libc::RLIMIT_AS, &mut before);
        libc::setrlimit(libc::RLIMIT_AS, &libc::rlimit { rlim_cur: 1, ..before });
    }
    let result = f();
    // SAFETY: the limit that there was.
    unsafe { libc::setrlimit(libc::RLIMIT_AS, &before) };
    result
}

#[test]
#[cfg_attr(feature = "sanitizer", ignore = "its runtime needs address space")]
fn files_and_names_fail_without_a_thread_and_work_again() {
    alone("few_threads::files_and_names_fail_without_a_thread_and_work_again", || {
        // The hub has what it needs.
        drop(io::pipe().unwrap());
        spawn(|| ()).join().unwrap();
        let kinds = without_threads(|| {
            [
                fs::read("Cargo.toml").err(),
                fs::metadata("Cargo.toml").err(),
                File::open("Cargo.toml").err(),
                fs::read_dir("src").err(),
                "localhost:80".resolve().err(),
                TcpStream::connect("localhost:80").err(),
            ]
            .map(|error| error.map(|error| error.kind()))
        });
        assert_eq!(kinds, [Some(ErrorKind::Other); 6]);
        assert!(!fs::read("Cargo.toml").unwrap().is_empty());
        assert!(!"localhost:80".resolve().unwrap().is_empty());
    });
}

/// An open file of which nothing is in the page cache, a folder that is half read.
#[test]
#[cfg_attr(feature = "sanitizer", ignore = "its runtime needs address space")]
fn an_open_file_and_a_folder_fail_without_a_thread() {
    alone("few_threads::an_open_file_and_a_folder_fail_without_a_thread", || {
        let path = std::env::temp_dir().join(format!("switchgrass-threads-{}", std::process::id()));
        std::fs::write(&path, b"hello").unwrap();
        let file = File::from_std(std::fs::File::options().append(true).open(&path).unwrap());
        let error = without_threads(|| std::io::Write::write(&mut &file, b" there").unwrap_err());
        assert_eq!(error.kind(), ErrorKind::Other);
        let error = without_threads(|| file.metadata().unwrap_err());
        assert_eq!(error.kind(), ErrorKind::Other);
        // The failed write is not reported again, nor made later.
        std::io::Write::write_all(&mut &file, b" again").unwrap();
        file.sync_all().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "hello again");
        std::fs::remove_file(&path).unwrap();
    });
}
