//! One agent per state directory: an advisory lock that ends with the process, and the process id of its holder for
//! people.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

/// Held while the agent lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Flock<File>,
}

/// Why the lock was not given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error("another cladnet-agent (pid {pid}) uses {}; one agent serves every network of a host", directory.display())]
    Held { pid: String, directory: PathBuf },
    #[error("cannot lock {}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl Lock {
    pub(super) fn take(path: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io { path: path.to_owned(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(io)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                let mut write = || {
                    file.set_len(0)?;
                    file.rewind()?;
                    writeln!(file, "{}", std::process::id())
                };
                match write() {
                    // The lock counts, not the text: a full disk must not stop the agent.
                    Err(error) if error.kind() != io::ErrorKind::StorageFull => Err(io(error)),
                    _ => Ok(Self { _file: file }),
                }
            }
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                let _ = (&mut file).take(32).read_to_string(&mut pid);
                let directory = path.parent().unwrap_or(path).to_owned();
                Err(LockError::Held { pid: pid.trim().to_owned(), directory })
            }
            Err((_, error)) => Err(io(error.into())),
        }
    }
}
