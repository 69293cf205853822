//! The daemon's side of the control socket: accepts root's connections, reads one request, writes one response.

use std::{
    fs,
    future::{Future, pending},
    io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    time::Duration,
};

use nix::unistd::geteuid;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, oneshot},
    time::timeout,
};
use tracing::{debug, warn};

use super::{MAX_LINE, Request, Response};
use crate::failure::{Failure, Kind};

/// Nobody needs more at once; a script in a loop must not exhaust descriptors.
const MAX_CONNECTIONS: usize = 32;
/// A caller writes its one line at once.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes the socket, 0600 in a directory of 0700. A stale file of a killed daemon is replaced: the caller holds the
/// state lock already.
pub(crate) fn bind(socket: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = socket.parent().filter(|d| !d.as_os_str().is_empty())
        && !directory.exists()
    {
        fs::create_dir_all(directory)?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    }
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Tells a request's handler that its caller has hung up. A handler that has begun to change something goes on.
pub(crate) struct Caller(oneshot::Receiver<()>);

impl Caller {
    /// Waits until it is gone.
    pub(crate) async fn gone(mut self) {
        let _ = (&mut self.0).await;
    }
}

/// Answers requests until the task is dropped.
pub(crate) async fn serve<H, F>(listener: UnixListener, handle: H)
where
    H: Fn(Request, Caller) -> F + Clone + Send + 'static,
    F: Future<Output = Response> + Send,
{
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let handle = handle.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, handle).await {
                        debug!(%error, "control connection ended early");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept a control connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse<H, F>(stream: UnixStream, handle: H) -> io::Result<()>
where
    H: Fn(Request, Caller) -> F,
    F: Future<Output = Response>,
{
    let caller = stream.peer_cred()?.uid();
    let (reader, mut writer) = stream.into_split();
    let response = if may_ask(caller) {
        let mut line = Vec::new();
        let mut reader = BufReader::new(reader.take(MAX_LINE as u64));
        timeout(READ_TIMEOUT, reader.read_until(b'\n', &mut line)).await??;
        match serde_json::from_slice(&line) {
            Ok(request) => {
                let (present, caller) = oneshot::channel();
                let hang_up = async {
                    while reader.read_u8().await.is_ok() {} // it has nothing more to say
                    drop(present);
                    pending().await
                };
                tokio::select! {
                    response = handle(request, Caller(caller)) => response,
                    response = hang_up => response,
                }
            }
            Err(error) => Response::Error(Failure::new(Kind::Usage, format!("not a request: {error}"))),
        }
    } else {
        Response::Error(Failure::new(Kind::Denied, format!("user {caller} may not steer the agent; run this as root")))
    };
    let mut line = serde_json::to_vec(&response)?;
    line.push(b'\n');
    writer.write_all(&line).await
}

/// Root, and whoever the daemon runs as.
fn may_ask(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Reply, client};

    async fn echo(request: Request, _: Caller) -> Response {
        match request {
            Request::Status => Response::Ok(Box::new(Reply::Netcheck(Vec::new()))),
            _ => Response::Error(Failure::new(Kind::NotFound, "nothing but its status".to_owned())),
        }
    }

    #[tokio::test]
    async fn a_request_gets_its_response_and_a_failure_its_kind() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let socket = dir.path().join("run/control.sock");
        let serving = tokio::spawn(serve(bind(&socket).expect("bind"), echo));
        let patience = Duration::from_secs(5);
        let reply = client::ask(&socket, &Request::Status, patience).await;
        assert!(matches!(reply, Ok(Reply::Netcheck(checks)) if checks.is_empty()));
        let failure = client::ask(&socket, &Request::Netcheck, patience).await.expect_err("refused");
        assert_eq!(failure.kind, Kind::NotFound);
        let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
        assert_eq!((mode(&socket), mode(socket.parent().expect("parent"))), (0o600, 0o700));
        serving.abort();
    }

    #[tokio::test]
    async fn a_handler_hears_that_its_caller_is_gone_and_may_go_on() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let socket = dir.path().join("control.sock");
        let (sender, mut heard) = tokio::sync::mpsc::channel(2);
        let handle = move |_: Request, caller: Caller| {
            let sender = sender.clone();
            async move {
                sender.send("asked").await.expect("is heard");
                caller.gone().await;
                tokio::task::yield_now().await;
                sender.send("gone").await.expect("is heard");
                Response::Ok(Box::new(Reply::Netcheck(Vec::new())))
            }
        };
        let serving = tokio::spawn(serve(bind(&socket).expect("bind"), handle));
        let patience = Duration::from_secs(5);
        let asking = async { client::ask(&socket, &Request::Status, patience).await.map(drop) };
        let asked = tokio::select! {
            asked = heard.recv() => asked,
            answer = asking => panic!("answered: {answer:?}"),
        };
        assert_eq!(asked, Some("asked"));
        assert_eq!(timeout(patience, heard.recv()).await, Ok(Some("gone")));
        serving.abort();
    }

    #[tokio::test]
    async fn without_a_daemon_the_caller_is_told_how_to_start_it() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let socket = dir.path().join("control.sock");
        let failure = client::ask(&socket, &Request::Status, Duration::from_secs(1)).await.expect_err("no daemon");
        assert_eq!(failure.kind, Kind::Unreachable);
        assert!(failure.message.contains("systemctl start cladnet-agent"), "{failure}");
    }
}
