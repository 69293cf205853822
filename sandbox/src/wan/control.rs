//! The WAN's socket: one request per connection, answered when it has taken effect. Opens the TUNs, so that the thread
//! that carries packets never waits for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Sender, sync_channel};
use std::time::Duration;

use super::capture::Capture;
use super::fabric::{Change, Command, Fabric, Waker};
use super::{Attachment, Configuration, Request, Response, Statistics};
use crate::directory::Directory;
use crate::error::{Doing, Result};
use crate::{namespace, process, syscall};

const CLIENT_TIMEOUT: Duration = Duration::from_secs(1);

/// Starts to answer the socket; the fabric it steers is returned, to be run by the caller.
pub(super) fn listen(directory: &Directory) -> Result<Fabric> {
    let path = directory.wan_socket();
    let listener = UnixListener::bind(&path).doing(|| format!("listen on {}", path.display()))?;
    let (fabric, commands, waker) = Fabric::new()?;
    let mut control = Control { commands, waker, known: BTreeMap::new(), capture: None };
    let serve = move || {
        for stream in listener.incoming().flatten() {
            control.serve(stream);
        }
    };
    std::thread::Builder::new().name("control".into()).spawn(serve).doing(|| "start a thread".into())?;
    Ok(fabric)
}

struct Control {
    commands: Sender<Command>,
    waker: Waker,
    /// Attachments whose TUN is open, and the process whose namespace it is in.
    known: BTreeMap<String, i32>,
    /// The file being captured to.
    capture: Option<std::path::PathBuf>,
}

impl Control {
    fn serve(&mut self, mut stream: UnixStream) {
        let _ = stream.set_read_timeout(Some(CLIENT_TIMEOUT));
        let mut line = String::new();
        let read = BufReader::new(&stream).read_line(&mut line);
        let request =
            read.map_err(|e| e.to_string()).and_then(|_| serde_json::from_str(&line).map_err(|e| e.to_string()));
        let response = match request.and_then(|request| self.handle(request)) {
            Ok(statistics) => Response::Statistics(statistics),
            Err(error) => Response::Error(error),
        };
        let mut line = serde_json::to_string(&response).expect("a response has no maps with odd keys");
        line.push('\n');
        // The client may have left.
        let _ = stream.write_all(line.as_bytes());
    }

    fn handle(&mut self, request: Request) -> Result<Statistics, String> {
        let change = match request {
            Request::Statistics => None,
            Request::Configure(configuration) => {
                Some(self.prepare(configuration).map_err(|error| process::describe(&error))?)
            }
        };
        let (answer, answered) = sync_channel(1);
        let gone = |_| "the thread that carries packets has ended".to_owned();
        self.commands.send(Command { change, answer }).map_err(|error| gone(error.to_string()))?;
        self.waker.wake();
        answered.recv().map_err(|error| gone(error.to_string()))
    }

    /// Does all that may fail or take time, before the fabric changes.
    fn prepare(&mut self, configuration: Configuration) -> Result<Change> {
        let Configuration { attachments, links, blocks, capture } = configuration;
        let mut opened = BTreeMap::new();
        for attachment in &attachments {
            if self.known.get(&attachment.name) != Some(&attachment.pid) {
                opened.insert(attachment.name.clone(), open(attachment)?);
            }
        }
        let started = match &capture {
            Some(path) if self.capture.as_ref() != Some(path) => {
                Some(Capture::create(path).doing(|| format!("capture to {}", path.display()))?)
            }
            _ => None,
        };
        self.known = attachments.iter().map(|attachment| (attachment.name.clone(), attachment.pid)).collect();
        let stop_capture = capture.is_none();
        self.capture = capture;
        Ok(Change { attachments, opened, links, blocks, started, stop_capture })
    }
}

fn open(attachment: &Attachment) -> Result<OwnedFd> {
    let path = format!("/proc/{}/ns/net", attachment.pid);
    let target = File::open(&path).doing(|| format!("open {path}"))?;
    namespace::inside(&target, || {
        let tun = syscall::open_tun(&attachment.interface).doing(|| format!("open a TUN for {}", attachment.name))?;
        let flags = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK);
        nix::fcntl::fcntl(&tun, flags).doing(|| "make a TUN non-blocking".into())?;
        Ok(tun)
    })
}
