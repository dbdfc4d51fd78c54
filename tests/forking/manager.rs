//! Dictionaries that processes share.

use crate::support::{Gate, fork};
use crate::tests;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::coroutine::join_all;
use switchgrass::process::{Builder, Dict, ForkServer, Manager, ProcessPool};
use switchgrass::{sleep, spawn, timeout};

tests![
    operations,
    keys_and_values_of_many_types,
    an_update_is_atomic,
    what_others_do_between_is_seen_by_an_update,
    children_see_each_others_changes,
    four_processes_count_exactly,
    large_values_and_large_dicts,
    as_an_argument_of_jobs,
    as_an_argument_of_a_process_of_a_fork_server,
    from_other_threads,
    others_run_while_many_ask,
    a_kill_and_a_time_limit_in_the_middle,
    a_child_that_is_killed_in_the_middle_harms_nobody,
    a_fork_with_connections_that_are_kept,
    a_forked_child_leaves_its_parents_connections_alone,
    nothing_is_left_after_a_shutdown,
    kept_connections_of_ended_managers_are_closed_by_other_threads,
    a_manager_that_is_killed_while_somebody_waits,
    a_manager_that_is_dropped_is_killed,
    a_copy_in_a_child_ends_nothing,
    ctrl_c_ends_no_manager,
    another_type_is_an_error,
    what_cannot_be_encoded,
    nobody_without_the_key,
    who_has_not_said_the_key_sends_no_gigabytes,
    a_shutdown_where_sigchld_is_ignored,
    another_user_is_refused,
];

/// How long something may take at most that is waited for.
const LONG: Duration = Duration::from_secs(30);

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LONG, "{what}");
        sleep(Duration::from_millis(1));
    }
}

fn descriptors_of(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
}

fn is_there(process: u32) -> bool {
    fs::exists(format!("/proc/{process}")).unwrap()
}

fn signal(process: u32, signal: i32) {
    // SAFETY: no preconditions.
    assert_eq!(unsafe { libc::kill(process as _, signal) }, 0);
}

/// Has a process stand still, so that whoever asks it waits.
fn stop(process: u32) {
    signal(process, libc::SIGSTOP);
    wait_until("it stops", || {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        status.contains("State:\tT")
    });
}

#[track_caller]
fn assert_has_ended<T>(result: io::Result<T>) {
    let error = result.err().expect("there is nobody to answer");
    assert_eq!(error.kind(), io::ErrorKind::NotConnected, "{error}");
    assert!(error.to_string().contains("the manager has ended"), "{error}");
}

fn operations() {
    let manager = Manager::start().unwrap();
    let dict = manager.dict::<String, u32>().unwrap();
    assert!(dict.is_empty().unwrap());
    assert_eq!(dict.get("a").unwrap(), None);
    assert_eq!(dict.remove("a").unwrap(), None);
    for (key, value) in [("c", 1), ("a", 2), ("b", 3)] {
        assert_eq!(dict.insert(key, &value).unwrap(), None);
    }
    assert_eq!(dict.insert("c", &4).unwrap(), Some(1));
    assert_eq!((dict.len().unwrap(), dict.is_empty().unwrap()), (3, false));
    assert_eq!(dict.keys().unwrap(), ["c", "a", "b"]);
    assert_eq!(dict.values().unwrap(), [4, 2, 3]);
    let pair = |key: &str, value| (key.to_owned(), value);
    assert_eq!(dict.items().unwrap(), [pair("c", 4), pair("a", 2), pair("b", 3)]);
    assert_eq!(dict.remove(&"c".to_owned()).unwrap(), Some(4));
    assert!(!dict.contains_key("c").unwrap() && dict.contains_key("a").unwrap());
    dict.extend([pair("c", 5), pair("a", 6)]).unwrap();
    assert_eq!(dict.items().unwrap(), [pair("a", 6), pair("b", 3), pair("c", 5)]);
    assert_eq!(dict.get_or_insert("c", &7).unwrap(), 5);
    assert_eq!(dict.get_or_insert("d", &7).unwrap(), 7);
    assert_eq!(dict.compare_exchange("d", Some(&6), None).unwrap(), Err(Some(7)));
    assert_eq!(dict.compare_exchange("d", Some(&7), None).unwrap(), Ok(()));
    assert_eq!(dict.compare_exchange("d", Some(&7), Some(&8)).unwrap(), Err(None));
    assert_eq!(dict.compare_exchange("d", None, Some(&8)).unwrap(), Ok(()));
    assert_eq!(dict.get("d").unwrap(), Some(8));
    // A further handle is of the same one, another dict is not.
    let (same, other) = (dict.clone(), manager.dict::<String, u32>().unwrap());
    same.clear().unwrap();
    assert_eq!((dict.len().unwrap(), other.len().unwrap()), (0, 0));
    dict.extend(&HashMap::from([pair("x", 1)])).unwrap();
    assert_eq!((same.len().unwrap(), other.len().unwrap()), (1, 0));
    assert!(format!("{dict:?}").contains("number: 0"), "{dict:?}");
    assert!(format!("{manager:?}").contains(&manager.id().to_string()), "{manager:?}");
}

