//! The first API key on its way to whoever started the installation, and the file that holds it meanwhile.

use std::{
    fs::OpenOptions,
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use cladnet_model::{ApiKeyText, Secret};
use nix::{
    libc::{O_NOFOLLOW, O_NONBLOCK},
    unistd::geteuid,
};
use zeroize::Zeroizing;

use super::BootstrapError;

/// More than the text of any key.
const LIMIT: u64 = 1_024;

/// The key of an installation that is about to be made.
pub(super) struct FirstKey {
    pub(super) text: ApiKeyText,
    /// Whether an earlier start has made it.
    pub(super) left: bool,
}

impl FirstKey {
    /// A new key, in `file` if there is one; or the key that a start which was interrupted has left there.
    pub(super) fn keep(file: Option<&Path>) -> Result<Self, BootstrapError> {
        let text = ApiKeyText::new(rand::random(), Secret::new(rand::random()));
        let Some(path) = file else { return Ok(Self { text, left: false }) };
        match write(path, &text) {
            Ok(()) => Ok(Self { text, left: false }),
            Err(source) => match left(path).filter(|_| source.kind() == io::ErrorKind::AlreadyExists) {
                Some(text) => Ok(Self { text, left: true }),
                None => Err(BootstrapError::KeyFile { path: path.to_owned(), source }),
            },
        }
    }
}

fn write(path: &Path, key: &ApiKeyText) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{key}")?;
    file.sync_all()
}

/// The key in a file that nobody but us can have written or read.
fn left(path: &Path) -> Option<ApiKeyText> {
    let file = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o077 != 0 {
        return None;
    }
    let mut text = Zeroizing::new(String::new());
    file.take(LIMIT).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
