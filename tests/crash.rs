//! What ends the process, or must not. Each case runs in a process of its own: the test starts this
//! executable again with its own name as the filter, and there the case happens.

use std::cell::RefCell;
use std::env;
use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Command, Output, exit};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;
use switchgrass::coroutine::scope;
use switchgrass::stack::{DEFAULT_SIZE, MIN_SIZE};
use switchgrass::sync::Event;
use switchgrass::{AnyGreenlet, AnyWeakGreenlet, Builder, Greenlet, current, greenlet};

/// Says to the new process which case it is there for.
const CASE: &str = "SWITCHGRASS_CRASH_CASE";

type Body = Box<dyn FnOnce() + Send>;

/// On which thread of the new process a case happens.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// The one the process began with. The harness waits in it for the test's thread; it is
    /// interrupted by a signal, and the case happens in the handler, on the thread's own stack.
    Main,
    /// One that std has made, with an alternate signal stack.
    Std,
    /// One that std knows nothing of, without.
    Foreign,
}

const PLACES: [Place; 3] = [Place::Main, Place::Std, Place::Foreign];

/// Runs `body` in a new process. In that process, and in those for another case, returns `None`.
fn in_child(case: &str, place: Place, body: impl FnOnce() + Send + 'static) -> Option<Output> {
    if let Ok(wanted) = env::var(CASE) {
        if wanted == case {
            // SAFETY: neither has preconditions. A case that hangs is ended by SIGALRM.
            unsafe {
                libc::alarm(60);
                libc::setrlimit(libc::RLIMIT_CORE, &libc::rlimit { rlim_cur: 0, rlim_max: 0 });
            }
            at(place, Box::new(body));
        }
        return None;
    }
    let current = thread::current();
    let test = current.name().expect("the harness names threads after tests");
    let mut again = Command::new(env::current_exe().expect("this test runs"));
    again.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    again.env(CASE, case).env("RUST_BACKTRACE", "1").env_remove("RUST_LIB_BACKTRACE");
    Some(again.output().expect("this test can run again"))
}

