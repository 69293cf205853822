//! A first start that is stopped while its store has not answered: it ends at once, and the next one goes on.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tempfile::TempDir;

use crate::harness::{Outcome, cladnet, eventually, free_port};

/// What every part of a first start asks of the installation.
const ASKED: &[u8] = b"/cladnet/v1/cluster";

#[test]
fn a_first_start_that_is_stopped_while_it_asks_its_store_ends_at_once_and_leaves_nothing_half_made() {
    // Nothing is answered; then not whether there is an installation; then not that it was made.
    for answered in 0..=2 {
        let etcd = Etcd::start();
        let proxy = Proxy::before(&etcd.address, answered);
        let mut stopped = etcd.service(&proxy.address);
        eventually("the store to be asked", || proxy.holds());
        assert!(Command::new("kill").arg(stopped.id().to_string()).status().unwrap().success());
        eventually("the end of a start that is stopped", || stopped.try_wait().unwrap().is_some());
        assert_eq!(stopped.wait().unwrap().code(), Some(0), "{answered}: {}", etcd.log());

        let mut next = etcd.service(&etcd.address);
        let is_ready = || etcd.admin(&["network", "list"]).is_some_and(|outcome| outcome.code == 0);
        eventually("the next start to serve whoever has the first key", is_ready);
        let _ = next.kill();
        let _ = next.wait();
    }
}

/// One member on a directory of its own, which the service shares.
struct Etcd {
    process: Child,
    address: String,
    port: u16,
    directory: TempDir,
}

impl Etcd {
    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let file = |name: &str| directory.path().join(name);
        fs::write(file("secret.key"), "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n").unwrap();
        let (address, peer_url) = (format!("127.0.0.1:{}", free_port()), format!("http://127.0.0.1:{}", free_port()));
        let url = format!("http://{address}");
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "etcd", "--data-dir"])
            .arg(file("data"))
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("default={peer_url}")])
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("this test needs a real etcd: apt-get install etcd-server");
        eventually("etcd to listen", || TcpStream::connect(&address).is_ok());
        Self { process, address, port: free_port(), directory }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// A service on this store, reached at `store`.
    fn service(&self, store: &str) -> Child {
        let log = File::options().create(true).append(true).open(self.file("log")).unwrap();
        let mut command = cladnet();
        command.args(["service", "--etcd", &format!("http://{store}"), "--secret-key-file"]);
        command.arg(self.file("secret.key")).args(["--listen", &format!("127.0.0.1:{}", self.port)]);
        command.args(["--stun-listen", "off", "--admin-key-file"]).arg(self.file("admin.key"));
        command.arg("--write-ca").arg(self.file("ca.pem")).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    /// A command with the first key; none while there is no key.
    fn admin(&self, arguments: &[&str]) -> Option<Outcome> {
        let (key, ca) = (self.file("admin.key"), self.file("ca.pem"));
        let is_there = |file: &Path| file.exists();
        (is_there(&key) && is_there(&ca)).then(|| {
            let mut command = cladnet();
            command.args(["--service", &format!("https://127.0.0.1:{}", self.port), "--ca-file"]);
            Outcome::of(command.arg(ca).arg("--key-file").arg(key).args(arguments))
        })
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Carries everything to the store, and of its answers those up to a certain request.
struct Proxy {
    address: String,
    /// Requests for the installation that may still be answered.
    left: Arc<AtomicUsize>,
}

/// [`Proxy::left`] when an answer is held back.
const HOLDS: usize = usize::MAX;

impl Proxy {
    fn before(store: &str, answered: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self { address: listener.local_addr().unwrap().to_string(), left: Arc::new(answered.into()) };
        let (store, left) = (store.to_owned(), proxy.left.clone());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&store) else { return };
                let (asking, answering) = ((client.try_clone(), server.try_clone()), left.clone());
                if let (Ok(asking), Ok(asked)) = asking {
                    let left = left.clone();
                    thread::spawn(move || ask(asking, asked, &left));
                }
                thread::spawn(move || answer(server, client, &answering));
            }
        });
        proxy
    }

    fn holds(&self) -> bool {
        self.left.load(Ordering::Acquire) == HOLDS
    }
}

fn ask(mut client: TcpStream, mut server: TcpStream, left: &AtomicUsize) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length) = client.read(&mut buffer)
        && length > 0
    {
        let asks = buffer[..length].windows(ASKED.len()).any(|part| part == ASKED);
        // With none to be answered not even the connection is.
        let _ = left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| match (left, asks) {
            (HOLDS, _) => None,
            (0 | 1, true) | (0, false) => Some(HOLDS),
            (_, true) => Some(left - 1),
            (_, false) => None,
        });
        if server.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
}

fn answer(mut server: TcpStream, mut client: TcpStream, left: &AtomicUsize) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length) = server.read(&mut buffer)
        && length > 0
    {
        if left.load(Ordering::Acquire) != HOLDS && client.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}
