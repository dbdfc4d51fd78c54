#![forbid(unsafe_code)]
//! The server of std's sockets, a coroutine of switchgrass's a connection, until it is killed. A program of its
//! own, since functions of libc's are defined anew in all of it.
//!
//! ```sh
//! serve_patched patched <echo|http> <address> [buffer: 4096|1024]
//! ```
//!
//! It says at which address it listens.

use servers::conversation::converse;
use servers::descriptors;
use servers::protocol::{Echo, Http, Protocol};
use std::io;
use std::net::TcpListener;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let served = match *arguments.as_slice() {
        ["patched", "echo", address] | ["patched", "echo", address, "4096"] => {
            serve::<Echo, 4096>(address)
        }
        ["patched", "http", address] | ["patched", "http", address, "4096"] => {
            serve::<Http, 4096>(address)
        }
        ["patched", "echo", address, "1024"] => serve::<Echo, 1024>(address),
        ["patched", "http", address, "1024"] => serve::<Http, 1024>(address),
        _ => Err(io::Error::other("usage: serve_patched patched echo|http ADDRESS [4096|1024]")),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("serve_patched: {error}");
            ExitCode::FAILURE
        }
    }
}

/// As with threads, but for what `spawn` spawns.
fn serve<P: Protocol, const ROOM: usize>(address: &str) -> io::Result<()> {
    descriptors::raise_limit(0)?;
    switchgrass::monkey::patch_all();
    let listener = TcpListener::bind(address)?;
    println!("listening {}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        stream.set_nodelay(true)?;
        // A connection that breaks ends, and that is all.
        switchgrass::spawn(move || _ = converse::<P, ROOM>(stream));
    }
    Ok(())
}
