//! The control socket of a plain interface, where `wg` looks for it: many callers at once, none of whom can hold up the
//! others or the interface.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as Caller;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::unistd::geteuid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, pipe};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};
use zeroize::Zeroizing;

use super::interface::Interface;
use super::uapi::{self, Request};

/// Given by the protocol.
const DIRECTORY: &str = "/var/run/wireguard";
/// Nobody needs more at once; a script in a loop must not exhaust descriptors.
const MAX_CALLERS: usize = 32;
/// Four times the longest line that says anything.
const MAX_LINE: u64 = 512;
/// Some 40,000 peers.
const MAX_REQUEST: usize = 16 << 20;
/// To write a request or to read its answer; also how long a caller may stay who says nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// Keeps a failing accept from taking a core.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// Why an interface cannot have its socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("{} answers already: an interface of this name runs here or in another network namespace", .0.display())]
    InUse(PathBuf),
    #[error("cannot make the socket {}", path.display())]
    Make { path: PathBuf, source: io::Error },
}

/// Listens; its file is gone when this is dropped.
pub(super) struct ControlSocket {
    path: PathBuf,
    /// Device and inode: what tells our file from one that took its place.
    identity: (u64, u64),
    listener: Option<UnixListener>,
}

impl ControlSocket {
    /// 0600 in a directory of 0700. What a killed process left is replaced.
    pub(super) fn bind(interface: &str) -> Result<Self, SocketError> {
        let path = Path::new(DIRECTORY).join(format!("{interface}.sock"));
        if Caller::connect(&path).is_ok() {
            return Err(SocketError::InUse(path));
        }
        Self::make(path.clone()).map_err(|source| SocketError::Make { path, source })
    }

    /// It gets its name when it listens: `wg` takes away a socket that refuses it.
    fn make(path: PathBuf) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(DIRECTORY)?;
        let unnamed = path.with_extension(process::id().to_string());
        match fs::remove_file(&unnamed) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&unnamed)?;
        fs::set_permissions(&unnamed, fs::Permissions::from_mode(0o600))?;
        let identity = identity(&unnamed)?;
        fs::rename(&unnamed, &path)?;
        Ok(Self { path, identity, listener: Some(listener) })
    }

    /// Begins to answer; ends with the runtime.
    pub(super) fn serve(&mut self, interface: &Arc<Mutex<Interface>>) {
        if let Some(listener) = self.listener.take() {
            tokio::spawn(serve(listener, interface.clone()));
        }
    }

    /// Waits until the file is not ours any more: taking it away is how the interface is told to end.
    pub(super) async fn removed(&self) -> io::Result<()> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let changes = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVE | AddWatchFlags::IN_CREATE;
        inotify.add_watch(DIRECTORY, changes | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF)?;
        // Not a pipe, but read like one. What happened does not matter: the file is looked at again.
        let mut events = pipe::Receiver::from_owned_fd_unchecked(inotify.into())?;
        while self.is_there() && events.read(&mut [0; 4096]).await? > 0 {}
        Ok(())
    }

    fn is_there(&self) -> bool {
        identity(&self.path).is_ok_and(|found| found == self.identity)
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

async fn serve(listener: UnixListener, interface: Arc<Mutex<Interface>>) {
    let places = Arc::new(Semaphore::new(MAX_CALLERS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let interface = interface.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &interface).await {
                        debug!(%error, "control connection ended early");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept a control connection");
                sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

/// Answers one request after the other until the caller has no more.
async fn converse(stream: UnixStream, interface: &Mutex<Interface>) -> io::Result<()> {
    // The directory may be another's, and open for a moment more than the socket is.
    let caller = stream.peer_cred()?.uid();
    if caller != 0 && caller != geteuid().as_raw() {
        return Err(ErrorKind::PermissionDenied.into());
    }
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let (answer, goes_on) = match timeout(PATIENCE, read_request(&mut reader)).await?? {
            Heard::Nothing => return Ok(()),
            Heard::TooMuch => (Zeroizing::new(uapi::verdict(Some(Errno::EMSGSIZE))), false),
            Heard::Request(request) => (answer(&request, interface).await, true),
        };
        timeout(PATIENCE, writer.write_all(answer.as_bytes())).await??;
        if !goes_on {
            return Ok(());
        }
    }
}

enum Heard {
    /// The caller hung up.
    Nothing,
    TooMuch,
    /// Without the empty line at its end.
    Request(Zeroizing<Vec<u8>>),
}

async fn read_request(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<Heard> {
    let mut request = Zeroizing::new(Vec::new());
    loop {
        let start = request.len();
        let len = reader.take(MAX_LINE).read_until(b'\n', &mut request).await?;
        match &request[start..] {
            b"\n" if start == 0 => request.clear(),
            b"\n" => {
                request.truncate(start);
                return Ok(Heard::Request(request));
            }
            [.., b'\n'] if request.len() <= MAX_REQUEST => {}
            _ if (len as u64) < MAX_LINE && request.len() <= MAX_REQUEST => return Ok(Heard::Nothing),
            _ => return Ok(Heard::TooMuch),
        }
    }
}

async fn answer(request: &[u8], interface: &Mutex<Interface>) -> Zeroizing<String> {
    let refused = |errno, error: &(dyn std::error::Error + 'static)| {
        warn!(error, "request refused");
        Zeroizing::new(uapi::verdict(Some(errno)))
    };
    let request = match std::str::from_utf8(request) {
        Ok(text) => uapi::parse(text),
        Err(error) => return refused(Errno::EPROTO, &error),
    };
    match request {
        Ok(Request::Get) => {
            let described = interface.lock().await.describe();
            described.unwrap_or_else(|error| refused(Errno::EIO, &error))
        }
        Ok(Request::Set(set)) => match interface.lock().await.change(set) {
            Ok(()) => Zeroizing::new(uapi::verdict(None)),
            Err(error) => refused(error.errno(), &error),
        },
        Err(error) => refused(error.errno(), &error),
    }
}