fn at(place: Place, body: Body) {
    static BODY: Mutex<Option<Body>> = Mutex::new(None);
    static DONE: AtomicBool = AtomicBool::new(false);
    fn run() {
        let body = BODY.lock().unwrap().take();
        body.expect("put there beforehand")();
        DONE.store(true, Relaxed);
    }
    extern "C" fn on_signal(_: libc::c_int) {
        run();
    }
    extern "C" fn on_thread(_: *mut libc::c_void) -> *mut libc::c_void {
        run();
        std::ptr::null_mut()
    }

    *BODY.lock().unwrap() = Some(body);
    match place {
        Place::Std => run(),
        Place::Foreign => {
            let mut id = 0;
            // SAFETY: a function of the right type that needs no argument, and a place for the id.
            unsafe {
                libc::pthread_create(&mut id, std::ptr::null(), on_thread, std::ptr::null_mut());
                libc::pthread_join(id, std::ptr::null_mut());
            }
        }
        Place::Main => {
            // Asleep a while, it waits for this thread and holds no lock.
            let pid = std::process::id();
            let stat = format!("/proc/self/task/{pid}/stat");
            let mut asleep = 0;
            while asleep < 5 {
                thread::sleep(Duration::from_millis(2));
                let sleeps = std::fs::read_to_string(&stat).unwrap().contains(") S ");
                asleep = if sleeps { asleep + 1 } else { 0 };
            }
            // SAFETY: an action that is all zero but for its handler, which has the right type.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as usize;
                libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
                libc::syscall(libc::SYS_tgkill, pid, pid, libc::SIGUSR1);
            }
            while !DONE.load(Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn assert_signal(output: &Output, signal: i32, what: &str) {
    assert_eq!(output.status.signal(), Some(signal), "{what}: {}\n{output:#?}", output.status);
}

#[track_caller]
fn assert_code(output: &Output, code: i32, what: &str) {
    assert_eq!(output.status.code(), Some(code), "{what}: {}\n{output:#?}", output.status);
}

#[track_caller]
fn assert_says(output: &Output, part: &str) {
    let text = stderr(output);
    assert!(text.contains(part), "{part:?} is not on standard error:\n{text}");
}

fn suspend() {
    current().parent().expect("not called in main").switch_any::<(), ()>(())
}

/// Runs out of stack bit by bit.
#[inline(never)]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 16]);
    if depth == u64::MAX { 0 } else { recurse(depth + 1) + frame[3] }
}

/// Takes more than a default stack in one piece.
#[inline(never)]
fn one_large_frame() -> u64 {
    let frame = black_box([1_u8; DEFAULT_SIZE]);
    frame.iter().map(|byte| u64::from(*byte)).sum()
}

// ------------------------------------------------------------------------------------ overflow

/// Where the neighbours' bytes are.
static NEIGHBOURS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
const BYTES: usize = 512;
const PATTERN: u8 = 0xa5;

/// A suspended greenlet with bytes on its stack that must stay as they are.
fn neighbour(index: usize, size: usize) -> Greenlet<()> {
    let body = move |()| {
        let bytes = black_box([PATTERN; BYTES]);
        NEIGHBOURS[index].store(bytes.as_ptr().expose_provenance(), Relaxed);
        suspend();
        black_box(bytes);
    };
    let greenlet = Builder::new().stack_size(size).build(body).unwrap();
    greenlet.switch(());
    greenlet
}

/// In the last moment of the process: shows the neighbours' bytes. It has little room: it runs on std's
/// alternate signal stack of 8 KiB, below the frame of another signal.
extern "C" fn on_abort(_: libc::c_int) {
    for address in &NEIGHBOURS {
        let bytes = std::ptr::with_exposed_provenance(address.load(Relaxed));
        // SAFETY: the bytes are on the stack of a suspended greenlet.
        unsafe { libc::write(libc::STDERR_FILENO, bytes, BYTES) };
    }
}

fn overflow_between_neighbours(name: Option<&'static str>, size: usize, overflow: fn() -> u64) {
    // SAFETY: a handler of the right type that only makes system calls.
    unsafe { libc::signal(libc::SIGABRT, on_abort as extern "C" fn(libc::c_int) as usize) };
    let _below = neighbour(0, size);
    let builder = Builder::new().stack_size(size);
    let builder = name.into_iter().fold(builder, Builder::name);
    let victim = builder.build(move |()| {
        let here = std::ptr::from_ref(black_box(&size)).addr();
        let [below, above] = [0, 1].map(|index: usize| NEIGHBOURS[index].load(Relaxed));
        let near = |from: usize, to: usize| (1..=2 * (size + 64 * 1024)).contains(&(to - from));
        assert!(near(below, here) && near(here, above), "{below:x} {here:x} {above:x}");
        black_box(overflow());
    });
    let victim = victim.unwrap();
    let _above = neighbour(1, size);
    victim.switch(());
}

#[test]
fn overflow_ends_the_process_with_a_message() {
    for place in PLACES {
        for (name, title) in [(Some("deep"), "'deep'"), (None, "#2")] {
            for size in [DEFAULT_SIZE, MIN_SIZE] {
                for (how, overflow) in [
                    ("recursion", (|| recurse(0)) as fn() -> u64),
                    ("a large frame", one_large_frame),
                ] {
                    let case = format!("{how}, {place:?}, {title}, {size}");
                    let body = move || overflow_between_neighbours(name, size, overflow);
                    let Some(output) = in_child(&case, place, body) else { continue };
                    assert_signal(&output, libc::SIGABRT, &case);
                    assert_says(
                        &output,
                        &format!("greenlet {title} has overflowed its stack of {size} bytes"),
                    );
                    assert_says(&output, "Builder::stack_size");
                    let intact = output.stderr.iter().filter(|byte| **byte == PATTERN).count();
                    assert_eq!(intact, 2 * BYTES, "{case}: bytes of the neighbours");
                }
            }
        }
    }
}

/// The one that overflows is named, not the one that made it, nor one that was there before.
#[test]
fn overflow_of_a_nested_greenlet_on_a_used_stack() {
    let body = || {
        Builder::new().name("before").build(|()| ()).unwrap().switch(());
        let outer = Builder::new().name("outer").build(|()| {
            let inner = Builder::new().name("inner").build(|()| recurse(0));
            inner.unwrap().switch(());
        });
        outer.unwrap().switch(());
    };
    let Some(output) = in_child("nested", Place::Std, body) else { return };
    assert_signal(&output, libc::SIGABRT, "nested");
    assert_says(&output, "greenlet 'inner' has overflowed its stack of 262144 bytes");
}

/// std's message for its own threads is as ever, in a thread that has greenlets and in one that has not.
#[test]
fn overflow_of_a_thread_is_reported_by_std() {
    for has_greenlets in [true, false] {
        let case = format!("thread, {has_greenlets}");
        let body = move || {
            Greenlet::new(|()| ()).switch(());
            let plain = thread::Builder::new().name("plain".into()).spawn(move || {
                if has_greenlets {
                    Greenlet::new(|()| ()).switch(());
                }
                recurse(0)
            });
            let _ = plain.unwrap().join();
        };
        let Some(output) = in_child(&case, Place::Std, body) else { continue };
        assert_signal(&output, libc::SIGABRT, &case);
        let text = stderr(&output);
        assert!(
            text.contains("thread 'plain'") && text.contains("has overflowed its stack"),
            "{text}"
        );
        assert!(!text.contains("switchgrass:"), "{text}");
    }
}

// ------------------------------------------------------------------------- faults of other kinds

/// Writes to address zero, unseen by the compiler.
fn write_to_null() {
    // SAFETY: it is not safe: a fault is what it is for.
    unsafe { libc::memset(black_box(std::ptr::null_mut()), 1, black_box(1)) };
}

#[test]
fn a_fault_that_is_not_an_overflow_stays_a_fault() {
    for place in PLACES {
        for inside in [true, false] {
            let case = format!("null, {place:?}, in a greenlet: {inside}");
            let body = move || {
                let greenlet = Greenlet::new(move |()| {
                    if inside {
                        write_to_null()
                    }
                });
                greenlet.switch(());
                write_to_null();
            };
            let Some(output) = in_child(&case, place, body) else { continue };
            assert_signal(&output, libc::SIGSEGV, &case);
            assert!(!stderr(&output).contains("overflow"), "{}", stderr(&output));
        }
    }
}

#[test]
fn a_handler_that_was_there_before_gets_the_fault() {
    extern "C" fn plain(signal: libc::c_int) {
        // SAFETY: no preconditions.
        unsafe { libc::_exit(if signal == libc::SIGSEGV { 42 } else { 1 }) };
    }
    extern "C" fn with_information(
        _: libc::c_int,
        information: *const libc::siginfo_t,
        _: *const libc::c_void,
    ) {
        // SAFETY: the kernel's, for a fault, which has an address.
        unsafe { libc::_exit(if (*information).si_addr().is_null() { 42 } else { 1 }) };
    }
    for with in [true, false] {
        let case = format!("handler, with information: {with}");
        let body = move || {
            // SAFETY: an action that is all zero but for a handler of the type that its flags tell.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_flags = if with { libc::SA_SIGINFO } else { 0 };
                action.sa_sigaction =
                    if with { with_information as *const () } else { plain as *const () } as usize;
                libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut());
            }
            Greenlet::new(|()| write_to_null()).switch(());
        };
        let Some(output) = in_child(&case, Place::Std, body) else { continue };
        assert_code(&output, 42, &case);
    }
}

