//! Many pages at once, on one thread, by a client that knows nothing of coroutines: `ureq`, as it comes.
//!
//! ```sh
//! cargo run --release --features monkey --example fetch https://www.rust-lang.org https://www.debian.org
//! cargo run --release --features monkey --example fetch      # from a slow server of its own
//! ```
//!
//! Compare what it took with the sum of what each page took.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::{coroutine, monkey, spawn};

/// How many pages the server of its own has, and how long it takes over each.
const PAGES: usize = 20;
const SLOWNESS: Duration = Duration::from_millis(200);

/// What anybody would write who has never heard of coroutines.
fn length(agent: &ureq::Agent, url: &str) -> Result<usize, ureq::Error> {
    Ok(agent.get(url).call()?.body_mut().read_to_vec()?.len())
}

/// Answers one request, and takes its time. `/7` is a page of 7,000 bytes.
fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    // The head ends with an empty line.
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let page = request.trim_start_matches("GET /").split(' ').next();
    let number = page.and_then(|page| page.parse::<usize>().ok()).unwrap_or(0);
    thread::sleep(SLOWNESS);
    let body = "x".repeat(1000 * number);
    let head = format!("Content-Length: {}\r\nConnection: close", body.len());
    write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}")
}

/// A server of std's sockets, a coroutine a connection.
fn serve_slowly() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    spawn(move || {
        // It ends when the program does: then the wait for a connection fails.
        for stream in listener.incoming().map_while(Result::ok) {
            spawn(move || {
                if let Err(error) = answer(stream) {
                    eprintln!("a client has left: {error}");
                }
            });
        }
    });
    Ok(address)
}

fn main() -> io::Result<()> {
    // From here on, whatever blocks in a coroutine lets the others run.
    monkey::patch_all();
    let mut urls: Vec<String> = env::args().skip(1).collect();
    if urls.is_empty() {
        let address = serve_slowly()?;
        urls = (1..=PAGES).map(|number| format!("http://{address}/{number}")).collect();
    }
    let count = urls.len();
    let agent = ureq::agent();
    let start = Instant::now();
    let fetches = urls.into_iter().map(|url| {
        let agent = agent.clone();
        spawn(move || {
            let start = Instant::now();
            match length(&agent, &url) {
                Ok(length) => println!("{length} bytes from {url}"),
                Err(error) => println!("nothing from {url}: {error}"),
            }
            start.elapsed()
        })
    });
    let times = coroutine::join_all(fetches.collect::<Vec<_>>());
    let sum: Duration = times.into_iter().map(|time| time.expect("no panic")).sum();
    println!("{count} pages in {} ms", start.elapsed().as_millis());
    println!("one after the other: {} ms", sum.as_millis());
    Ok(())
}
