//! The first start of an installation: authority, epoch and first API key come into being in one transaction, so that
//! replicas that start together agree and only one of them tells the key.

use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use cladnet_model::{ApiKey, ApiKeyText, Cluster, Role, Secret};
use cladnet_pki::Authority;
use cladnet_store::{Key, Sealed, Store, StoreError, key};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// What an installation is known by.
pub(crate) struct Installation {
    pub(crate) authority: Authority,
    pub(crate) epoch: String,
    /// Set on the one replica that made the installation, and only on this start.
    pub(crate) first_key: Option<ApiKeyText>,
}

/// Why an installation cannot be made or found.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    #[error("read or make the installation's records")]
    Store(#[from] StoreError),
    #[error("the installation's certificate authority")]
    Authority(#[from] cladnet_pki::Error),
    #[error("the store has a cluster record but no certificate authority; restore the store from a backup")]
    NoAuthority,
    #[error("the stored certificate authority is damaged; restore the store from a backup")]
    Damaged(#[source] serde_json::Error),
    #[error("write the first API key to {}; give a path that does not exist yet", path.display())]
    KeyFile {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// The authority as it is sealed in the store.
#[derive(Serialize, Deserialize)]
struct SealedAuthority {
    certificate_pem: String,
    key_pem: Zeroizing<String>,
}

fn authority_key() -> Key<Sealed> {
    key::secret("certificate-authority")
}

/// Finds the installation in the store, or makes it. The first key goes to `key_file`, if one is given, before anything
/// is written to the store: a crash in between costs a file, not the only key.
pub(crate) async fn installation(
    store: &Store,
    key_file: Option<&Path>,
    now: Timestamp,
) -> Result<Installation, BootstrapError> {
    match find(store).await? {
        Some(found) => Ok(found),
        None => make(store, key_file, now).await,
    }
}

async fn find(store: &Store) -> Result<Option<Installation>, BootstrapError> {
    let Some(cluster) = store.get(&key::cluster()).await? else { return Ok(None) };
    let sealed = store.get_sealed(&authority_key()).await?.ok_or(BootstrapError::NoAuthority)?;
    let pem: SealedAuthority = serde_json::from_slice(&sealed).map_err(BootstrapError::Damaged)?;
    let authority = Authority::from_pem(&pem.certificate_pem, &pem.key_pem)?;
    Ok(Some(Installation { authority, epoch: cluster.value.epoch, first_key: None }))
}

async fn make(store: &Store, key_file: Option<&Path>, now: Timestamp) -> Result<Installation, BootstrapError> {
    let authority = Authority::create(now)?;
    let cluster = Cluster { epoch: format!("{:016x}", rand::random::<u64>()), created_at: now };
    let text = ApiKeyText::new(rand::random(), Secret::new(rand::random()));
    let record = ApiKey {
        id: text.id().clone(),
        name: "first".to_owned(),
        role: Role::Admin,
        secret_hash: text.secret_hash(),
        created_at: now,
        expires_at: None,
    };
    let pem = SealedAuthority { certificate_pem: authority.certificate_pem().to_owned(), key_pem: authority.key_pem() };
    let pem = Zeroizing::new(serde_json::to_vec(&pem).map_err(BootstrapError::Damaged)?);
    if let Some(path) = key_file {
        write_key(path, &text).map_err(|source| BootstrapError::KeyFile { path: path.to_owned(), source })?;
    }
    let made = store
        .transaction()
        .absent(&key::cluster())
        .absent(&authority_key())
        .put(&key::cluster(), &cluster)
        .put_sealed(&authority_key(), &pem)
        .put(&key::api_key(text.id()), &record)
        .commit()
        .await;
    if let (Err(error), Some(path)) = (&made, key_file)
        && !matches!(error, StoreError::OutcomeUnknown { .. })
    {
        // The key in it opens nothing. A file that cannot be removed does no harm either.
        let _ = std::fs::remove_file(path);
    }
    match made {
        Ok(_) => Ok(Installation { authority, epoch: cluster.epoch, first_key: Some(text) }),
        // Another replica was faster.
        Err(StoreError::Conflict { .. }) => find(store).await?.ok_or(BootstrapError::NoAuthority),
        Err(error) => Err(error.into()),
    }
}

fn write_key(path: &Path, key: &ApiKeyText) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{key}")?;
    file.sync_all()
}
