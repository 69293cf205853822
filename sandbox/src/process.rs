//! The processes of a sandbox: how they are started, detached from their maker, recognised and ended.
//!
//! A process is known by its id and start time in the sandbox's directory, never by name, so that a reused id is
//! never mistaken for it. It is recorded before it does anything, by its own first half.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{ForkResult, Pid};
use serde::{Deserialize, Serialize};

use crate::directory::Directory;
use crate::error::{Doing, Error, Result};
use crate::syscall;

/// A process of this machine, told apart from a later one with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: i32,
    /// In clock ticks since boot.
    start_time: u64,
}

impl ProcessId {
    pub(crate) fn of(pid: Pid) -> Result<Self> {
        let pid = pid.as_raw();
        let missing = || Error::Process { process: format!("process {pid}"), message: "is gone already".into() };
        Ok(Self { pid, start_time: start_time(pid).ok_or_else(missing)? })
    }

    pub(crate) fn is_alive(&self) -> bool {
        start_time(self.pid) == Some(self.start_time)
    }

    /// Whether it is in the process table, if only as an entry that its parent has not collected yet.
    fn is_listed(&self) -> bool {
        stat(self.pid).is_some_and(|(_, start_time)| start_time == self.start_time)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if self.is_alive() {
            // It may end in between, which is what is wanted.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    pub(crate) fn namespace(&self, kind: &str) -> Result<File> {
        let path = format!("/proc/{}/ns/{kind}", self.pid);
        let file = File::open(&path).doing(|| format!("open {path}"))?;
        if !self.is_alive() {
            let message = "has ended; the sandbox is broken, destroy it".to_owned();
            return Err(Error::Process { process: format!("process {}", self.pid), message });
        }
        Ok(file)
    }
}

/// Start time of a living process; none for one that ended, collected by its parent or not.
fn start_time(pid: i32) -> Option<u64> {
    stat(pid).filter(|(state, _)| !matches!(state, 'Z' | 'X')).map(|(_, start_time)| start_time)
}

/// State and start time of a process: fields 3 and 22 of its `stat` (proc(5)).
fn stat(pid: i32) -> Option<(char, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name, in brackets, may hold anything; the fields behind it are plain.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// Ends processes and waits until they run no more.
pub(crate) fn end(processes: &[ProcessId], within: Duration) -> Result<()> {
    for process in processes {
        process.signal(Signal::SIGKILL);
    }
    wait_until("the end of the sandbox's processes", within, || !processes.iter().any(ProcessId::is_alive))
}

/// Waits for the machine's init to collect processes that have ended, which most do at once. One that never does is not
/// our failure.
pub(crate) fn await_collection(processes: &[ProcessId]) {
    const WITHIN: Duration = Duration::from_secs(3);
    let _ = wait_until("their collection", WITHIN, || !processes.iter().any(ProcessId::is_listed));
}

/// Polls a condition until it holds.
pub(crate) fn wait_until(what: &str, within: Duration, mut holds: impl FnMut() -> bool) -> Result<()> {
    const POLL: Duration = Duration::from_millis(2);
    let start = Instant::now();
    while !holds() {
        if start.elapsed() > within {
            return Err(Error::Deadline { waiting_for: what.to_owned(), seconds: within.as_secs() });
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// The binary `cladnet-sandbox`: this program, or its neighbour, or what the environment or the search path names.
pub(crate) fn binary() -> Result<PathBuf> {
    const NAME: &str = "cladnet-sandbox";
    if let Some(path) = std::env::var_os("CLADNET_SANDBOX_BIN") {
        return Ok(path.into());
    }
    let this = std::env::current_exe().doing(|| "find this program's own path".into())?;
    if this.file_name().is_some_and(|name| name == NAME) {
        return Ok(this);
    }
    // Tests run from `target/<profile>/deps`, one below the binaries.
    let neighbours = this.ancestors().skip(1).take(2).map(Path::to_path_buf);
    let search_path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = neighbours.chain(std::env::split_paths(&search_path)).map(|directory| directory.join(NAME));
    candidates.into_iter().find(|path| path.is_file()).ok_or(Error::NoBinary)
}

/// Starts a process of a sandbox and waits until it says that it is ready.
pub(crate) fn start(directory: &Directory, role: &str, name: &str, arguments: &[&str]) -> Result<ProcessId> {
    let log = directory.log(name);
    let log = File::options().create(true).append(true).open(&log).doing(|| format!("open {}", log.display()))?;
    let mut command = Command::new(binary()?);
    command.args(["process", role]).arg(directory.path().file_name().unwrap_or_default()).arg(name).args(arguments);
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut child = command.spawn().doing(|| format!("start {:?}", command.get_program()))?;
    let mut answer = String::new();
    if let Some(stdout) = child.stdout.take() {
        let _ = BufReader::new(stdout).read_line(&mut answer);
    }
    // This is the first half, which ends as soon as the second runs on its own.
    let _ = child.wait();
    match answer.trim_end() {
        READY => directory.process(name),
        "" => Err(Error::Process { process: name.into(), message: "ended before it was ready; see its log".into() }),
        message => Err(Error::Process { process: name.into(), message: message.to_owned() }),
    }
}

const READY: &str = "ready";

/// Says once that a process is ready; dropped without, its maker learns that it failed.
pub(crate) struct Readiness(OwnedFd);

impl Readiness {
    /// Tells the maker that all is well and lets go of it.
    pub(crate) fn ready(self) -> Result<()> {
        self.tell(READY)
    }

    /// Tells the maker why this process cannot go on.
    pub(crate) fn failed(self, error: &dyn std::error::Error) {
        let _ = self.tell(&describe(error));
    }

    fn tell(self, line: &str) -> Result<()> {
        let mut maker = File::from(self.0);
        writeln!(maker, "{line}").doing(|| "tell the maker how it went".into())
    }
}

/// An error with its causes, on one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ").replace('\n', " ")
}

/// Turns this process into a process of a sandbox: in new namespaces, out of its maker's session, recorded.
///
/// The first half never returns; the second is the only process in its new PID namespace, if one was asked for.
pub(crate) fn detach(directory: &Directory, name: &str, namespaces: CloneFlags) -> Result<Readiness> {
    nix::unistd::setsid().doing(|| "start a session".into())?;
    nix::sched::unshare(namespaces).doing(|| "make namespaces".into())?;
    let (permission, grant) = nix::unistd::pipe().doing(|| "make a pipe".into())?;
    match syscall::fork(syscall::SingleThread::assert()).doing(|| "fork".into())? {
        ForkResult::Parent { child } => {
            let recorded = ProcessId::of(child).and_then(|process| directory.record_process(name, &process));
            if let Err(error) = &recorded {
                eprintln!("{}", describe(error));
            } else {
                let _ = File::from(grant).write_all(b"1");
            }
            std::process::exit(i32::from(recorded.is_err()));
        }
        ForkResult::Child => {
            drop(grant);
            let mut granted = [0];
            File::from(permission).read_exact(&mut granted).doing(|| "be recorded in the sandbox".into())?;
            let stdout = std::io::stdout();
            let maker = stdout.as_fd().try_clone_to_owned().doing(|| "keep the maker's pipe".into())?;
            silence(stdout.as_fd())?;
            Ok(Readiness(maker))
        }
    }
}

fn silence(descriptor: BorrowedFd<'_>) -> Result<()> {
    use std::os::fd::AsRawFd;
    let null = File::options().write(true).open("/dev/null").doing(|| "open /dev/null".into())?;
    assert_eq!(descriptor.as_raw_fd(), 1, "only standard output is replaced");
    nix::unistd::dup2_stdout(null).doing(|| "close standard output".into())
}
