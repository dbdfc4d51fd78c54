//! What other libraries that define libc's symbols are known to get wrong, and is not tested elsewhere here.

use crate::{alone, patched};
use std::env;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Barrier, Condvar, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::coroutine::join_all;
use switchgrass::{monkey, spawn, yield_now};

const SHORT: Duration = Duration::from_millis(20);

/// A call on what is no descriptor fails, and ends nobody.
#[test]
fn a_read_of_no_descriptor() {
    patched(|| {
        for fd in [-1, i32::MIN, i32::MAX, 1_000_000] {
            let reading = spawn(move || {
                // SAFETY: room for a byte.
                let got = unsafe { libc::read(fd, [0_u8; 1].as_mut_ptr().cast(), 1) };
                (got, std::io::Error::last_os_error().raw_os_error())
            });
            assert_eq!(reading.join().unwrap(), (-1, Some(libc::EBADF)));
        }
    });
}

/// A limit that has passed leaves nothing to the next one that gets the number: neither the limit nor an event.
#[test]
fn a_new_socket_has_nothing_of_the_one_before() {
    patched(|| {
        for _ in 0..100 {
            let (mut old, there) = UnixStream::pair().unwrap();
            let number = old.as_raw_fd();
            old.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            assert_eq!(old.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
            drop((old, there));
            let (mut new, mut giver) = UnixStream::pair().unwrap();
            assert_eq!(new.as_raw_fd(), number);
            assert_eq!(new.read_timeout().unwrap(), None);
            let reading = spawn(move || new.read(&mut [0; 8]).unwrap());
            thread::sleep(Duration::from_millis(2));
            assert!(!reading.is_finished());
            giver.write_all(b"hello").unwrap();
            assert_eq!(reading.join().unwrap(), 5);
        }
    });
}

/// Each of these waits for its time, and lets the others run meanwhile.
#[test]
fn waits_with_a_limit() {
    patched(|| {
        let begun = Arc::new(Mutex::new(0));
        let waits: [fn(); 4] = [
            || {
                let (_sender, receiver) = channel::<()>();
                assert_eq!(receiver.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
            },
            || {
                let (mutex, condvar) = (Mutex::new(()), Condvar::new());
                let (_guard, result) = condvar.wait_timeout(mutex.lock().unwrap(), SHORT).unwrap();
                assert!(result.timed_out());
            },
            || {
                // It may return early.
                let start = Instant::now();
                while let Some(left) = SHORT.checked_sub(start.elapsed()) {
                    thread::park_timeout(left);
                }
            },
            || {
                let status = Command::new("sleep").arg("0.02").status().unwrap();
                assert!(status.success());
            },
        ];
        let all = waits.map(|wait| {
            let begun = Arc::clone(&begun);
            spawn(move || {
                *begun.lock().unwrap() += 1;
                let start = Instant::now();
                wait();
                assert!(start.elapsed() >= SHORT);
                *begun.lock().unwrap()
            })
        });
        for result in join_all(all) {
            assert_eq!(result.unwrap(), 4);
        }
    });
}

/// Held across a call that switches, and waited for by siblings.
#[test]
fn locks_that_are_held_across_a_call() {
    patched(|| {
        let (mutex, lock) = (Arc::new(Mutex::new(0)), Arc::new(RwLock::new(0)));
        let barrier = Arc::new(Barrier::new(10));
        let all = (0..10).map(|_| {
            let (mutex, lock) = (Arc::clone(&mutex), Arc::clone(&lock));
            let barrier = Arc::clone(&barrier);
            spawn(move || {
                let mut count = mutex.lock().unwrap();
                thread::sleep(Duration::from_millis(1));
                *count += 1;
                drop(count);
                let mut count = lock.write().unwrap();
                thread::sleep(Duration::from_millis(1));
                *count += 1;
                drop(count);
                barrier.wait();
                (*mutex.lock().unwrap(), *lock.read().unwrap())
            })
        });
        for result in join_all(all.collect::<Vec<_>>()) {
            assert_eq!(result.unwrap(), (10, 10));
        }
    });
}

/// Twenty coroutines print to a pipe that is read slowly: nobody finds a borrow of std's, and no line is torn.
#[test]
fn many_print_to_a_pipe_that_is_read_slowly() {
    const PRINTS: &str = "SWITCHGRASS_PRINTS";
    if env::var_os(PRINTS).is_some() {
        monkey::patch_all();
        let all = (0..20).map(|who| {
            spawn(move || {
                for line in 0..100 {
                    println!(
                        "line {line} of {who}, and so much more that the pipe is full {}",
                        "x".repeat(100)
                    );
                    yield_now();
                }
            })
        });
        join_all(all.collect::<Vec<_>>()).into_iter().for_each(|one| one.unwrap());
        return;
    }
    alone(|| {
        let name = thread::current().name().unwrap().to_owned();
        let mut again = Command::new(env::current_exe().unwrap());
        again.args([&name, "--exact", "--nocapture", "--test-threads=1"]).env(PRINTS, "1");
        let mut child = again.stdout(Stdio::piped()).spawn().unwrap();
        let (mut next, mut count) = ([0; 20], 0);
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            // What the harness prints stands before the first.
            let Some(at) = line.find("line ").filter(|_| line.ends_with("xxx")) else { continue };
            let mut words = line[at..].split([' ', ',']);
            let number: usize = words.nth(1).unwrap().parse().unwrap();
            let who: usize = words.nth(1).unwrap().parse().unwrap();
            assert_eq!(line[at..].bytes().filter(|byte| *byte == b'x').count(), 100, "{line}");
            assert_eq!(number, next[who], "{line}");
            next[who] += 1;
            count += 1;
            if count % 100 == 0 {
                thread::sleep(Duration::from_millis(5));
            }
        }
        assert_eq!((count, next), (2000, [100; 20]));
        assert!(child.wait().unwrap().success());
    });
}
