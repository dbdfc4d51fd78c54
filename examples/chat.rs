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

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::rc::Rc;
use std::time::Duration;
use switchgrass::coroutine::scope;
use switchgrass::net::{SocketAddr, StreamServer, TcpListener, TcpStream};
use switchgrass::sync::{Queue, RLock};
use switchgrass::yield_now;

/// Bytes. A longer one counts as several.
const LONGEST_LINE: u64 = 1024;
/// Lines that wait for a reader.
const MOST_WAITING: usize = 100;

struct Member {
    nick: RefCell<String>,
    room: RefCell<String>,
    stream: TcpStream,
    waiting: Queue<Rc<str>>,
}

impl Member {
    fn nick(&self) -> String {
        self.nick.borrow().clone()
    }

    /// Never waits: there may be no end to that.
    fn tell(&self, line: &Rc<str>) {
        if self.waiting.try_put(Rc::clone(line)).is_err() {
            // Both its coroutines find out where they wait, and end.
            self.stream.close();
        }
    }

    fn write(&self) {
        let mut lines = self.waiting.into_iter();
        if lines.try_for_each(|line| (&self.stream).write_all(line.as_bytes())).is_err() {
            self.stream.close();
        }
    }
}

#[derive(Default)]
struct Chat {
    /// By a number of their own: an address may be that of two, of whom one has not ended yet.
    members: RefCell<BTreeMap<u64, Rc<Member>>>,
    next: Cell<u64>,
    /// Held by who speaks.
    floor: RLock,
}

impl Chat {
    /// Lets one speak at a time, and all write after each: however many speak at once, what a reader has not been
    /// sent yet is little.
    fn take_floor<R>(&self, speak: impl FnOnce() -> R) -> R {
        let _floor = self.floor.lock();
        let result = speak();
        yield_now();
        result
    }

    /// Tells all in the room of a member, but not the member.
    fn say(&self, from: &Member, line: String) {
        let (room, line) = (from.room.borrow(), (line + "\n").into());
        for other in self.members.borrow().values() {
            if *other.room.borrow() == *room && !std::ptr::eq(&**other, from) {
                other.tell(&line);
            }
        }
    }

    fn is_taken(&self, nick: &str) -> bool {
        self.members.borrow().values().any(|other| *other.nick.borrow() == nick)
    }

    /// Does what a member has typed. Whether it stays.
    fn hear(&self, member: &Member, line: &str) -> bool {
        let tell = |line: String| member.tell(&(line + "\n").into());
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => {}
            ["/quit"] => return false,
            ["/nick", nick] if self.is_taken(nick) => tell(format!("* somebody else is {nick}")),
            ["/nick", nick] => {
                let before = member.nick.replace(nick.to_owned());
                self.say(member, format!("* {before} is now {nick}"));
                tell(format!("* you are {nick}"));
            }
            ["/join", room] => {
                self.say(member, format!("* {} leaves", member.nick()));
                member.room.replace(room.to_owned());
                self.say(member, format!("* {} joins", member.nick()));
                tell(format!("* you are in {room}"));
            }
            [command, ..] if command.starts_with('/') => {
                tell("* there are /nick NAME, /join ROOM and /quit".to_owned());
            }
            _ => self.say(member, format!("{}: {line}", member.nick())),
        }
        true
    }

    fn listen(&self, member: &Member) -> io::Result<()> {
        let mut reader = BufReader::new(&member.stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            let count = (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line)?;
            // Nobody is to draw on the others' terminals.
            let text = String::from_utf8_lossy(&line).replace(char::is_control, "");
            if count == 0 || !self.take_floor(|| self.hear(member, &text)) {
                return Ok(());
            }
        }
    }

    fn serve(&self, stream: TcpStream) {
        let me = Rc::new(Member {
            nick: RefCell::default(),
            room: RefCell::new("hall".to_owned()),
            stream,
            waiting: Queue::bounded(MOST_WAITING),
        });
        scope(|scope| {
            scope.spawn(|| me.write());
            let place = self.take_floor(|| Place::take(self, Rc::clone(&me)));
            // An error is an end like any other.
            let _ = self.listen(&me);
            self.take_floor(|| drop(place));
            // What waits is still written, but not for ever.
            let _ = me.stream.set_write_timeout(Some(Duration::from_secs(10)));
            me.waiting.shut_down();
        });
    }
}

/// A member's place among the others, which it leaves however its coroutine ends.
struct Place<'a> {
    chat: &'a Chat,
    number: u64,
    member: Rc<Member>,
}

impl<'a> Place<'a> {
    fn take(chat: &'a Chat, member: Rc<Member>) -> Self {
        let number = chat.next.replace(chat.next.get() + 1);
        let mut names = (number..).map(|number| format!("guest{number}"));
        let nick = names.find(|nick| !chat.is_taken(nick)).expect("there is no end to numbers");
        member.nick.replace(nick.clone());
        member.tell(&format!("* you are {nick} in the {}\n", member.room.borrow()).into());
        chat.members.borrow_mut().insert(number, Rc::clone(&member));
        chat.say(&member, format!("* {nick} joins"));
        Place { chat, number, member }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.chat.members.borrow_mut().remove(&self.number);
        self.chat.say(&self.member, format!("* {} leaves", self.member.nick()));
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
    let server = StreamServer::with_limit(listener, 1000, move |stream, _| chat.serve(stream));
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
