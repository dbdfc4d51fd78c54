#![forbid(unsafe_code)]
//! One server of a kind, until it is killed.
//!
//! ```sh
//! serve <epoll|tokio1|tokio2|may|may2|threads|switchgrass|switchgrass2> <echo|http> <address> [buffer: 4096|1024]
//! ```
//!
//! It says at which address it listens.

mod by_hand;
mod conversation;
mod tasks;

use servers::descriptors;
use servers::protocol::{Echo, Http, Protocol};
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let served = match *arguments.as_slice() {
        [kind, "echo", address] | [kind, "echo", address, "4096"] => {
            serve::<Echo, 4096>(kind, address)
        }
        [kind, "http", address] | [kind, "http", address, "4096"] => {
            serve::<Http, 4096>(kind, address)
        }
        [kind, "echo", address, "1024"] => serve::<Echo, 1024>(kind, address),
        [kind, "http", address, "1024"] => serve::<Http, 1024>(kind, address),
        _ => Err(io::Error::other("usage: serve KIND echo|http ADDRESS [4096|1024]")),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("serve: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve<P: Protocol, const ROOM: usize>(kind: &str, address: &str) -> io::Result<()> {
    descriptors::raise_limit(0)?;
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    match kind {
        "epoll" => by_hand::serve::<P, ROOM>(address),
        "tokio1" => tasks::on_this_thread::<P, ROOM>(address),
        "tokio2" => tasks::on_two_threads::<P, ROOM>(address),
        "may" => conversation::by_may::<P, ROOM>(address, 1),
        "may2" => conversation::by_may::<P, ROOM>(address, 2),
        "threads" => conversation::by_threads::<P, ROOM>(address),
        "switchgrass" => conversation::by_switchgrass::<P, ROOM>(address),
        "switchgrass2" => conversation::by_two_hubs::<P, ROOM>(address),
        _ => Err(io::Error::other(format!("there is no server of the kind {kind:?}"))),
    }
}

/// Says that connections are taken from now on.
fn announce(address: SocketAddr) {
    println!("listening {address}");
}
