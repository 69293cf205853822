//! Sealed secrets: XChaCha20-Poly1305 under a key that lives in a file beside the store, never in it. A secret is bound
//! to the path it was sealed for, so that whoever can write the store cannot pass one secret off as another.

use std::{
    fmt,
    fs::OpenOptions,
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce, aead::Aead as _, aead::Payload};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

use crate::{Key, StoreError};

/// The key that opens the secrets of a store. In its file: 32 bytes as one line of base64.
#[derive(Clone, ZeroizeOnDrop)]
pub struct SealingKey([u8; 32]);

/// A sealed secret as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Tells which sealing key it was, so that a wrong key is not mistaken for damage.
    key_id: String,
    nonce: String,
    ciphertext: String,
}

/// Why a secret could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("cannot be used without a sealing key: give its file with --secret-key-file")]
    NoKey,
    #[error("was sealed with key {sealed}, but --secret-key-file holds key {given}: give the file it was sealed with")]
    WrongKey { sealed: String, given: String },
    #[error("is damaged, or was moved here from another key")]
    Damaged,
}

impl SealingKey {
    /// A fresh key.
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// Reads the key from its file.
    pub fn load(path: &Path) -> Result<Self, StoreError> {
        let file = |source| StoreError::File { operation: "read the sealing key", path: path.to_owned(), source };
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(file)?);
        let unusable = || StoreError::Options {
            option: "--secret-key-file",
            reason: format!("{} is no sealing key: it must hold 32 bytes in base64, 44 characters", path.display()),
        };
        let mut bytes = BASE64_STANDARD.decode(text.trim()).map_err(|_| unusable())?;
        let key = <[u8; 32]>::try_from(bytes.as_slice()).map(Self).map_err(|_| unusable());
        bytes.zeroize();
        key
    }

    /// Writes a fresh key to a file that must not exist yet, readable by its owner only.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        let file = |source| StoreError::File { operation: "write the sealing key", path: path.to_owned(), source };
        let key = Self::generate();
        let text = Zeroizing::new(format!("{}\n", BASE64_STANDARD.encode(key.0)));
        let mut created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(file)?;
        created.write_all(text.as_bytes()).and_then(|()| created.sync_all()).map_err(file)?;
        Ok(key)
    }

    /// Reads the key, or makes it when `or_create` allows that and there is none.
    pub(crate) fn load_or_create(path: &Path, or_create: FirstStart) -> Result<Self, StoreError> {
        match Self::load(path) {
            Err(StoreError::File { source, .. })
                if source.kind() == ErrorKind::NotFound && or_create == FirstStart::Yes =>
            {
                Self::create(path)
            }
            outcome => outcome,
        }
    }

    /// Short public name of the key: part of a hash of it.
    pub fn id(&self) -> String {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        context.update(b"cladnet sealing key id v1");
        context.update(&self.0);
        context.finish().as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&self.0).into())
    }
}

/// Whether a data directory is new, so that a missing key is no loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstStart {
    Yes,
    No,
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({})", self.id())
    }
}

pub(crate) fn seal(with: Option<&SealingKey>, key: &Key<Sealed>, secret: &[u8]) -> Result<Sealed, StoreError> {
    let failed = |source| StoreError::Seal { key: key.path().to_owned(), source };
    let with = with.ok_or_else(|| failed(SealError::NoKey))?;
    let nonce: [u8; 24] = rand::random();
    let payload = Payload { msg: secret, aad: key.path().as_bytes() };
    let ciphertext =
        with.cipher().encrypt(XNonce::from_slice(&nonce), payload).map_err(|_| failed(SealError::Damaged))?;
    Ok(Sealed {
        key_id: with.id(),
        nonce: BASE64_STANDARD.encode(nonce),
        ciphertext: BASE64_STANDARD.encode(ciphertext),
    })
}

pub(crate) fn open(
    with: Option<&SealingKey>,
    key: &Key<Sealed>,
    sealed: &Sealed,
) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let failed = |source| StoreError::Seal { key: key.path().to_owned(), source };
    let with = with.ok_or_else(|| failed(SealError::NoKey))?;
    if with.id() != sealed.key_id {
        return Err(failed(SealError::WrongKey { sealed: sealed.key_id.clone(), given: with.id() }));
    }
    let decode = |text: &str| BASE64_STANDARD.decode(text).map_err(|_| failed(SealError::Damaged));
    let nonce: [u8; 24] = decode(&sealed.nonce)?.try_into().map_err(|_| failed(SealError::Damaged))?;
    let ciphertext = decode(&sealed.ciphertext)?;
    let payload = Payload { msg: &ciphertext, aad: key.path().as_bytes() };
    with.cipher()
        .decrypt(XNonce::from_slice(&nonce), payload)
        .map(Zeroizing::new)
        .map_err(|_| failed(SealError::Damaged))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::key;

    fn reason(result: Result<Zeroizing<Vec<u8>>, StoreError>) -> SealError {
        match result {
            Err(StoreError::Seal { source, .. }) => source,
            other => panic!("expected a sealing error, got {other:?}"),
        }
    }

    #[test]
    fn a_secret_opens_only_with_its_key_at_its_path() {
        let (ours, theirs) = (SealingKey::generate(), SealingKey::generate());
        let sealed = seal(Some(&ours), &key::secret("ca"), b"top secret").unwrap();
        assert_eq!(open(Some(&ours), &key::secret("ca"), &sealed).unwrap().as_slice(), b"top secret");
        assert!(matches!(reason(open(Some(&theirs), &key::secret("ca"), &sealed)), SealError::WrongKey { .. }));
        assert_eq!(reason(open(Some(&ours), &key::secret("other"), &sealed)), SealError::Damaged);
        assert_eq!(reason(open(None, &key::secret("ca"), &sealed)), SealError::NoKey);
    }

    #[test]
    fn a_changed_ciphertext_is_damage() {
        let ours = SealingKey::generate();
        let mut sealed = seal(Some(&ours), &key::secret("ca"), b"top secret").unwrap();
        sealed.ciphertext = BASE64_STANDARD.encode([0; 40]);
        assert_eq!(reason(open(Some(&ours), &key::secret("ca"), &sealed)), SealError::Damaged);
    }

    #[test]
    fn the_key_file_is_private_and_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret.key");
        let made = SealingKey::create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SealingKey::load(&path).unwrap().id(), made.id());
        assert!(SealingKey::create(&path).is_err());
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret.key");
        std::fs::write(&path, "hello").unwrap();
        let error = SealingKey::load(&path).unwrap_err().to_string();
        assert!(error.contains("secret.key") && error.contains("32 bytes in base64"), "{error}");
    }

    #[test]
    fn debug_output_does_not_show_the_key() {
        let key = SealingKey([7; 32]);
        assert!(!format!("{key:?}").contains("7, 7"));
    }
}
