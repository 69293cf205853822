//! Files that hold secrets or identity: small, read whole, and written for their owner only.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use zeroize::Zeroizing;

use crate::failure::Failure;

/// Reads a secret, without the white space around it.
pub(crate) fn read_secret(flag: &str, path: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = fs::read_to_string(path).map(Zeroizing::new).map_err(|error| Failure::unreadable(flag, path, &error))?;
    match text.trim() {
        "" => Err(Failure::configuration(format!("{flag}: {} is empty", path.display()))),
        secret => Ok(Zeroizing::new(secret.to_owned())),
    }
}

/// Writes a file of mode 0600 that must not exist yet: what is there may be the only copy of a key.
pub(crate) fn create_private(path: &Path, text: &str) -> Result<(), Failure> {
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::usage(format!("{} exists already; remove it or name another file", path.display()))
        }
        _ => Failure::failed(format!("cannot write {}: {error}", path.display())),
    })
}
