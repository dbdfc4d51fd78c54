//! A store of keys and values that speaks the protocol of Redis (RESP2), and enough of its commands for the stock
//! `redis-cli` and `redis-benchmark`.
//!
//! ```sh
//! cargo run --release --example kv_server 127.0.0.1:6380
//! redis-cli -p 6380 set greeting hello EX 10           # elsewhere: OK
//! redis-cli -p 6380 get greeting                       # "hello", for ten seconds
//! redis-benchmark -p 6380 -t set,get -P 16 -q
//! ```
//!
//! PING ECHO GET SET (EX PX NX XX KEEPTTL) DEL EXISTS INCR DECR EXPIRE TTL DBSIZE COMMAND CONFIG QUIT, also as plain
//! lines of words, for `nc`. Without an address it serves fifty clients of its own, and says what they got.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read, Write};
use std::ops::{Index, Range};
use std::rc::Rc;
use std::time::{Duration, Instant};
use switchgrass::net::{SocketAddr, StreamServer, TcpListener, TcpStream};
use switchgrass::pool::Pool;
use switchgrass::{sleep, spawn, yield_now};

/// Bytes of a command with all its words, of a command in plain words, and of answers that are held back.
const LONGEST: usize = 16 << 20;
const LONGEST_LINE: usize = 64 << 10;
const ENOUGH: usize = 64 << 10;
/// What is read at once.
const CHUNK: usize = 16 << 10;
const MOST_WORDS: usize = 1024;

/// What a client is told that it has done wrong.
type Fault = Cow<'static, str>;
const SYNTAX: &str = "ERR syntax error";
const NOT_A_NUMBER: &str = "ERR value is not an integer or out of range";

// ---- what is stored

struct Entry {
    value: Vec<u8>,
    end: Option<Instant>,
}

#[derive(Default)]
struct Store {
    entries: HashMap<Box<[u8]>, Entry>,
    /// When keys end that do, the next one first.
    ends: BTreeSet<(Instant, Box<[u8]>)>,
}

impl Store {
    /// The entry of a key, which is gone once its time has passed, swept or not.
    fn get(&mut self, key: &[u8]) -> Option<&mut Entry> {
        let is_over = |entry: &Entry| entry.end.is_some_and(|end| end <= Instant::now());
        if self.entries.get(key).is_some_and(is_over) {
            self.remove(key);
        }
        self.entries.get_mut(key)
    }

    /// Leaves alone when the key ends, and says whether it does.
    fn set(&mut self, key: &[u8], value: &[u8]) -> bool {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.value.clear();
            entry.value.extend_from_slice(value);
            // What was large once does not take as much for ever.
            entry.value.shrink_to(2 * value.len() + 64);
            return entry.end.is_some();
        }
        self.entries.insert(key.into(), Entry { value: value.to_vec(), end: None });
        false
    }

    fn remove(&mut self, key: &[u8]) -> bool {
        self.set_end(key, None);
        self.entries.remove(key).is_some()
    }

    fn set_end(&mut self, key: &[u8], end: Option<Instant>) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let before = std::mem::replace(&mut entry.end, end);
        if let Some(before) = before {
            self.ends.remove(&(before, key.into()));
        }
        if let Some(end) = end {
            self.ends.insert((end, key.into()));
        }
    }

    /// Takes out some of those whose time has passed. Whether there may be more.
    fn sweep(&mut self) -> bool {
        let now = Instant::now();
        for _ in 0..100 {
            if self.ends.first().is_none_or(|(end, _)| *end > now) {
                return false;
            }
            let next = self.ends.pop_first();
            next.and_then(|(_, key)| self.entries.remove(&key));
        }
        true
    }
}

// ---- the protocol: what comes

/// The words of a command, where they were read to.
struct Words<'a> {
    input: &'a [u8],
    ranges: &'a [Range<usize>],
}

impl Index<usize> for Words<'_> {
    type Output = [u8];

    fn index(&self, at: usize) -> &[u8] {
        &self.input[self.ranges[at].clone()]
    }
}

