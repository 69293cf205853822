//! The first start of an installation: authority, epoch and first API key come into being in one transaction, so that
//! replicas that start together agree and only one of them tells the key.

use std::{
    error::Error,
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use cladnet_model::{ApiKey, ApiKeyText, Cluster, KeyId, Role, Secret};
use cladnet_pki::Authority;
use cladnet_store::{Key, Sealed, Store, StoreError, key};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use tracing::warn;
use zeroize::Zeroizing;

/// Before a store that does not answer is asked again.
const PAUSE: Duration = Duration::from_secs(1);

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
    let made = loop {
        let made = store
            .transaction()
            .absent(&key::cluster())
            .absent(&authority_key())
            .put(&key::cluster(), &cluster)
            .put_sealed(&authority_key(), &pem)
            .put(&key::api_key(text.id()), &record)
            .commit()
            .await;
        match made {
            // The same transaction once more: it makes nothing twice, and its answer says what became of the first.
            Err(StoreError::OutcomeUnknown { reason }) => match settle(store, text.id(), &reason).await? {
                Settled::Made => break Ok(()),
                Settled::ByAnother => break Err(StoreError::Conflict { key: key::cluster().to_string() }),
                Settled::NotYet => {}
            },
            made => break made.map(drop),
        }
    };
    if let (Err(_), Some(path)) = (&made, key_file) {
        // The key in it opens nothing. A file that cannot be removed does no harm either.
        let _ = std::fs::remove_file(path);
    }
    match made {
        Ok(()) => Ok(Installation { authority, epoch: cluster.epoch, first_key: Some(text) }),
        // Another replica was faster.
        Err(StoreError::Conflict { .. }) => find(store).await?.ok_or(BootstrapError::NoAuthority),
        Err(error) => Err(error.into()),
    }
}

/// What became of a first start whose answer was lost.
enum Settled {
    /// The installation is ours, and so is its first key.
    Made,
    ByAnother,
    /// There is none.
    NotYet,
}

/// Reads back whether our key is there. Asks for as long as it takes: the key is nowhere else, so giving up might lose the
/// only one of an installation, and telling it might tell one that opens nothing.
async fn settle(store: &Store, key: &KeyId, reason: &str) -> Result<Settled, StoreError> {
    warn!(reason, "no answer to the first start's write; finding out whether it happened");
    loop {
        match read_back(store, key).await {
            Err(error) if error.is_transient() => {
                warn!(error = &error as &dyn Error, "whether this start made the installation is still unknown");
                sleep(PAUSE).await;
            }
            settled => return settled,
        }
    }
}

async fn read_back(store: &Store, key: &KeyId) -> Result<Settled, StoreError> {
    if store.get(&key::api_key(key)).await?.is_some() {
        return Ok(Settled::Made);
    }
    Ok(if store.get(&key::cluster()).await?.is_some() { Settled::ByAnother } else { Settled::NotYet })
}

fn write_key(path: &Path, key: &ApiKeyText) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{key}")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::testing::Etcd;

    #[tokio::test]
    async fn a_first_key_is_told_although_the_answer_to_its_write_was_lost() {
        let etcd = Etcd::start().await;
        let proxy = etcd.proxy().await;
        let house = proxy.house().await;
        // Of all that is asked here, only the transaction names it.
        proxy.lose_answers_to(key::secret("certificate-authority").path());
        let made = installation(&house.store, None, Timestamp::now()).await.expect("an installation");
        let told = made.first_key.expect("this start made it");
        let straight = etcd.house().await.store;
        let record = straight.get(&key::api_key(told.id())).await.expect("reads").expect("the key is there").value;
        assert!(record.admits(&told, Timestamp::now()));
        let found = installation(&straight, None, Timestamp::now()).await.expect("is found");
        assert_eq!((found.epoch, found.first_key.is_some()), (made.epoch, false));
    }
}
