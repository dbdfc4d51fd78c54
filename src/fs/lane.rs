#![forbid(unsafe_code)]
//! Runs the operations of a file one at a time, even when one is cancelled.
//!
//! ```text
//!            enter                      job on the pool             its end
//!   FREE ──────────────▶ HAS THE TURN ─────────────────▶ WAITS ──────────────▶ HAS THE TURN ──▶ FREE
//!    ▲  ▲ no abandoned job                                 │
//!    │  │                                                  │ killed: the job is abandoned
//!    │  └────────────── enter: waits for that job, ◀───────┘
//!    │                  and absorbs its result
//!    │                       │ killed again: abandoned again
//!    └───────────────────────┘
//! ```

use crate::pool::{JobHandle, try_begin};
use crate::sync::Semaphore;
use std::cell::Cell;
use std::fs;
use std::io::{self, Seek, SeekFrom};
use std::sync::Arc;

/// The most bytes that one operation reads or writes, which bounds the transfer buffer.
pub(super) const MAX_CHUNK: usize = 256 * 1024;

/// A buffer that carries data to and from the pool: the caller's may be freed before the job ends.
#[derive(Default)]
pub(super) struct Buffer(Vec<u8>);

/// What files opened with `O_DIRECT` require.
const ALIGNMENT: usize = 4096;

impl Buffer {
    /// Returns `count` bytes, with their previous contents, at an address that is stable until more are
    /// requested.
    pub(super) fn space(&mut self, count: usize) -> &mut [u8] {
        if self.0.len() < count + ALIGNMENT {
            self.0 = vec![0; count + ALIGNMENT];
        }
        let start = self.0.as_ptr().align_offset(ALIGNMENT);
        &mut self.0[start..start + count]
    }
}

/// What an operation effect to a file, which matters if it is cancelled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Consumes data: the next read returns it.
    Read,
    /// Changes the file: the next change returns its error.
    Change,
    /// Has no effect that is missed if it is lost.
    Query,
}

struct Done {
    buffer: Buffer,
    result: io::Result<u64>,
}

/// The pool job of an operation.
struct Job {
    effect: Effect,
    handle: JobHandle<Done>,
}

/// A queue of operations that run one at a time.
pub(super) struct Lane {
    turn: Semaphore,
    /// The job of a cancelled operation.
    abandoned: Cell<Option<Job>>,
    /// Data read by a cancelled operation, which could not be returned to the file.
    unread: Cell<Option<Unread>>,
    /// The error of a cancelled change.
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
            abandoned: Cell::default(),
            unread: Cell::default(),
            failed: Cell::default(),
            buffer: Cell::default(),
        }
    }

    /// Waits until no operation is under way.
    ///
    /// `has_position` says whether data that was read can be returned to the file by seeking back.
    #[inline]
    #[track_caller]
    pub(super) fn enter<'a>(&'a self, file: &'a Arc<fs::File>, has_position: bool) -> Turn<'a> {
        self.turn.acquire();
        let turn = Turn { lane: self, file };
        // A job of the parent process never ends in a child.
        if let Some(job) = self.abandoned.take().filter(|job| !job.handle.is_left_behind()) {
            turn.absorb(job, has_position);
        }
        turn
    }

    /// Returns whether a cancelled operation has left a job or an error behind.
    pub(super) fn has_leftover(&self) -> bool {
        let (abandoned, failed) = (self.abandoned.take(), self.failed.take());
        let has = abandoned.is_some() || failed.is_some();
        self.abandoned.set(abandoned);
        self.failed.set(failed);
        has
    }

    pub(super) fn take_buffer(&self) -> Buffer {
        self.buffer.take()
    }

    /// Keeps a buffer for the next operation.
    pub(super) fn keep(&self, buffer: Buffer) {
        let other = self.buffer.take();
        self.buffer.set(if other.0.len() > buffer.0.len() { other } else { buffer });
    }
}

/// The exclusive right to use a file, released on drop.
pub(super) struct Turn<'a> {
    lane: &'a Lane,
    file: &'a Arc<fs::File>,
}

impl Turn<'_> {
    /// Makes a call on the pool, and returns its result with the buffer.
    ///
    /// If no thread is available, the result is that error, and the buffer is a new one.
    #[track_caller]
    pub(super) fn run(
        &self,
        effect: Effect,
        mut buffer: Buffer,
        call: impl FnOnce(&fs::File, &mut Buffer) -> io::Result<u64> + Send + 'static,
    ) -> (Buffer, io::Result<u64>) {
        let file = Arc::clone(self.file);
        let started = try_begin(move || {
            let result = call(&file, &mut buffer);
            // This may be the last reference: then the file is closed here.
            drop(file);
            Done { buffer, result }
        });
        let done = match started {
            Ok(handle) => self.wait(Job { effect, handle }),
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
        let job = waiting.job.take().expect("the job is present until drop");
        let lost = |error| Done { buffer: Buffer::default(), result: Err(error) };
        job.handle.try_finish().unwrap_or_else(lost)
    }

    /// Waits for the job of a cancelled operation, and absorbs its result.
    #[cold]
    fn absorb(&self, job: Job, has_position: bool) {
        let effect = job.effect;
        let Done { buffer, result } = self.wait(job);
        match (effect, result) {
            (Effect::Read, Ok(count @ 1..)) => {
                let back = SeekFrom::Current(-(count as i64));
                if !(has_position && (&**self.file).seek(back).is_ok()) {
                    let unread = Unread { buffer, count: count as usize, given: 0 };
                    self.lane.unread.set(Some(unread));
                    return;
                }
            }
            (Effect::Change, Err(error)) => self.lane.failed.set(Some(error)),
            _ => {}
        }
        self.lane.keep(buffer);
    }

    /// Returns data that a cancelled operation has read.
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

    /// Returns the error of a cancelled change, once.
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

/// Abandons a job if its end is not waited for.
struct Waiting<'a> {
    lane: &'a Lane,
    job: Option<Job>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(job) = self.job.take() {
            self.lane.abandoned.set(Some(job));
        }
    }
}