impl Words<'_> {
    fn len(&self) -> usize {
        self.ranges.len()
    }

    fn is(&self, at: usize, name: &str) -> bool {
        self[at].eq_ignore_ascii_case(name.as_bytes())
    }

    fn from(&self, first: usize) -> impl Iterator<Item = &[u8]> {
        (first..self.len()).map(|at| &self[at])
    }
}

fn integer(text: &[u8]) -> Option<i64> {
    if text.first() == Some(&b'+') {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}

/// The number in the rest of a line, from 0 to `most`, and where the next line begins, if the line has come.
fn count(
    input: &[u8],
    at: usize,
    most: usize,
    fault: &'static str,
) -> Result<Option<(usize, usize)>, Fault> {
    const LONGEST_NUMBER: usize = 22;
    let line = &input[at..input.len().min(at + LONGEST_NUMBER)];
    let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
        return if line.len() < LONGEST_NUMBER { Ok(None) } else { Err(fault.into()) };
    };
    let number = line[..end].strip_suffix(b"\r").and_then(integer);
    match number.and_then(|number| usize::try_from(number).ok()) {
        Some(number) if number <= most => Ok(Some((number, at + end + 1))),
        _ => Err(fault.into()),
    }
}

/// Finds the words of the first command in `input`. How many bytes it takes, if all of it has come.
fn parse(input: &[u8], words: &mut Vec<Range<usize>>) -> Result<Option<usize>, Fault> {
    words.clear();
    if input.first() != Some(&b'*') {
        return parse_line(input, words);
    }
    let fault = "ERR Protocol error: invalid multibulk length";
    let Some((number, mut at)) = count(input, 1, MOST_WORDS, fault)? else { return Ok(None) };
    for _ in 0..number {
        match input.get(at) {
            Some(b'$') => at += 1,
            None => return Ok(None),
            Some(other) => {
                let other = other.escape_ascii();
                return Err(format!("ERR Protocol error: expected '$', got '{other}'").into());
            }
        }
        let fault = "ERR Protocol error: invalid bulk length";
        let Some((length, start)) = count(input, at, LONGEST.saturating_sub(at), fault)? else {
            return Ok(None);
        };
        words.push(start..start + length);
        at = start + length + 2;
        if input.len() < at {
            return Ok(None);
        }
    }
    Ok(Some(at))
}

fn parse_line(input: &[u8], words: &mut Vec<Range<usize>>) -> Result<Option<usize>, Fault> {
    let end = input.iter().position(|byte| *byte == b'\n');
    if end.unwrap_or(input.len()) > LONGEST_LINE {
        return Err("ERR Protocol error: too big inline request".into());
    }
    let Some(end) = end else { return Ok(None) };
    let mut at = 0;
    for word in input[..end].split(u8::is_ascii_whitespace) {
        if !word.is_empty() {
            words.push(at..at + word.len());
        }
        at += word.len() + 1;
    }
    Ok(Some(end + 1))
}

// ---- the protocol: what is answered

#[derive(Default)]
struct Answers(Vec<u8>);

impl Answers {
    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("memory takes all");
    }

    fn number(&mut self, number: i64) {
        self.put(format_args!(":{number}\r\n"));
    }

    fn bulk(&mut self, bytes: &[u8]) {
        self.put(format_args!("${}\r\n", bytes.len()));
        self.0.extend_from_slice(bytes);
        self.0.extend_from_slice(b"\r\n");
    }

    fn nothing(&mut self) {
        self.0.extend_from_slice(b"$-1\r\n");
    }

    fn ok(&mut self) {
        self.0.extend_from_slice(b"+OK\r\n");
    }

    fn send(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(&self.0)?;
        self.0.clear();
        self.0.shrink_to(2 * ENOUGH);
        Ok(())
    }
}

// ---- the commands

