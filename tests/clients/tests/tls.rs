//! `rustls` over std's sockets.

use crate::servers::{Server, has, nginx};
use clients::{CLIENTS, at_once};
use rcgen::CertifiedKey;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use switchgrass::monkey;

/// A certificate for localhost and its key, as text, and a client that trusts it alone.
fn identity() -> (String, String, Arc<ClientConfig>) {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(cert.der().to_vec())).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    (cert.pem(), signing_key.serialize_pem(), Arc::new(config))
}

fn get(address: SocketAddr, config: &Arc<ClientConfig>, path: &str) -> String {
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(address).unwrap());
    write!(stream, "GET /{path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    // Not all servers say goodbye.
    if let Err(error) = stream.read_to_string(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{error}");
    }
    answer
}

#[test]
fn rustls_gets_fifty_pages_of_nginx_at_once() {
    if !has("nginx") {
        return;
    }
    monkey::patch_all();
    let (certificate, key, config) = identity();
    let server = nginx(Some((&certificate, &key)));
    let address = server.address;
    let lengths = at_once(move |_| {
        let answer = get(address, &config, "12");
        answer.split_once("\r\n\r\n").expect("a head").1.len()
    });
    assert_eq!(lengths, [12_000; CLIENTS]);
}

/// A server that serves one after the other: the handshakes of all the others wait meanwhile.
#[test]
fn rustls_and_openssl_shake_hands_fifty_times() {
    if !has("openssl") {
        return;
    }
    monkey::patch_all();
    let (certificate, key, config) = identity();
    let server = Server::start(|folder, port| {
        fs::write(folder.join("certificate.pem"), &certificate).unwrap();
        fs::write(folder.join("key.pem"), &key).unwrap();
        let mut command = Command::new("openssl");
        command.args(["s_server", "-www", "-cert", "certificate.pem", "-key", "key.pem"]);
        command.args(["-accept", &format!("127.0.0.1:{port}")]);
        command
    });
    let address = server.address;
    let answers = at_once(move |_| get(address, &config, ""));
    assert!(answers.iter().all(|answer| answer.contains("TLSv1.3")), "{answers:?}");
}
