//! Runs the examples and looks at what they print.

mod programs;

use programs::command;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Output, Stdio};

/// Runs an example that ends well, and returns the lines that it prints.
#[track_caller]
fn lines(name: &str, arguments: &[&str]) -> Vec<String> {
    let output = command(name).args(arguments).output().expect("an example can be run");
    let Output { status, stdout, stderr } = output;
    assert!(status.success(), "{name}: {status}\n{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("UTF-8").lines().map(str::to_owned).collect()
}

/// The first number in the line that contains `text`.
#[track_caller]
fn number(lines: &[String], text: &str) -> u64 {
    let line = lines.iter().find(|line| line.contains(text));
    let line = line.unwrap_or_else(|| panic!("no line with {text:?} in {lines:#?}"));
    let mut numbers = line.split_whitespace().filter_map(|word| word.parse().ok());
    numbers.next().unwrap_or_else(|| panic!("no number in {line:?}"))
}

#[test]
fn ping_pong() {
    let lines = lines("ping_pong", &[]);
    assert_eq!(lines[..4], ["12", "56", "34", "78"]);
    let count: Vec<&str> = lines[4..].iter().map(|line| line.trim()).collect();
    let expected = [
        "count got \"start\"",
        "double got 1",
        "count got \"2\"",
        "double got 2",
        "count got \"4\"",
        "double got 3",
        "count got \"6\"",
    ];
    assert_eq!(count[..7], expected);
    assert!(count[7].starts_with("Greenlet(#") && count[7].ends_with(", dead)"), "{}", count[7]);
}

#[test]
fn generators() {
    let expected = [
        "permutations: abc acb bac bca cba cab",
        "the first three words: a b c",
        "the same words in both trees: true",
        "x 1",
        "y 4",
        "z 9",
    ];
    assert_eq!(lines("generators", &[]), expected);
}

#[test]
fn nftw_iter() {
    let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("nftw_iter");
    let deep = root.join("one/two");
    std::fs::create_dir_all(&deep).expect("a directory");
    std::fs::write(deep.join("file"), [0; 1234]).expect("a file");
    let lines = lines("nftw_iter", &[root.to_str().expect("UTF-8")]);
    let names = ["nftw_iter", "  one", "    two", "      file"];
    for (line, name) in lines.iter().zip(names) {
        assert!(line.ends_with(&format!("  {name}")), "{lines:#?}");
    }
    assert!(lines[3].trim().starts_with("1234 "), "{lines:#?}");
    assert_eq!(lines[4], "and 0 more");
    assert!(number(&lines, "in the middle of a walk") > 0);
    assert_eq!(number(&lines, "open after it"), 0);

    let missing = command("nftw_iter").arg(root.join("missing")).output().expect("it runs");
    assert!(!missing.status.success());
    assert!(String::from_utf8_lossy(&missing.stderr).contains("NotFound"), "{missing:#?}");
}

#[test]
fn producer_consumer() {
    let lines = lines("producer_consumer", &[]);
    let at = |entry: &str| lines.iter().position(|line| line == entry);
    let done = at("all is done").unwrap_or_else(|| panic!("{lines:#?}"));
    for producer in ["a", "b"] {
        let worked: Vec<_> = (1..=4)
            .map(|number| {
                let end = format!(" works on {producer} {number}");
                lines.iter().position(|line| line.ends_with(&end))
            })
            .collect();
        assert!(worked.iter().all(|at| at.is_some_and(|at| at < done)), "{lines:#?}");
        assert!(worked.is_sorted(), "{lines:#?}");
    }
    // Three are handed over and two fit in.
    let [first, second] = [&lines[..5], &lines[5..6]];
    assert_eq!(first, ["a puts 1", "a puts 2", "a puts 3", "a puts 4", "b puts 1"]);
    assert_eq!(second, ["b puts 2, when there is room"]);
    assert_eq!(lines.last().unwrap(), "8 jobs, 3 consumers at work");
    assert_eq!(lines.len(), 8 + 8 + 3);
}

#[test]
fn gevent_tour() {
    let lines = lines("gevent_tour", &[]);
    let expected = [
        "-- spawn, join_all",
        "[1, 4, 9]",
        "-- two that take turns",
        "running in foo",
        "explicit context to bar",
        "back in foo again",
        "implicit switch back to bar",
        "-- one sets an event, two wait for it",
        "the setter sets it",
        "waiter 1 goes on",
        "waiter 2 goes on",
        "-- a time limit",
        "the time limit of 10ms has passed",
        "-- kill",
        "killed: its destructors have run",
        "its result: Err(Killed)",
        "another has failed: Some(\"of its own\")",
        "-- a deadlock",
        "this would block for ever: main waits for JoinHandle::join, and nobody is left who could \
         wake it",
    ];
    let (report, rest) = lines.split_last().expect("it prints");
    assert_eq!(rest, expected);
    let begin = "  coroutine 'waiter' waits for Event::wait (spawned at ";
    assert!(report.starts_with(begin) && report.contains("gevent_tour.rs:"), "{report}");
}

#[test]
fn thread_pool() {
    let lines = lines("thread_pool", &[]);
    assert_eq!(lines[0], "0 threads before the first job");
    // Jobs may have run by the time that all are queued.
    let has = |line: &str| assert!(lines.iter().any(|there| there == line), "{line}: {lines:#?}");
    has("closed: the thread pool is closed and takes no more jobs");
    has("a coroutine has run meanwhile");
    has("job 13 failed: Some(\"bad luck\")");
    assert!((1..=10).contains(&number(&lines, "threads, 50 jobs")), "{lines:#?}");
    let last = &lines[lines.len() - 2];
    assert!(last.starts_with("49 done, 1 failed, on "), "{lines:#?}");
    for job in (0..50).filter(|job| *job != 13) {
        let begin = format!("job {job} ran on ");
        assert_eq!(lines.iter().filter(|line| line.starts_with(&begin)).count(), 1, "{begin}");
    }
    assert!(number(&lines, "on one thread") >= 50, "{lines:#?}");
}

#[cfg(feature = "process")]
#[test]
fn processes() {
    let expected = [
        "-- a Process, and what it ends with",
        "it ends with Some(7), and here is 1, still",
        "is alive: true",
        "its exit code: Some(-15)",
        "-- an Array, which four processes add to",
        "[10000, 10000, 10000]",
        "-- a Manager's dict, and a Pool",
        "[1, 4, 9, 16, 25]",
        "the callback: the job panicked: attempt to divide by zero",
        "[5, 5] words: [(\"a\", 4), (\"is\", 2), (\"rose\", 4)]",
        "the manager has ended: true",
    ];
    assert_eq!(lines("processes", &[]), expected);
}

#[test]
fn threads() {
    let expected = [
        "-- threads with results",
        "[1, 4, 9]",
        "one has failed: Some(\"bad luck\")",
        "-- an RLock, taken again by who has it",
        "5 times by one thread, and now 0",
        "another thread gets it meanwhile: false",
        "-- an Event, which three threads wait for",
        "0 go on before it is set",
        "waiter 1 goes on",
        "waiter 2 goes on",
        "waiter 3 goes on",
        "-- a Queue, one thread puts, two get",
        "5050",
        "-- the end",
        "main returns",
        "a thread that is no daemon ends after main",
    ];
    assert_eq!(lines("threads", &[]), expected);
}

#[test]
fn embed() {
    let lines = lines("embed", &[]);
    assert_eq!(lines[..7], ["a1", "b1", "c1", "a2", "b2", "b3", "sum: 6"]);
    assert!(lines[7].ends_with(" ns a turn"), "{lines:#?}");
}

#[test]
fn million() {
    let lines = lines("million", &["20_000"]);
    assert!(lines[0].starts_with("20000 suspended greenlets"), "{lines:#?}");
    // A page or two of stack, and the blocks.
    let resident = number(&lines, "resident each");
    assert!((4096..4 * 4096).contains(&resident), "{lines:#?}");
    assert!(number(&lines, "page tables each") < 2048, "{lines:#?}");
    let mappings = number(&lines, "mappings more");
    if lines[0].ends_with("guards are cheap: true") {
        assert!(mappings < 100, "{lines:#?}");
    } else {
        assert!(mappings >= 20_000, "{lines:#?}");
    }
    assert!(lines.iter().any(|line| line.contains("resumed and finished")), "{lines:#?}");
}

/// Where memory is limited, it says so, and ends well with the greenlets that it could make.
#[test]
fn million_within_limits() {
    let mut limited = command("million");
    limited.arg("20000");
    let limit = libc::rlimit { rlim_cur: 1 << 30, rlim_max: 1 << 30 };
    let set_limit = move || {
        // SAFETY: a limit of the kind that the call wants.
        match unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: the function makes one system call, which may be done after fork.
    unsafe { std::os::unix::process::CommandExt::pre_exec(&mut limited, set_limit) };
    let output = limited.output().expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:#?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("there were to be 20000, but: cannot reserve"), "{said}");
    assert!(said.contains("ulimit -v"), "{said}");
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("resumed and finished"),
        "{output:#?}"
    );
}

#[test]
fn echo_server_serves_a_thousand_and_stops() {
    let lines = lines("echo_server", &[]);
    assert_eq!(
        lines,
        [
            "1000 of 1000 clients got back what they sent",
            "stopped, 0 connections left, all ended by themselves: true",
        ]
    );
}

/// One connection ends by itself, and is seen through; or it does not, and is ended.
#[test]
fn shutdown_ends_in_order() {
    for ends_by_itself in [true, false] {
        let mut server = command("shutdown").stdout(Stdio::piped()).spawn().expect("it runs");
        let mut lines = BufReader::new(server.stdout.take().expect("a pipe")).lines();
        let mut line = || lines.next().expect("a line more").expect("UTF-8");
        let first = line();
        let address = first.strip_prefix("listening at ").expect("its address");
        let mut stream = TcpStream::connect(address).expect("it listens");
        let mut answer = [0; 5];
        stream.write_all(b"hello").unwrap();
        stream.read_exact(&mut answer).unwrap();
        // SAFETY: no preconditions.
        assert_eq!(unsafe { libc::kill(server.id() as i32, libc::SIGTERM) }, 0);
        assert_eq!(line(), "SIGTERM: 1 connections have 2s to end");
        if ends_by_itself {
            stream.write_all(b"world").unwrap();
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"world");
            drop(stream);
        }
        assert_eq!(line(), format!("stopped, all ended by themselves: {ends_by_itself}"));
        assert!(server.wait().unwrap().success());
    }
}

