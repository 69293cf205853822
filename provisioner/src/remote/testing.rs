//! A real `sshd` on loopback for tests: one process per connection, behind a wire that can be cut.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use cladnet_model::deployment::{Fingerprint, SshTarget, Via};
use futures_util::future::{BoxFuture, ready};
use russh::keys::load_public_key;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    process,
    sync::Notify,
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;
use zeroize::Zeroizing;

use super::{AddressError, AddressRule};

/// Lets tests connect to where no deployment may.
pub(crate) struct Anywhere;

impl AddressRule for Anywhere {
    fn check(&self, _: IpAddr, _: Via) -> BoxFuture<'_, Result<(), AddressError>> {
        Box::pin(ready(Ok(())))
    }
}

/// See the module.
pub(crate) struct Sshd {
    directory: TempDir,
    address: SocketAddr,
    wire: Arc<Wire>,
    _server: AbortOnDropHandle<()>,
}

/// What goes from client to server may stop after some bytes, as a cable does that is pulled: without a word. And a server
/// with too many connections hangs up on new ones.
struct Wire {
    left: AtomicU64,
    connections: AtomicU64,
    turned_away: AtomicU64,
    end: Notify,
}

impl Sshd {
    /// A server with a host key of this kind (`ed25519`, `ecdsa`, `rsa`) that lets the current user in with `user_key`.
    pub(crate) async fn start(host_keys: &[&str]) -> Self {
        Self::with_settings(host_keys, "").await
    }

    /// One that runs this shell command, whatever it is asked to run.
    pub(crate) async fn that_runs(command: &str) -> Self {
        Self::with_settings(&["ed25519"], &format!("ForceCommand {command}\n")).await
    }

    async fn with_settings(host_keys: &[&str], more: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let at = directory.path();
        for kind in host_keys {
            keygen(kind, &at.join(format!("host_{kind}")));
        }
        for kind in ["ed25519", "rsa"] {
            keygen(kind, &at.join(format!("user_{kind}")));
        }
        let allowed: String = ["ed25519", "rsa"]
            .map(|kind| fs::read_to_string(at.join(format!("user_{kind}.pub"))).expect("a public key"))
            .concat();
        fs::write(at.join("authorized_keys"), allowed).expect("write");
        fs::write(at.join("config"), config(at, host_keys) + more).expect("write");
        // Where sshd locks itself in before anybody has logged in, if it is root.
        let _ = fs::DirBuilder::new().recursive(true).mode(0o755).create("/run/sshd");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let unbounded = || AtomicU64::new(u64::MAX);
        let wire =
            Wire { left: unbounded(), connections: unbounded(), turned_away: AtomicU64::new(0), end: Notify::new() };
        let wire = Arc::new(wire);
        let server = tokio::spawn(serve(listener, at.to_owned(), wire.clone()));
        Self { directory, address, wire, _server: AbortOnDropHandle::new(server) }
    }

    pub(crate) fn target(&self) -> SshTarget {
        SshTarget { address: self.address.ip().to_string(), port: self.address.port(), user: user(), host_key: None }
    }

    pub(crate) fn host_key(&self, kind: &str) -> Fingerprint {
        let key = load_public_key(self.directory.path().join(format!("host_{kind}.pub"))).expect("a public key");
        Fingerprint::of(&key.to_bytes().expect("a key has bytes"))
    }

    /// The private key of this kind that opens the server.
    pub(crate) fn user_key(&self, kind: &str) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(fs::read(self.directory.path().join(format!("user_{kind}"))).expect("a private key"))
    }

    /// What the server wrote about its connections.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Pulls the cable after so many more bytes to the server; everything is silent then.
    pub(crate) fn cut_after(&self, bytes: u64) {
        self.wire.left.store(bytes, Ordering::Relaxed);
    }

    /// Takes so many more connections and hangs up on all others.
    pub(crate) fn take_only(&self, connections: u64) {
        self.wire.connections.store(connections, Ordering::Relaxed);
    }

    /// How many connections it has hung up on.
    pub(crate) fn turned_away(&self) -> u64 {
        self.wire.turned_away.load(Ordering::Relaxed)
    }

    /// Ends every connection that there is.
    pub(crate) fn hang_up(&self) {
        self.wire.end.notify_waiters();
    }

    /// A path for uploads.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// A key pair that opens nothing.
pub(crate) fn foreign_key() -> Zeroizing<Vec<u8>> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("key");
    keygen("ed25519", &path);
    Zeroizing::new(fs::read(path).expect("a private key"))
}

fn keygen(kind: &str, path: &Path) {
    // PEM, as clouds hand RSA keys out.
    let format: &[&str] = if kind == "rsa" { &["-m", "PEM", "-b", "2048"] } else { &[] };
    let made = Command::new("ssh-keygen").args(["-q", "-N", "", "-t", kind]).args(format).arg("-f").arg(path).status();
    assert!(made.expect("ssh-keygen is installed (package openssh-client)").success());
}

fn config(at: &Path, host_keys: &[&str]) -> String {
    let at = at.display();
    let keys: String = host_keys.iter().map(|kind| format!("HostKey {at}/host_{kind}\n")).collect();
    format!(
        "{keys}AuthorizedKeysFile {at}/authorized_keys\nUsePAM no\nStrictModes no\nPidFile none\nLogLevel DEBUG1\n\
         Subsystem sftp internal-sftp\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
    )
}

pub(crate) fn user() -> String {
    let output = Command::new("id").arg("-un").output().expect("id runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

async fn serve(listener: TcpListener, at: PathBuf, wire: Arc<Wire>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let left = wire.connections.load(Ordering::Relaxed);
        if left == 0 {
            wire.turned_away.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        wire.connections.store(left - 1, Ordering::Relaxed);
        connections.spawn(connection(client, at.clone(), wire.clone()));
    }
}

async fn connection(client: TcpStream, at: PathBuf, wire: Arc<Wire>) {
    let log = fs::OpenOptions::new().create(true).append(true).open(at.join("log")).expect("a log");
    let sshd = process::Command::new("/usr/sbin/sshd")
        .args(["-i", "-e", "-f"])
        .arg(at.join("config"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
        .spawn();
    let mut sshd = sshd.expect("sshd is installed (package openssh-server)");
    let (to, mut from) = (sshd.stdin.take().expect("piped"), sshd.stdout.take().expect("piped"));
    let (client_reads, mut client_writes) = client.into_split();
    tokio::select! {
        () = pump(client_reads, to, &wire) => {}
        _ = copy(&mut from, &mut client_writes) => {}
        () = wire.end.notified() => {}
    }
}

/// Carries bytes as long as the wire lets it, then nothing, for good.
async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, wire: &Wire) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let left = wire.left.load(Ordering::Relaxed);
        if left < read as u64 {
            std::future::pending::<()>().await;
        }
        wire.left.store(left - read as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
