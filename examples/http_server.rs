//! An HTTP/1.1 server: connections that stay, requests in a pipeline, and limits for all that a client may do.
//!
//! ```sh
//! cargo run --release --example http_server 127.0.0.1:8080
//! curl http://127.0.0.1:8080/                      # elsewhere: a greeting
//! curl http://127.0.0.1:8080/slow?ms=1000          # takes a second, and holds up nobody
//! curl --data hello http://127.0.0.1:8080/echo     # what was sent
//! wrk -c 100 http://127.0.0.1:8080/
//! ```
//!
//! A second argument is how many seconds a request may take to come, 10 if there is none. Without an address it
//! serves a hundred clients of its own, and says what they got.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::Duration;
use switchgrass::net::{SocketAddr, StreamServer, TcpListener, TcpStream};
use switchgrass::pool::Pool;
use switchgrass::{sleep, timeout};

/// Bytes.
const LONGEST_HEAD: usize = 8 * 1024;
const LONGEST_BODY: usize = 1024 * 1024;

struct Request {
    method: String,
    target: String,
    /// Whether the client wants the connection to stay.
    stays: bool,
    /// How long the head is, and the body after it.
    head: usize,
    body: usize,
}

/// How a conversation ends other than by the client's wish.
enum End {
    /// With this status, since what comes next on the connection cannot be told.
    Refused(&'static str),
    /// Without a word, since nobody is there.
    Gone,
}

const BAD: End = End::Refused("400 Bad Request");

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        End::Gone
    }
}

/// The path and the query of a request's target. The target may name the server before them, as for a proxy: an
/// origin serves that as well (RFC 9112, 3.2.2).
fn path_and_query(target: &str) -> (&str, &str) {
    let scheme =
        |target: &str| target.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    let local = match scheme(target).as_deref() {
        Some(scheme @ ("http" | "https")) => {
            let rest = &target[scheme.len() + "://".len()..];
            &rest[rest.find(['/', '?']).unwrap_or(rest.len())..]
        }
        _ => target,
    };
    match local.split_once('?').unwrap_or((local, "")) {
        ("", query) => ("/", query),
        other => other,
    }
}

/// The request at the beginning of `input`, if its head has come.
fn parse(input: &[u8]) -> Result<Option<Request>, End> {
    const TOO_LARGE: End = End::Refused("431 Request Header Fields Too Large");
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    let head = match parsed.parse(input) {
        Ok(httparse::Status::Complete(size)) if size <= LONGEST_HEAD => size,
        Ok(httparse::Status::Partial) if input.len() <= LONGEST_HEAD => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(TOO_LARGE),
        Err(_) => return Err(BAD),
    };
    let is_new = parsed.version == Some(1);
    let (mut stays, mut hosts, mut body) = (is_new, 0, None);
    for header in parsed.headers.iter() {
        let value = String::from_utf8_lossy(header.value);
        let has = |word| value.split(',').any(|item| item.trim().eq_ignore_ascii_case(word));
        match header.name.to_ascii_lowercase().as_str() {
            "host" => hosts += 1,
            "connection" => stays = !has("close") && (stays || has("keep-alive")),
            "transfer-encoding" => return Err(End::Refused("501 Not Implemented")),
            "content-length" => {
                let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
                let length = value.parse().ok().filter(|_| is_number).ok_or(BAD)?;
                if body.replace(length).is_some_and(|other: usize| other != length) {
                    return Err(BAD);
                }
            }
            _ => {}
        }
    }
    if is_new && hosts != 1 {
        return Err(BAD);
    }
    let body = body.unwrap_or(0);
    if body > LONGEST_BODY {
        return Err(End::Refused("413 Content Too Large"));
    }
    let [method, target] = [parsed.method, parsed.path].map(|text| text.unwrap_or("").to_owned());
    Ok(Some(Request { method, target, stays, head, body }))
}