#[test]
fn http_server_answers_a_hundred_pipelines_and_stops() {
    let expected =
        ["100 clients got 1000 answers", "stopped, all connections ended by themselves: true"];
    assert_eq!(lines("http_server", &[]), expected);
}

#[test]
fn kv_server_counts_for_fifty_and_stops() {
    let expected = [
        "50 of 50 clients have counted to 100",
        "stopped, all connections ended by themselves: true",
    ];
    assert_eq!(lines("kv_server", &[]), expected);
}

#[test]
fn proxy_passes_words_on_and_stops() {
    let expected = [
        "switch grass coroutine came back as SWITCH GRASS COROUTINE",
        "stopped, all connections ended by themselves: true",
    ];
    assert_eq!(lines("proxy", &[]), expected);
}

#[test]
fn chat_shows_what_each_has_seen() {
    let lines = lines("chat", &[]);
    let of = |nick: &str| {
        let begin = lines.iter().position(|line| *line == format!("{nick} has seen:"));
        let begin = begin.unwrap_or_else(|| panic!("{lines:#?}")) + 1;
        let count = lines[begin..].iter().take_while(|line| line.starts_with(' ')).count();
        lines[begin..begin + count].iter().map(|line| line.trim()).collect::<Vec<_>>()
    };
    assert_eq!(of("ann").last(), Some(&"bob: there is"));
    assert_eq!(of("bob").last(), Some(&"ann: is there tea?"));
    assert_eq!(of("eve").last(), Some(&"* bob leaves"));
    assert_eq!(lines.last().unwrap(), "stopped, all connections ended by themselves: true");
}

#[test]
fn tls_server_answers_fifty_and_stops() {
    let expected =
        ["50 of 50 clients got the answer", "stopped, all connections ended by themselves: true"];
    assert_eq!(lines("tls_server", &[]), expected);
}

/// Every connection and every job is some hub's.
#[test]
fn many_hubs_share_the_work() {
    let lines = lines("many_hubs", &[]);
    assert!(number(&lines, "hubs listen at") > 0, "{lines:#?}");
    let expected = [
        "200 clients got 800 right answers",
        "stopped, all connections ended by themselves: true",
        "and the hubs: true",
    ];
    assert_eq!(lines[1..4], expected);
    let (mut connections, mut jobs) = (0, 0);
    for (hub, line) in lines[4..].iter().enumerate() {
        let rest = line.strip_prefix(&format!("hub {hub}: ")).expect("a line a hub");
        let (of_connections, of_jobs) = rest.split_once(" connections, ").expect("two numbers");
        connections += of_connections.parse::<u32>().unwrap();
        jobs += of_jobs.strip_suffix(" jobs").unwrap().parse::<u32>().unwrap();
    }
    assert_eq!((connections, jobs), (200, 800));
}
