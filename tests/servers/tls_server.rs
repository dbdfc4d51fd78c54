//! `tls_server`, asked by curl and openssl.

use super::{Server, fed, output, read_all, tool};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

const ANSWER: &str = "Hello, and nobody else can read this\n";

/// The file with the certificate of a server. These tests may run several times at once, each with its own.
struct Certificate(PathBuf);

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn start(name: &str, more: &[&str]) -> (Server, Certificate) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("{name}-{}.pem", std::process::id()));
    let server = Server::start("tls_server", &[&[path.to_str().expect("UTF-8")], more].concat());
    (server, Certificate(path))
}

fn url(server: &Server) -> String {
    format!("https://localhost:{}/", server.port())
}

/// curl that trusts the certificate.
fn trusting(certificate: &Certificate) -> Option<Command> {
    let mut curl = tool("curl")?;
    curl.args(["-s", "-4", "--cacert"]).arg(&certificate.0);
    Some(curl)
}

#[test]
fn curl_trusts_it_by_its_certificate_alone() {
    let (server, certificate) = start("trust", &[]);
    let Some(mut curl) = trusting(&certificate) else { return };
    assert_eq!(output(curl.arg(url(&server))), ANSWER);
    let refused = tool("curl").unwrap().args(["-s", &url(&server)]).status().unwrap();
    assert_eq!(refused.code(), Some(60), "curl is to find the certificate unknown");
    for version in [&["--tlsv1.3"][..], &["--tls-max", "1.2"]] {
        let mut curl = trusting(&certificate).unwrap();
        assert_eq!(output(curl.args(version).arg(url(&server))), ANSWER);
    }
}

#[test]
fn many_are_served_at_once() {
    let (server, certificate) = start("many", &[]);
    let Some(mut curl) = trusting(&certificate) else { return };
    curl.args(["-Z", "--parallel-immediate"]).arg(url(&server) + "#[1-20]");
    assert_eq!(output(&mut curl), ANSWER.repeat(20));
}

#[test]
fn openssl_verifies_it() {
    let (server, certificate) = start("openssl", &[]);
    let Some(mut openssl) = tool("openssl") else { return };
    openssl.args(["s_client", "-quiet", "-verify_return_error", "-servername", "localhost"]);
    openssl.arg("-CAfile").arg(&certificate.0);
    openssl.args(["-connect", &server.address.to_string()]);
    assert!(fed(&mut openssl, "GET / HTTP/1.0\r\n\r\n").ends_with(ANSWER));
}

/// Ten stop in the middle of a handshake, and are there while another is served.
#[test]
fn one_who_stops_in_the_handshake_stops_nobody_else() {
    let (server, certificate) = start("stop", &[]);
    let Some(mut curl) = trusting(&certificate) else { return };
    // The beginning of a ClientHello of 512 bytes.
    let stopped: Vec<_> = std::iter::repeat_with(|| {
        let mut stream = server.connect();
        stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").unwrap();
        stream
    })
    .take(10)
    .collect();
    assert_eq!(output(curl.arg(url(&server))), ANSWER);
    drop(stopped);
}

#[test]
fn one_who_stops_in_the_handshake_is_given_up() {
    let (mut server, _certificate) = start("limit", &["0.2"]);
    let mut stream = server.connect();
    stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").unwrap();
    assert_eq!(read_all(stream), "");
    assert!(server.is_alive());
}

#[test]
fn one_who_speaks_no_tls_harms_nobody() {
    let (mut server, certificate) = start("plain", &[]);
    // Answered by an alert.
    server.tell(b"GET / HTTP/1.0\r\n\r\n");
    server.tell(&[0; 10_000]);
    server.tell(b"");
    assert!(server.is_alive());
    let Some(mut curl) = trusting(&certificate) else { return };
    assert_eq!(output(curl.arg(url(&server))), ANSWER);
}
