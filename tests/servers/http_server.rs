//! `http_server`, asked by curl and wrk, and pestered.

use super::{Server, output, read_all, tool};
use std::io::{Read, Write};
use std::time::Instant;

const GREETING: &str = "Hello from a coroutine\n";

fn start() -> Server {
    Server::start("http_server", &[])
}

/// The first line of the answer to some bytes.
fn status(server: &Server, bytes: &[u8]) -> String {
    server.tell(bytes).lines().next().unwrap_or("").to_owned()
}

/// The status with which curl is answered.
fn curl_status(server: &Server, arguments: &[&str], path: &str) -> Option<String> {
    let mut curl = tool("curl")?;
    curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}"]).args(arguments);
    Some(output(curl.arg(server.url(path))))
}

#[test]
fn curl_is_greeted() {
    let Some(mut curl) = tool("curl") else { return };
    let server = start();
    assert_eq!(
        output(curl.args(["-s", "-i"]).arg(server.url("/"))).lines().last(),
        Some(GREETING.trim())
    );
}

#[test]
fn curl_keeps_one_connection() {
    let Some(mut curl) = tool("curl") else { return };
    let server = start();
    let url = server.url("/");
    let log = output(curl.args(["-s", "-w", "%{num_connects}\n", &url, &url, &url]));
    assert_eq!(log, [GREETING, "1\n", GREETING, "0\n", GREETING, "0\n"].concat());
}

#[test]
fn what_is_not_there_or_not_allowed_is_refused() {
    let server = start();
    let all = [
        (&[][..], "/nothing", "404"),
        (&["-X", "DELETE"], "/", "405"),
        (&[], "/echo", "405"),
        (&[], "/slow?ms=soon", "400"),
        (&["-I"], "/", "200"),
        (&["-0"], "/", "200"),
        (&["-H", "Transfer-Encoding: chunked", "-d", "hello"], "/echo", "501"),
    ];
    for (arguments, path, expected) in all {
        let Some(code) = curl_status(&server, arguments, path) else { return };
        assert_eq!(code, expected, "{path} {arguments:?}");
    }
}

#[test]
fn a_body_comes_back() {
    let Some(mut curl) = tool("curl") else { return };
    let server = start();
    let body = "0123456789".repeat(10_000);
    let echo = curl.args(["-s", "--data", &body]).arg(server.url("/echo"));
    assert_eq!(output(echo), body);
}

#[test]
fn a_body_that_is_too_large_is_refused_before_it_is_sent() {
    let server = start();
    let head = "POST /echo HTTP/1.1\r\nHost: here\r\nContent-Length: 1048577\r\n\r\n";
    assert_eq!(status(&server, head.as_bytes()), "HTTP/1.1 413 Content Too Large");
}

/// Twenty that take two seconds each take about that together.
#[test]
fn slow_answers_hold_up_nobody() {
    let Some(mut curl) = tool("curl") else { return };
    let server = start();
    let begin = Instant::now();
    let urls = server.url("/slow?ms=2000#[1-20]");
    let answers = output(curl.args(["-s", "-Z", "--parallel-immediate", &urls]));
    assert_eq!(answers, "after 2000 ms\n".repeat(20));
    let seconds = begin.elapsed().as_secs_f64();
    assert!((2.0..30.0).contains(&seconds), "{seconds}");
}

#[test]
fn requests_in_a_pipeline_are_answered_in_order() {
    let server = start();
    let requests = "GET / HTTP/1.1\r\nHost: here\r\n\r\n\
                    POST /echo HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\n\r\nbodyGET /slow?ms=20 HTTP/1.1\r\nHost: here\r\n\r\n\
                    HEAD / HTTP/1.1\r\nHost: here\r\n\r\n\
                    GET /nothing HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n\
                    GET /never HTTP/1.1\r\nHost: here\r\n\r\n";
    let answers = server.tell(requests.as_bytes());
    let bodies: Vec<&str> = answers
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| answer.split_once("\r\n\r\n").unwrap().1)
        .collect();
    assert_eq!(bodies, [GREETING, "body", "after 20 ms\n", "", "there is nothing here\n"]);
}

