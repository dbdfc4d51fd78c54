//! What is meant to differ between a call on a plain thread and one in a coroutine. The module's
//! documentation has the same list.
//!
//! One more difference is intended, and `worker.rs` leaves it out of scripts: a descriptor that is closed or
//! replaced while a call waits for it. On a thread the call goes on, in a coroutine it fails with EBADF.

use crate::fixtures::PIPE;
use crate::params::Param;
use crate::script::{OUTSIDE, Script, Step};
use crate::worker::result_slot;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// Something that differs, and is meant to.
struct Difference {
    name: &'static str,
    reason: &'static str,
    /// Whether the first two lines that differ do so for this reason.
    excuses: fn(&Script, plain: &str, coroutines: &str) -> bool,
}

const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "the end of a terminal",
        reason: "a read that waits while the other side is closed fails with EIO on a thread; a read that \
                 starts later returns 0. A coroutine's call is made again, so it returns 0",
        excuses: |script, plain, coroutines| {
            script.has("pty")
                && is_same_step(plain, coroutines)
                && (plain.contains(": EIO") && coroutines.contains(": 0")
                    || plain.ends_with(" error") && coroutines.ends_with(" end"))
        },
    },
    Difference {
        name: "nothing of a terminal",
        reason: "a read of no bytes of a terminal waits on a thread while another thread reads, and for \
                 nothing else. In a coroutine it returns 0",
        excuses: |script, plain, coroutines| {
            let is_read = |step: &&Step| step.call.name.contains("read");
            let mut reads = script.steps.iter().filter(is_read);
            script.has("pty")
                && is_same_step(plain, coroutines)
                && reads.any(|step| step.arguments.contains(&0))
                && plain.ends_with(": blocked")
                && coroutines.contains(": 0")
        },
    },
    Difference {
        name: "a Unix stream whose reader shuts down",
        reason: "SHUT_RD of one side of a Unix socket ends a send that waits on the other. The kernel has no \
                 event for that side: a coroutine's call waits until there is one",
        excuses: |script, plain, coroutines| {
            ["unix_stream", "unix_seqpacket", "unix_datagram"].iter().any(|name| script.has(name))
                && script.steps.iter().any(|step| step.call.name == "shutdown")
                && is_end_of_wait(plain, script, |name| {
                    name.contains("send") || name.contains("write")
                })
                && !coroutines.contains("> ")
        },
    },
    Difference {
        name: "room in a connection",
        reason: "how much a full TCP connection takes before a send waits, and when it takes more, depends on \
                 when the other side acknowledges what it has",
        excuses: |script, plain, coroutines| {
            let is_large = |argument: &i64| *argument > 8192;
            let mut steps = script.steps.iter();
            script.fixtures.iter().any(|fixture| fixture.name.starts_with("tcp"))
                && steps.any(|step| step.arguments.iter().any(is_large))
                && is_same_step(plain, coroutines)
                && [plain, coroutines].iter().all(|line| {
                    says_count(line) || line.ends_with(": blocked") || line.ends_with(": EAGAIN")
                })
        },
    },
    Difference {
        name: "nothing of a connection",
        reason: "a receive of no bytes of a TCP connection that waits ends on a thread whenever anything wakes \
                 it, also what has nothing to do with receiving. In a coroutine events end it",
        excuses: |script, plain, coroutines| {
            script.fixtures.iter().any(|fixture| fixture.name.starts_with("tcp"))
                && step_of(script, plain).is_some_and(|step| step.arguments.contains(&0))
                && is_end_of_wait(plain, script, |name| name.contains("recv"))
                && plain.contains(": 0")
                && (!coroutines.contains("> ") || coroutines.contains(": EINTR"))
        },
    },
    Difference {
        name: "threads beside coroutines",
        reason: "the kernel wakes those that wait for one descriptor in their order. A thread is often served \
                 before a coroutine that came first",
        excuses: |script, plain, coroutines| {
            let is_of_thread = |step: &Step| step.actor == OUTSIDE;
            coroutines.contains("> ")
                && [plain, coroutines].iter().any(|line| {
                    line.contains("> ") && step_of(script, line).is_some_and(is_of_thread)
                })
        },
    },
    Difference {
        name: "a queue that is sent as a file",
        reason: "sendfile refuses the descriptor of a queue of messages. A coroutine's reads it, as any file",
        excuses: |script, plain, _| {
            script.has("queue")
                && step_of(script, plain).is_some_and(|step| step.call.name.contains("sendfile"))
                && plain.contains(": EINVAL")
        },
    },
    Difference {
        name: "a queue, and a thread beside coroutines",
        reason: "the kernel hands a message to a call that waits in it: one of a thread without coroutines is \
                 served before a coroutine that came first",
        excuses: |script, plain, coroutines| {
            let is_of_queue =
                |name: &str| name.starts_with("mq_") || name == "read" || name == "write";
            script.has("queue")
                && [plain, coroutines].iter().all(|line| is_end_of_wait(line, script, is_of_queue))
        },
    },
    Difference {
        name: "SIGCHLD of popen",
        reason: "SIGCHLD comes to the thread that has made the child: that is also the siblings' thread",
        excuses: |script, _, coroutines| {
            let is_cause = |step: &&Step| {
                matches!(step.call.name, "popen" | "system")
                    && coroutines.starts_with(&format!("  {}> ", step.number))
            };
            script.steps.iter().any(|step| matches!(step.call.name, "popen" | "system"))
                && (coroutines.contains(": EINTR") || script.steps.iter().find(is_cause).is_some())
        },
    },
    Difference {
        name: "the lock of a stream that waits",
        reason: "a read of one of C's streams that waits has the stream locked on a thread. A coroutine's has \
                 it only while it takes what the buffer has: other threads come in between",
        excuses: |script, plain, coroutines| {
            let are_many = script.steps.iter().filter(|step| is_of_stream(step)).count() > 1;
            let is_about_stream = |line: &&str| step_of(script, line).is_some_and(is_of_stream);
            let is_about_waiting = |line: &&str| {
                let is_try = |step: &Step| step.call.name == "ftrylockfile";
                line.contains("> ")
                    || line.ends_with(": blocked")
                    || step_of(script, line).is_some_and(is_try)
            };
            let lines = [plain, coroutines];
            are_many
                && lines.iter().any(is_about_stream)
                && lines.iter().any(is_about_waiting)
                && !coroutines.ends_with("the others stand still")
        },
    },
    Difference {
        name: "the lock of a stream that a sibling has",
        reason: "libc takes the coroutines of a thread for one owner: they read a stream that a sibling has locked \
                 by flockfile, where a thread waits",
        excuses: |script, plain, coroutines| {
            let locks = |step: &Step| matches!(step.call.name, "flockfile" | "ftrylockfile");
            let has_moved = coroutines.starts_with("  s") && plain.starts_with("end: ");
            script.steps.iter().any(locks) && script.steps.iter().any(is_of_stream) && has_moved
        },
    },
    Difference {
        name: "urgent data before a stream that waits",
        reason: "a read of one of C's streams passes over urgent data and then waits. A coroutine's waits \
                 first: the urgent data is pending meanwhile",
        excuses: |script, plain, coroutines| {
            let is_urgent = |step: &Step| step.arguments.contains(&(libc::MSG_OOB as i64));
            script.steps.iter().any(is_urgent)
                && script.steps.iter().any(is_of_stream)
                && plain.starts_with("  s")
                && plain.contains(": 0x")
                && (is_same_step(plain, coroutines) || coroutines.starts_with("end: "))
        },
    },
    Difference {
        name: "a plain mutex of another thread",
        reason: "nothing tells when another thread unlocks a mutex: a coroutine waits by turns with its \
                 siblings, and they stand still for a short while at a time",
        excuses: |script, _, coroutines| {
            let names =
                ["mutex_lock", "mutex_timedlock", "mutex_clocklock", "mtx_lock", "mtx_timedlock"];
            script.steps.iter().any(|step| names.contains(&step.call.name))
                && coroutines.ends_with("the others stand still")
        },
    },
    Difference {
        name: "two readers of a Unix stream",
        reason: "the kernel wakes all reads that wait for a Unix stream, and any of them comes first",
        excuses: |script, plain, coroutines| {
            let is_read =
                |name: &str| ["recv", "read", "get"].iter().any(|part| name.contains(part));
            let is_read_or_end =
                |line: &&str| is_end_of_wait(line, script, is_read) || line.starts_with("end: ");
            let lines = [plain, coroutines];
            script.has("unix_stream")
                && lines.iter().all(is_read_or_end)
                && lines.iter().any(|line| line.contains("> "))
                && script.steps.iter().filter(|step| is_read(step.call.name)).count() > 1
        },
    },
    Difference {
        name: "when a listener sees a fast connection",
        reason: "a connection that is made by a send of nothing reaches the listener a moment later or sooner",
        excuses: |script, plain, coroutines| {
            let is_fast = |step: &Step| step.arguments.contains(&(libc::MSG_FASTOPEN as i64));
            script.has("tcp_listener")
                && script.steps.iter().any(is_fast)
                && (plain.starts_with("  s") || coroutines.starts_with("  s"))
        },
    },
    Difference {
        name: "a kernel that spins",
        reason: "the kernel's own call spins in some cases of urgent data, and never ends",
        excuses: |_, plain, _| plain == "it does not come to rest",
    },
    Difference {
        name: "a poll beside a read",
        reason: "of a poll and a read that wait for the same data, either may be first: after the read there \
                 is nothing left to be told of",
        excuses: |script, plain, coroutines| {
            let lines = [plain, coroutines];
            let is_poll = |name: &str| name.contains("poll") || name.contains("select");
            lines.iter().any(|line| is_end_of_wait(line, script, is_poll))
                && lines.iter().any(|line| {
                    is_end_of_wait(line, script, |name| {
                        name.contains("recv") || name.contains("read") || name.contains("accept")
                    })
                })
        },
    },
    Difference {
        name: "two waits of an epoll instance",
        reason: "the kernel wakes the one that has begun last. Of those of coroutines any comes first",
        excuses: |script, plain, coroutines| {
            let is_epoll = |name: &str| name.starts_with("epoll_");
            [plain, coroutines].iter().all(|line| is_end_of_wait(line, script, is_epoll))
        },
    },
    Difference {
        name: "a connect, and a listener that is shut down",
        reason: "the kernel's call waits on for room at a Unix listener that is shut down. A coroutine's is \
                 refused",
        excuses: |script, plain, coroutines| {
            script.steps.iter().any(|step| step.call.name == "shutdown")
                && is_end_of_wait(coroutines, script, |name| name == "connect")
                && coroutines.ends_with(": ECONNREFUSED")
                && !plain.contains("> ")
        },
    },
    Difference {
        name: "a reset, and two that wait",
        reason: "of two calls that wait on a Unix socket one is told that it was reset, and the other that the \
                 other side is gone: which of them depends on who is woken first",
        excuses: |script, plain, coroutines| {
            let is_end = |line: &&str| {
                [": ECONNRESET", ": EPIPE", ": 0"].iter().any(|end| line.contains(end))
            };
            (script.has("unix_stream") || script.has("unix_seqpacket"))
                && is_same_step_text(plain, coroutines)
                && [plain, coroutines].iter().all(is_end)
                && [plain, coroutines].iter().any(|line| !line.contains(": 0"))
        },
    },
    Difference {
        name: "a mask of a call's own",
        reason: "a call that has signals blocked in another way than its thread is made by a thread of its own. \
                 A signal that is sent to the coroutine's thread alone is taken there, also while the call's \
                 mask blocks it",
        excuses: |script, _, coroutines| {
            let masks = |name: &&str| {
                name.contains("ppoll") || name.contains("pselect") || name.contains("pwait")
            };
            script.steps.iter().any(|step| masks(&step.call.name))
                && script.steps.iter().any(|step| step.call.name == "signal")
                && (coroutines.starts_with("  signal") || coroutines.contains(": EINTR"))
        },
    },
    Difference {
        name: "restarted, and changed meanwhile",
        reason: "the kernel begins a call anew after a handler with SA_RESTART, and then finds that O_NONBLOCK \
                 was set. A coroutine's goes on",
        excuses: |script, plain, _| {
            let has = |part: &str| script.steps.iter().any(|step| step.call.name.contains(part));
            has("signal") && has("nonblocking") && plain.contains("> ") && plain.contains("EAGAIN")
        },
    },
    Difference {
        name: "futexes and signals",
        reason: "the waits of std::sync, which these are, go on after a signal: a coroutine's does so without \
                 returning EINTR first",
        excuses: |script, plain, _| {
            script.steps.iter().any(|step| step.call.name == "futex_wait")
                && plain.contains("> ")
                && plain.ends_with(": EINTR")
        },
    },
    Difference {
        name: "epoll in poll",
        reason: "a poll of an epoll instance misses a hang-up of what that watches, until something else wakes \
                 it: the kernel passes on only what was asked for. A coroutine is woken",
        excuses: |script, plain, coroutines| {
            (script.has("epoll") || script.has("epoll_edge"))
                && is_end_of_wait(coroutines, script, |name| {
                    name.contains("poll") || name.contains("select")
                })
                && (!plain.contains("> ") || !is_same_step(plain, coroutines))
        },
    },
    Difference {
        name: "two numbers of a file",
        reason: "calls that wait for one open file by two numbers are woken in the order of their beginning \
                 on threads. Coroutines have a queue for each number, and any of them comes first",
        excuses: |script, plain, coroutines| {
            let copied = copied_slots(script);
            let is_of_copy = |step: &Step| step.slots(is_fd).any(|slot| copied.contains(&slot));
            [plain, coroutines].iter().all(|line| {
                is_end_of_wait(line, script, |_| true)
                    && step_of(script, line).is_some_and(is_of_copy)
            })
        },
    },
    Difference {
        name: "peeks",
        reason: "of two calls that wait for a datagram the kernel wakes one; if that one only peeks, the other \
                 keeps waiting although there is a datagram. A coroutine is woken",
        excuses: |script, plain, coroutines| {
            let peeks = |step: &Step| {
                let mut pairs = step.call.params.iter().zip(&step.arguments);
                pairs.any(|(param, value)| {
                    matches!(param, Param::Flags(_)) && *value & libc::MSG_PEEK as i64 != 0
                })
            };
            let mut calls = script.steps.iter().filter(|step| step.call.name.contains("recv"));
            calls.any(peeks)
                && is_end_of_wait(coroutines, script, |name| {
                    name.contains("recv") || name.contains("read")
                })
                && !plain.contains("> ")
        },
    },
    Difference {
        name: "large writes to pipes",
        reason: "writes of more than PIPE_BUF bytes to a pipe are not atomic: a concurrent reader may see \
                 them in other pieces",
        excuses: |script, plain, coroutines| {
            let is_large = |argument: &i64| *argument > libc::PIPE_BUF as i64;
            let mut steps = script.steps.iter();
            script.fixtures.iter().any(|fixture| fixture.family & PIPE != 0)
                && steps.any(|step| step.arguments.iter().any(is_large))
                && is_same_step(plain, coroutines)
                && [plain, coroutines].iter().all(|line| says_count(line))
        },
    },
];

