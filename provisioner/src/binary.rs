//! The agents at hand: `cladnet-agent` for this machine's own architecture, `cladnet-agent-<arch>` for the others, in one
//! directory.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use cladnet_model::deployment::FailureReason;
use data_encoding::HEXLOWER;
use ring::digest::{Context, SHA256};
use semver::Version;
use tokio::{fs::File, io::AsyncReadExt as _, process::Command, time::timeout};

use crate::{
    failed::Failed,
    steps::{inspect, plan::Release},
};

/// A program that is loaded from a slow disk says its version within this.
const ANSWER: Duration = Duration::from_secs(10);

/// Agents by architecture; what was read once is not read again until the file changes.
pub(crate) struct Binaries {
    directory: PathBuf,
    known: Mutex<BTreeMap<PathBuf, Arc<Known>>>,
}

/// A program, as it was when it was read.
#[derive(Debug)]
struct Known {
    bytes: u64,
    modified: Option<SystemTime>,
    sha256: String,
    /// What it says of itself, if it runs here.
    version: Option<Version>,
}

/// An agent to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binary {
    pub path: PathBuf,
    pub release: Release,
}

impl Binaries {
    /// In `directory`; without one beside the running program.
    pub(crate) fn new(directory: Option<PathBuf>) -> io::Result<Self> {
        let directory = match directory {
            Some(directory) => directory,
            None => std::env::current_exe()?.parent().unwrap_or(Path::new("/")).to_owned(),
        };
        Ok(Self { directory, known: Mutex::default() })
    }

    /// The agent for an architecture as `uname -m` names it; none if there is none.
    pub(crate) async fn find(&self, arch: &str) -> Result<Option<Binary>, Failed> {
        // It becomes part of a file's name.
        if arch.is_empty() || !arch.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Ok(None);
        }
        let mut names = vec![format!("cladnet-agent-{arch}")];
        if arch == std::env::consts::ARCH {
            names.push("cladnet-agent".to_owned());
        }
        for name in names {
            let path = self.directory.join(name);
            match self.read(&path).await {
                Ok(known) => {
                    let version = known.version.clone().unwrap_or_else(ours);
                    let release = Release { version, sha256: known.sha256.clone(), bytes: known.bytes };
                    return Ok(Some(Binary { path, release }));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let detail = format!("the agent {} cannot be read: {error}", path.display());
                    return Err(Failed::new(FailureReason::NoAgentBinary, detail));
                }
            }
        }
        Ok(None)
    }

    async fn read(&self, path: &Path) -> io::Result<Arc<Known>> {
        let mut file = File::open(path).await?;
        let metadata = file.metadata().await?;
        let (bytes, modified) = (metadata.len(), metadata.modified().ok());
        let found = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        if let Some(known) = found.filter(|known| known.bytes == bytes && known.modified == modified) {
            return Ok(known);
        }
        let known = Known { bytes, modified, sha256: sha256(&mut file).await?, version: version(path).await };
        let known = Arc::new(known);
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), known.clone());
        Ok(known)
    }
}

/// An agent of another architecture does not run here; it is taken for one of this release.
fn ours() -> Version {
    Version::parse(env!("CARGO_PKG_VERSION")).expect("cargo checks versions")
}

/// Whoever put the program there lets it run as root on every machine.
async fn version(path: &Path) -> Option<Version> {
    let mut asked = Command::new(path);
    asked.arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let said = timeout(ANSWER, asked.output()).await.ok()?.ok()?;
    inspect::version(&String::from_utf8_lossy(&said.stdout))
}

async fn sha256(file: &mut File) -> io::Result<String> {
    let mut hash = Context::new(&SHA256);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer).await? {
            0 => return Ok(HEXLOWER.encode(hash.finish().as_ref())),
            read => hash.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_agent_of_an_architecture_is_found_by_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let own = std::env::consts::ARCH;
        std::fs::write(directory.path().join("cladnet-agent"), "own").unwrap();
        std::fs::write(directory.path().join("cladnet-agent-other"), "other").unwrap();
        let binaries = Binaries::new(Some(directory.path().into())).unwrap();
        let found = binaries.find(own).await.unwrap().unwrap();
        assert_eq!((found.path.file_name().unwrap().to_str().unwrap(), found.release.bytes), ("cladnet-agent", 3));
        let other = binaries.find("other").await.unwrap().unwrap();
        assert_eq!(other.release.sha256, "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa");
        for none in ["riscv64", "", "../cladnet-agent", "x/y"] {
            assert_eq!(binaries.find(none).await, Ok(None), "{none}");
        }
        std::fs::write(directory.path().join("cladnet-agent-other"), "another").unwrap();
        assert_ne!(binaries.find("other").await.unwrap().unwrap().release, other.release, "a new file is read again");
    }

    #[tokio::test]
    async fn the_version_is_the_programs_own_where_it_runs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cladnet-agent");
        // Written by another process: a file that this one had open while it started a third would be busy.
        let write = "printf '#!/bin/sh\necho cladnet-agent 9.8.7\n' > \"$0\" && chmod +x \"$0\"";
        assert!(std::process::Command::new("sh").arg("-c").arg(write).arg(&path).status().unwrap().success());
        std::fs::write(directory.path().join("cladnet-agent-other"), "\x7fELF").unwrap();
        let binaries = Binaries::new(Some(directory.path().into())).unwrap();
        let found = binaries.find(std::env::consts::ARCH).await.unwrap().unwrap();
        assert_eq!(found.release.version, Version::new(9, 8, 7));
        assert_eq!(binaries.find("other").await.unwrap().unwrap().release.version, ours());
    }
}
