//! A process that runs scripts which it is sent, each in a child: on threads, or in coroutines. What becomes
//! of the calls is written line by line.
//!
//! ```text
//! 0: blocked                    step 0 waits
//! 1: 4 "abcd"                   step 1 has returned; and then there is
//!   1> 0: 4 "abcd"              what step 1 has brought about elsewhere
//!   s1: 0x4/..                  what is now different about a descriptor
//! ```

use crate::calls;
use crate::params::{Param, RESULTS, SHORT};
use crate::script::{ACTORS, OUTSIDE, Script, Step};
use crate::world::{self, ALONE};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::process::exit;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};
use std::{env, fs, panic, thread};
use switchgrass::monkey;
use switchgrass::sync::{Queue, Shared};

/// What ends a script that is sent, and what ends its trace.
pub(crate) const END: &str = "end";

/// A script that takes longer hangs.
const PATIENCE: u32 = 60;

/// Runs the scripts that come on standard input. A line before each says whether there is much time.
pub(crate) fn run(in_coroutines: bool) {
    if in_coroutines {
        monkey::patch_all();
    }
    panic::set_hook(Box::new(|info| {
        eprintln!("{info}");
        tell(&info.location().map_or("panicked\n".into(), |at| format!("panicked at {at}\n")));
    }));
    let (mut text, mut is_slow) = (String::new(), false);
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        match line.as_str() {
            "slow" => is_slow = true,
            END => {
                let script = Script::parse(&text).expect("a script");
                run_in_child(&script, in_coroutines, is_slow);
                (text, is_slow) = (String::new(), false);
            }
            line => text = text + line + "\n",
        }
    }
}

fn run_in_child(script: &Script, in_coroutines: bool, is_slow: bool) {
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "cannot fork");
    if child == 0 {
        // SAFETY: no preconditions.
        unsafe { libc::alarm(PATIENCE) };
        run_here(script, in_coroutines, is_slow);
    }
    let mut status = 0;
    // SAFETY: room for the answer.
    while unsafe { libc::waitpid(child, &mut status, 0) } < 0 {}
    let folder = folder(child);
    if folder.exists() {
        let _ = fs::remove_dir_all(folder);
    }
    if status != 0 {
        tell(&format!("the process ended by {status:#x}\n"));
    }
    tell(&format!("{END}\n"));
}

fn folder(process: i32) -> PathBuf {
    env::temp_dir().join(format!("switchgrass-differential-{process}"))
}