/// It does not get in the way of an overflow's message either.
#[test]
fn an_overflow_is_ours_whoever_handles_faults_otherwise() {
    extern "C" fn handler(_: libc::c_int) {
        // SAFETY: no preconditions.
        unsafe { libc::_exit(42) };
    }
    let body = || {
        // SAFETY: a handler of the right type.
        unsafe { libc::signal(libc::SIGSEGV, handler as extern "C" fn(libc::c_int) as usize) };
        Greenlet::new(|()| recurse(0)).switch(());
    };
    let Some(output) = in_child("ours", Place::Std, body) else { return };
    assert_signal(&output, libc::SIGABRT, "ours");
    assert_says(&output, "greenlet #1 has overflowed its stack");
}

/// A scope that is left while its body is being dropped on another greenlet's stack, where it might wait for
/// ever: nothing but the end of the process keeps what it borrows.
#[test]
fn a_scope_left_while_its_body_is_dropped_elsewhere_ends_the_process() {
    struct Switches<'a>(&'a str, AnyWeakGreenlet);
    impl Drop for Switches<'_> {
        fn drop(&mut self) {
            self.1.switch_any::<(), ()>(());
            eprintln!("borrowed: {}", self.0);
        }
    }
    let case = "scope left";
    let body = || {
        let text = String::from("text");
        let switches = Switches(&text, current());
        let body = move |()| drop(switches);
        let _ = greenlet::scoped(body, |g: &Greenlet<(), ()>| {
            let g = g.clone();
            let killer = Greenlet::new(move |()| drop(g.throw("x")));
            killer.switch(());
            std::mem::forget(killer);
        });
        eprintln!("left");
    };
    let Some(output) = in_child(case, Place::Std, body) else { return };
    assert_signal(&output, libc::SIGABRT, case);
    assert_says(&output, "greenlet #1 borrows from a scope that has ended");
    assert!(!stderr(&output).contains("left\n"));
}

