//! Two greenlets that switch to each other, and two that pass a counter to and fro.
//!
//! Type `cargo run --release --example ping_pong`, and see `12 56 34 78`, then the counter.

use switchgrass::{Greenlet, WeakGreenlet, pair};

fn main() {
    let ping = pair(
        |pong, ()| {
            println!("12");
            pong.switch(());
            println!("34");
            pong.switch(());
        },
        |ping, ()| {
            println!("56");
            ping.switch(());
            println!("78");
        },
    );
    ping.switch(());

    // The one counts up and sends numbers; the other doubles them and sends words. Each accepts one
    // type, and the compiler knows which.
    let count = |double: Greenlet<u32, String>, word: String| {
        println!("count got {word:?}");
        for number in 1..=3 {
            let word = double.switch(number);
            println!("count got {word:?}");
        }
        0
    };
    let double = |count: WeakGreenlet<String, u32>, mut number: u32| loop {
        println!("                double got {number}");
        number = count.switch((2 * number).to_string());
    };
    let count = pair(count, double);
    count.switch("start".to_string());
    println!("{count:?}");
}