fn keys_and_values_of_many_types() {
    let manager = Manager::start().unwrap();
    let dict = manager.dict::<(i32, Option<String>), Vec<(f64, char)>>().unwrap();
    let key = |n, text: Option<&str>| (n, text.map(str::to_owned));
    dict.insert(&key(-1, None), &vec![]).unwrap();
    dict.insert(&key(-1, Some("")), &vec![(0.5, 'ä'), (f64::INFINITY, '\0')]).unwrap();
    assert_eq!(dict.get(&key(-1, None)).unwrap().unwrap(), []);
    let value = dict.get(&key(-1, Some(""))).unwrap().unwrap();
    assert_eq!(value, [(0.5, 'ä'), (f64::INFINITY, '\0')]);
    assert_eq!(dict.get(&key(1, None)).unwrap(), None);
    // Nothing, as a key and as a value.
    let dict = manager.dict::<(), ()>().unwrap();
    assert_eq!(dict.insert(&(), &()).unwrap(), None);
    assert_eq!(dict.insert(&(), &()).unwrap(), Some(()));
    // A dict in a dict.
    let outer = manager.dict::<i32, Dict<(), ()>>().unwrap();
    outer.insert(&1, &dict).unwrap();
    outer.get(&1).unwrap().unwrap().clear().unwrap();
    assert!(dict.is_empty().unwrap());
}

fn an_update_is_atomic() {
    let manager = Manager::start().unwrap();
    let dict = manager.dict::<i32, i32>().unwrap();
    assert_eq!(dict.update(&1, |none| none.or(Some(5))).unwrap(), Some(5));
    assert_eq!(dict.update(&1, |n| n.map(|n| n * 2)).unwrap(), Some(10));
    assert_eq!(dict.update(&1, |_| None).unwrap(), None);
    assert_eq!(dict.update(&1, |none| none).unwrap(), None);
    assert!(!dict.contains_key(&1).unwrap());
    // By coroutines of one thread, each of which waits between reading and writing.
    let counting = (0..8).map(|_| {
        let dict = dict.clone();
        spawn(move || {
            for _ in 0..25 {
                dict.update(&2, |n| Some(n.unwrap_or(0) + 1)).unwrap();
            }
        })
    });
    join_all(counting.collect::<Vec<_>>()).into_iter().for_each(|ended| ended.unwrap());
    assert_eq!(dict.get(&2).unwrap(), Some(200));
}

fn what_others_do_between_is_seen_by_an_update() {
    let manager = Manager::start().unwrap();
    let dict = manager.dict::<i32, i32>().unwrap();
    let mut seen = Vec::new();
    let result = dict.update(&1, |n| {
        seen.push(n);
        // Between reading and writing, twice.
        match seen.len() {
            1 => drop(dict.insert(&1, &10).unwrap()),
            2 => drop(dict.remove(&1).unwrap()),
            _ => {}
        }
        Some(n.unwrap_or(0) + 1)
    });
    assert_eq!((result.unwrap(), seen), (Some(1), vec![None, Some(10), None]));
    // One that panics leaves everything as it is.
    let panics = || dict.update(&1, |_| panic!("as expected"));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
    assert_eq!(dict.get(&1).unwrap(), Some(1));
}