/// Whether a step reads or locks one of C's streams.
fn is_of_stream(step: &Step) -> bool {
    const NAMES: [&str; 11] = [
        "fgetc",
        "getc",
        "fread",
        "__fread_chk",
        "fgets",
        "__fgets_chk",
        "getline",
        "getdelim",
        "flockfile",
        "ftrylockfile",
        "funlockfile",
    ];
    NAMES.contains(&step.call.name)
}

/// The step that a line is about.
fn step_of<'a>(script: &'a Script, line: &str) -> Option<&'a Step> {
    let (subject, _) = line.split_once(": ")?;
    let number = subject.rsplit_once("> ").map_or(subject, |(_, number)| number);
    let number: usize = number.trim_end_matches(", late").parse().ok()?;
    script.steps.iter().find(|step| step.number == number)
}

/// Whether a line says that a call returns which has waited.
fn is_end_of_wait(line: &str, script: &Script, is_one: impl Fn(&str) -> bool) -> bool {
    line.contains("> ") && step_of(script, line).is_some_and(|step| is_one(step.call.name))
}

fn is_fd(param: &Param) -> bool {
    matches!(param, Param::Fd | Param::Victim)
}

/// The slots that may share their open file with another one.
fn copied_slots(script: &Script) -> BTreeSet<i64> {
    let copies = script.steps.iter().filter(|step| step.call.name.contains("dup"));
    copies.flat_map(|step| step.slots(is_fd).chain([result_slot(step.number)])).collect()
}

