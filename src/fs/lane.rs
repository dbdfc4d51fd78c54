#![forbid(unsafe_code)]
//! How the operations of a file come one after the other, also when one is cancelled.
//!
//! ```text
//!            enter                      job on the pool             its end
//!   FREE ──────────────▶ HAS THE TURN ─────────────────▶ WAITS ──────────────▶ HAS THE TURN ──▶ FREE
//!    ▲  ▲ nothing is left                                  │
//!    │  │                                                  │ killed: the job is left behind
//!    │  └────────────── enter: waits for that job, ◀───────┘
//!    │                  and takes up what it did
//!    │                       │ killed again: left behind again
//!    └───────────────────────┘
//! ```

use crate::pool::{JobHandle, try_begin};
use crate::sync::Semaphore;
use std::cell::Cell;
use std::fs;
use std::io::{self, Seek, SeekFrom};
use std::sync::Arc;

/// So many bytes are read or written at a time at most, so that the buffer that they travel in is bounded.
pub(super) const MOST: usize = 256 * 1024;

/// What bytes travel in to and from the pool: the caller's may be gone before the job is.
#[derive(Default)]
pub(super) struct Buffer(Vec<u8>);

/// As files want it that were opened with `O_DIRECT`.
const ALIGNMENT: usize = 4096;

impl Buffer {
    /// So many bytes, with what they held last. Their place is the same until more are asked for.
    pub(super) fn space(&mut self, count: usize) -> &mut [u8] {
        if self.0.len() < count + ALIGNMENT {
            self.0 = vec![0; count + ALIGNMENT];
        }
        let start = self.0.as_ptr().align_offset(ALIGNMENT);
        &mut self.0[start..start + count]
    }
}

/// What an operation does to a file: which matters if it is cancelled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// It takes bytes: the next read has them.
    Read,
    /// It changes the file: the next change has its error.
    Change,
    /// Nothing that is missed.
    Look,
}

struct Done {
    buffer: Buffer,
    result: io::Result<u64>,
}

/// The job of an operation, and what that does.
struct Job {
    does: Does,
    handle: JobHandle<Done>,
}

/// Operations of which one at a time is under way.
pub(super) struct Lane {
    turn: Semaphore,
    /// The job of an operation that was cancelled.
    left: Cell<Option<Job>>,
    /// What such a one has read, and could not be given back.
    unread: Cell<Option<Unread>>,
    /// Why such a one has failed to change the file.
    failed: Cell<Option<io::Error>>,
    buffer: Cell<Buffer>,
}

struct Unread {
    buffer: Buffer,
    count: usize,
    given: usize,
}

impl Lane {
    pub(super) fn new() -> Self {
        Lane {
            turn: Semaphore::new(1),
            left: Cell::default(),
            unread: Cell::default(),
            failed: Cell::default(),
            buffer: Cell::default(),
        }
    }

    /// Waits until no operation is under way. Whether bytes can be given back to the file is whether it has a
    /// position.
    #[inline]
    #[track_caller]
    pub(super) fn enter<'a>(&'a self, file: &'a Arc<fs::File>, has_position: bool) -> Turn<'a> {
        self.turn.acquire();
        let turn = Turn { lane: self, file };
        // In a child, nobody ever hears of one of its parent's.
        if let Some(job) = self.left.take().filter(|job| !job.handle.is_left_behind()) {
            turn.take_up(job, has_position);
        }
        turn
    }

    /// Whether an operation that was cancelled has left something behind.
    pub(super) fn has_rest(&self) -> bool {
        let (left, failed) = (self.left.take(), self.failed.take());
        let has = left.is_some() || failed.is_some();
        self.left.set(left);
        self.failed.set(failed);
        has
    }

    pub(super) fn take_buffer(&self) -> Buffer {
        self.buffer.take()
    }

    /// Keeps a buffer for the next one.
    pub(super) fn keep(&self, buffer: Buffer) {
        let other = self.buffer.take();
        self.buffer.set(if other.0.len() > buffer.0.len() { other } else { buffer });
    }
}

/// The right to use a file, until it is dropped.
pub(super) struct Turn<'a> {
    lane: &'a Lane,
    file: &'a Arc<fs::File>,
}

impl Turn<'_> {
    /// Makes a call on the pool. The buffer comes back with what the call says; without a thread for it,
    /// which is an error, another one.
    #[track_caller]
    pub(super) fn run(
        &self,
        does: Does,
        mut buffer: Buffer,
        call: impl FnOnce(&fs::File, &mut Buffer) -> io::Result<u64> + Send + 'static,
    ) -> (Buffer, io::Result<u64>) {
        let file = Arc::clone(self.file);
        let begun = try_begin(move || {
            let result = call(&file, &mut buffer);
            // It may be the last: then the file is closed here.
            drop(file);
            Done { buffer, result }
        });
        let done = match begun {
            Ok(handle) => self.wait(Job { does, handle }),
            Err(error) => Done { buffer: Buffer::default(), result: Err(error) },
        };
        (done.buffer, done.result)
    }

    #[track_caller]
    fn wait(&self, job: Job) -> Done {
        let mut waiting = Waiting { lane: self.lane, job: Some(job) };
        if let Some(job) = &waiting.job {
            job.handle.wait();
        }
        let job = waiting.job.take().expect("it is there until it is dropped");
        let lost = |error| Done { buffer: Buffer::default(), result: Err(error) };
        job.handle.try_finish().unwrap_or_else(lost)
    }

    /// Waits for the job of one that was cancelled, and takes up what it did.
    #[cold]
    fn take_up(&self, job: Job, has_position: bool) {
        let does = job.does;
        let Done { buffer, result } = self.wait(job);
        match (does, result) {
            (Does::Read, Ok(count @ 1..)) => {
                let back = SeekFrom::Current(-(count as i64));
                if !(has_position && (&**self.file).seek(back).is_ok()) {
                    let unread = Unread { buffer, count: count as usize, given: 0 };
                    self.lane.unread.set(Some(unread));
                    return;
                }
            }
            (Does::Change, Err(error)) => self.lane.failed.set(Some(error)),
            _ => {}
        }
        self.lane.keep(buffer);
    }

    /// What one that was cancelled has read.
    pub(super) fn unread(&self, room: &mut [u8]) -> Option<usize> {
        let mut unread = self.lane.unread.take()?;
        let rest = &unread.buffer.space(unread.count)[unread.given..];
        let given = rest.len().min(room.len());
        room[..given].copy_from_slice(&rest[..given]);
        unread.given += given;
        if unread.given < unread.count {
            self.lane.unread.set(Some(unread));
        } else {
            self.lane.keep(unread.buffer);
        }
        Some(given)
    }

    /// Fails if one that was cancelled has failed to change the file: once.
    pub(super) fn check(&self) -> io::Result<()> {
        self.lane.failed.take().map_or(Ok(()), Err)
    }
}

impl Drop for Turn<'_> {
    #[inline]
    fn drop(&mut self) {
        self.lane.turn.release();
    }
}

/// Leaves a job behind if its end is not waited for.
struct Waiting<'a> {
    lane: &'a Lane,
    job: Option<Job>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(job) = self.job.take() {
            self.lane.left.set(Some(job));
        }
    }
}
