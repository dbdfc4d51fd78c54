//! The bridge to `async` code.

use crate::support::{LONG, Log, ms, on_a_thread, payload_of, settle};
use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn, ready};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Instant;
use switchgrass::coroutine::block_on;
use switchgrass::{Generator, GreenletExit, JoinError, sleep, spawn, timeout, yield_now};

/// A future that is ready when it was woken: what another thread sets.
#[derive(Default)]
struct Flag {
    is_set: bool,
    waker: Option<Waker>,
}

fn set(flag: &Mutex<Flag>) {
    let mut flag = flag.lock().unwrap();
    flag.is_set = true;
    if let Some(waker) = flag.waker.take() {
        waker.wake();
    }
}

async fn wait(flag: &Mutex<Flag>) {
    poll_fn(|context| {
        let mut flag = flag.lock().unwrap();
        flag.waker = Some(context.waker().clone());
        if flag.is_set { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// It returns what the future does, and gives up control only if that is pending.
#[test]
fn one_that_is_ready_at_once() {
    let log = Log::new();
    let inside = log.clone();
    let other = spawn(move || inside.add("other"));
    assert_eq!(block_on(ready(5)), 5);
    let borrowed = String::from("borrowed");
    assert_eq!(block_on(async { borrowed.len() }), 8);
    log.add("main");
    other.join().unwrap();
    assert_eq!(log.take(), ["main", "other"]);
}

/// It is polled when it is woken, and only then.
#[test]
fn one_that_wakes_itself() {
    let polls = Cell::new(0);
    block_on(poll_fn(|context| {
        polls.set(polls.get() + 1);
        // The second time the waker is called twice, which counts once.
        for _ in 0..polls.get() {
            context.waker().wake_by_ref();
        }
        if polls.get() == 3 { Poll::Ready(()) } else { Poll::Pending }
    }));
    assert_eq!(polls.get(), 3);
}

/// The handle of a coroutine is a future: of its result, of its panic, of its being killed.
#[test]
fn a_join_handle() {
    let sum = block_on(async {
        let a = spawn(|| {
            sleep(ms(5));
            1
        });
        let b = spawn(|| 2);
        a.await.unwrap() + b.await.unwrap()
    });
    assert_eq!(sum, 3);
    let failing = block_on(spawn(|| -> () { panic!("expected") }));
    assert!(matches!(failing, Err(JoinError::Panicked(_))));
    let endless = spawn(|| sleep(LONG));
    let target = endless.coroutine();
    let killer = spawn(move || target.kill());
    assert!(matches!(block_on(endless), Err(JoinError::Killed)));
    killer.join().unwrap();
    let finished = spawn(|| 7);
    yield_now();
    assert_eq!(block_on(finished).unwrap(), 7);
}

/// Polled by hand: it wakes the waker of the last poll, once; after the result there is none.
#[test]
fn a_join_handle_that_is_polled() {
    let mut handle = spawn(|| {
        sleep(ms(1));
        5
    });
    let coroutine = handle.coroutine();
    let [first, last] = [(); 2].map(|()| Arc::new(Count::default()));
    let mut poll = |count: &Arc<Count>| {
        let waker = Waker::from(Arc::clone(count));
        Pin::new(&mut handle).poll(&mut Context::from_waker(&waker))
    };
    assert!(poll(&first).is_pending());
    assert!(poll(&last).is_pending());
    assert_eq!(Arc::strong_count(&first), 1);
    assert!(coroutine.wait_end(None));
    settle();
    assert_eq!([&first, &last].map(|count| count.0.load(SeqCst)), [0, 1]);
    assert!(matches!(poll(&first), Poll::Ready(Ok(5))));
    assert!(matches!(poll(&first), Poll::Ready(Err(JoinError::Taken))));
    assert_eq!([first, last].map(|count| Arc::strong_count(&count)), [1, 1]);
}

/// Another thread wakes it, while the hub's thread sleeps: this does not hang.
#[test]
fn it_is_woken_by_another_thread() {
    for _ in 0..20 {
        let flag = Arc::new(Mutex::new(Flag::default()));
        let shared = Arc::clone(&flag);
        let setter = thread::spawn(move || {
            thread::sleep(ms(2));
            set(&shared);
        });
        block_on(wait(&flag));
        setter.join().unwrap();
    }
}

/// As before, at whichever moment: before, while, or after the coroutine goes to sleep.
#[test]
fn wake_ups_are_never_lost() {
    const ROUNDS: usize = 2000;
    let (send, receive) = mpsc::channel::<Arc<Mutex<Flag>>>();
    let setter = thread::spawn(move || receive.iter().for_each(|flag| set(&flag)));
    for round in 0..ROUNDS {
        let flag = Arc::new(Mutex::new(Flag::default()));
        send.send(Arc::clone(&flag)).unwrap();
        for _ in 0..round % 64 {
            std::hint::spin_loop();
        }
        block_on(wait(&flag));
    }
    drop(send);
    setter.join().unwrap();
}

/// Several coroutines wait at once, each for a flag of its own, which are set in another order.
#[test]
fn several_wait_for_another_thread() {
    let log = Log::new();
    let flags: Vec<_> = (0..4).map(|_| Arc::new(Mutex::new(Flag::default()))).collect();
    let all: Vec<_> = flags
        .iter()
        .enumerate()
        .map(|(number, flag)| {
            let (log, flag) = (log.clone(), Arc::clone(flag));
            spawn(move || {
                block_on(wait(&flag));
                log.add(number);
            })
        })
        .collect();
    settle();
    let (send, receive) = mpsc::channel::<usize>();
    let setter = thread::spawn(move || receive.iter().for_each(|number| set(&flags[number])));
    for number in [2, 0, 3, 1] {
        send.send(number).unwrap();
        let mut told = Vec::new();
        while told.is_empty() {
            sleep(ms(1));
            told = log.take();
        }
        assert_eq!(told, [number.to_string()]);
    }
    drop(send);
    setter.join().unwrap();
    all.into_iter().for_each(|handle| handle.join().unwrap());
}

/// The waker is called between the poll and the wait: by the future itself, or another coroutine.
#[test]
fn a_waker_that_is_called_before_the_wait() {
    let flag = Rc::new(RefCell::new(None::<Waker>));
    let shared = Rc::clone(&flag);
    let waker = spawn(move || {
        while shared.borrow().is_none() {
            yield_now();
        }
        shared.borrow().as_ref().unwrap().wake_by_ref();
    });
    let mut polls = 0;
    block_on(poll_fn(|context| {
        polls += 1;
        flag.replace(Some(context.waker().clone()));
        // The other one calls the waker while this one is being polled.
        waker.wait_end(None);
        if polls == 2 { Poll::Ready(()) } else { Poll::Pending }
    }));
    assert_eq!(polls, 2);
}

/// A kill drops the future, where it is, and a later call of the waker wakes nobody.
#[test]
fn a_kill_drops_the_future() {
    let log = Log::new();
    let guard = log.guard("future dropped");
    let waker: Rc<RefCell<Option<Waker>>> = Rc::default();
    let shared = Rc::clone(&waker);
    let victim = spawn(move || {
        let exit = payload_of(|| {
            block_on(async move {
                let _guard = guard;
                poll_fn(|context| {
                    shared.replace(Some(context.waker().clone()));
                    Poll::<()>::Pending
                })
                .await;
            })
        });
        let start = Instant::now();
        sleep(ms(20));
        (exit.is::<GreenletExit>(), start.elapsed() >= ms(20))
    });
    yield_now();
    victim.kill();
    settle();
    assert_eq!(log.take(), ["future dropped"]);
    let waker = waker.take().unwrap();
    waker.wake_by_ref();
    thread::spawn(move || waker.wake()).join().unwrap();
    assert_eq!(victim.join().unwrap(), (true, true));
}

/// A limit does as well, also where the future waits for a coroutine, which goes on.
#[test]
fn a_limit_drops_the_future() {
    assert!(timeout(ms(5), || block_on(pending::<()>())).is_err());
    let handle = spawn(|| {
        sleep(ms(20));
        5
    });
    let coroutine = handle.coroutine();
    assert!(timeout(ms(5), || block_on(handle)).is_err());
    assert!(!coroutine.is_finished());
    assert!(coroutine.wait_end(None));
}

/// A panic of the future is the caller's.
#[test]
fn a_panic_of_the_future() {
    let handle = spawn(|| {
        block_on(async {
            spawn(|| sleep(ms(1))).await.unwrap();
            panic!("expected");
        })
    });
    let Err(JoinError::Panicked(payload)) = handle.join() else { panic!("no panic") };
    assert_eq!(payload.downcast_ref(), Some(&"expected"));
}

/// Others run while it waits, and what is called in a future may wait by itself.
#[test]
fn others_run_meanwhile() {
    let log = Log::new();
    let inside = log.clone();
    let flag = Arc::new(Mutex::new(Flag::default()));
    let shared = Arc::clone(&flag);
    let other = spawn(move || {
        inside.add("other");
        sleep(ms(5));
        inside.add("sets it");
        set(&shared);
        inside.add("has set it");
    });
    block_on(async {
        sleep(ms(1));
        log.add("main");
        wait(&flag).await;
        log.add("main is told");
    });
    other.join().unwrap();
    assert_eq!(log.take(), ["other", "main", "sets it", "has set it", "main is told"]);
}

/// One inside another, and in a generator.
#[test]
fn one_inside_another() {
    let mut results = Generator::new(|y| {
        for number in 1..3 {
            let sum = block_on(async {
                let inner = block_on(async { spawn(move || number).await.unwrap() });
                inner + spawn(|| 10).await.unwrap()
            });
            y.yield_(sum);
        }
    });
    assert_eq!(results.by_ref().collect::<Vec<_>>(), [11, 12]);
}

/// Two of one future are polled in turn, by a combinator made by hand.
#[test]
fn two_at_once() {
    let slow = spawn(|| {
        sleep(LONG);
        "slow"
    });
    let endless = slow.coroutine();
    let quick = spawn(|| {
        sleep(ms(5));
        "quick"
    });
    let first = block_on(async {
        let (mut slow, mut quick) = (pin!(slow), pin!(quick));
        poll_fn(|context| match slow.as_mut().poll(context) {
            Poll::Ready(result) => Poll::Ready(result.unwrap()),
            Poll::Pending => quick.as_mut().poll(context).map(Result::unwrap),
        })
        .await
    });
    assert_eq!(first, "quick");
    assert!(endless.kill_wait(None));
}

/// A waker outlives the thread whose coroutine it was to wake.
#[test]
fn a_waker_that_outlives_its_thread() {
    let waker = on_a_thread(|| {
        let mut kept = None;
        block_on(poll_fn(|context| {
            kept = Some(context.waker().clone());
            Poll::Ready(())
        }));
        kept.unwrap()
    });
    waker.wake_by_ref();
    waker.wake();
}

/// A future that wakes itself, to be asked again later, lets the others run: also those it waits for.
#[test]
fn one_that_wakes_itself_lets_others_run() {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let is_set = Rc::new(Cell::new(false));
        let set = Rc::clone(&is_set);
        let other = spawn(move || {
            sleep(ms(5));
            set.set(true);
        });
        let polls = block_on(async {
            let mut polls = 0;
            poll_fn(|context| {
                polls += 1;
                context.waker().wake_by_ref();
                if is_set.get() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            polls
        });
        other.join().unwrap();
        send.send(polls).unwrap();
    });
    let polls: u64 = receive.recv_timeout(std::time::Duration::from_secs(10)).expect("it ends");
    assert!(polls > 1);
}

/// A kill, and a limit, reach one that wakes itself for ever.
#[test]
fn one_that_wakes_itself_can_be_killed() {
    let endless = spawn(|| {
        block_on(poll_fn(|context| -> Poll<()> {
            context.waker().wake_by_ref();
            Poll::Pending
        }))
    });
    settle();
    assert!(endless.kill_wait(Some(LONG)));
    assert!(matches!(endless.join(), Err(JoinError::Killed)));
}