/// The body of a scope catches its exit and waits for what never comes, and catches that it is told so: the process
/// ends with the list of who waits for what, instead of hanging or running.
#[test]
fn a_deadlock_at_the_end_of_a_scope_ends_the_process_with_its_message() {
    let case = "deadlock in a scope";
    let body = || {
        let refuses = |()| {
            loop {
                let _ = catch_unwind(AssertUnwindSafe(|| switchgrass::sleep(Duration::MAX)));
            }
        };
        let _ = greenlet::scoped(refuses, |g: &Greenlet<(), ()>| {
            let _ = catch_unwind(AssertUnwindSafe(|| g.switch(())));
        });
    };
    let Some(output) = in_child(case, Place::Std, body) else { return };
    assert_signal(&output, libc::SIGABRT, case);
    assert_says(&output, "this would block for ever: main waits for");
    assert_says(&output, "this was caught 250 times, and waited for again");
}

/// A coroutine that does not let itself be unwound, at the end of its thread: the report says so in words, and the
/// thread ends.
#[test]
fn a_coroutine_stuck_at_its_threads_end_is_reported_in_words() {
    let case = "stuck at its thread's end";
    let body = || {
        let stuck = || {
            switchgrass::spawn(|| {
                loop {
                    let _ = catch_unwind(AssertUnwindSafe(|| switchgrass::sleep(Duration::MAX)));
                }
            });
            switchgrass::yield_now();
        };
        thread::spawn(stuck).join().unwrap();
        eprintln!("the thread has ended");
        exit(0);
    };
    let Some(output) = in_child(case, Place::Std, body) else { return };
    assert_code(&output, 0, case);
    assert_says(&output, "the thread has ended");
    assert_says(&output, "this would block for ever: main waits for");
    assert!(!stderr(&output).contains("(no message)"), "{}", stderr(&output));
    assert!(!stderr(&output).contains("panicked at src"), "{}", stderr(&output));
}

/// Nobody is left who could switch to main: no panic hook runs for what is raised there, so the report is written.
#[test]
fn a_deadlock_of_main_suspended_by_hand_is_reported() {
    let case = "main suspended by hand";
    let body = || {
        let coroutine = switchgrass::spawn(|| {
            current().parent().unwrap().switch_any::<(), ()>(());
        });
        coroutine.greenlet().unwrap().switch_any::<(), ()>(());
    };
    let Some(output) = in_child(case, Place::Std, body) else { return };
    assert_code(&output, 101, case);
    assert_says(&output, "this would block for ever: main waits for a switch made by hand");
    assert_says(&output, "coroutine #1 waits for a switch made by hand");
}

