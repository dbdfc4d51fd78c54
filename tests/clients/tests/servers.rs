//! Servers, each a child on a free port, until it is dropped.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, id};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// Whether a program of the system is there.
pub(crate) fn has(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    if folders.any(|folder| folder.join(name).is_file()) {
        return true;
    }
    let needed = env::var_os("SWITCHGRASS_NEED_TOOLS").is_some();
    assert!(!needed, "there is no {name}: install it, or unset SWITCHGRASS_NEED_TOOLS");
    // Past what catches the output of tests that pass.
    let _ = writeln!(io::stderr(), "!!! SKIPPED: no {name}");
    false
}

pub(crate) struct Server {
    child: Child,
    /// Its own, and gone with it.
    folder: PathBuf,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts one in a folder of its own, and waits until it takes connections. `prepare` is given the folder
    /// and the port.
    pub(crate) fn start(prepare: impl FnOnce(&Path, u16) -> Command) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("switchgrass-clients-{}-{}", id(), NUMBER.fetch_add(1, Relaxed));
        let folder = env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a folder for a server");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        drop(listener);
        let mut command = prepare(&folder, address.port());
        let log = fs::File::create(folder.join("log")).expect("a log");
        command.current_dir(&folder).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().expect("it is there");
        let mut server = Server { child, folder, address };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            let ended = server.child.try_wait().expect("it can be asked");
            let log = || fs::read_to_string(server.folder.join("log"));
            assert!(ended.is_none(), "{command:?}: {ended:?}: {:?}", log());
            assert!(start.elapsed() < Duration::from_secs(60), "{command:?}: {:?}", log());
            thread::sleep(Duration::from_millis(10));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already, which is for the test to find out.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Nginx in one process that is not a daemon. Pages are `/0`, `/1`, ..: so many thousand bytes. It sends 8 KB in
/// the first second, and as much in each that follows: what is longer than that takes its time.
pub(crate) fn nginx(tls: Option<(&str, &str)>) -> Server {
    Server::start(|folder, port| {
        let page =
            |number: usize| fs::write(folder.join(number.to_string()), "x".repeat(number * 1000));
        (0..=clients::CLIENTS).try_for_each(page).expect("pages");
        let listen = match tls {
            None => format!("listen 127.0.0.1:{port};"),
            Some((certificate, key)) => {
                fs::write(folder.join("certificate.pem"), certificate).expect("a certificate");
                fs::write(folder.join("key.pem"), key).expect("a key");
                format!(
                    "listen 127.0.0.1:{port} ssl; ssl_certificate certificate.pem; ssl_certificate_key key.pem;"
                )
            }
        };
        let text = format!(
            "daemon off; master_process off; pid pid; error_log stderr;
            events {{ worker_connections 500; }}
            http {{
                access_log off; client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp;
                uwsgi_temp_path tmp; scgi_temp_path tmp; limit_rate 8k;
                server {{ {listen} root .; }}
            }}"
        );
        fs::write(folder.join("configuration"), text).expect("a configuration");
        let mut command = Command::new(if Path::new("/usr/sbin/nginx").is_file() {
            "/usr/sbin/nginx"
        } else {
            "nginx"
        });
        command
            .arg("-p")
            .arg(folder)
            .arg("-c")
            .arg(folder.join("configuration"))
            .args(["-e", "stderr"]);
        command
    })
}

pub(crate) fn redis() -> Server {
    Server::start(|_, port| {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()]);
        command
    })
}