fn execute(store: &mut Store, words: &Words<'_>, answers: &mut Answers) -> Result<(), Fault> {
    let mut name = [0; 8];
    let length = words[0].len().min(name.len());
    name[..length].copy_from_slice(&words[0][..length]);
    name.make_ascii_uppercase();
    match (&name[..length], words.len()) {
        (b"GET", 2) => match store.get(&words[1]) {
            Some(entry) => answers.bulk(&entry.value),
            None => answers.nothing(),
        },
        (b"SET", 3..) => set(store, words, answers)?,
        (b"DEL", 2..) => {
            let is_alive = |key: &&[u8]| store.get(key).is_some() && store.remove(key);
            answers.number(words.from(1).filter(is_alive).count() as i64);
        }
        (b"EXISTS", 2..) => {
            answers.number(words.from(1).filter(|key| store.get(key).is_some()).count() as i64);
        }
        (b"INCR", 2) => add(store, &words[1], 1, answers)?,
        (b"DECR", 2) => add(store, &words[1], -1, answers)?,
        (b"EXPIRE", 3) => {
            let (key, seconds) = (&words[1], integer(&words[2]).ok_or(NOT_A_NUMBER)?);
            let is_there = store.get(key).is_some();
            if is_there && seconds <= 0 {
                store.remove(key);
            } else if is_there {
                store.set_end(key, Some(end(seconds, 1000, "expire")?));
            }
            answers.number(i64::from(is_there));
        }
        (b"TTL", 2) => answers.number(match store.get(&words[1]) {
            None => -2,
            Some(Entry { end: None, .. }) => -1,
            Some(Entry { end: Some(end), .. }) => {
                (end.saturating_duration_since(Instant::now()).as_millis() as i64 + 500) / 1000
            }
        }),
        (b"DBSIZE", 1) => answers.number(store.entries.len() as i64),
        (b"PING", 1) => answers.0.extend_from_slice(b"+PONG\r\n"),
        (b"PING" | b"ECHO", 2) => answers.bulk(&words[1]),
        (b"QUIT", _) => answers.ok(),
        // What the tools ask for at first. Nothing can be configured.
        (b"COMMAND", _) => answers.0.extend_from_slice(b"*0\r\n"),
        (b"CONFIG", 3) if words.is(1, "GET") => {
            answers.0.extend_from_slice(b"*2\r\n");
            answers.bulk(&words[2]);
            answers.bulk(b"");
        }
        _ => return Err(not_understood(words)),
    }
    Ok(())
}

fn not_understood(words: &Words<'_>) -> Fault {
    let known = "GET SET DEL EXISTS INCR DECR EXPIRE TTL DBSIZE PING ECHO CONFIG";
    let quote = |word: &[u8]| format!("'{}'", word[..word.len().min(64)].escape_ascii());
    if known.split(' ').any(|name| words.is(0, name)) {
        let name = quote(&words[0].to_ascii_lowercase());
        return format!("ERR wrong number of arguments for {name} command").into();
    }
    let name = quote(&words[0]);
    let rest: String = words.from(1).take(8).map(|word| quote(word) + " ").collect();
    format!("ERR unknown command {name}, with args beginning with: {rest}").into()
}

fn set(store: &mut Store, words: &Words<'_>, answers: &mut Answers) -> Result<(), Fault> {
    let key = &words[1];
    let (mut until, mut keeps, mut if_new, mut if_there) = (None, false, false, false);
    let mut at = 3;
    while at < words.len() {
        let is_seconds = words.is(at, "EX");
        if words.is(at, "NX") {
            if_new = true;
        } else if words.is(at, "XX") {
            if_there = true;
        } else if words.is(at, "KEEPTTL") {
            keeps = true;
        } else if (is_seconds || words.is(at, "PX")) && until.is_none() && at + 1 < words.len() {
            at += 1;
            let number = integer(&words[at]).ok_or(NOT_A_NUMBER)?;
            until = Some(end(number, if is_seconds { 1000 } else { 1 }, "set")?);
        } else {
            return Err(SYNTAX.into());
        }
        at += 1;
    }
    if if_new && if_there || keeps && until.is_some() {
        return Err(SYNTAX.into());
    }
    if keeps || if_new || if_there {
        let is_there = store.get(key).is_some();
        if if_new && is_there || if_there && !is_there {
            answers.nothing();
            return Ok(());
        }
    }
    let ends = store.set(key, &words[2]);
    if until.is_some() || ends && !keeps {
        store.set_end(key, until);
    }
    answers.ok();
    Ok(())
}

