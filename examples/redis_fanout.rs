//! Fifty clients of Redis at once, on one thread: the `redis` crate as it comes, with its blocking connections.
//!
//! ```sh
//! cargo run --release --features monkey --example redis_fanout redis://127.0.0.1:6379/
//! ```
//!
//! Without an address it starts a `redis-server` of its own, on a free port, and ends it. All keys that it
//! makes begin with `fanout:`, and are gone afterwards.

use redis::{Client, Commands, Connection, RedisResult};
use std::error::Error;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;
use switchgrass::coroutine::{JoinHandle, join_all};
use switchgrass::{monkey, spawn};

const CLIENTS: usize = 50;

/// Ends when this is dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// A server of our own, once it takes connections, and where it is.
fn start_server() -> Result<(Server, String), Box<dyn Error>> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    let mut server = Server(child.map_err(|error| {
        format!("redis-server cannot be run ({error}): install it, or say where one listens")
    })?);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if let Some(status) = server.0.try_wait()? {
            return Err(format!("redis-server has ended: {status}").into());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok((server, format!("redis://127.0.0.1:{port}/")))
}

/// Has fifty coroutines do something, each with a connection of its own.
fn in_each<R: 'static>(
    client: &Client,
    f: impl Fn(usize, &mut Connection) -> RedisResult<R> + Copy + 'static,
) -> Vec<JoinHandle<RedisResult<R>>> {
    let one = |number| {
        let client = client.clone();
        spawn(move || f(number, &mut client.get_connection()?))
    };
    (0..CLIENTS).map(one).collect()
}

fn results<R: 'static>(all: Vec<JoinHandle<RedisResult<R>>>) -> RedisResult<Vec<R>> {
    join_all(all).into_iter().map(|result| result.expect("no panic")).collect()
}

/// How many clients wait for a list to get something, as the server says.
fn blocked(connection: &mut Connection) -> RedisResult<usize> {
    let text: String = redis::cmd("INFO").arg("clients").query(connection)?;
    let line = text.lines().find_map(|line| line.strip_prefix("blocked_clients:"));
    Ok(line.and_then(|count| count.trim().parse().ok()).unwrap_or(0))
}

fn run(address: &str) -> RedisResult<()> {
    let client = Client::open(address)?;
    let mut connection = client.get_connection()?;

    let poppers = in_each(&client, |number, connection| {
        let (_, value): (String, usize) = connection.blpop(format!("fanout:{number}"), 0.0)?;
        Ok(value)
    });
    while blocked(&mut connection)? < CLIENTS {
        thread::sleep(Duration::from_millis(1));
    }
    println!("{CLIENTS} clients are blocked at once, says the server");
    for number in (0..CLIENTS).rev() {
        let _: usize = connection.rpush(format!("fanout:{number}"), number * number)?;
    }
    let sum: usize = results(poppers)?.into_iter().sum();
    println!("the sum of what they got: {sum}");

    let counters = in_each(&client, |_, connection| connection.incr("fanout:count", 1));
    let mut counts: Vec<usize> = results(counters)?;
    counts.sort_unstable();
    println!("they counted from {} to {}", counts[0], counts[CLIENTS - 1]);
    let readers = in_each(&client, |_, connection| connection.get("fanout:count"));
    let all_same = results::<usize>(readers)?.iter().all(|count| *count == CLIENTS);
    println!("all of them read {CLIENTS}: {all_same}");
    connection.del("fanout:count")
}

fn main() -> ExitCode {
    // From here on, whatever blocks in a coroutine lets the others run.
    monkey::patch_all();
    let server = match std::env::args().nth(1) {
        Some(address) => Ok((None, address)),
        None => start_server().map(|(server, address)| (Some(server), address)),
    };
    let done = server.and_then(|(_server, address)| Ok(run(&address)?));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("redis_fanout: {error}");
            ExitCode::FAILURE
        }
    }
}