/// What the hub keeps at an exit in a coroutine is not dropped: here that would panic in a destructor of a
/// thread-local variable.
#[test]
fn exit_in_a_coroutine_drops_nothing_that_the_hub_keeps() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    let case = "exit in a coroutine";
    let body = || {
        let exits = switchgrass::spawn(|| {
            let panics = Panics;
            switchgrass::coroutine::Remote::here().spawn(move || drop(panics));
            exit(7);
        });
        exits.join().unwrap();
    };
    let Some(output) = in_child(case, Place::Std, body) else { return };
    assert_code(&output, 7, case);
    assert!(!stderr(&output).contains("dropped"), "{}", stderr(&output));
}

/// Destructors run at the end of a thread, when std has taken its alternate signal stack away.
#[test]
fn an_overflow_at_the_end_of_a_thread_has_a_message() {
    struct Recurses;
    impl Drop for Recurses {
        fn drop(&mut self) {
            black_box(recurse(0));
        }
    }
    for with_a_hub in [false, true] {
        let case = format!("overflow at the end of a thread, with a hub: {with_a_hub}");
        let body = move || {
            let leave = move || {
                if with_a_hub {
                    switchgrass::yield_now();
                }
                let greenlet = Greenlet::new(|()| {
                    let _recurses = Recurses;
                    suspend();
                });
                greenlet.switch(());
                std::mem::forget(greenlet);
            };
            thread::spawn(leave).join().unwrap();
        };
        let Some(output) = in_child(&case, Place::Std, body) else { continue };
        assert_signal(&output, libc::SIGABRT, &case);
        assert_says(&output, "has overflowed its stack of");
    }
}

// -------------------------------------------------------------------------------------- panic hooks

/// The library's first use is in a panic hook, where nothing may panic: std's count stays right.
#[test]
fn the_first_use_in_a_panic_hook_leaves_the_count_of_panics_right() {
    struct Switches;
    impl Drop for Switches {
        fn drop(&mut self) {
            assert!(thread::panicking());
            let greenlet = Greenlet::new(|()| assert!(!thread::panicking()));
            greenlet.switch(());
        }
    }
    let case = "hook";
    let body = || {
        std::panic::set_hook(Box::new(|_| assert_eq!(current().name().as_deref(), Some("main"))));
        let mutex = Mutex::new(());
        for _ in 0..2 {
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                let _guard = mutex.lock();
                let _switches = Switches;
                panic!("seen by the hook");
            }));
            assert!(panicked.is_err());
            assert!(!thread::panicking());
            assert!(mutex.is_poisoned());
            mutex.clear_poison();
        }
        exit(5);
    };
    let Some(output) = in_child(case, Place::Std, body) else { return };
    assert_code(&output, 5, case);
}

// ------------------------------------------------------------------------------- ordinary ends

/// Main is in the middle of something when `exit` is called in a greenlet: nobody goes on with it.
#[test]
fn exit_in_a_greenlet_does_not_resume_main() {
    struct Wakes(AnyWeakGreenlet);
    impl Drop for Wakes {
        fn drop(&mut self) {
            self.0.switch_any::<(), ()>(());
        }
    }
    for place in PLACES {
        let case = format!("exit wakes main, {place:?}");
        let body = || {
            let wakes = Wakes(current());
            let sleeper = Greenlet::new(move |()| wakes.0.switch_any::<(), ()>(()));
            sleeper.switch(());
            Greenlet::new(|()| -> () { exit(3) }).switch(());
            eprintln!("main was resumed");
        };
        let Some(output) = in_child(&case, place, body) else { continue };
        assert_code(&output, 3, &case);
        assert!(!stderr(&output).contains("main was resumed"), "{case}");
    }
}

