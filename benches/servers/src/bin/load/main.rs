//! A load generator: one thread, its own loop, one request outstanding a connection.
//!
//! ```sh
//! load <echo|http> <address> [--connections N] [--idle N] [--seconds S] [--warmup S] [--requests N] [--server PID]
//! ```
//!
//! Each idle connection makes one request and then keeps silent. Every answer is checked. It prints one line
//! of `key=value`: what was done in the time measured, and what the server with the given process id has used
//! of processor and memory.

mod connection;
mod options;
mod process;
mod workload;

use connection::{Connection, Progress};
use hdrhistogram::Histogram;
use options::Options;
use process::Process;
use servers::descriptors;
use servers::epoll::Epoll;
use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use workload::Workload;

/// An answer that takes longer never comes.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    match Options::read(std::env::args().skip(1)).and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    descriptors::raise_limit((options.connections + options.idle + 16) as u64)?;
    let server = options.server.map(Process::new);
    let resident = || server.as_ref().map_or(Ok(0), Process::resident);
    let workload = Workload::learn(&options.protocol, options.address)?;

    let before = resident()?;
    let mut idle = Vec::new();
    for number in 0..options.idle {
        idle.push(workload.exchange(options.address, number as u64)?);
    }
    let with_idle = resident()?;

    let mut load = Load::new(options, workload)?;
    load.start()?;
    if options.warmup > Duration::ZERO {
        load.go_on(Until::Moment(Instant::now() + options.warmup))?;
        load.latencies.reset();
    }
    let processor = || server.as_ref().map_or(Ok(Duration::ZERO), Process::processor_time);
    let (begin, used) = (Instant::now(), processor()?);
    load.go_on(match options.requests {
        Some(count) => Until::Requests(count),
        None => Until::Moment(begin + options.seconds),
    })?;
    let (elapsed, used) = (begin.elapsed().as_secs_f64(), processor()? - used);

    let requests = load.latencies.len();
    let microseconds = |quantile| load.latencies.value_at_quantile(quantile) as f64 / 1000.0;
    println!(
        "requests={requests} seconds={elapsed:.3} rate={:.0} p50_us={:.1} p99_us={:.1} cpu_us={:.4} \
         resident_before={before} resident_with_idle={with_idle}",
        requests as f64 / elapsed,
        microseconds(0.5),
        microseconds(0.99),
        used.as_secs_f64() * 1e6 / requests.max(1) as f64,
    );
    Ok(())
}

/// When to stop.
#[derive(Clone, Copy)]
enum Until {
    Moment(Instant),
    /// When so many requests were made and all of them are answered.
    Requests(u64),
}

struct Load {
    epoll: Epoll,
    connections: Vec<Connection>,
    workload: Workload,
    /// In nanoseconds.
    latencies: Histogram<u64>,
}

impl Load {
    fn new(options: &Options, workload: Workload) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let mut connections = Vec::new();
        for number in 0..options.connections {
            let stream = workload.exchange(options.address, number as u64)?;
            stream.set_nonblocking(true)?;
            epoll.add(&stream, number as u64)?;
            connections.push(Connection::new(stream, &workload));
        }
        let longest = 2 * PATIENCE.as_nanos() as u64;
        let latencies = Histogram::new_with_max(longest, 3).map_err(io::Error::other)?;
        Ok(Load { epoll, connections, workload, latencies })
    }

    fn start(&mut self) -> io::Result<()> {
        let now = Instant::now();
        self.connections.iter_mut().try_for_each(|connection| connection.ask(&self.workload, now))
    }

    fn go_on(&mut self, until: Until) -> io::Result<()> {
        let mut outstanding = self.connections.len() as u64;
        let mut unasked = match until {
            Until::Moment(_) => u64::MAX,
            Until::Requests(count) => count.saturating_sub(outstanding),
        };
        loop {
            let count = self.epoll.wait(PATIENCE.as_millis() as i32)?;
            if count == 0 {
                return Err(io::Error::other(format!("no answer for {} s", PATIENCE.as_secs())));
            }
            for index in 0..count {
                let connection = &mut self.connections[self.epoll.event(index).token as usize];
                if connection.read(&self.workload)? == Progress::Answered {
                    let now = Instant::now();
                    let latency = now - connection.asked_at();
                    self.latencies.saturating_record(latency.as_nanos() as u64);
                    if unasked > 0 {
                        unasked -= 1;
                        connection.ask(&self.workload, now)?;
                    } else {
                        outstanding -= 1;
                    }
                }
            }
            if outstanding == 0 || matches!(until, Until::Moment(end) if Instant::now() >= end) {
                return Ok(());
            }
        }
    }
}