fn children_see_each_others_changes() {
    let manager = Manager::start().unwrap();
    let dict = manager.dict::<u32, String>().unwrap();
    let wait_for = |key: u32| {
        while !dict.contains_key(&key).unwrap() {
            sleep(Duration::from_micros(100));
        }
    };
    // Each waits for the one before.
    let children: Vec<_> = (1..=4)
        .map(|number| {
            fork(|| {
                wait_for(number - 1);
                let before = dict.get(&(number - 1)).unwrap().unwrap();
                dict.insert(&number, &format!("{before}{number}")).unwrap();
            })
        })
        .collect();
    dict.insert(&0, &"0".to_owned()).unwrap();
    for child in children {
        child.succeeds();
    }
    assert_eq!(dict.values().unwrap(), ["0", "01", "012", "0123", "01234"]);
}

fn four_processes_count_exactly() {
    let manager = Manager::start().unwrap();
    let dict = manager.dict::<String, u32>().unwrap();
    let children = [(); 4].map(|()| {
        fork(|| {
            for _ in 0..500 {
                dict.update("count", |n| Some(n.unwrap_or(0) + 1)).unwrap();
            }
        })
    });
    for child in children {
        child.succeeds();
    }
    assert_eq!(dict.get("count").unwrap(), Some(2000));
}

fn large_values_and_large_dicts() {
    let manager = Manager::start().unwrap();
    let dict = manager.dict::<u8, String>().unwrap();
    let large = "0123456789abcdef".repeat(4 << 16);
    assert_eq!(large.len(), 4 << 20);
    dict.insert(&1, &large).unwrap();
    assert!(dict.insert(&1, &large).unwrap() == Some(large.clone()));
    assert!(dict.get(&1).unwrap() == Some(large));
    const COUNT: u32 = 100_000;
    let dict = manager.dict::<u32, u64>().unwrap();
    dict.extend((0..COUNT).map(|n| (n, u64::from(n) * 3))).unwrap();
    assert_eq!(dict.len().unwrap(), COUNT as usize);
    assert_eq!(dict.get(&(COUNT - 1)).unwrap(), Some(299_997));
    let items = dict.items().unwrap();
    assert!(items.into_iter().eq((0..COUNT).map(|n| (n, u64::from(n) * 3))));
    dict.clear().unwrap();
    assert!(dict.is_empty().unwrap());
}

fn as_an_argument_of_jobs() {
    let manager = Manager::start().unwrap();
    let dict = manager.dict::<u32, u32>().unwrap();
    let pool = ProcessPool::new(3).unwrap();
    let square = |(dict, n): (Dict<u32, u32>, u32)| {
        dict.insert(&n, &(n * n)).unwrap();
        dict.update(&0, |sum| Some(sum.unwrap_or(0) + n * n)).unwrap();
        // And back.
        dict
    };
    let dicts = pool.map(square, (1..=20).map(|n| (dict.clone(), n))).unwrap();
    assert_eq!(dicts[7].get(&0).unwrap(), Some(2870));
    assert_eq!(dict.len().unwrap(), 21);
    assert!((1..=20).all(|n| dict.get(&n).unwrap() == Some(n * n)));
}

fn as_an_argument_of_a_process_of_a_fork_server() {
    // Started before the manager, of which it knows nothing.
    let server = ForkServer::start().unwrap();
    let manager = Manager::start().unwrap();
    let dict = manager.dict::<String, i32>().unwrap();
    let child = server.spawn(|dict: Dict<String, i32>| dict.insert("there", &1).map(|_| ()), &dict);
    assert!(child.unwrap().join().unwrap().success());
    assert_eq!(dict.items().unwrap(), [("there".to_owned(), 1)]);
    // A manager of the server's, seen by a process of ours, and by one of the server's.
    let made_by_server = Manager::by_server(&server).unwrap();
    let dict = made_by_server.dict::<String, i32>().unwrap();
    fork(|| assert_eq!(dict.insert("forked", &2).unwrap(), None)).succeeds();
    let child = server.spawn(|dict: Dict<String, i32>| dict.get("forked").unwrap().unwrap(), &dict);
    assert_eq!(child.unwrap().join().unwrap().code(), Some(2));
    // No process that was made later keeps its socket, so that whoever connects would wait for ever.
    let daemon = Builder::new().daemon(true);
    let later = server.spawn_as(daemon, |()| sleep(Duration::from_secs(90)), &()).unwrap();
    made_by_server.shutdown().unwrap();
    assert!(!is_there(made_by_server.id()));
    assert_has_ended(timeout(LONG, || dict.len()).expect("somebody has its socket"));
    later.kill().unwrap();
    later.join().unwrap();
}