#[test]
fn exit_in_a_greenlet_ends_the_process_with_its_status() {
    for place in PLACES {
        for depth in [1, 3] {
            fn nest(depth: u32) {
                if depth == 0 {
                    exit(7);
                }
                let waiting = Greenlet::new(|()| suspend());
                waiting.switch(());
                Greenlet::new(move |()| nest(depth - 1)).switch(());
            }
            let case = format!("exit, {place:?}, depth {depth}");
            let Some(output) = in_child(&case, place, move || nest(depth)) else { continue };
            assert_code(&output, 7, &case);
        }
    }
}

/// Says at the end that it was dropped.
struct Loud(&'static str);

impl Drop for Loud {
    fn drop(&mut self) {
        eprintln!("dropped: {}", self.0);
    }
}

/// Suspended greenlets: one, and one inside another, which nobody has a handle of but themselves.
fn leave_some_suspended() {
    thread_local! {
        static KEPT: RefCell<Vec<AnyGreenlet>> = const { RefCell::new(Vec::new()) };
    }
    let outer = Greenlet::new(|()| {
        let _loud = Loud("outer");
        let inner = Greenlet::new(|()| {
            let _loud = Loud("inner");
            suspend();
        });
        inner.switch(());
        suspend();
        drop(inner);
    });
    outer.switch(());
    let kept = Greenlet::new(|()| suspend());
    kept.switch(());
    let unstarted = Greenlet::new(|()| ());
    KEPT.with_borrow_mut(|all| all.extend([kept.erase(), unstarted.erase()]));
    std::mem::forget(outer);
}

#[test]
fn suspended_greenlets_do_not_disturb_the_end_of_the_process() {
    for place in PLACES {
        let case = format!("end, {place:?}");
        let Some(output) = in_child(&case, place, leave_some_suspended) else { continue };
        assert_code(&output, 0, &case);
        // A thread that ends unwinds what is suspended on it, main as well.
        assert_says(&output, "dropped: inner");
        assert_says(&output, "dropped: outer");
    }
}

#[test]
fn suspended_greenlets_of_a_thread_that_runs_do_not_disturb_the_end_of_the_process() {
    let body = || {
        let (tell, told) = std::sync::mpsc::channel();
        thread::spawn(move || {
            leave_some_suspended();
            Greenlet::new(move |()| {
                tell.send(()).unwrap();
                loop {
                    thread::park();
                }
            })
            .switch(());
        });
        told.recv().unwrap();
    };
    let Some(output) = in_child("running", Place::Std, body) else { return };
    assert_code(&output, 0, "running");
}

// -------------------------------------------------------------------------------------- panics

#[test]
fn a_scoped_greenlet_that_refuses_to_unwind_aborts() {
    let body = || {
        let text = String::from("borrowed");
        let stubborn = |()| {
            loop {
                let _ = catch_unwind(AssertUnwindSafe(suspend));
                black_box(&text);
            }
        };
        greenlet::scoped::<(), (), ()>(stubborn, |greenlet| greenlet.switch(())).unwrap();
    };
    let Some(output) = in_child("stubborn", Place::Std, body) else { return };
    assert_signal(&output, libc::SIGABRT, "stubborn");
    assert_says(
        &output,
        "greenlet #1 borrows from a scope that has ended, and does not let itself be unwound",
    );
}

/// A coroutine that borrows, catches every kill, and waits for what never comes: nobody can wake it, and its
/// scope cannot be left.
#[test]
fn a_scope_that_can_never_end_aborts_and_says_who_is_stuck() {
    let body = || {
        let never = Event::new();
        scope(|scope| {
            scope.spawn(|| {
                loop {
                    let _ = catch_unwind(AssertUnwindSafe(|| never.wait()));
                }
            });
        });
    };
    let Some(output) = in_child("scope", Place::Std, body) else { return };
    assert_signal(&output, libc::SIGABRT, "scope");
    assert_says(
        &output,
        "switchgrass: a scope can never end: this would block for ever: main waits for the end of a scope",
    );
    assert_says(&output, "waits for Event::wait (spawned at tests/crash.rs:");
}

#[test]
fn a_panic_in_a_destructor_of_a_panic_aborts() {
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("the second");
        }
    }
    let body = || {
        Greenlet::new(|()| {
            let _bad = Bad;
            panic!("the first");
        })
        .switch(())
    };
    let Some(output) = in_child("double", Place::Std, body) else { return };
    assert_signal(&output, libc::SIGABRT, "double");
    assert_says(&output, "the first");
    assert_says(&output, "the second");
}

