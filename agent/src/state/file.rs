//! One file of the state: a versioned, checksummed document that is replaced whole and whose former generation stays
//! beside it. A crash between any two system calls leaves the old or the new document, never a mix.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use tracing::warn;
use zeroize::Zeroizing;

/// A configuration of 1,000 peers is a megabyte; what is larger is not ours.
const MAX_LENGTH: u64 = 64 << 20;

/// What a file can hold.
pub(crate) trait Document: Serialize + DeserializeOwned {
    /// Tells one kind of file from another, and ours from others'.
    const FORMAT: &'static str;
    /// Grows when an older agent could not read it any more.
    const VERSION: u32;
}

/// Why state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("cannot {operation} {}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("state file {} {defect}, and there is no good generation of it before that", path.display())]
    Unusable { path: PathBuf, defect: Defect },
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Defect {
    #[error("is corrupt ({0})")]
    Corrupt(String),
    #[error("is not a file of cladnet-agent's ({0})")]
    Foreign(String),
    #[error("was written by a newer cladnet-agent (version {found} of the file, this one reads up to {known})")]
    Newer { found: u32, known: u32 },
    #[error("belongs to network {0}; somebody moved it")]
    Misplaced(String),
}

impl StateError {
    /// The name of the document that cannot be used; `None` if the disk is at fault.
    pub(crate) fn document(&self) -> Option<&str> {
        match self {
            Self::Unusable { path, .. } => path.file_stem()?.to_str(),
            Self::Io { .. } => None,
        }
    }

    pub(super) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { operation, path: path.to_owned(), source }
    }
}

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    format: String,
    version: u32,
    /// SHA-256 of `body` as it stands here, hex: a flipped bit in a key would pass every other check.
    sha256: String,
    #[serde(borrow)]
    body: &'a RawValue,
}

/// Replaces a file, keeping what was there as the former generation.
pub(super) fn save<D: Document>(path: &Path, document: &D) -> Result<(), StateError> {
    let text = Zeroizing::new(encode(document).map_err(|error| StateError::io("encode", path, error))?);
    let (new, former, linked) = (beside(path, "new"), beside(path, "former"), beside(path, "link"));
    let written = write(&new, text.as_bytes());
    let replaced = written.and_then(|()| {
        let _ = fs::remove_file(&linked);
        match fs::hard_link(path, &linked) {
            Ok(()) => fs::rename(&linked, &former)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        fs::rename(&new, path)
    });
    if let Err(source) = replaced {
        let _ = fs::remove_file(&new);
        return Err(StateError::io("save", path, source));
    }
    sync_directory(path.parent().unwrap_or(Path::new("/")))
}

/// The newest good generation of a file; `None` if there is no file.
///
/// A bad file before which there is a good generation is set aside as `<name>.bad`; one without is left for a person to
/// look at.
pub(super) fn load<D: Document>(path: &Path) -> Result<Option<D>, StateError> {
    let former = beside(path, "former");
    let defect = match read(path)? {
        Some(Ok(document)) => return Ok(Some(document)),
        Some(Err(defect)) => defect,
        None => return Ok(None),
    };
    match read(&former)? {
        Some(Ok(document)) => {
            warn!(file = %path.display(), %defect, "state file cannot be used; going on with the generation before it");
            let aside = beside(path, "bad");
            fs::rename(path, &aside).map_err(|source| StateError::io("set aside", path, source))?;
            fs::copy(&former, path).map_err(|source| StateError::io("restore", path, source))?;
            Ok(Some(document))
        }
        _ => Err(StateError::Unusable { path: path.to_owned(), defect }),
    }
}

/// A file as it was saved last, never a generation before that; `None` if there is no file.
pub(super) fn load_newest<D: Document>(path: &Path) -> Result<Option<D>, StateError> {
    let unusable = |defect| StateError::Unusable { path: path.to_owned(), defect };
    read(path)?.transpose().map_err(unusable)
}

/// Removes a file with its generations and leftovers: each may hold a key.
pub(super) fn remove(path: &Path) -> Result<(), StateError> {
    let others = ["former", "bad", "new", "link"].map(|suffix| beside(path, suffix));
    for path in others.into_iter().chain([path.to_owned()]) {
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(StateError::io("remove", &path, source));
            }
            _ => {}
        }
    }
    sync_directory(path.parent().unwrap_or(Path::new("/")))
}

/// Names of the documents of a directory, in order; generations and leftovers excluded.
pub(super) fn names(directory: &Path) -> Result<Vec<String>, StateError> {
    let entries = fs::read_dir(directory).map_err(|source| StateError::io("list", directory, source))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".json"))
        .collect();
    names.sort();
    Ok(names)
}

/// Makes renames and removals durable.
pub(super) fn sync_directory(directory: &Path) -> Result<(), StateError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| StateError::io("sync directory", directory, source))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn encode<D: Document>(document: &D) -> io::Result<String> {
    let body = serde_json::value::to_raw_value(document)?;
    let envelope = Envelope { format: D::FORMAT.into(), version: D::VERSION, sha256: checksum(&body), body: &body };
    Ok(serde_json::to_string(&envelope)?)
}

/// `Ok(None)` without a file; the inner error says what is wrong with its content.
fn read<D: Document>(path: &Path) -> Result<Option<Result<D, Defect>>, StateError> {
    let mut bytes = Zeroizing::new(Vec::new());
    match File::open(path) {
        Ok(file) => {
            file.take(MAX_LENGTH).read_to_end(&mut bytes).map_err(|source| StateError::io("read", path, source))?;
            Ok(Some(decode(&bytes)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateError::io("read", path, source)),
    }
}

fn decode<D: Document>(bytes: &[u8]) -> Result<D, Defect> {
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Defect::Foreign(error.to_string()),
        _ => Defect::Corrupt(error.to_string()),
    })?;
    if envelope.format != D::FORMAT {
        return Err(Defect::Foreign(format!("it says {:?}, not {:?}", envelope.format, D::FORMAT)));
    }
    if envelope.version > D::VERSION {
        return Err(Defect::Newer { found: envelope.version, known: D::VERSION });
    }
    if envelope.sha256 != checksum(envelope.body) {
        return Err(Defect::Corrupt("its checksum does not match".into()));
    }
    serde_json::from_str(envelope.body.get()).map_err(|error| Defect::Corrupt(error.to_string()))
}

fn checksum(body: &RawValue) -> String {
    HEXLOWER.encode(digest(&SHA256, body.get().as_bytes()).as_ref())
}
