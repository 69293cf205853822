//! `/run/cladnet-sandbox/<id>`: the record of a sandbox on disk, its lock, logs, sockets and the list of its processes.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Doing, Error, Result};
use crate::process::ProcessId;
use crate::state::State;

const ROOT: &str = "/run/cladnet-sandbox";

/// The directory of one sandbox.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    id: String,
    path: PathBuf,
}

/// Held while a record changes; released when dropped.
pub(crate) struct Lock(Flock<File>);

impl Directory {
    pub(crate) fn of(id: &str) -> Self {
        Self { id: id.to_owned(), path: Path::new(ROOT).join(id) }
    }

    /// The ids of all sandboxes, whole or not.
    pub(crate) fn all() -> Result<Vec<String>> {
        let entries = match fs::read_dir(ROOT) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).doing(|| format!("read {ROOT}")),
        };
        let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut ids: Vec<String> = directories.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        ids.sort();
        Ok(ids)
    }

    /// Makes the directory; it must not exist yet.
    pub(crate) fn create(&self) -> Result<()> {
        // Whoever destroys the last sandbox removes the root, under the same lock.
        let _root = Self::lock_root()?;
        match fs::create_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(Error::Exists(self.id.clone())),
            made => made.doing(|| format!("make {}", self.path.display()))?,
        }
        for part in ["log", "process", "vm"] {
            fs::create_dir(self.path.join(part)).doing(|| format!("make {}/{part}", self.path.display()))?;
        }
        Ok(())
    }

    pub(crate) fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Removes everything, and the root too when this was the last sandbox.
    pub(crate) fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).doing(|| format!("remove {}", self.path.display()));
            }
            _ => {}
        }
        let _root = Self::lock_root()?;
        // Fails while other sandboxes exist, which is right.
        if fs::read_dir(ROOT).is_ok_and(|entries| entries.flatten().all(|entry| entry.file_name() == "lock")) {
            let _ = fs::remove_file(Path::new(ROOT).join("lock"));
            let _ = fs::remove_dir(ROOT);
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn log(&self, process: &str) -> PathBuf {
        self.path.join("log").join(format!("{process}.log"))
    }

    pub(crate) fn wan_socket(&self) -> PathBuf {
        self.path.join("wan.sock")
    }

    pub(crate) fn vm(&self, name: &str) -> PathBuf {
        self.path.join("vm").join(name)
    }

    pub(crate) fn init_socket(&self, vm: &str) -> PathBuf {
        self.vm(vm).join("init.sock")
    }

    pub(crate) fn load(&self) -> Result<State> {
        if !self.exists() {
            return Err(Error::NoSandbox(self.id.clone()));
        }
        read(&self.path.join("state.json"))
    }

    pub(crate) fn save(&self, state: &State) -> Result<()> {
        write(&self.path.join("state.json"), state)
    }

    pub(crate) fn record_process(&self, name: &str, process: &ProcessId) -> Result<()> {
        write(&self.path.join("process").join(format!("{name}.json")), process)
    }

    pub(crate) fn process(&self, name: &str) -> Result<ProcessId> {
        read(&self.path.join("process").join(format!("{name}.json")))
    }

    pub(crate) fn forget_process(&self, name: &str) -> Result<()> {
        let path = self.path.join("process").join(format!("{name}.json"));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).doing(|| format!("remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Every process that ever belonged to the sandbox.
    pub(crate) fn processes(&self) -> Vec<ProcessId> {
        let entries = fs::read_dir(self.path.join("process")).into_iter().flatten().flatten();
        entries.filter_map(|entry| read(&entry.path()).ok()).collect()
    }

    /// Waits for its turn to change this sandbox.
    pub(crate) fn lock(&self) -> Result<Lock> {
        match lock(&self.path.join("lock")) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(Error::NoSandbox(self.id.clone()))
            }
            locked => locked,
        }
    }

    /// Waits for its turn to choose something that is unique on the whole machine.
    pub(crate) fn lock_root() -> Result<Lock> {
        let path = Path::new(ROOT).join("lock");
        loop {
            fs::create_dir_all(ROOT).doing(|| format!("make {ROOT}"))?;
            match lock(&path) {
                // The root was removed in between, or while this waited: the lock is nobody else's any more.
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Ok(lock) if !lock.is_at(&path) => {}
                locked => return locked,
            }
        }
    }
}

impl Lock {
    fn is_at(&self, path: &Path) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        fs::metadata(path).ok().map(identity) == self.0.metadata().ok().map(identity)
    }
}

fn lock(path: &Path) -> Result<Lock> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.doing(|| format!("open {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map(Lock)
        .map_err(|(_, errno)| errno)
        .doing(|| format!("lock {}", path.display()))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).doing(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).map_err(|source| Error::Record { path: path.to_owned(), source })
}

/// Replaces a record as a whole, so that readers see the old one or the new one.
fn write<T: Serialize>(path: &Path, record: &T) -> Result<()> {
    let text = serde_json::to_vec_pretty(record).map_err(|source| Error::Record { path: path.to_owned(), source })?;
    let temporary = path.with_extension("new");
    fs::write(&temporary, text).doing(|| format!("write {}", temporary.display()))?;
    fs::rename(&temporary, path).doing(|| format!("replace {}", path.display()))
}
