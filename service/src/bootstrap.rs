//! The first start of an installation: authority, epoch and first API key come into being in one transaction, so that
//! replicas that start together agree and only one of them tells the key.

mod first_key;

use std::{
    error::Error,
    path::{Path, PathBuf},
    time::Duration,
};

use cladnet_model::{ApiKey, ApiKeyText, Cluster, KeyId, Role};
use cladnet_pki::Authority;
use cladnet_store::{Key, Revision, Sealed, Store, StoreError, key};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use tracing::{debug, warn};
use zeroize::Zeroizing;

use self::first_key::FirstKey;

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
/// is written to the store: after a crash in between, the next start goes on with the key that it finds there.
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

async fn stored(store: &Store) -> Result<Installation, BootstrapError> {
    find(store).await?.ok_or(BootstrapError::NoAuthority)
}

async fn make(store: &Store, key_file: Option<&Path>, now: Timestamp) -> Result<Installation, BootstrapError> {
    let authority = Authority::create(now)?;
    let cluster = Cluster { epoch: format!("{:016x}", rand::random::<u64>()), created_at: now };
    let pem = SealedAuthority { certificate_pem: authority.certificate_pem().to_owned(), key_pem: authority.key_pem() };
    let pem = Zeroizing::new(serde_json::to_vec(&pem).map_err(BootstrapError::Damaged)?);
    let FirstKey { text, left } = FirstKey::keep(key_file)?;
    let record = ApiKey {
        id: text.id().clone(),
        name: "first".to_owned(),
        role: Role::Admin,
        secret_hash: text.secret_hash(),
        created_at: now,
        expires_at: None,
    };
    let commit = async || {
        store
            .transaction()
            .absent(&key::cluster())
            .absent(&authority_key())
            .put(&key::cluster(), &cluster)
            .put_sealed(&authority_key(), &pem)
            .put(&key::api_key(text.id()), &record)
            .commit()
            .await
    };
    let made = settled(store, text.id(), commit).await;
    if let (Err(Unmade::Surely(_)) | Ok(Settled::ByAnother), Some(path)) = (&made, key_file.filter(|_| !left)) {
        // The key in it opens nothing. A file that cannot be removed does no harm either.
        let _ = std::fs::remove_file(path);
    }
    let made = made.map_err(|(Unmade::Surely(error) | Unmade::Perhaps(error))| error)?;
    match made {
        Settled::Made if !left => Ok(Installation { authority, epoch: cluster.epoch, first_key: Some(text) }),
        // The start that left the key may have made it, with another authority.
        Settled::Made => Ok(Installation { first_key: Some(text), ..stored(store).await? }),
        Settled::ByAnother => stored(store).await,
    }
}

/// What became of a first start.
#[derive(Debug, PartialEq, Eq)]
enum Settled {
    /// The installation is ours, and so is its first key.
    Made,
    ByAnother,
}

/// Why a first start made nothing.
#[derive(Debug)]
enum Unmade {
    Surely(StoreError),
    /// A write without an answer may still happen.
    Perhaps(StoreError),
}

/// Commits until it is known what became of it. The same transaction once more makes nothing twice; but the first may have
/// happened meanwhile, so a conflict says nothing before it was read whose key is there.
async fn settled(
    store: &Store,
    key: &KeyId,
    commit: impl AsyncFn() -> Result<Revision, StoreError>,
) -> Result<Settled, Unmade> {
    let mut unanswered = false;
    loop {
        let error = match commit().await {
            Ok(_) => return Ok(Settled::Made),
            Err(error) => error,
        };
        unanswered |= matches!(error, StoreError::OutcomeUnknown { .. });
        let conflict = matches!(error, StoreError::Conflict { .. });
        let is_open = conflict || (unanswered && error.is_transient());
        if !is_open {
            return Err(if unanswered { Unmade::Perhaps(error) } else { Unmade::Surely(error) });
        }
        match look(store, key, &error).await.map_err(Unmade::Perhaps)? {
            Some(settled) => return Ok(settled),
            // An authority without an installation is in the way, which the search for it will tell.
            None if conflict => return Ok(Settled::ByAnother),
            None => sleep(PAUSE).await,
        }
    }
}

/// Reads back whether our key is there; none if there is no installation. Asks for as long as it takes: without a file the
/// key is nowhere else, so giving up might lose the only one of an installation, and telling it might tell one that opens
/// nothing.
async fn look(store: &Store, key: &KeyId, why: &StoreError) -> Result<Option<Settled>, StoreError> {
    debug!(error = why as &dyn Error, "finding out whether this start made the installation");
    loop {
        match read_back(store, key).await {
            Err(error) if error.is_transient() => {
                warn!(error = &error as &dyn Error, "whether this start made the installation is still unknown");
                sleep(PAUSE).await;
            }
            found => return found,
        }
    }
}

async fn read_back(store: &Store, key: &KeyId) -> Result<Option<Settled>, StoreError> {
    if store.get(&key::api_key(key)).await?.is_some() {
        return Ok(Some(Settled::Made));
    }
    Ok(store.get(&key::cluster()).await?.map(|_| Settled::ByAnother))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::agents::testing::{Etcd, House};

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

    /// A transaction whose first answer is lost and whose second finds out that `winner` was made meanwhile.
    async fn settled_late(store: &Store, ours: &KeyId, winner: &KeyId) -> Settled {
        let cluster = Cluster { epoch: "e".to_owned(), created_at: Timestamp::UNIX_EPOCH };
        let record = ApiKey {
            id: winner.clone(),
            name: "first".to_owned(),
            role: Role::Admin,
            secret_hash: String::new(),
            created_at: Timestamp::UNIX_EPOCH,
            expires_at: None,
        };
        let sends = AtomicUsize::new(0);
        let commit = async || {
            if sends.fetch_add(1, Ordering::Relaxed) == 0 {
                return Err(StoreError::OutcomeUnknown { reason: "no answer".to_owned() });
            }
            let late = store.transaction().put(&key::cluster(), &cluster).put(&key::api_key(winner), &record);
            late.commit().await?;
            store.transaction().absent(&key::cluster()).put(&key::cluster(), &cluster).commit().await
        };
        settled(store, ours, commit).await.expect("the store answers")
    }

    #[tokio::test]
    async fn a_conflict_after_a_lost_answer_may_be_with_ourselves() {
        let (ours, other) = (KeyId::generate([1; 10]), KeyId::generate([2; 10]));
        let house = House::new().await;
        assert_eq!(settled_late(&house.store, &ours, &ours).await, Settled::Made);
        let house = House::new().await;
        assert_eq!(settled_late(&house.store, &ours, &other).await, Settled::ByAnother);
    }

    #[tokio::test]
    async fn an_authority_without_an_installation_is_told() {
        let house = House::new().await;
        let store = &house.store;
        store.transaction().put_sealed(&authority_key(), b"of a lost installation").commit().await.expect("is put");
        let error = installation(store, None, Timestamp::now()).await.err().expect("is refused");
        assert!(matches!(error, BootstrapError::NoAuthority), "{error}");
    }
}