fn from_other_threads() {
    let manager = Manager::start().unwrap();
    let dict = &manager.dict::<u32, u32>().unwrap();
    let own = descriptors_of(manager.id());
    thread::scope(|scope| {
        for number in 0..4 {
            scope.spawn(move || {
                for _ in 0..20 {
                    dict.update(&number, |n| Some(n.unwrap_or(0) + 1)).unwrap();
                    dict.update(&9, |n| Some(n.unwrap_or(0) + 1)).unwrap();
                }
            });
        }
    });
    assert_eq!(dict.get(&9).unwrap(), Some(80));
    assert!((0..4).all(|number| dict.get(&number).unwrap() == Some(20)));
    wait_until("theirs are closed, ours is open", || descriptors_of(manager.id()) == own);
}

fn others_run_while_many_ask() {
    let manager = Manager::start().unwrap();
    let dict = manager.dict::<u32, u32>().unwrap();
    dict.insert(&0, &0).unwrap();
    let ticks = Rc::new(Cell::new(0));
    let ticker = spawn({
        let ticks = Rc::clone(&ticks);
        move || {
            loop {
                sleep(Duration::from_millis(1));
                ticks.set(ticks.get() + 1);
            }
        }
    });
    // Nobody answers, and everybody asks.
    stop(manager.id());
    let asking: Vec<_> = (1..=20)
        .map(|n| {
            let dict = dict.clone();
            spawn(move || (dict.insert(&n, &n).unwrap(), dict.get(&n).unwrap()))
        })
        .collect();
    wait_until("it ticks on", || ticks.get() >= 20);
    assert!(asking.iter().all(|one| !one.is_finished()));
    signal(manager.id(), libc::SIGCONT);
    for (n, result) in (1..=20).zip(join_all(asking)) {
        assert_eq!(result.unwrap(), (None, Some(n)));
    }
    ticker.kill();
    assert_eq!(dict.len().unwrap(), 21);
    // Not all of the twenty connections are kept.
    wait_until("some are closed", || descriptors_of(manager.id()) < 20);
}

fn a_kill_and_a_time_limit_in_the_middle() {
    let manager = Manager::start().unwrap();
    let dict = manager.dict::<u32, String>().unwrap();
    dict.insert(&1, &"one".to_owned()).unwrap();
    dict.insert(&2, &"two".to_owned()).unwrap();
    stop(manager.id());
    // Asked, and not answered.
    assert!(timeout(Duration::from_millis(10), || dict.get(&1)).is_err());
    let (killed, asks) = (dict.clone(), Rc::new(Cell::new(false)));
    let asking = spawn({
        let asks = Rc::clone(&asks);
        move || {
            asks.set(true);
            killed.get(&1)
        }
    });
    wait_until("it asks", || asks.get());
    asking.kill();
    assert!(asking.join().is_err());
    // In the middle of being sent: more than the socket takes.
    let large = "x".repeat(8 << 20);
    assert!(timeout(Duration::from_millis(10), || dict.insert(&3, &large)).is_err());
    signal(manager.id(), libc::SIGCONT);
    // No answer of before comes now, and the half of a request is none.
    assert_eq!(dict.get(&2).unwrap().as_deref(), Some("two"));
    assert_eq!(dict.keys().unwrap(), [1, 2]);
    // What was cut while it was being received.
    dict.insert(&3, &large).unwrap();
    for _ in 0..20 {
        let _ = timeout(Duration::from_micros(500), || dict.get(&3));
        assert_eq!(dict.get(&1).unwrap().as_deref(), Some("one"));
    }
}

fn a_child_that_is_killed_in_the_middle_harms_nobody() {
    let manager = Manager::start().unwrap();
    let dict = manager.dict::<u32, String>().unwrap();
    let large = "x".repeat(1 << 20);
    dict.insert(&0, &large).unwrap();
    let before = descriptors_of(manager.id());
    for round in 1..=5 {
        let begun = Gate::new();
        let child = fork(|| {
            dict.insert(&round, &large).unwrap();
            begun.open();
            loop {
                dict.insert(&round, &large).unwrap();
            }
        });
        begun.pass();
        sleep(Duration::from_millis(u64::from(round)));
        child.dies_when_killed();
        assert!(dict.get(&round).unwrap() == Some(large.clone()), "whole");
    }
    assert_eq!(dict.len().unwrap(), 6);
    wait_until("their connections are closed", || descriptors_of(manager.id()) == before);
}