/// The moment after so many units, each of so many milliseconds.
fn end(number: i64, unit: u64, command: &str) -> Result<Instant, Fault> {
    let number = u64::try_from(number).ok().filter(|number| *number > 0);
    let time = number.and_then(|number| number.checked_mul(unit)).filter(|time| *time < 1 << 62);
    let end = time.and_then(|time| Instant::now().checked_add(Duration::from_millis(time)));
    end.ok_or_else(|| format!("ERR invalid expire time in '{command}' command").into())
}

fn add(store: &mut Store, key: &[u8], by: i64, answers: &mut Answers) -> Result<(), Fault> {
    let before =
        store.get(key).map_or(Some(0), |entry| integer(&entry.value)).ok_or(NOT_A_NUMBER)?;
    let number = before.checked_add(by).ok_or("ERR increment or decrement would overflow")?;
    store.set(key, number.to_string().as_bytes());
    answers.number(number);
    Ok(())
}

// ---- the server

fn serve(mut stream: TcpStream, store: &RefCell<Store>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut input, mut filled) = (vec![0; CHUNK], 0);
    let (mut ranges, mut answers) = (Vec::new(), Answers::default());
    loop {
        match stream.read(&mut input[filled..])? {
            0 => return Ok(()),
            count => filled += count,
        }
        // All that has come is answered at once.
        let (mut done, mut is_over) = (0, false);
        while !is_over {
            let rest = &input[done..filled];
            let result = match parse(rest, &mut ranges) {
                Ok(None) => break,
                Ok(Some(size)) => {
                    done += size;
                    let words = Words { input: rest, ranges: &ranges };
                    if ranges.is_empty() {
                        continue;
                    }
                    is_over = words.is(0, "QUIT");
                    execute(&mut store.borrow_mut(), &words, &mut answers)
                }
                Err(fault) => {
                    is_over = true;
                    Err(fault)
                }
            };
            if let Err(fault) = result {
                answers.put(format_args!("-{fault}\r\n"));
            }
            if answers.0.len() >= ENOUGH {
                answers.send(&mut stream)?;
            }
        }
        answers.send(&mut stream)?;
        if is_over {
            return Ok(());
        }
        input.copy_within(done..filled, 0);
        filled -= done;
        if filled == input.len() {
            input.resize(2 * filled, 0);
        } else if filled == 0 && input.len() > CHUNK {
            input = vec![0; CHUNK];
        }
    }
}

/// Counts to a hundred, all at once, and says whether the answers are right.
fn ask(address: SocketAddr, key: usize) -> io::Result<bool> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(format!("INCR {key}\r\n").repeat(100).as_bytes())?;
    stream.write_all(b"QUIT\r\n")?;
    let mut answers = String::new();
    stream.read_to_string(&mut answers)?;
    let expected: String = (1..=100).map(|number| format!(":{number}\r\n")).collect();
    Ok(answers == expected + "+OK\r\n")
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:0"))?;
    let here = listener.local_addr()?;
    let store = Rc::new(RefCell::new(Store::default()));
    let sweeper = spawn({
        let store = Rc::clone(&store);
        move || loop {
            if store.borrow_mut().sweep() {
                yield_now();
            } else {
                sleep(Duration::from_millis(100));
            }
        }
    });
    let server = StreamServer::with_limit(listener, 10_000, move |stream, _| {
        // A connection that fails is one that has gone.
        let _ = serve(stream, &store);
    });
    if address.is_some() {
        let _ = writeln!(io::stdout(), "listening at {here}");
        return server.serve_forever();
    }
    server.start();
    let answers = Pool::new(50).map(0..50, move |key| ask(here, key).unwrap()).unwrap();
    let right = answers.into_iter().filter(|is_right| *is_right).count();
    println!("{right} of 50 clients have counted to 100");
    let all = server.stop(Some(Duration::from_secs(5)));
    println!("stopped, all connections ended by themselves: {all}");
    sweeper.kill();
    Ok(())
}
