//! Several coroutines wait for one socket: each has its turn.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::Duration;
use switchgrass::coroutine::join_all;
use switchgrass::net::{TcpListener, TcpStream, UdpSocket};
use switchgrass::{JoinHandle, sleep, spawn, timeout, yield_now};

const SOON: Duration = Duration::from_secs(10);

/// The numbers of those that have got something, in order.
type Log = Rc<RefCell<Vec<usize>>>;

/// So many acceptors of one listener, and what they have got.
fn acceptors(listener: &Rc<TcpListener>, count: usize) -> (Log, Vec<JoinHandle<()>>) {
    let log = Log::default();
    let all = (0..count).map(|number| {
        let (listener, log) = (Rc::clone(listener), Rc::clone(&log));
        spawn(move || {
            while listener.accept().is_ok() {
                log.borrow_mut().push(number);
            }
        })
    });
    let all = all.collect();
    yield_now();
    (log, all)
}

/// Each of `count` comes again after all others. A turn may shift by one, when one that was served lets others run
/// before it waits again.
fn assert_in_turn(log: &[usize], count: usize) {
    for (at, number) in log.iter().enumerate() {
        let others = log.iter().skip(at + 1).position(|other| other == number);
        assert!(
            others.is_none_or(|others| others + 2 >= count),
            "{number} comes too soon: {log:?}"
        );
    }
}

#[test]
fn eight_acceptors_of_one_listener_take_turns() {
    let listener = Rc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    let (log, all) = acceptors(&listener, 8);
    for count in 1..=80 {
        let _client = TcpStream::connect(address).unwrap();
        while log.borrow().len() < count {
            sleep(Duration::from_micros(100));
        }
    }
    assert_in_turn(&log.borrow(), 8);
    listener.close();
    join_all(all);
}

/// No event comes for each of these: who is served wakes the next.
#[test]
fn eight_acceptors_share_connections_that_come_at_once() {
    let listener = Rc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    let (log, all) = acceptors(&listener, 8);
    let _clients: Vec<_> =
        (0..80).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    timeout(SOON, || {
        while log.borrow().len() < 80 {
            sleep(Duration::from_millis(1))
        }
    })
    .unwrap();
    let counts = (0..8).map(|number| log.borrow().iter().filter(|one| **one == number).count());
    let counts: Vec<_> = counts.collect();
    // One that is woken in vain keeps its place, so that the turns may shift by one.
    assert!(counts.iter().all(|count| (9..=11).contains(count)), "{counts:?}");
    listener.close();
    join_all(all);
}

#[test]
fn four_receivers_of_one_udp_socket_take_turns() {
    let socket = Rc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
    let address = socket.local_addr().unwrap();
    let log = Log::default();
    let all: Vec<_> = (0..4)
        .map(|number| {
            let (socket, log) = (Rc::clone(&socket), Rc::clone(&log));
            spawn(move || {
                while socket.recv_from(&mut [0; 16]).is_ok() {
                    log.borrow_mut().push(number);
                }
            })
        })
        .collect();
    yield_now();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    for count in 1..=40 {
        client.send_to(b"x", address).unwrap();
        while log.borrow().len() < count {
            sleep(Duration::from_micros(100));
        }
    }
    assert_in_turn(&log.borrow(), 4);
    socket.close();
    join_all(all);
}

/// One that is killed in the queue, or gives up, also when it was woken already, hands its turn on.
#[test]
fn a_turn_is_not_lost_with_who_has_it() {
    let listener = Rc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    let served = Rc::new(Cell::new(0));
    for round in 0..20 {
        let all: Vec<_> = (0..4)
            .map(|_| {
                let (listener, served) = (Rc::clone(&listener), Rc::clone(&served));
                spawn(move || {
                    let (mut stream, _) = listener.accept().unwrap();
                    served.set(served.get() + 1);
                    stream.write_all(b"x").unwrap();
                })
            })
            .collect();
        yield_now();
        let mut client = TcpStream::connect(address).unwrap();
        // By the time that it is killed it may wait, may have been woken, or may have been served.
        for _ in 0..round % 4 {
            yield_now();
        }
        let before = served.get();
        all[0].kill();
        all[2].kill();
        timeout(SOON, || client.read_exact(&mut [0])).expect("nobody has accepted").unwrap();
        assert_eq!(served.get(), before.max(round + 1));
        all.iter().for_each(|one| one.kill());
        join_all(all);
    }
}

/// A call that is made by `read_with` may use the same descriptor.
#[test]
fn a_call_may_wait_for_its_own_descriptor() {
    use switchgrass::io::{Descriptor, pipe};
    let (reader, mut writer) = pipe().unwrap();
    let reader = Rc::new(reader);
    let other = Rc::clone(&reader);
    let waiting = spawn(move || (&*other).read(&mut [0; 1]).unwrap());
    let nested = spawn({
        let reader = Rc::clone(&reader);
        move || {
            let read = |descriptor: &Descriptor<_>| {
                descriptor.read_with(|mut pipe: &std::io::PipeReader| pipe.read(&mut [0; 1]))
            };
            reader.read_with(|_| read(&reader)).unwrap()
        }
    });
    yield_now();
    writer.write_all(b"abc").unwrap();
    let all = timeout(SOON, || [waiting.join().unwrap(), nested.join().unwrap()]);
    assert_eq!(all.expect("one is stuck"), [1, 1]);
}