#[inline(never)]
fn body_that_panics() {
    panic!("out of the body");
}

#[test]
fn a_panic_prints_and_is_raised_in_main() {
    for place in PLACES {
        let case = format!("panic, {place:?}");
        let body = || {
            let greenlet = Greenlet::new(|()| body_that_panics());
            let raised = catch_unwind(AssertUnwindSafe(|| greenlet.switch(())));
            assert!(greenlet.is_dead() && !thread::panicking());
            let payload = raised.expect_err("it panicked");
            eprintln!("caught in main: {:?}", payload.downcast_ref::<&str>());
        };
        let Some(output) = in_child(&case, place, body) else { continue };
        assert_code(&output, 0, &case);
        let text = stderr(&output);
        assert_eq!(
            text.matches("out of the body").count(),
            2,
            "printed once, caught once:\n{text}"
        );
        assert_eq!(text.matches("stack backtrace:").count(), 1, "{text}");
        assert!(text.contains("crash::body_that_panics"), "{text}");
        assert_says(&output, "caught in main: Some(\"out of the body\")");
    }
}

#[test]
fn a_panic_that_nobody_catches_ends_the_test() {
    let body = || {
        let greenlet = Greenlet::new(|()| body_that_panics());
        let raised = catch_unwind(AssertUnwindSafe(|| greenlet.switch(())));
        let in_main = raised.expect_err("it panicked");
        resume_unwind(in_main);
    };
    let Some(output) = in_child("uncaught", Place::Std, body) else { return };
    assert_code(&output, 101, "uncaught");
}

// ---------------------------------------------------------------------------------- backtraces

#[inline(never)]
fn body_with_backtrace() -> String {
    let text = std::backtrace::Backtrace::force_capture().to_string();
    black_box(text)
}

#[inline(never)]
fn who_switches(after_a_switch: bool) {
    let greenlet = Greenlet::new(move |()| {
        if after_a_switch {
            suspend();
        }
        print!("BEGIN\n{}END\n", body_with_backtrace());
    });
    greenlet.switch(());
    greenlet.switch(());
    black_box(greenlet);
}

/// The lines of a backtrace that name a function.
fn frames(text: &str) -> Vec<&str> {
    let number =
        |line: &&str| line.trim().split_once(": ").is_some_and(|(n, _)| n.parse::<u8>().is_ok());
    text.lines().filter(number).collect()
}

#[test]
fn a_backtrace_ends_at_the_entry() {
    for place in PLACES {
        for after_a_switch in [false, true] {
            let case = format!("backtrace, {place:?}, after a switch: {after_a_switch}");
            let body = move || who_switches(after_a_switch);
            let Some(output) = in_child(&case, place, body) else { continue };
            assert_code(&output, 0, &case);
            let text = stdout(&output);
            let text = text.split("BEGIN\n").nth(1).expect("the backtrace is printed");
            let text = text.split("END\n").next().expect("there is a first part");
            let frames = frames(text);
            // corosensei's stacks are linked to the one that resumed them, on purpose.
            let linked = cfg!(feature = "portable");
            let most = if linked { 120 } else { 60 };
            assert!((2..most).contains(&frames.len()), "{case}: {} frames\n{text}", frames.len());
            // (The frame of the signal by which we came to main has no name.)
            let named = !text.contains("<unknown>") || (linked && place == Place::Main);
            assert!(named, "{case}: a frame without a name\n{text}");
            assert!(text.contains("crash::body_with_backtrace"), "{case}:\n{text}");
            if !linked {
                assert!(!text.contains("who_switches\n"), "{case}: a frame of main\n{text}");
                assert!(frames[frames.len() - 1].contains("trampoline"), "{case}:\n{text}");
            }
        }
    }
}

