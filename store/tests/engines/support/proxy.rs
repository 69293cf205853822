//! A TCP proxy in front of an etcd member, to cut, to freeze, and to swallow answers.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;

/// What the proxy does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Pass,
    /// Connections end, new ones are ended at once.
    Cut,
    /// Requests get through, answers do not.
    Mute,
    /// Nothing gets through, and nobody is told.
    Freeze,
}

pub(crate) struct Proxy {
    pub(crate) url: String,
    mode: watch::Sender<Mode>,
    _task: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Stands in front of `http://…`.
    pub(crate) async fn before(url: &str) -> Self {
        let target: SocketAddr = url.trim_start_matches("http://").parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let mode = watch::Sender::new(Mode::Pass);
        let task = tokio::spawn(accept(listener, target, mode.clone()));
        Self { url, mode, _task: AbortOnDropHandle::new(task) }
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, mode: watch::Sender<Mode>) {
    while let Ok((client, _)) = listener.accept().await {
        if *mode.borrow() == Mode::Cut {
            continue;
        }
        let Ok(server) = TcpStream::connect(target).await else { continue };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let (up, down) = (mode.subscribe(), mode.subscribe());
        tokio::spawn(async move {
            tokio::select! {
                () = carry(from_client, to_server, up, &[Mode::Freeze]) => {}
                () = carry(from_server, to_client, down, &[Mode::Freeze, Mode::Mute]) => {}
            }
        });
    }
}

/// Carries bytes one way until an end closes or the proxy is cut; holds them back in `held` modes.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut mode: watch::Receiver<Mode>,
    held: &[Mode],
) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = tokio::select! {
            cut = mode.wait_for(|mode| *mode == Mode::Cut) => return drop(cut),
            read = from.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(read) => read,
            },
        };
        let released = mode.wait_for(|mode| !held.contains(mode)).await.map(|mode| *mode);
        if matches!(released, Err(_) | Ok(Mode::Cut)) || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
