//! What the agent keeps on disk: who this host is, its memberships with their keys, and the last configuration it
//! applied. Files are replaced whole; the generation before is kept and used when the newest cannot be read.
//!
//! `identity.json`, `pending.json`, `metadata.json`, `tariffs.json`, `forwarding.json`, `networks/<network>.json`, `usage/<day>.json`, `lock`; directory 0700, files 0600.

mod file;
mod forwarding;
mod identity;
mod lock;
mod membership;
mod metadata;
mod secret;
mod tariffs;
mod usage;

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use cladnet_model::{NetworkId, tariff::Book};
use jiff::civil::Date;

pub(crate) use file::{Defect, StateError};
pub(crate) use identity::{Identity, Pending, PendingEnrolment};
pub(crate) use lock::{Lock, LockError};
pub(crate) use membership::MembershipRecord;

use crate::{facts::metadata::Instance, forwarding::TurnedOn, usage::Day};
use file::{Document, sync_directory};

const IDENTITY: &str = "identity.json";
const PENDING: &str = "pending.json";
const METADATA: &str = "metadata.json";
const TARIFFS: &str = "tariffs.json";
const FORWARDING: &str = "forwarding.json";
const NETWORKS: &str = "networks";
const USAGE: &str = "usage";

/// The state directory, made if it was missing. Whoever holds it holds the [`Lock`] too.
#[derive(Debug, Clone)]
pub(crate) struct StateDir {
    path: PathBuf,
}

/// Memberships that were read, and what could not be.
#[derive(Debug, Default)]
pub(crate) struct Memberships {
    pub records: Vec<MembershipRecord>,
    pub errors: Vec<StateError>,
}

impl StateDir {
    /// Makes the directories, closed to everyone but their owner.
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        for directory in [path.to_owned(), path.join(NETWORKS), path.join(USAGE)] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&directory)
                .and_then(|()| fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)))
                .map_err(|source| StateError::io("create directory", &directory, source))?;
        }
        Ok(Self { path: path.to_owned() })
    }

    /// Takes the lock of this directory, or tells whose it is.
    pub(crate) fn lock(&self) -> Result<Lock, LockError> {
        Lock::take(&self.path.join("lock"))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn identity(&self) -> Result<Option<Identity>, StateError> {
        file::load(&self.path.join(IDENTITY))
    }

    pub(crate) fn save_identity(&self, identity: &Identity) -> Result<(), StateError> {
        self.save(IDENTITY, identity)
    }

    /// An enrolment or join whose answer was never seen.
    pub(crate) fn pending(&self) -> Result<Option<Pending>, StateError> {
        file::load(&self.path.join(PENDING))
    }

    pub(crate) fn save_pending(&self, pending: &Pending) -> Result<(), StateError> {
        self.save(PENDING, pending)
    }

    pub(crate) fn forget_pending(&self) -> Result<(), StateError> {
        file::remove(&self.path.join(PENDING))
    }

    /// What the metadata service said of this machine before a restart; nothing, if that was another machine.
    pub(crate) fn metadata(&self, machine_id: &str) -> Result<Option<Instance>, StateError> {
        let found: Option<metadata::Remembered> = file::load(&self.path.join(METADATA))?;
        Ok(found.filter(|found| found.machine_id == machine_id).map(|found| found.instance))
    }

    pub(crate) fn save_metadata(&self, machine_id: &str, instance: &Instance) -> Result<(), StateError> {
        self.save(METADATA, &metadata::Remembered { machine_id: machine_id.to_owned(), instance: instance.clone() })
    }

    /// The last book of prices that the service sent.
    pub(crate) fn tariff_book(&self) -> Result<Option<Book>, StateError> {
        let found: Option<tariffs::SavedBook> = file::load(&self.path.join(TARIFFS))?;
        Ok(found.map(Book::from))
    }

    pub(crate) fn save_tariff_book(&self, book: &Book) -> Result<(), StateError> {
        self.save(TARIFFS, &tariffs::SavedBook::from(book))
    }

    /// Where the agent turned forwarding on.
    pub(crate) fn forwarding(&self) -> Result<Option<TurnedOn>, StateError> {
        file::load_newest(&self.path.join(FORWARDING))
    }

    pub(crate) fn save_forwarding(&self, turned_on: &TurnedOn) -> Result<(), StateError> {
        self.save(FORWARDING, turned_on)
    }

    /// Every membership that can be read; one bad file never hides the others.
    pub(crate) fn memberships(&self) -> Result<Memberships, StateError> {
        let directory = self.path.join(NETWORKS);
        let mut found = Memberships::default();
        for name in file::names(&directory)? {
            match file::load::<MembershipRecord>(&directory.join(&name)) {
                Ok(Some(record)) if name == file_name(&record.network) => found.records.push(record),
                Ok(Some(record)) => {
                    let path = directory.join(&name);
                    found
                        .errors
                        .push(StateError::Unusable { path, defect: Defect::Misplaced(record.network.to_string()) });
                }
                Ok(None) => {}
                Err(error) => found.errors.push(error),
            }
        }
        Ok(found)
    }

    pub(crate) fn save_membership(&self, record: &MembershipRecord) -> Result<(), StateError> {
        self.save(&format!("{NETWORKS}/{}", file_name(&record.network)), record)
    }

    pub(crate) fn forget_membership(&self, network: &NetworkId) -> Result<(), StateError> {
        file::remove(&self.path.join(NETWORKS).join(file_name(network)))
    }

    /// The days of which something waits to be counted, and what could not be read of them.
    pub(crate) fn usage(&self) -> Result<(Vec<Day>, Vec<StateError>), StateError> {
        let directory = self.path.join(USAGE);
        let (mut days, mut errors) = (Vec::new(), Vec::new());
        for name in file::names(&directory)? {
            match file::load_newest::<Day>(&directory.join(&name)) {
                Ok(day) => days.extend(day.filter(|day| name == usage_name(day.day))),
                Err(error) => errors.push(error),
            }
        }
        Ok((days, errors))
    }

    pub(crate) fn save_usage(&self, day: &Day) -> Result<(), StateError> {
        self.save(&format!("{USAGE}/{}", usage_name(day.day)), day)
    }

    pub(crate) fn forget_usage(&self, day: Date) -> Result<(), StateError> {
        file::remove(&self.path.join(USAGE).join(usage_name(day)))
    }

    /// Forgets who this host was: every file but the lock, whatever its condition.
    pub(crate) fn forget_all(&self) -> Result<(), StateError> {
        for directory in [self.path.join(NETWORKS), self.path.join(USAGE), self.path.clone()] {
            let entries = fs::read_dir(&directory).map_err(|source| StateError::io("list", &directory, source))?;
            for entry in entries.filter_map(Result::ok) {
                let path = entry.path();
                if path.is_file() && entry.file_name() != "lock" {
                    match fs::remove_file(&path) {
                        Err(source) if source.kind() != io::ErrorKind::NotFound => {
                            return Err(StateError::io("remove", &path, source));
                        }
                        _ => {}
                    }
                }
            }
            sync_directory(&directory)?;
        }
        Ok(())
    }

    fn save<D: Document>(&self, name: &str, document: &D) -> Result<(), StateError> {
        file::save(&self.path.join(name), document)
    }
}

fn file_name(network: &NetworkId) -> String {
    format!("{network}.json")
}

fn usage_name(day: Date) -> String {
    format!("{day}.json")
}

#[cfg(test)]
mod tests;
