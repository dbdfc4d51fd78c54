//! HTTPS, in one line: `rustls` over this library's TCP, which it takes for that of std.
//!
//! ```sh
//! cargo run --release --example tls_server 127.0.0.1:8443 /tmp/certificate.pem
//! curl --cacert /tmp/certificate.pem https://localhost:8443/      # elsewhere: a greeting
//! ```
//!
//! The certificate is made at the start, and written where the second argument says. A third one is how many
//! seconds a client may take, 10 if there is none. Without arguments it serves fifty clients of its own, and says
//! what they got.

use rcgen::CertifiedKey;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::Arc;
use std::time::Duration;
use switchgrass::net::{SocketAddr, StreamServer, TcpListener, TcpStream};
use switchgrass::pool::Pool;
use switchgrass::timeout;

/// Bytes of a request.
const LONGEST: u64 = 8 * 1024;
const ANSWER: &str = "Hello, and nobody else can read this\n";

/// The handshake is part of the first read, and waits as that does.
fn serve(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let head = BufReader::new(&mut stream).take(LONGEST).lines();
    // An empty line ends it.
    for line in head {
        if line?.is_empty() {
            break;
        }
    }
    let length = ANSWER.len();
    write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n{ANSWER}")?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// What a client gets that trusts `certificate` alone.
fn ask(address: SocketAddr, config: Arc<ClientConfig>) -> Result<String, Box<dyn Error>> {
    let connection = ClientConnection::new(config, ServerName::try_from("localhost")?)?;
    let mut stream = StreamOwned::new(connection, TcpStream::connect(address)?);
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn client_config(certificate: CertificateDer<'static>) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next();
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    if let Some(path) = arguments.next() {
        std::fs::write(path, cert.pem())?;
    }
    let limit = arguments.next().map_or(Ok(10.0), |text| text.parse())?;
    let limit = Duration::from_secs_f64(limit);
    let certificate = cert.der().clone();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der())?;
    let config = ServerConfig::builder().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![certificate.clone()], key)?);

    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:0"))?;
    let here = listener.local_addr()?;
    let server = StreamServer::with_limit(listener, 1000, move |stream, from| {
        match timeout(limit, || serve(stream, Arc::clone(&config))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => drop(writeln!(io::stderr(), "{from}: {error}")),
            Err(elapsed) => drop(writeln!(io::stderr(), "{from}: {elapsed}")),
        }
    });
    if address.is_some() {
        let _ = writeln!(io::stdout(), "listening at {here}");
        return Ok(server.serve_forever()?);
    }
    server.start();
    let config = client_config(certificate)?;
    let answers = Pool::new(50).map(0..50, move |_| ask(here, Arc::clone(&config)).unwrap());
    let right = answers.unwrap().iter().filter(|answer| answer.ends_with(ANSWER)).count();
    println!("{right} of 50 clients got the answer");
    let all = server.stop(Some(Duration::from_secs(5)));
    println!("stopped, all connections ended by themselves: {all}");
    Ok(())
}
