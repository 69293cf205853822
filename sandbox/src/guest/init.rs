//! PID 1 of a VM: one thread that collects ended processes, keeps services running and answers its socket.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, wait, waitpid};
use nix::unistd::Pid;

use super::protocol::{Refusal, Request, Response, ServiceSpec};
use super::services::Services;
use crate::error::{Doing, Result};

/// A client that connects and then says nothing must not stop the VM.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct Init {
    listener: UnixListener,
    children: SignalFd,
    services: Services,
    /// Who waits for the end of which service, and what is to be done then.
    waiting: Vec<(UnixStream, String, AfterStop)>,
}

enum AfterStop {
    Keep,
    Forget,
    Start,
    Replace(ServiceSpec),
}

impl Init {
    pub(super) fn new(listener: UnixListener) -> Result<Self> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGCHLD);
        signals.thread_block().doing(|| "block SIGCHLD".into())?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let children = SignalFd::with_flags(&signals, flags).doing(|| "listen for ended processes".into())?;
        Ok(Self { listener, children, services: Services::default(), waiting: Vec::new() })
    }

    /// Adds a service before anybody could ask for it.
    pub(super) fn add(&mut self, spec: ServiceSpec) -> Result<()> {
        self.services.add(spec).map_err(|refusal| refusal.into_error("the VM's init"))
    }

    /// Runs for as long as the VM exists.
    pub(super) fn run(mut self) -> ! {
        loop {
            let next = self.services.advance();
            self.answer_waiting();
            let timeout = next.map_or(PollTimeout::NONE, until);
            let mut sources = [
                PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
            ];
            // An interrupted poll is a poll that found nothing.
            let _ = poll(&mut sources, timeout);
            let asked = sources[0].any() == Some(true);
            while let Ok(Some(_)) = self.children.read_signal() {}
            self.collect();
            if asked && let Ok((stream, _)) = self.listener.accept() {
                self.serve(stream);
            }
        }
    }

    fn collect(&mut self) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                break;
            }
            self.services.ended(status);
        }
    }

    fn serve(&mut self, stream: UnixStream) {
        let _ = stream.set_read_timeout(Some(CLIENT_TIMEOUT));
        let mut line = String::new();
        let request = match BufReader::new(&stream).read_line(&mut line) {
            Ok(_) => serde_json::from_str(&line).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let done = match request {
            Ok(Request::Stop(name)) => return self.stop(stream, name, AfterStop::Keep),
            Ok(Request::Remove(name)) => return self.stop(stream, name, AfterStop::Forget),
            Ok(Request::Restart(name)) => return self.stop(stream, name, AfterStop::Start),
            Ok(Request::Replace(spec)) if self.services.contains(&spec.name) => {
                return self.stop(stream, spec.name.clone(), AfterStop::Replace(spec));
            }
            Ok(Request::Add(spec) | Request::Replace(spec)) => self.services.add(spec),
            Ok(Request::Start(name)) => self.services.start(&name),
            Ok(Request::Kill { service, signal }) => self.services.kill(&service, signal),
            Ok(Request::Status) => Ok(()),
            Ok(Request::Reboot) => self.reboot(),
            Err(error) => Err(error.into()),
        };
        self.answer(stream, done);
    }

    fn stop(&mut self, stream: UnixStream, name: String, after: AfterStop) {
        match self.services.stop(&name) {
            Ok(()) => self.waiting.push((stream, name, after)),
            Err(error) => self.answer(stream, Err(error)),
        }
    }

    fn answer_waiting(&mut self) {
        let (done, waiting) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(_, name, _)| self.services.is_stopped(name));
        self.waiting = waiting;
        let done: Vec<(UnixStream, String, AfterStop)> = done;
        for (stream, name, after) in done {
            let done = match after {
                AfterStop::Keep => Ok(()),
                AfterStop::Forget => {
                    self.services.forget(&name);
                    Ok(())
                }
                AfterStop::Start => self.services.start(&name),
                AfterStop::Replace(spec) => self.services.insert(spec),
            };
            self.answer(stream, done);
        }
    }

    fn answer(&self, mut stream: UnixStream, done: Result<(), Refusal>) {
        let response = match done {
            Ok(()) => Response::Services(self.services.status()),
            Err(refusal) => Response::Refused(refusal),
        };
        let mut line = serde_json::to_string(&response).expect("a response has no maps with odd keys");
        line.push('\n');
        // The client may have left.
        let _ = stream.write_all(line.as_bytes());
    }

    fn reboot(&mut self) -> Result<(), Refusal> {
        // From PID 1 this reaches every other process of the VM, and no other.
        match kill(Pid::from_raw(-1), Signal::SIGKILL) {
            Ok(()) | Err(nix::Error::ESRCH) => {}
            Err(errno) => return Err(format!("end all processes: {errno}").into()),
        }
        while wait().is_ok() {}
        for directory in ["/run", "/tmp"] {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let path = entry.path();
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let _ = if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            }
        }
        self.services.start_over();
        Ok(())
    }
}

fn until(instant: Instant) -> PollTimeout {
    let left = instant.saturating_duration_since(Instant::now());
    // Rounded up, so that it is due when the poll returns.
    PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
}
