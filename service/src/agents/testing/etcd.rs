//! A real etcd of Debian's `etcd-server`, and a proxy before it that can be cut.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    process::{Child, Command, Stdio},
    sync::{Arc, OnceLock},
};

use cladnet_store::{EtcdOptions, SealingKey, Store};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;

use super::{House, eventually};

/// The sealing key's file.
const KEY: &str = "secret.key";

/// Killed when dropped.
pub(crate) struct Etcd {
    process: Child,
    client: SocketAddr,
    directory: TempDir,
}

fn free_address() -> SocketAddr {
    StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

impl Etcd {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (client, peer) = (free_address(), free_address());
        let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "etcd", "--name", "m", "--data-dir"])
            .arg(directory.path().join("data"))
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("m={peer_url}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs a real etcd: apt-get install etcd-server");
        SealingKey::create(&directory.path().join(KEY)).unwrap();
        Self { process, client, directory }
    }

    /// A store straight on it.
    pub(crate) async fn house(&self) -> House {
        House::over(self.connect(self.client).await)
    }

    /// Another program that uses the same etcd writes a key of its own.
    pub(crate) async fn write_elsewhere(&self) {
        let body = r#"{"key":"b3RoZXI=","value":"MQ=="}"#;
        let head =
            format!("POST /v3/kv/put HTTP/1.1\r\nhost: etcd\r\nconnection: close\r\ncontent-length: {}", body.len());
        let mut stream = TcpStream::connect(self.client).await.unwrap();
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    pub(crate) async fn proxy(&self) -> Proxy<'_> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, open) = (listener.local_addr().unwrap(), watch::Sender::new(true));
        let lossy = Arc::<OnceLock<String>>::default();
        let task = AbortOnDropHandle::new(tokio::spawn(forward(listener, self.client, open.clone(), lossy.clone())));
        Proxy { etcd: self, address, open, lossy, _task: task }
    }

    async fn connect(&self, address: SocketAddr) -> Store {
        eventually("etcd", async || {
            let sealing_key = SealingKey::load(&self.directory.path().join(KEY)).ok();
            let endpoints = vec![format!("http://{address}")];
            Store::connect_etcd(EtcdOptions { endpoints, sealing_key, ..EtcdOptions::default() }).await.ok()
        })
        .await
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Between a replica and etcd.
pub(crate) struct Proxy<'a> {
    etcd: &'a Etcd,
    address: SocketAddr,
    open: watch::Sender<bool>,
    lossy: Arc<OnceLock<String>>,
    _task: AbortOnDropHandle<()>,
}

impl Proxy<'_> {
    /// From now on a request that holds `text` gets through, but its connection ends with the answer.
    pub(crate) fn lose_answers_to(&self, text: &str) {
        self.lossy.set(text.to_owned()).expect("once");
    }

    /// A store through it.
    pub(crate) async fn house(&self) -> House {
        House::over(self.etcd.connect(self.address).await)
    }

    /// Ends every connection, and new ones at once.
    pub(crate) fn cut(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn heal(&self) {
        self.open.send_replace(true);
    }
}

async fn forward(listener: TcpListener, target: SocketAddr, open: watch::Sender<bool>, lossy: Arc<OnceLock<String>>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let mut open = open.subscribe();
        if !*open.borrow() {
            continue;
        }
        let lossy = lossy.clone();
        tokio::spawn(async move {
            let Ok(mut server) = TcpStream::connect(target).await else { return };
            tokio::select! {
                () = carry(&mut client, &mut server, &lossy) => {}
                _ = open.wait_for(|open| !open) => {}
            }
        });
    }
}

/// Carries bytes both ways until one end closes, or until the answer comes to a request that is to have none.
async fn carry(client: &mut TcpStream, server: &mut TcpStream, lossy: &OnceLock<String>) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.split(), server.split());
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut lost = false;
    loop {
        let carried = tokio::select! {
            asking = from_client.read(&mut asked) => {
                let request = &asked[..asking.unwrap_or(0)];
                let matches = |text: &String| request.windows(text.len()).any(|part| part == text.as_bytes());
                lost |= lossy.get().is_some_and(matches);
                to_server.write_all(request).await.map(|()| request.len())
            }
            answering = from_server.read(&mut answered) => match answering {
                Ok(length) if !lost => to_client.write_all(&answered[..length]).await.map(|()| length),
                _ => return,
            },
        };
        if matches!(carried, Ok(0) | Err(_)) {
            return;
        }
    }
}