fn a_fork_with_connections_that_are_kept() {
    let manager = Manager::start().unwrap();
    let dict = manager.dict::<u32, u32>().unwrap();
    dict.insert(&0, &0).unwrap();
    let child = fork(|| {
        for n in 1..300 {
            dict.insert(&n, &n).unwrap();
            assert_eq!(dict.get(&n).unwrap(), Some(n));
        }
    });
    // At the same time, over the connection that the child has a copy of.
    for n in 1000..1300 {
        dict.insert(&n, &n).unwrap();
        assert_eq!(dict.get(&n).unwrap(), Some(n));
    }
    child.succeeds();
    assert_eq!(dict.len().unwrap(), 600);
}

fn a_forked_child_leaves_its_parents_connections_alone() {
    let manager = Manager::start().unwrap();
    let dict = manager.dict::<u32, u32>().unwrap();
    dict.insert(&1, &1).unwrap();
    let (own, there) = (descriptors_of(std::process::id()), descriptors_of(manager.id()));
    // One that asks, and so closes what it has inherited, and goes on while we do.
    let (ready, end) = (Gate::new(), Gate::new());
    let child = fork(|| {
        assert_eq!(dict.get(&1).unwrap(), Some(1));
        ready.open();
        end.pass();
    });
    ready.pass();
    assert_eq!(dict.get(&1).unwrap(), Some(1));
    // No new connection was needed: there is one more, the child's.
    assert_eq!(descriptors_of(manager.id()), there + 1);
    end.open();
    child.succeeds();
    wait_until("the child's is closed", || descriptors_of(manager.id()) == there);
    // A descriptor of the child, which has ended, is not kept either.
    drop((ready, end));
    wait_until("all is as before", || descriptors_of(std::process::id()) == own);
}

fn nothing_is_left_after_a_shutdown() {
    let round = || {
        let manager = Manager::start().unwrap();
        let dict = manager.dict::<u32, u32>().unwrap();
        let asking = (0..10).map(|n| {
            let dict = dict.clone();
            spawn(move || assert_eq!(dict.insert(&n, &n).unwrap(), None))
        });
        join_all(asking.collect::<Vec<_>>());
        assert_eq!(dict.len().unwrap(), 10);
        manager.shutdown().unwrap();
        assert!(!is_there(manager.id()), "not as a zombie either");
        assert_has_ended(dict.len());
        assert_has_ended(dict.insert(&1, &1));
        assert_has_ended(dict.update(&1, |_| None));
        assert_has_ended(dict.items());
        assert_has_ended(manager.dict::<u32, u32>());
        manager.shutdown().unwrap();
    };
    round();
    sleep(Duration::from_millis(1));
    let before = descriptors_of(std::process::id());
    (0..5).for_each(|_| round());
    assert_eq!(descriptors_of(std::process::id()), before);
}

fn kept_connections_of_ended_managers_are_closed_by_other_threads() {
    let managers = [(); 3].map(|()| Manager::start().unwrap());
    let last = Manager::start().unwrap();
    let ended = managers.each_ref().map(|manager| manager.dict::<u32, u32>().unwrap());
    let dict = last.dict::<u32, u32>().unwrap();
    let (ready, end) = (&Gate::new(), &Gate::new());
    thread::scope(|scope| {
        scope.spawn(move || {
            assert!(ended.iter().all(|dict| dict.is_empty().unwrap()));
            ready.open();
            end.pass();
            let before = descriptors_of(std::process::id());
            dict.len().unwrap();
            assert_eq!(descriptors_of(std::process::id()), before - 3 + 1);
        });
        ready.pass();
        managers.iter().for_each(|manager| manager.shutdown().unwrap());
        end.open();
    });
}

