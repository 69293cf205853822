//! A machine for one test: a network namespace and a directory, both gone when dropped, and the agent on it.

use std::{
    fs::{self, File, Permissions},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// For anything that should happen at once, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(20);
/// Between two looks of [`eventually`].
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// `nobody`.
const UNPRIVILEGED: u32 = 65_534;

pub(crate) struct Machine {
    namespace: String,
    pub(crate) directory: TempDir,
}

/// A running daemon; killed when dropped.
pub(crate) struct Daemon(Child);

impl Machine {
    /// None where this cannot be done, which is said, and is a failure under `CI`.
    pub(crate) fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "tests of the daemon need root");
            eprintln!("NOT RUN: tests of the daemon need root");
            return None;
        }
        let namespace = format!("cladnet-{:x}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let machine = Self { namespace, directory: tempfile::tempdir().unwrap() };
        assert!(Command::new("ip").args(["netns", "add", &machine.namespace]).status().unwrap().success());
        let up = ["-n", &machine.namespace, "link", "set", "lo", "up"];
        assert!(Command::new("ip").args(up).status().unwrap().success());
        Some(machine)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The agent with this machine's state and socket.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_in("state", "run/control.sock", arguments)
    }

    pub(crate) fn command_in(&self, state: &str, socket: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(env!("CARGO_BIN_EXE_cladnet-agent"));
        command.arg("--state-dir").arg(self.path(state)).arg("--socket").arg(self.path(socket)).args(arguments);
        command
    }

    /// A subcommand's exit code, and what it printed on both streams.
    pub(crate) fn agent(&self, arguments: &[&str]) -> (i32, String) {
        outcome(&self.command(arguments).output().unwrap())
    }

    /// As somebody who is not root.
    pub(crate) fn agent_unprivileged(&self, arguments: &[&str]) -> (i32, String) {
        let binary = self.path("cladnet-agent");
        fs::set_permissions(self.directory.path(), Permissions::from_mode(0o755)).unwrap();
        // By a program of its own: a copy that this process has open for writing while another test forks cannot be run.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_cladnet-agent")).arg(&binary).status().unwrap();
        assert!(copied.success());
        let mut command = Command::new(binary);
        command.arg("--state-dir").arg(self.path("state")).arg("--socket").arg(self.path("run/control.sock"));
        outcome(&command.args(arguments).uid(UNPRIVILEGED).gid(UNPRIVILEGED).output().unwrap())
    }

    /// Starts the daemon and waits until it answers.
    pub(crate) fn start(&self) -> Daemon {
        let log = File::create(self.path("log")).unwrap();
        let mut command = self.command(&["run"]);
        let mut daemon = Daemon(command.stderr(log).spawn().unwrap());
        eventually("the daemon answers", || {
            let ended = daemon.0.try_wait().unwrap();
            assert!(ended.is_none(), "the daemon ended: {}", fs::read_to_string(self.path("log")).unwrap());
            self.agent(&["status"]).0 == 0
        });
        daemon
    }

    /// Everything below the state directory but the lock.
    pub(crate) fn state_files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for directory in ["state", "state/networks"] {
            let entries = fs::read_dir(self.path(directory)).unwrap();
            files.extend(entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file() && !is_lock(path)));
        }
        files
    }
}

impl Daemon {
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Asks it to end; its exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        eventually("the daemon ends", || self.0.try_wait().unwrap().is_some());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
    }
}

fn is_lock(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "lock")
}

pub(crate) fn outcome(output: &Output) -> (i32, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8(text).unwrap())
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "waited for: {what}");
        thread::sleep(POLL_INTERVAL);
    }
}