/// A signal may come at any instruction, and its handler may take a backtrace, as profilers do. Here one comes at
/// each, since the processor is told to stop after each.
#[cfg(all(target_arch = "x86_64", target_env = "gnu", not(feature = "portable")))]
mod stepping {
    use super::*;
    use std::arch::asm;

    const MOST: usize = 512;

    /// Where every backtrace ends: in the thread's first frame, or in a greenlet's.
    static FIRST: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
    /// Those that end there, those that say nothing of the callers, and others.
    static WHOLE: AtomicUsize = AtomicUsize::new(0);
    static CUT: AtomicUsize = AtomicUsize::new(0);
    static WRONG: AtomicUsize = AtomicUsize::new(0);

    /// How many frames there are, and the outermost.
    #[inline(always)]
    fn outermost() -> (usize, usize) {
        let mut frames = [std::ptr::null_mut(); MOST];
        // SAFETY: room for so many.
        let count = unsafe { libc::backtrace(frames.as_mut_ptr(), MOST as libc::c_int) } as usize;
        (count, frames[count - 1].addr())
    }

    /// Whether the processor is to stop after the next instruction.
    static STEPS: AtomicBool = AtomicBool::new(false);

    extern "C" fn on_step(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
        const TRAP_FLAG: i64 = 0x100;
        // SAFETY: the kernel gives a context, and goes on with what it says.
        let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
        let flags = &mut context.uc_mcontext.gregs[libc::REG_EFL as usize];
        if !STEPS.load(Relaxed) {
            *flags &= !TRAP_FLAG;
            return;
        }
        *flags |= TRAP_FLAG;
        // Its own frame and the kernel's way into it come first.
        let (count, last) = outermost();
        let ends_well = FIRST.iter().any(|first| first.load(Relaxed) == last);
        let verdict = match count {
            3 => &CUT,
            4.. if ends_well => &WHOLE,
            _ => &WRONG,
        };
        verdict.fetch_add(1, Relaxed);
    }

    #[inline(never)]
    fn switch_there_and_back(greenlet: &Greenlet<u64, u64>) -> u64 {
        let frame = black_box([3_u64; 1024]);
        STEPS.store(true, Relaxed);
        // SAFETY: it raises SIGTRAP, and changes nothing.
        unsafe { asm!("int3", options(nostack)) };
        let got = greenlet.switch(frame[7]) + greenlet.switch(4);
        STEPS.store(false, Relaxed);
        got + black_box(&frame)[8]
    }

    #[test]
    fn a_backtrace_can_be_taken_at_every_instruction_of_a_switch() {
        let body = || {
            let main = current();
            let greenlet: Greenlet<u64, u64> = Greenlet::new(move |mut sum: u64| {
                FIRST[1].store(outermost().1, Relaxed);
                loop {
                    sum += main.switch_any::<u64, u64>(sum);
                }
            });
            FIRST[0].store(outermost().1, Relaxed);
            greenlet.switch(1);
            // SAFETY: an action that is all zero but for its handler, which has the right type.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = on_step as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO;
                libc::sigaction(libc::SIGTRAP, &action, std::ptr::null_mut());
            }
            let sum = switch_there_and_back(&greenlet);
            let [whole, cut, wrong] = [&WHOLE, &CUT, &WRONG].map(|count| count.load(Relaxed));
            println!("sum {sum}, {whole} whole, {cut} cut, {wrong} wrong");
            assert_eq!((sum, wrong), ((1 + 3) + (1 + 3 + 4) + 3, 0));
            // Four switches of nine instructions, from the first push to the last pop.
            assert_eq!(cut, 4 * 9);
            assert!(whole > cut);
        };
        let Some(output) = in_child("stepping", Place::Std, body) else { return };
        assert_code(&output, 0, "stepping");
    }
}
