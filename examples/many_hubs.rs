//! A server over all processors, and jobs that compute beside it: a hub a processor, and bodies that have not begun
//! go where somebody is idle.
//!
//! ```sh
//! cargo run --release --example many_hubs                    # its own load: prints what each hub did
//! cargo run --release --example many_hubs 127.0.0.1:7777     # serves until it is interrupted
//! nc 127.0.0.1 7777                                          # elsewhere: a number a line, and its primes
//! ```

use std::io::{self, BufRead, BufReader, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use switchgrass::multicore::{Builder, Hubs, StreamServers};
use switchgrass::net::{SocketAddr, TcpStream};
use switchgrass::pool::Pool;

/// What a hub did: connections, and jobs.
type Counts = Arc<Vec<[AtomicU64; 2]>>;

/// How many primes there are below `number`. It computes, and waits for nothing.
fn primes(number: u64) -> usize {
    (2..number).filter(|n| (2..).take_while(|d| d * d <= *n).all(|d| n % d != 0)).count()
}

/// Answers each number by a body of its own, on whichever hub is idle.
fn answer(hubs: &Hubs, counts: &Counts, stream: TcpStream) -> io::Result<()> {
    counts[hubs.current().expect("on a hub")][0].fetch_add(1, Relaxed);
    let (reader, mut writer) = stream.into_split();
    for line in BufReader::new(reader).lines() {
        let Ok(number @ 0..=1_000_000) = line?.trim().parse() else { break };
        let (also, counts) = (hubs.clone(), Arc::clone(counts));
        let job = hubs.spawn(move || {
            counts[also.current().expect("on a hub")][1].fetch_add(1, Relaxed);
            primes(number)
        });
        writeln!(writer, "{}", job.join().expect("it does not fail"))?;
    }
    Ok(())
}

/// Asks for some numbers, and counts the right answers.
fn ask(address: SocketAddr) -> io::Result<usize> {
    let mut stream = TcpStream::connect(address)?;
    let numbers = [10, 100, 1_000, 10_000];
    numbers.iter().try_for_each(|number| writeln!(stream, "{number}"))?;
    let mut right = 0;
    for (expected, line) in ["4", "25", "168", "1229"].iter().zip(BufReader::new(stream).lines()) {
        right += usize::from(line? == *expected);
    }
    Ok(right)
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1);
    let hubs = Builder::new().pin(true).start()?;
    let counts: Counts = Arc::new((0..hubs.len()).map(|_| Default::default()).collect());
    let (also, count) = (hubs.clone(), Arc::clone(&counts));
    let place = address.as_deref().unwrap_or("127.0.0.1:0");
    let servers = StreamServers::bind(&hubs, place, move |stream, _| {
        let _ = answer(&also, &count, stream);
    })?;
    let _ = writeln!(io::stdout(), "{} hubs listen at {}", hubs.len(), servers.local_addr());
    if address.is_some() {
        return servers.serve_forever();
    }
    servers.start();
    let here = *servers.local_addr();
    let answers = Pool::new(100).map(0..200, move |_| ask(here).unwrap()).unwrap();
    println!("200 clients got {} right answers", answers.iter().sum::<usize>());
    let all = servers.stop(Some(Duration::from_secs(10)));
    println!("stopped, all connections ended by themselves: {all}");
    drop(servers);
    println!("and the hubs: {}", hubs.shutdown(None));
    for (hub, [connections, jobs]) in counts.iter().enumerate() {
        let (connections, jobs) = (connections.load(Relaxed), jobs.load(Relaxed));
        println!("hub {hub}: {connections} connections, {jobs} jobs");
    }
    Ok(())
}
