//! A server of its own for each test, gone with it, and the command line pointed at it.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// A free port.
const ANY: &str = "127.0.0.1:0";
const DEADLINE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);

/// The binary, with an environment that says nothing.
pub(crate) fn cladnet() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cladnet"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CLADNET_") {
            command.env_remove(name);
        }
    }
    command
}

/// Looks until it is so, and says what it waited for if that takes too long.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}");
        thread::sleep(LOOK);
    }
}

/// A port of loopback that nobody uses.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.stdin(Stdio::null()).output().unwrap();
        Self {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// It did what it was asked for.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// It refused with this exit code, in at most two lines that say each of these words, and said nothing else.
    pub(crate) fn refused(self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.stdout, "", "a refusal goes to standard error");
        words.iter().for_each(|word| assert!(self.stderr.contains(word), "{word:?} is missing: {}", self.stderr));
        assert!(self.stderr.trim().lines().count() <= 2 || code == 2 || code == 64, "{}", self.stderr);
    }
}

/// `cladnet server` on free ports and a store in a directory of its own.
pub(crate) struct Server {
    process: Child,
    pub(crate) directory: TempDir,
    pub(crate) url: String,
}

impl Server {
    pub(crate) fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let (process, url) = spawn(directory.path(), ANY);
        Self { process, directory, url }
    }

    /// A replica of the service on etcd, told how to reach it by these arguments.
    pub(crate) fn replica(arguments: &[&OsStr]) -> Self {
        let directory = TempDir::new().unwrap();
        let ca_file = directory.path().join("data/ca.pem");
        fs::create_dir(ca_file.parent().unwrap()).unwrap();
        let mut command = cladnet();
        command.arg("service").args(arguments).arg("--write-ca").arg(ca_file);
        let (process, url) = spawn_service(command, directory.path(), ANY);
        Self { process, directory, url }
    }

    /// Ends it by SIGTERM, as a service manager does, and starts it again on what it left.
    pub(crate) fn restart(&mut self) {
        self.stop();
        (self.process, self.url) = spawn(self.directory.path(), ANY);
    }

    /// Starts it again where it was.
    pub(crate) fn come_back(&mut self) {
        let address = self.url.strip_prefix("https://").unwrap().to_owned();
        (self.process, self.url) = spawn(self.directory.path(), &address);
    }

    pub(crate) fn stop(&mut self) -> i32 {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").arg(&pid).status().unwrap().success());
        self.process.wait().unwrap().code().unwrap_or(-1)
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.directory.path().join("admin.key")
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.directory.path().join("data/ca.pem")
    }

    /// A command with the first key.
    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_with_key(&self.key_file(), arguments)
    }

    pub(crate) fn run_with_key(&self, key_file: &Path, arguments: &[&str]) -> Outcome {
        Outcome::of(&mut self.command_with_key(key_file, arguments))
    }

    /// A command with the first key, to be started by the caller.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_with_key(&self.key_file(), arguments)
    }

    fn command_with_key(&self, key_file: &Path, arguments: &[&str]) -> Command {
        let mut command = cladnet();
        command.args(["--service", &self.url, "--ca-file"]).arg(self.ca_file()).arg("--key-file").arg(key_file);
        command.args(arguments);
        command
    }

    /// The JSON answer of a command that works.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(&[&["--output", "json"], arguments].concat()).ok().stdout).unwrap()
    }

    /// Makes a network.
    pub(crate) fn network(&self, id: &str, address_space: &str) {
        self.run(&["network", "create", id, "--address-space", address_space]).ok();
    }

    /// A new key of a role, in a file.
    pub(crate) fn key_of(&self, role: &str) -> PathBuf {
        let file = self.directory.path().join(format!("{role}.key"));
        self.run(&["key", "create", "--role", role, "--file", file.to_str().unwrap()]).ok();
        file
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking() {
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            eprintln!("the server's log:\n{log}");
        }
    }
}

fn spawn(directory: &Path, listen: &str) -> (Child, String) {
    let mut command = cladnet();
    command.arg("server").arg("--data-dir").arg(directory.join("data"));
    spawn_service(command, directory, listen)
}

/// Starts a role that serves the API at an address; its log and the first key go to `directory`.
fn spawn_service(mut command: Command, directory: &Path, listen: &str) -> (Child, String) {
    let log = File::options().create(true).append(true).open(directory.join("log")).unwrap();
    let mut process = command
        .args(["--listen", listen, "--stun-listen", "off"])
        .arg("--admin-key-file")
        .arg(directory.join("admin.key"))
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let (sender, receiver) = mpsc::channel();
    // Reads on after nobody listens any more, so that the server never writes into a closed pipe.
    thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(sender.send(line))));
    let first = receiver.recv_timeout(DEADLINE).unwrap_or_default();
    if let Some(url) = first.strip_prefix("service: ") {
        return (process, url.to_owned());
    }
    let _ = process.kill();
    let _ = process.wait();
    panic!("the server did not say where it is: {first:?} {}", fs::read_to_string(directory.join("log")).unwrap());
}