/// The first answer comes while the second request is on its way.
#[test]
fn an_answer_does_not_wait_for_the_next_request() {
    let server = start();
    let mut stream = server.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\nGET /nothing HT").unwrap();
    let mut first = [0; 8];
    stream.read_exact(&mut first).unwrap();
    stream.write_all(b"TP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").unwrap();
    let rest = read_all(stream);
    assert!(rest.contains(GREETING) && rest.contains("HTTP/1.1 404 Not Found"), "{rest}");
}

#[test]
fn a_client_of_the_old_version_stays_if_it_asks_for_it() {
    let server = start();
    let once = server.tell(b"GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n");
    assert_eq!(once.matches("200 OK").count(), 1, "{once}");
    let request = "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n";
    let twice = server.tell(request.repeat(2).as_bytes());
    assert_eq!(twice.matches("200 OK").count(), 2, "{twice}");
}

#[test]
fn what_is_no_http_is_told_so_and_harms_nobody() {
    let mut server = start();
    let bad = "HTTP/1.1 400 Bad Request";
    let all: [&[u8]; 9] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0\0\0\0",
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nhalf a he",
    ];
    for bytes in all {
        assert_eq!(status(&server, bytes), bad, "{}", bytes.escape_ascii());
    }
    // What comes from a small generator, the same each time.
    let mut state = 1_u64;
    for _ in 0..100 {
        let garbage: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(300)
        .collect();
        let status = status(&server, &garbage);
        assert!(status.is_empty() || status == bad, "{status}");
    }
    assert!(server.is_alive());
    // What is odd, but is allowed.
    let odd = b"\r\nGET / HTTP/1.1\r\nHOST:a\r\nCookie: \xe4\r\nContent-Length: 0\r\n\r\n";
    assert!(server.tell(odd).ends_with(GREETING));
}

#[test]
fn a_head_that_never_ends_is_refused() {
    let server = start();
    let too_large = "HTTP/1.1 431 Request Header Fields Too Large";
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {}", "x".repeat(1 << 20));
    assert_eq!(status(&server, long.as_bytes()), too_large);
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(65));
    assert_eq!(status(&server, many.as_bytes()), too_large);
}

#[test]
fn a_client_that_is_too_slow_is_told_so_and_an_idle_one_is_not() {
    let server = Server::start("http_server", &["1"]);
    let (mut slow, idle) = (server.connect(), server.connect());
    slow.write_all(b"GET / HT").unwrap();
    assert!(read_all(slow).starts_with("HTTP/1.1 408 Request Timeout\r\n"));
    assert_eq!(read_all(idle), "");
}

#[test]
fn wrk_finds_no_error() {
    let Some(mut wrk) = tool("wrk") else { return };
    let server = start();
    let report = output(wrk.args(["-t", "1", "-c", "50", "-d", "1s"]).arg(server.url("/")));
    let count = report.lines().find_map(|line| line.trim().split_once(" requests in "));
    assert!(count.is_some_and(|(count, _)| count.parse::<u64>().unwrap() > 50), "{report}");
    assert!(!report.contains("Non-2xx") && !report.contains("Socket errors"), "{report}");
}

/// RFC 9112, 3.2.2: a server takes what is meant for a proxy, too.
#[test]
fn a_target_that_names_the_server_is_served() {
    let server = start();
    let all = [
        ("GET http://here/", "HTTP/1.1 200 OK"),
        ("GET http://here", "HTTP/1.1 200 OK"),
        ("GET HTTP://here:80/slow?ms=1", "HTTP/1.1 200 OK"),
        ("GET https://here?name=value", "HTTP/1.1 200 OK"),
        ("GET http://here/nothing", "HTTP/1.1 404 Not Found"),
        ("GET /nothing?from=http://here/", "HTTP/1.1 404 Not Found"),
        ("POST http://here/", "HTTP/1.1 405 Method Not Allowed"),
    ];
    for (line, expected) in all {
        let request = format!("{line} HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n");
        assert_eq!(status(&server, request.as_bytes()), expected, "{line}");
    }
}
