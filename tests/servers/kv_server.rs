//! `kv_server`, used by redis-cli and redis-benchmark.

use super::{Server, fed, output, tool};
use std::thread;
use std::time::{Duration, Instant};

/// What redis-cli shows for each of some commands.
fn shown(server: &Server, commands: &[&str]) -> Option<Vec<String>> {
    let mut cli = tool("redis-cli")?;
    cli.args(["--no-raw", "-p", &server.port()]);
    let text = fed(&mut cli, &(commands.join("\n") + "\n"));
    Some(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// Compares what redis-cli shows with what it is to show.
#[track_caller]
fn check(all: &[(&str, &str)]) {
    let server = Server::start("kv_server", &[]);
    let (commands, expected): (Vec<_>, Vec<_>) = all.iter().copied().unzip();
    let Some(shown) = shown(&server, &commands) else { return };
    assert_eq!(shown, expected, "{commands:#?}");
}

#[test]
fn values_are_set_got_and_deleted() {
    check(&[
        ("ping", "PONG"),
        ("ping hello", "\"hello\""),
        ("echo \"a b\"", "\"a b\""),
        ("get a", "(nil)"),
        ("set a 1", "OK"),
        ("GET a", "\"1\""),
        ("set a \"\"", "OK"),
        ("get a", "\"\""),
        ("set \"b\\x00\\r\\n\" \"\\xff\\x00\\r\\n\"", "OK"),
        ("get \"b\\x00\\r\\n\"", "\"\\xff\\x00\\r\\n\""),
        ("exists a nothing a", "(integer) 2"),
        ("dbsize", "(integer) 2"),
        ("del a a nothing", "(integer) 1"),
        ("exists a", "(integer) 0"),
    ]);
}

#[test]
fn a_value_is_set_only_if_it_is_there_or_is_not() {
    check(&[
        ("set a 1 xx", "(nil)"),
        ("set a 1 nx", "OK"),
        ("set a 2 nx", "(nil)"),
        ("get a", "\"1\""),
        ("set a 3 xx", "OK"),
        ("get a", "\"3\""),
        ("set a 4 nx xx", "(error) ERR syntax error"),
        ("set a 4 never", "(error) ERR syntax error"),
    ]);
}

#[test]
fn numbers_go_up_and_down() {
    check(&[
        ("incr n", "(integer) 1"),
        ("incr n", "(integer) 2"),
        ("decr n", "(integer) 1"),
        ("decr m", "(integer) -1"),
        ("get m", "\"-1\""),
        ("set n 9223372036854775806", "OK"),
        ("incr n", "(integer) 9223372036854775807"),
        ("incr n", "(error) ERR increment or decrement would overflow"),
        ("set n 1x", "OK"),
        ("incr n", "(error) ERR value is not an integer or out of range"),
        ("get n", "\"1x\""),
    ]);
}

#[test]
fn keys_are_given_an_end_and_lose_it() {
    check(&[
        ("ttl a", "(integer) -2"),
        ("expire a 10", "(integer) 0"),
        ("set a 1", "OK"),
        ("ttl a", "(integer) -1"),
        ("expire a 1000000", "(integer) 1"),
        ("expire a 2000000", "(integer) 1"),
        ("set a 2 keepttl", "OK"),
        ("expire a soon", "(error) ERR value is not an integer or out of range"),
        ("set a 3", "OK"),
        ("ttl a", "(integer) -1"),
        ("set a 4 ex 0", "(error) ERR invalid expire time in 'set' command"),
        ("set a 4 ex", "(error) ERR syntax error"),
        ("set a 4 px 9223372036854775807", "(error) ERR invalid expire time in 'set' command"),
        ("set a 4 ex 9223372036854775807", "(error) ERR invalid expire time in 'set' command"),
        ("expire a -1", "(integer) 1"),
        ("exists a", "(integer) 0"),
    ]);
    let server = Server::start("kv_server", &[]);
    let all = ["set a 1 ex 1000", "set a 2 keepttl", "incr a", "ttl a"];
    let Some(shown) = shown(&server, &all) else { return };
    let left = shown[3].strip_prefix("(integer) ").and_then(|left| left.parse::<u32>().ok());
    assert!(left.is_some_and(|left| (900..=1000).contains(&left)), "{shown:?}");
}

/// By who asks for it, and by the sweeper for whom nobody asks.
#[test]
fn keys_end() {
    let server = Server::start("kv_server", &[]);
    let begin = Instant::now();
    let Some(set) = shown(&server, &["set a 1 px 300", "set b 1", "set c 1 px 300", "get a"])
    else {
        return;
    };
    if begin.elapsed() < Duration::from_millis(300) {
        assert_eq!(set, ["OK", "OK", "OK", "\"1\""]);
    }
    thread::sleep(Duration::from_millis(300));
    assert_eq!(shown(&server, &["get a", "exists a b"]).unwrap(), ["(nil)", "(integer) 1"]);
    let limit = begin + Duration::from_secs(60);
    while shown(&server, &["dbsize"]).unwrap() != ["(integer) 1"] {
        assert!(Instant::now() < limit, "nobody has swept");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn errors_are_those_of_redis() {
    check(&[
        (
            "foo bar baz",
            "(error) ERR unknown command 'foo', with args beginning with: 'bar' 'baz' ",
        ),
        ("get", "(error) ERR wrong number of arguments for 'get' command"),
        ("set a", "(error) ERR wrong number of arguments for 'set' command"),
        ("ping", "PONG"),
    ]);
}

#[test]
fn a_breach_of_the_protocol_is_named_and_ends_the_connection() {
    let mut server = Server::start("kv_server", &[]);
    let long_line = [b'x'; (64 << 10) + 1];
    let all: [(&[u8], &str); 8] = [
        (b"*x\r\n", "invalid multibulk length"),
        (b"*1025\r\n", "invalid multibulk length"),
        (b"*11111111111111111111111111", "invalid multibulk length"),
        (b"*1\r\n:1\r\n", "expected '$', got ':'"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$16777217\r\n", "invalid bulk length"),
        (b"*1\r\n$4\n", "invalid bulk length"),
        (&long_line, "too big inline request"),
    ];
    for (bytes, fault) in all {
        let bytes = [b"PING\r\n", bytes, b"PING\r\n"].concat();
        let expected = format!("+PONG\r\n-ERR Protocol error: {fault}\r\n");
        assert_eq!(server.tell(&bytes), expected, "{fault}");
    }
    assert!(server.is_alive());
}

/// However it is cut, a pipeline is understood, and what is unfinished is not obeyed.
#[test]
fn commands_come_in_any_pieces() {
    use std::io::Write;
    let server = Server::start("kv_server", &[]);
    let mut stream = server.connect();
    stream.set_nodelay(true).unwrap();
    let commands =
        b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4\r\n1\r\n2\r\n  get   a \r\n\r\n*0\r\nQUIT\r\nget a\r\n";
    for byte in commands {
        if stream.write_all(&[*byte]).is_err() {
            break;
        }
    }
    assert_eq!(super::read_all(stream), "+OK\r\n$4\r\n1\r\n2\r\n+OK\r\n");
    assert_eq!(server.tell(b"get a\r\n*2\r\n$3\r\nDEL\r\n$1\r\na"), "$4\r\n1\r\n2\r\n");
    assert_eq!(server.tell(b"exists a\r\n"), ":1\r\n");
}

#[test]
fn large_values_come_back() {
    let server = Server::start("kv_server", &[]);
    let Some(mut cli) = tool("redis-cli") else { return };
    let value = "0123456789abcdef".repeat(300_000);
    assert_eq!(fed(cli.args(["-p", &server.port(), "-x", "set", "large"]), &value), "OK\n");
    let mut cli = tool("redis-cli").unwrap();
    let got = output(cli.args(["-p", &server.port(), "get", "large"]));
    assert!(got.trim_end() == value, "{} bytes", got.len());
}

#[test]
fn redis_benchmark_finds_no_error() {
    let mut server = Server::start("kv_server", &[]);
    for pipeline in ["1", "16"] {
        let Some(mut benchmark) = tool("redis-benchmark") else { return };
        benchmark.args([
            "-p",
            &server.port(),
            "-t",
            "set,get",
            "-n",
            "20000",
            "-c",
            "50",
            "-q",
            "-P",
            pipeline,
        ]);
        let report = output(&mut benchmark);
        for name in ["SET: ", "GET: "] {
            let is_result =
                |part: &str| part.starts_with(name) && part.contains("requests per second");
            assert!(report.split(['\r', '\n']).any(is_result), "{report}");
        }
        assert!(!report.contains("rror") && !report.contains("WARNING"), "{report}");
    }
    assert!(server.is_alive());
}
