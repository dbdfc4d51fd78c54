//! Many hubs: where bodies run, how they end, and what hubs do with each other.

mod between_hubs;
mod ending;
mod joining;
mod killing;
mod pinning;
mod servers;
mod spawning;
mod stress;
#[expect(dead_code, reason = "what is there for one thread is not needed here")]
#[path = "../it/support.rs"]
mod support;
mod taking;

use std::sync::mpsc;
use switchgrass::multicore::{Hubs, JoinHandle};

fn hubs(count: usize) -> Hubs {
    Hubs::new(count).expect("threads can be made")
}

/// Something that holds a hub's thread, as a call that blocks does, until it is let go.
struct Held {
    end: mpsc::Sender<()>,
    body: JoinHandle<()>,
}

impl Held {
    /// Returns when the hub is held.
    fn hold(hubs: &Hubs, hub: usize) -> Self {
        let (end, ended) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let body = hubs.spawn_on(hub, move || {
            tell.send(()).unwrap();
            let _ = ended.recv();
        });
        told.recv().unwrap();
        Held { end, body }
    }

    fn let_go(self) {
        drop(self.end);
        self.body.join().unwrap();
    }
}
