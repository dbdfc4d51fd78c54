//! Rooms to talk in, for `nc`.
//!
//! ```sh
//! cargo run --release --example chat 127.0.0.1:7001
//! nc 127.0.0.1 7001      # elsewhere, twice: what one types, the other sees
//! ```
//!
//! `/nick NAME` and `/join ROOM` change what they say, `/quit` ends. Lines wait for their readers, a hundred for each:
//! whoever does not read so many is put out, and holds up nobody. Without an address it lets three clients of its own
//! talk, and shows what each has seen.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::rc::Rc;
use std::time::Duration;
use switchgrass::coroutine::scope;
use switchgrass::net::{SocketAddr, StreamServer, TcpListener, TcpStream};
use switchgrass::sync::Queue;
use switchgrass::yield_now;

/// Bytes. A longer one counts as several.
const LONGEST_LINE: u64 = 1024;
/// Lines that wait for a reader.
const MOST_WAITING: usize = 100;

#[derive(Clone)]
struct Member {
    nick: String,
    room: String,
    stream: Rc<TcpStream>,
    waiting: Rc<Queue<Rc<str>>>,
}

impl Member {
    /// Never waits: there may be no end to that.
    fn tell(&self, line: &Rc<str>) {
        if self.waiting.try_put(Rc::clone(line)).is_err() {
            // Both its coroutines find out where they wait, and end.
            self.stream.close();
        }
    }

    fn write(&self) {
        let mut lines = self.waiting.into_iter();
        if lines.try_for_each(|line| (&*self.stream).write_all(line.as_bytes())).is_err() {
            self.stream.close();
        }
    }
}

#[derive(Default)]
struct Chat {
    members: RefCell<BTreeMap<SocketAddr, Member>>,
}

impl Chat {
    /// Tells all in the room of a member, but not the member.
    fn say(&self, from: SocketAddr, line: String) {
        let members = self.members.borrow();
        let (room, line) = (&members[&from].room, (line + "\n").into());
        let is_other = |(to, other): &(&SocketAddr, &Member)| **to != from && other.room == *room;
        members.iter().filter(is_other).for_each(|(_, other)| other.tell(&line));
    }

    /// Does what a member has typed. Whether it stays.
    fn hear(&self, from: SocketAddr, line: &str) -> bool {
        let change = |change: &dyn Fn(&mut Member)| {
            self.members.borrow_mut().entry(from).and_modify(change);
        };
        let member = self.members.borrow()[&from].clone();
        let tell = |line: String| member.tell(&(line + "\n").into());
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => {}
            ["/quit"] => return false,
            ["/nick", nick] if self.members.borrow().values().any(|other| other.nick == nick) => {
                tell(format!("* somebody else is {nick}"));
            }
            ["/nick", nick] => {
                change(&|member| member.nick = nick.to_owned());
                self.say(from, format!("* {} is now {nick}", member.nick));
                tell(format!("* you are {nick}"));
            }
            ["/join", room] => {
                self.say(from, format!("* {} leaves", member.nick));
                change(&|member| member.room = room.to_owned());
                self.say(from, format!("* {} joins", member.nick));
                tell(format!("* you are in {room}"));
            }
            [command, ..] if command.starts_with('/') => {
                tell("* there are /nick NAME, /join ROOM and /quit".to_owned());
            }
            _ => self.say(from, format!("{}: {line}", member.nick)),
        }
        true
    }

    fn listen(&self, from: SocketAddr, stream: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            let count = (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line)?;
            // Nobody is to draw on the others' terminals.
            let text = String::from_utf8_lossy(&line).replace(char::is_control, "");
            if count == 0 || !self.hear(from, &text) {
                return Ok(());
            }
            // Many may have come at once: the others can keep up only if their coroutines run.
            yield_now();
        }
    }

    fn serve(&self, stream: TcpStream, from: SocketAddr) {
        let (nick, room) = (format!("guest{}", from.port()), "hall".to_owned());
        let waiting = Rc::new(Queue::bounded(MOST_WAITING));
        let me = Member { nick, room, stream: Rc::new(stream), waiting };
        scope(|scope| {
            let _place = Place::take(self, from, me.clone());
            scope.spawn(|| me.write());
            // An error is an end like any other.
            let _ = self.listen(from, &me.stream);
            // What waits is still written, but not for ever.
            let _ = me.stream.set_write_timeout(Some(Duration::from_secs(10)));
            me.waiting.shut_down();
        });
    }
}

/// A member's place among the others, which it leaves however its coroutine ends.
struct Place<'a> {
    chat: &'a Chat,
    address: SocketAddr,
}

impl<'a> Place<'a> {
    fn take(chat: &'a Chat, address: SocketAddr, member: Member) -> Self {
        let line = format!("* {} joins", member.nick);
        member.tell(&format!("* you are {} in the {}\n", member.nick, member.room).into());
        chat.members.borrow_mut().insert(address, member);
        chat.say(address, line);
        Place { chat, address }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let nick = self.chat.members.borrow()[&self.address].nick.clone();
        self.chat.say(self.address, format!("* {nick} leaves"));
        self.chat.members.borrow_mut().remove(&self.address);
    }
}

struct Client {
    reader: BufReader<TcpStream>,
    seen: Vec<String>,
}

impl Client {
    /// Enters, and waits until it has got a name.
    fn enter(address: SocketAddr, nick: &str) -> Self {
        let reader = BufReader::new(TcpStream::connect(address).unwrap());
        let mut client = Client { reader, seen: Vec::new() };
        client.type_and_see(&format!("/nick {nick}"), &format!("* you are {nick}"));
        client
    }

    fn type_and_see(&mut self, typed: &str, seen: &str) {
        writeln!(self.reader.get_mut(), "{typed}").unwrap();
        self.see(seen);
    }

    /// Reads until a line has come.
    fn see(&mut self, line: &str) {
        while self.seen.last().is_none_or(|last| last != line) {
            let mut next = String::new();
            assert!(self.reader.read_line(&mut next).unwrap() > 0, "{line} has not come");
            self.seen.push(next.trim_end().to_owned());
        }
    }
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:0"))?;
    let here = listener.local_addr()?;
    let chat = Chat::default();
    let server =
        StreamServer::with_limit(listener, 1000, move |stream, from| chat.serve(stream, from));
    if address.is_some() {
        let _ = writeln!(io::stdout(), "listening at {here}");
        return server.serve_forever();
    }
    server.start();
    let [mut ann, mut bob, mut eve] = ["ann", "bob", "eve"].map(|nick| Client::enter(here, nick));
    ann.type_and_see("/join kitchen", "* you are in kitchen");
    bob.type_and_see("/join kitchen", "* you are in kitchen");
    ann.type_and_see("is there tea?", "* bob joins");
    bob.see("ann: is there tea?");
    bob.type_and_see("there is", "ann: is there tea?");
    ann.see("bob: there is");
    eve.type_and_see("is anybody here?", "* bob leaves");
    for (nick, client) in [("ann", ann), ("bob", bob), ("eve", eve)] {
        println!("{nick} has seen:");
        client.seen.iter().for_each(|line| println!("    {line}"));
    }
    let all = server.stop(Some(Duration::from_secs(5)));
    println!("stopped, all connections ended by themselves: {all}");
    Ok(())
}
