//! `redis`.

use crate::servers::{has, redis};
use clients::{CLIENTS, at_once};
use redis::{Client, Commands};
use std::thread;
use std::time::Duration;
use switchgrass::{monkey, spawn};

/// Nothing is pushed before the server says that all fifty are blocked.
#[test]
fn fifty_are_blocked_in_blpop_at_once() {
    if !has("redis-server") {
        return;
    }
    monkey::patch_all();
    let server = redis();
    let client = Client::open(format!("redis://{}/", server.address)).unwrap();
    let pushing = client.clone();
    let pusher = spawn(move || {
        let mut connection = pushing.get_connection().unwrap();
        let blocked = format!("blocked_clients:{CLIENTS}\r");
        loop {
            let text: String = redis::cmd("INFO").arg("clients").query(&mut connection).unwrap();
            if text.contains(&blocked) {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        for number in (0..CLIENTS).rev() {
            let _: usize = connection.rpush(number, number * number).unwrap();
        }
    });
    let squares = at_once(move |number| {
        let mut connection = client.get_connection().unwrap();
        let (key, value): (usize, usize) = connection.blpop(number, 0.0).unwrap();
        assert_eq!(key, number);
        value
    });
    assert_eq!(squares, (0..CLIENTS).map(|number| number * number).collect::<Vec<_>>());
    pusher.join().unwrap();
}