struct Connection {
    stream: TcpStream,
    /// What has come and was not looked at, and what has not been sent yet.
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Connection {
    fn converse(&mut self, limit: Duration) -> Result<(), End> {
        loop {
            let request = match timeout(limit, || self.request()) {
                Ok(request) => request?,
                // It reads no answers, or has nothing to ask.
                Err(_) if !self.output.is_empty() || self.input.is_empty() => {
                    return Err(End::Gone);
                }
                Err(_) => return Err(End::Refused("408 Request Timeout")),
            };
            let (status, body) = self.answer(&request)?;
            self.put(status, &body, request.stays, request.method == "HEAD");
            self.input.drain(..request.head + request.body);
            if !request.stays {
                return Ok(());
            }
        }
    }

    /// Waits for a request, until the whole of it is in `input`.
    fn request(&mut self) -> Result<Request, End> {
        loop {
            match parse(&self.input)? {
                Some(request) if self.input.len() >= request.head + request.body => {
                    return Ok(request);
                }
                _ => self.read()?,
            }
        }
    }

    /// Reads on. Answers are sent here, all that there are at once: whoever waits for one may send nothing.
    fn read(&mut self) -> Result<(), End> {
        self.send()?;
        let mut buffer = [0; LONGEST_HEAD];
        match self.stream.read(&mut buffer)? {
            0 if self.input.is_empty() => return Err(End::Gone),
            0 => return Err(BAD),
            count => self.input.extend_from_slice(&buffer[..count]),
        }
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.output)?;
        self.output.clear();
        Ok(())
    }

    fn answer(&mut self, request: &Request) -> Result<(&'static str, Vec<u8>), End> {
        let (path, query) = path_and_query(&request.target);
        let body = match (path, request.method.as_str()) {
            ("/", "GET" | "HEAD") => b"Hello from a coroutine\n".to_vec(),
            ("/slow", "GET" | "HEAD") => {
                let Some(Ok(pause @ 0..=60_000)) = query.strip_prefix("ms=").map(str::parse) else {
                    return Ok(("400 Bad Request", b"say ms=, at most 60000\n".to_vec()));
                };
                self.send()?;
                sleep(Duration::from_millis(pause));
                format!("after {pause} ms\n").into_bytes()
            }
            ("/echo", "POST") => self.input[request.head..][..request.body].to_vec(),
            ("/" | "/slow", _) => {
                return Ok(("405 Method Not Allowed\r\nAllow: GET, HEAD", vec![]));
            }
            ("/echo", _) => return Ok(("405 Method Not Allowed\r\nAllow: POST", vec![])),
            _ => return Ok(("404 Not Found", b"there is nothing here\n".to_vec())),
        };
        Ok(("200 OK", body))
    }

    fn put(&mut self, status: &str, body: &[u8], stays: bool, is_head: bool) {
        let connection = if stays { "keep-alive" } else { "close" };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
             Connection: {connection}\r\n\r\n"
        );
        self.output.extend_from_slice(head.as_bytes());
        if !is_head {
            self.output.extend_from_slice(body);
        }
    }
}

fn serve(stream: TcpStream, limit: Duration) -> Result<(), End> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(limit))?;
    let mut connection = Connection { stream, input: Vec::new(), output: Vec::new() };
    match connection.converse(limit) {
        Err(End::Refused(status)) => connection.put(status, b"", false, false),
        other => other?,
    }
    connection.send()?;
    // Closed while more is coming in, the connection would be reset, and the answer lost with it.
    connection.stream.shutdown(Shutdown::Write)?;
    let mut rest = [0; 1024];
    let _ =
        timeout(
            Duration::from_secs(1),
            || while let Ok(1..) = connection.stream.read(&mut rest) {},
        );
    Ok(())
}

/// Sends ten requests at once, and counts the answers.
fn ask(address: SocketAddr) -> io::Result<usize> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all("GET / HTTP/1.1\r\nHost: here\r\n\r\n".repeat(9).as_bytes())?;
    stream.write_all(b"GET /slow?ms=10 HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")?;
    let mut answers = String::new();
    stream.read_to_string(&mut answers)?;
    Ok(answers.matches("HTTP/1.1 200 OK").count())
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next();
    let limit = arguments.next().map_or(10.0, |text| text.parse().expect("a number of seconds"));
    let limit = Duration::from_secs_f64(limit);

    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:0"))?;
    let here = listener.local_addr()?;
    let server = StreamServer::with_limit(listener, 10_000, move |stream, _| {
        let _ = serve(stream, limit);
    });
    if address.is_some() {
        let _ = writeln!(io::stdout(), "listening at {here}");
        return server.serve_forever();
    }
    server.start();
    let answers = Pool::new(100).map(0..100, move |_| ask(here).unwrap()).unwrap();
    println!("100 clients got {} answers", answers.iter().sum::<usize>());
    let all = server.stop(Some(Duration::from_secs(5)));
    println!("stopped, all connections ended by themselves: {all}");
    Ok(())
}
