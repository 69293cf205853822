//! Stops every process of a VM at one moment, and lets them go on: by a cgroup of version 2, of version 1, or, where
//! there is neither, by signals.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::error::{Doing, Result};
use crate::process::{ProcessId, wait_until};

const FREEZE_WITHIN: Duration = Duration::from_secs(5);
/// After how many looks a freeze that stays half way is let go for one.
const LOOKS: u32 = 20;

/// How the processes of one VM are stopped.
#[derive(Debug)]
pub(crate) enum Freezer {
    Version2(PathBuf),
    Version1(PathBuf),
    Signals,
}

impl Freezer {
    /// Puts a VM's init, and so all that it will start, into a cgroup of its own, if this machine has them.
    pub(crate) fn create(sandbox: &str, vm: &str, init: &ProcessId) -> Self {
        for (kind, path) in candidates(sandbox, vm) {
            let joined = fs::create_dir_all(&path).and_then(|()| fs::write(path.join(PROCESSES), init.pid.to_string()));
            if joined.is_ok() && path.join(kind.switch()).exists() {
                return kind.at(path);
            }
            let _ = fs::remove_dir(&path);
        }
        Self::Signals
    }

    /// The freezer that was made for a VM.
    pub(crate) fn of(sandbox: &str, vm: &str) -> Self {
        let made = candidates(sandbox, vm).into_iter().find(|(_, path)| path.is_dir());
        made.map_or(Self::Signals, |(kind, path)| kind.at(path))
    }

    /// The file that takes the id of a process which enters the VM.
    pub(crate) fn entrance(&self) -> Result<Option<File>> {
        match self {
            Self::Version2(path) | Self::Version1(path) => {
                let path = path.join(PROCESSES);
                File::options().write(true).open(&path).map(Some).doing(|| format!("open {}", path.display()))
            }
            Self::Signals => Ok(None),
        }
    }

    /// Stops every process; returns when all stand still.
    pub(crate) fn freeze(&self, init: &ProcessId) -> Result<()> {
        let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        match self {
            Self::Version2(path) => {
                switch(&path.join(VERSION_2), "1")?;
                wait_until("the VM's processes to stop", FREEZE_WITHIN, || {
                    read(path.join("cgroup.events")).contains("frozen 1")
                })
            }
            Self::Version1(path) => {
                let path = path.join(VERSION_1);
                switch(&path, "FROZEN")?;
                let mut looks = 0u32;
                wait_until("the VM's processes to stop", FREEZE_WITHIN, || {
                    if read(path.clone()).trim() == "FROZEN" {
                        return true;
                    }
                    looks += 1;
                    // Among processes that start, version 1 can stay half way for ever, unless they go on for a moment.
                    let _ = switch(&path, if looks.is_multiple_of(LOOKS) { "THAWED" } else { "FROZEN" });
                    false
                })
            }
            Self::Signals => {
                // Init first: it would take a stopped service for nothing special, but starts new ones.
                init.signal(Signal::SIGSTOP);
                signal_all(init, Signal::SIGSTOP)
            }
        }
    }

    /// Lets every process go on.
    pub(crate) fn thaw(&self, init: &ProcessId) -> Result<()> {
        match self {
            Self::Version2(path) => switch(&path.join(VERSION_2), "0"),
            Self::Version1(path) => switch(&path.join(VERSION_1), "THAWED"),
            Self::Signals => signal_all(init, Signal::SIGCONT),
        }
    }

    /// Removes the cgroup of a VM whose processes have been told to end, frozen or not.
    pub(crate) fn remove(self, init: Option<&ProcessId>) -> Result<()> {
        if let (Self::Version1(_), Some(init)) = (&self, init) {
            // Only a thawed process of version 1 notices that it has been killed.
            self.thaw(init)?;
        }
        let (Self::Version2(path) | Self::Version1(path)) = self else { return Ok(()) };
        // The kernel lets go of a cgroup a moment after its last process.
        wait_until("the end of the VM's processes", FREEZE_WITHIN, || fs::remove_dir(&path).is_ok() || !path.exists())?;
        // The sandbox's own cgroup goes with its last VM's.
        if let Some(parent) = path.parent() {
            let _ = fs::remove_dir(parent);
        }
        Ok(())
    }
}

const PROCESSES: &str = "cgroup.procs";
const VERSION_2: &str = "cgroup.freeze";
const VERSION_1: &str = "freezer.state";

#[derive(Clone, Copy)]
enum Kind {
    Version2,
    Version1,
}

impl Kind {
    fn switch(self) -> &'static str {
        match self {
            Self::Version2 => VERSION_2,
            Self::Version1 => VERSION_1,
        }
    }

    fn at(self, path: PathBuf) -> Freezer {
        match self {
            Self::Version2 => Freezer::Version2(path),
            Self::Version1 => Freezer::Version1(path),
        }
    }
}

fn switch(path: &Path, value: &str) -> Result<()> {
    fs::write(path, value).doing(|| format!("write {value} to {}", path.display()))
}

/// Where the cgroup of a VM may be on this machine, best first.
fn candidates(sandbox: &str, vm: &str) -> Vec<(Kind, PathBuf)> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut found: Vec<(Kind, PathBuf)> = Vec::new();
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, path, kind, options, ..] = fields[..] else { continue };
        let kind = match kind {
            "cgroup2" => Kind::Version2,
            "cgroup" if options.split(',').any(|option| option == "freezer") => Kind::Version1,
            _ => continue,
        };
        found.push((kind, Path::new(path).join(format!("cladnet-sandbox-{sandbox}")).join(vm)));
    }
    found.sort_by_key(|(kind, _)| matches!(kind, Kind::Version1));
    found
}

/// Signals every process of the PID namespace of `init`, until no new ones appear.
fn signal_all(init: &ProcessId, signal: Signal) -> Result<()> {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = namespace(&init.pid.to_string());
    let mut seen = std::collections::BTreeSet::new();
    loop {
        let before = seen.len();
        for entry in fs::read_dir("/proc").doing(|| "list processes".into())?.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Ok(pid) = name.parse::<i32>() else { continue };
            if namespace(&name) == own && seen.insert(pid) {
                // It may have ended meanwhile.
                let _ = nix::sys::signal::kill(Pid::from_raw(pid), signal);
            }
        }
        if seen.len() == before {
            return Ok(());
        }
    }
}