/// Like [`is_same_step`], for lines whose result has a colon in it, as of a receive.
fn is_same_step_text(one: &str, other: &str) -> bool {
    let subject = |line: &str| line.split_once(": ").map(|(subject, _)| subject.to_owned());
    subject(one).is_some() && subject(one) == subject(other)
}

/// Whether both lines are about the same step or slot.
fn is_same_step(one: &str, other: &str) -> bool {
    let subject = |line: &str| line.rsplit_once(": ").map(|(subject, _)| subject.to_owned());
    subject(one).is_some() && subject(one) == subject(other)
}

/// Whether a line says that bytes were moved, or what is there.
fn says_count(line: &str) -> bool {
    let said = line.rsplit_once(": ").map_or("", |(_, said)| said);
    said.starts_with(|first: char| first.is_ascii_digit())
}

/// How often each difference was excused.
static EXCUSED: Mutex<BTreeMap<&str, u64>> = Mutex::new(BTreeMap::new());

/// Prints what was excused.
pub(crate) fn report() {
    for this in DIFFERENCES {
        let excused = EXCUSED.lock().expect("no panics");
        if let Some(count) = excused.get(this.name) {
            println!("excused {count} times: {}: {}", this.name, this.reason);
        }
    }
}

/// Whether two traces are the same, up to what is meant to differ. What comes after that is not looked at.
pub(crate) fn are_same(script: &Script, plain: &[String], coroutines: &[String]) -> bool {
    let same = plain.iter().zip(coroutines).take_while(|(one, other)| one == other).count();
    let (one, other) = (plain.get(same), coroutines.get(same));
    if one.is_none() && other.is_none() {
        return true;
    }
    let [one, other] = [one, other].map(|line| line.map_or("", String::as_str));
    let excuse = DIFFERENCES.iter().find(|this| (this.excuses)(script, one, other));
    if let Some(excuse) = excuse {
        *EXCUSED.lock().expect("no panics").entry(excuse.name).or_default() += 1;
    }
    excuse.is_some()
}