fn a_manager_that_is_killed_while_somebody_waits() {
    let manager = Manager::start().unwrap();
    let dict = manager.dict::<u32, String>().unwrap();
    dict.insert(&1, &"one".to_owned()).unwrap();
    stop(manager.id());
    let child = fork(|| assert_has_ended(dict.len()));
    let large = "x".repeat(8 << 20);
    let (first, second, third) = (dict.clone(), dict.clone(), dict.clone());
    let waiting = [
        spawn(move || assert_has_ended(first.get(&1))),
        spawn(move || assert_has_ended(second.insert(&1, &large))),
        spawn(move || assert_has_ended(third.items())),
    ];
    sleep(Duration::from_millis(10));
    signal(manager.id(), libc::SIGKILL);
    join_all(waiting).into_iter().for_each(|ended| ended.unwrap());
    child.succeeds();
    assert_has_ended(dict.len());
    // It is over, and that is all there is to a shutdown.
    manager.shutdown().unwrap();
    assert!(!is_there(manager.id()));
}

fn a_manager_that_is_dropped_is_killed() {
    let manager = Manager::start().unwrap();
    let dict = manager.dict::<u32, u32>().unwrap();
    let id = manager.id();
    // Also if it does not listen.
    stop(id);
    drop(manager);
    wait_until("it is gone, and no zombie", || !is_there(id));
    assert_has_ended(dict.len());
}

fn a_copy_in_a_child_ends_nothing() {
    check_a_copy(Manager::start().unwrap());
    let server = ForkServer::start().unwrap();
    check_a_copy(Manager::by_server(&server).unwrap());
}

fn check_a_copy(manager: Manager) {
    let dict = manager.dict::<u32, u32>().unwrap();
    let id = manager.id();
    let manager = RefCell::new(Some(manager));
    let child = fork(|| {
        let copy = manager.take().unwrap();
        let error = copy.shutdown().unwrap_err();
        assert!(error.to_string().contains("that forked this one"), "{error}");
        // A dict can be made all the same.
        let own = copy.dict::<u32, Dict<u32, u32>>().unwrap();
        own.insert(&1, &dict).unwrap();
        drop(copy);
        own.get(&1).unwrap().unwrap().insert(&2, &3).unwrap();
    });
    child.succeeds();
    assert_eq!(dict.get(&2).unwrap(), Some(3));
    let manager = manager.take().unwrap();
    assert!(is_there(id));
    manager.shutdown().unwrap();
    assert!(!is_there(id));
}

fn ctrl_c_ends_no_manager() {
    let manager = Manager::start().unwrap();
    let dict = manager.dict::<u32, u32>().unwrap();
    for n in 0..3 {
        signal(manager.id(), libc::SIGINT);
        assert_eq!(dict.insert(&n, &n).unwrap(), None);
    }
    assert_eq!(dict.len().unwrap(), 3);
}

/// As another type: a handle goes to another process by its encoding.
fn as_another<K, V>(dict: &Dict<u32, String>) -> Dict<K, V> {
    postcard::from_bytes(&postcard::to_stdvec(dict).unwrap()).unwrap()
}

fn another_type_is_an_error() {
    let manager = Manager::start().unwrap();
    let dict = manager.dict::<u32, String>().unwrap();
    dict.insert(&300, &"three hundred".to_owned()).unwrap();
    let before = descriptors_of(manager.id());
    let error = as_another::<u32, u8>(&dict).get(&300).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("u8"), "{error}");
    let error = as_another::<u32, Vec<f64>>(&dict).values().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let error = as_another::<bool, String>(&dict).keys().unwrap_err();
    assert!(error.to_string().contains("bool"), "{error}");
    // It is as it was, and so is the connection.
    assert_eq!(dict.get(&300).unwrap().as_deref(), Some("three hundred"));
    assert_eq!(descriptors_of(manager.id()), before);
}

/// Only every other can be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Even(u32);

impl serde::Serialize for Even {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 % 2 {
            0 => serializer.serialize_u32(self.0),
            _ => Err(serde::ser::Error::custom("odd")),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Even {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::Deserialize::deserialize(deserializer).map(Even)
    }
}

fn what_cannot_be_encoded() {
    let manager = Manager::start().unwrap();
    let dict = manager.dict::<Even, Even>().unwrap();
    dict.insert(&Even(2), &Even(4)).unwrap();
    let errors = [
        dict.insert(&Even(1), &Even(4)).map(drop),
        dict.insert(&Even(2), &Even(5)).map(drop),
        dict.get(&Even(3)).map(drop),
        dict.update(&Even(2), |_| Some(Even(7))).map(drop),
        dict.extend([(Even(6), Even(6)), (Even(8), Even(9))]),
    ];
    for error in errors {
        let error = error.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("Even cannot be encoded"), "{error}");
    }
    assert_eq!(dict.items().unwrap(), [(Even(2), Even(4))]);
}