fn tell(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Where an actor gets its steps from.
enum Post {
    Threads(Sender<Step>),
    Coroutines(&'static Queue<Step, Shared>),
}

impl Post {
    fn put(&self, step: Step) {
        match self {
            Post::Threads(sender) => sender.send(step).expect("an actor lives on"),
            Post::Coroutines(channel) => assert!(channel.try_put(step).is_ok(), "it has no limit"),
        }
    }
}

struct Actor {
    post: Post,
    /// What it does, and has not done yet.
    step: Option<Step>,
}

/// The threads of the actors.
static THREADS: [AtomicI32; ACTORS] = [const { AtomicI32::new(0) }; ACTORS];

type Done = (usize, String);

fn act(me: usize, mut next: impl FnMut() -> Option<Step>, done: Sender<Done>) {
    // SAFETY: no preconditions.
    THREADS[me].store(unsafe { libc::gettid() }, SeqCst);
    while let Some(step) = next() {
        let text = (step.call.run)(step.number, &step.arguments);
        if done.send((step.number, text)).is_err() {
            break;
        }
    }
}

fn start_thread(me: usize, done: Sender<Done>) -> Post {
    let (sender, steps) = mpsc::channel();
    thread::spawn(move || act(me, || steps.recv().ok(), done));
    Post::Threads(sender)
}

fn start(in_coroutines: bool, done: &Sender<Done>) -> Vec<Actor> {
    let mut posts = Vec::new();
    if in_coroutines {
        let channels: Vec<_> =
            (0..OUTSIDE).map(|_| &*Box::leak(Box::new(Queue::<Step, Shared>::shared()))).collect();
        posts.extend(channels.iter().copied().map(Post::Coroutines));
        let done = done.clone();
        thread::spawn(move || {
            for (me, steps) in channels.iter().copied().enumerate().skip(1) {
                let done = done.clone();
                drop(switchgrass::spawn(move || act(me, || steps.get().ok(), done)));
            }
            act(0, || channels[0].get().ok(), done);
        });
    } else {
        posts.extend((0..OUTSIDE).map(|me| start_thread(me, done.clone())));
    }
    posts.push(start_thread(OUTSIDE, done.clone()));
    posts.into_iter().map(|post| Actor { post, step: None }).collect()
}

/// Runs a script in this process, and ends it.
fn run_here(script: &Script, in_coroutines: bool, is_slow: bool) -> ! {
    let folder = folder(std::process::id() as i32);
    fs::create_dir(&folder).and_then(|()| env::set_current_dir(&folder)).expect("a folder");
    world::take_signals();
    let fds = script.fixtures.iter().flat_map(|fixture| fixture.make());
    (0..).zip(fds).for_each(|(slot, fd)| world::set_fd(slot, fd));
    let (sender, done) = mpsc::channel();
    let actors = start(in_coroutines, &sender);
    while THREADS.iter().any(|thread| thread.load(SeqCst) == 0) {
        thread::yield_now();
    }
    for step in &script.steps {
        world::set_actor(step.number, step.actor);
    }
    let mut play = Play {
        actors,
        done,
        is_slow,
        is_timed: false,
        state: world::state(false),
        out: String::new(),
    };
    script.steps.iter().for_each(|step| play.step(step));
    for step in play.blocked().iter().filter(|step| step.number != QUESTION) {
        let _ = writeln!(play.out, "end: {} is blocked", step.number);
    }
    tell(&play.out);
    exit_at_once();
}

fn exit_at_once() -> ! {
    // SAFETY: no preconditions. Actors that wait are left where they are.
    unsafe { libc::_exit(0) }
}

struct Play {
    actors: Vec<Actor>,
    done: Receiver<Done>,
    is_slow: bool,
    /// Whether something may happen by itself.
    is_timed: bool,
    state: BTreeMap<String, String>,
    out: String,
}

impl Play {
    fn blocked(&self) -> Vec<Step> {
        self.actors.iter().filter_map(|actor| actor.step.clone()).collect()
    }

    /// Why a step is left out.
    fn obstacle(&self, step: &Step) -> Option<&'static str> {
        let is_fd = |param: &Param| matches!(param, Param::Fd | Param::Victim);
        let in_use: Vec<_> =
            self.blocked().iter().flat_map(|step| step.slots(is_fd).collect::<Vec<_>>()).collect();
        let mut victims = step.slots(|param| matches!(param, Param::Victim));
        if self.actors[step.actor].step.is_some() {
            Some("is busy")
        } else if victims.any(|slot| in_use.contains(&slot)) {
            Some("is in use")
        } else {
            None
        }
    }

    fn step(&mut self, step: &Step) {
        let number = step.number;
        if let Some(obstacle) = self.obstacle(step) {
            let _ = writeln!(self.out, "{number}: {obstacle}");
            return;
        }
        let blocked: Vec<_> = (0..ACTORS).filter(|at| self.actors[*at].step.is_some()).collect();
        let alone = match blocked[..] {
            [actor] if actor != OUTSIDE => THREADS[actor].load(SeqCst),
            _ => 0,
        };
        ALONE.store(alone, SeqCst);
        let actor = &mut self.actors[step.actor];
        actor.step = Some(step.clone());
        actor.post.put(step.clone());
        let mut done = self.settle();
        self.is_timed |= step.is_short();
        if self.is_timed && (step.call.is_timed || !self.blocked().is_empty()) {
            thread::sleep(Duration::from_millis(3 * SHORT as u64));
            done.extend(self.settle());
        }
        done.sort();
        let own = done.iter().find(|(this, _)| *this == number);
        let own = own.map_or("blocked", |(_, text)| text);
        let _ = writeln!(self.out, "{number}: {own}");
        for (other, text) in done.iter().filter(|(other, _)| *other != number) {
            let _ = writeln!(self.out, "  {number}> {other}: {text}");
        }
        if step.actor != OUTSIDE && self.actors[step.actor].step.is_some() {
            self.ask_others(number);
        }
        self.tell_state();
    }

    /// Finds out whether a call that waits has the other coroutines wait, too.
    fn ask_others(&mut self, number: usize) {
        let mut idle = self.actors[..OUTSIDE].iter_mut().filter(|actor| actor.step.is_none());
        let Some(other) = idle.next() else { return };
        let call = calls::find("sched_yield").expect("a row");
        let question = Step { number: QUESTION, actor: 0, call, arguments: vec![] };
        other.step = Some(question.clone());
        other.post.put(question);
        let done = self.settle();
        if done.iter().all(|(this, _)| *this != QUESTION) {
            let _ = writeln!(self.out, "  {number}> the others stand still");
        }
        for (other, text) in done.iter().filter(|(other, _)| *other != QUESTION) {
            let _ = writeln!(self.out, "  {number}> {other}, late: {text}");
        }
    }

    fn tell_state(&mut self) {
        let is_copy = |step: &Step| matches!(step.call.name, "splice" | "sendfile" | "sendfile64");
        let state = world::state(self.blocked().iter().any(is_copy));
        for (name, text) in &state {
            if self.state.get(name) != Some(text) {
                let _ = writeln!(self.out, "  {name}: {text}");
            }
        }
        self.state = state;
    }

    fn take_done(&mut self, all: &mut Vec<Done>) {
        while let Ok(done) = self.done.try_recv() {
            for actor in &mut self.actors {
                actor.step.take_if(|step| step.number == done.0);
            }
            all.push(done);
        }
    }

    /// Waits until nothing goes on: each actor has done its step, or is blocked.
    fn settle(&mut self) -> Vec<Done> {
        let (looks, pause) = if self.is_slow { (12, 1000) } else { (4, 150) };
        let (mut done, mut asleep, begin) = (Vec::new(), 0, Instant::now());
        loop {
            self.take_done(&mut done);
            if self.blocked().is_empty() {
                return done;
            }
            if begin.elapsed() < Duration::from_micros(100) {
                thread::yield_now();
                continue;
            }
            asleep = if are_others_asleep() { asleep + 1 } else { 0 };
            if asleep > looks {
                self.take_done(&mut done);
                return done;
            }
            if begin.elapsed() > Duration::from_secs(10) {
                tell(&self.out);
                tell("it does not come to rest\n");
                exit(1);
            }
            thread::sleep(Duration::from_micros(pause));
        }
    }
}

/// The number of a step that is in no script.
const QUESTION: usize = 63;

/// Whether all threads but this one sleep.
fn are_others_asleep() -> bool {
    // SAFETY: no preconditions.
    let me = unsafe { libc::gettid() }.to_string();
    let threads = fs::read_dir("/proc/self/task").expect("/proc").map_while(Result::ok);
    threads.filter(|thread| thread.file_name() != *me).all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The name may have anything in it.
        stat.rsplit_once(')')
            .is_none_or(|(_, rest)| rest.starts_with(" S") || rest.starts_with(" D"))
    })
}

/// The slot of the descriptor that a step makes.
pub(crate) fn result_slot(step: usize) -> i64 {
    RESULTS + step as i64
}
