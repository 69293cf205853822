//! The data directory: its lock, its file, and what the file's errors mean to a person.

use std::{
    error::Error,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use redb::Database;
use tracing::warn;

use super::{probe, tables};
use crate::StoreError;

/// A data directory that this process has locked. The kernel frees the lock when the process ends, however it does.
pub(super) struct Directory {
    path: PathBuf,
    lock: Mutex<Option<File>>,
}

impl Directory {
    /// Makes the directory if need be and locks it.
    pub(super) fn lock(path: &Path) -> Result<Self, StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("make data directory", path))?;
        let lock_file = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_file)
            .map_err(failed("open", &lock_file))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(path, &mut lock)),
            Err(TryLockError::Error(error)) => return Err(failed("lock", &lock_file)(error)),
        }
        let write_pid = |lock: &mut File| {
            lock.set_len(0)?;
            lock.rewind()?;
            writeln!(lock, "{}", std::process::id())
        };
        write_pid(&mut lock).map_err(failed("write", &lock_file))?;
        Ok(Self { path: path.to_owned(), lock: Mutex::new(Some(lock)) })
    }

    /// Lets another process have the directory. Closing the file alone would not: a child that is just being started holds
    /// a copy of it until it runs its own program, and the lock lasts as long as the last copy.
    pub(super) fn unlock(&self) {
        let Some(lock) = self.lock.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        if let Err(error) = lock.unlock() {
            warn!(error = &error as &dyn Error, directory = %self.path.display(), "cannot unlock the data directory");
        }
    }

    pub(super) fn database_file(&self) -> PathBuf {
        self.path.join("store.redb")
    }

    pub(super) fn default_key_file(&self) -> PathBuf {
        self.path.join("secret.key")
    }

    /// Opens the database, or makes it. A file that is not a sound store is found out before a byte of it is changed.
    pub(super) fn open_database(&self) -> Result<Database, StoreError> {
        let file = self.database_file();
        if file.exists() {
            probe::check(&file)?;
        } else {
            self.make_database(&file)?;
        }
        self.reopen_database()
    }

    /// Opens a database that was sound when it was last opened.
    pub(super) fn reopen_database(&self) -> Result<Database, StoreError> {
        Database::open(self.database_file()).map_err(|error| self.explain(error.into()))
    }

    /// A half-made file never has the real name.
    fn make_database(&self, file: &Path) -> Result<(), StoreError> {
        let unfinished = self.path.join("store.redb.new");
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("remove", &unfinished)(error)),
            _ => {}
        }
        let private = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&unfinished);
        let private = private.map_err(failed("create", &unfinished))?;
        let explain = |error: redb::Error| self.explain(error);
        let database = redb::Builder::new().create_file(private).map_err(|error| explain(error.into()))?;
        tables::create(&database).map_err(explain)?;
        drop(database);
        fs::rename(&unfinished, file).map_err(failed("rename", &unfinished))?;
        File::open(&self.path).and_then(|directory| directory.sync_all()).map_err(failed("sync", &self.path))
    }

    /// Turns the database's error into what its operator has to know.
    pub(super) fn explain(&self, error: redb::Error) -> StoreError {
        let path = self.database_file();
        match error {
            redb::Error::Io(error) if is_full(&error) => {
                StoreError::Full { reason: format!("no room for {}: {error}", path.display()) }
            }
            redb::Error::Io(error) => failed("use", &path)(error),
            redb::Error::PreviousIo => StoreError::Unavailable {
                operation: "use the data directory",
                reason: "the file is being opened again after an error".to_owned(),
            },
            redb::Error::DatabaseClosed => StoreError::Closed,
            other => StoreError::Unusable { path, reason: other.to_string() },
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.unlock();
    }
}

fn in_use(path: &Path, lock: &mut File) -> StoreError {
    let mut pid = String::new();
    let known = lock.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
    let pid = if known { pid.trim().to_owned() } else { "unknown".to_owned() };
    StoreError::InUse { directory: path.to_owned(), pid }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

pub(super) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::File { operation, path, source }
}

/// Whether an error of the database is the disk's, so that opening the file again may help.
pub(super) fn is_io(error: &redb::Error) -> bool {
    matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_free_although_a_child_still_holds_a_copy_of_its_lock() {
        let path = tempfile::tempdir().expect("a directory");
        let directory = Directory::lock(path.path()).expect("nobody has it");
        let copy = directory.lock.lock().unwrap().as_ref().expect("it is locked").try_clone().expect("a copy");
        assert!(matches!(Directory::lock(path.path()), Err(StoreError::InUse { .. })));
        directory.unlock();
        drop(Directory::lock(path.path()).expect("it was let go"));
        drop(copy);
    }
}