/// The socket of this process's first manager: anybody can read the names of all.
fn connect() -> UnixStream {
    let table = fs::read_to_string("/proc/self/net/unix").unwrap();
    let prefix = format!("switchgrass-manager-{}-0-", std::process::id());
    let name = table.lines().filter_map(|line| line.split('@').nth(1));
    let name = name.into_iter().find(|name| name.starts_with(&prefix)).expect("it listens");
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap()
}

/// Says something, and nothing else, and returns what is answered.
fn say(mut stream: UnixStream, words: &[&[u8]]) -> Vec<u8> {
    for word in words {
        // It may be closed already.
        let _ = stream.write_all(&(word.len() as u32).to_le_bytes());
        let _ = stream.write_all(word);
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("{error}"),
        _ => answer,
    }
}

/// The key, encoded, as a handle has it.
fn key_of(dict: &Dict<u32, u32>) -> Vec<u8> {
    type Handle = (u32, u32, u64, u128, u64);
    let handle = postcard::to_stdvec(dict).unwrap();
    let (process, .., key, number): Handle = postcard::from_bytes(&handle).unwrap();
    assert_eq!((process, number), (std::process::id(), 0));
    postcard::to_stdvec(&key).unwrap()
}

/// Requests: that there be a new dict, and that it end.
const NEW: &[u8] = &[0];
const END: &[u8] = &[2];

fn nobody_without_the_key() {
    let manager = Manager::start().unwrap();
    let dict = manager.dict::<u32, u32>().unwrap();
    let key = key_of(&dict);
    // The second one. So this is how it would be done.
    assert_eq!(say(connect(), &[&key, NEW]), [2, 0, 0, 0, 0, 1]);
    let wrong = postcard::to_stdvec(&1_u128).unwrap();
    for words in [&[&wrong[..], END][..], &[END], &[&[], END], &[&[255; 30], END]] {
        assert_eq!(say(connect(), words), []);
    }
    // The half of a length; the half of a message; a request that is none.
    let mut stream = connect();
    stream.write_all(&[5, 0]).unwrap();
    assert_eq!(say(stream, &[]), []);
    let mut stream = connect();
    stream.write_all(&[255, 255, 255, 255, 1]).unwrap();
    assert_eq!(say(stream, &[]), []);
    assert_eq!(say(connect(), &[&key, &[77], END]), []);
    dict.insert(&1, &1).unwrap();
    assert_eq!(dict.get(&1).unwrap(), Some(1));
}

fn who_has_not_said_the_key_sends_no_gigabytes() {
    let manager = Manager::start().unwrap();
    let dict = manager.dict::<u32, u32>().unwrap();
    let mut stream = connect();
    stream.set_write_timeout(Some(LONG)).unwrap();
    stream.write_all(&u32::MAX.to_le_bytes()).unwrap();
    let part = vec![0_u8; 1 << 16];
    let parts = (0..1024).take_while(|_| stream.write_all(&part).is_ok()).count();
    assert!(parts < 64, "it has taken {parts} times 64 KiB");
    assert!(dict.is_empty().unwrap());
}

fn a_shutdown_where_sigchld_is_ignored() {
    crate::children::ignore_sigchld();
    let manager = Manager::start().unwrap();
    let dict = manager.dict::<u32, u32>().unwrap();
    manager.shutdown().unwrap();
    manager.shutdown().unwrap();
    assert_has_ended(dict.len());
}

fn another_user_is_refused() {
    // SAFETY: no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        // Only root can become another.
        return;
    }
    let manager = Manager::start().unwrap();
    let dict = manager.dict::<u32, u32>().unwrap();
    let (key, address) = (key_of(&dict), connect().peer_addr().unwrap());
    let child = fork(|| {
        // SAFETY: no preconditions.
        assert_eq!(unsafe { libc::setresuid(54321, 54321, 54321) }, 0);
        // The client itself does not go on.
        let error = dict.len().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
        // One that does, with all that is needed.
        assert_eq!(say(UnixStream::connect_addr(&address).unwrap(), &[&key, END]), []);
    });
    child.succeeds();
    assert!(dict.is_empty().unwrap());
}
