//! The embedded engine and its data directory: who may have it, what is in it, what happens to a bad one.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use cladnet_store::{EmbeddedOptions, Revision, SealingKey, Store, StoreError, key};

use crate::support::{EmbeddedFixture, batch, id, network, replica::Replica, soon, token};

async fn open(directory: &Path) -> Result<Store, StoreError> {
    Store::open_embedded(EmbeddedOptions::new(directory)).await
}

async fn refused(directory: &Path) -> StoreError {
    match open(directory).await {
        Ok(_) => panic!("{} was opened", directory.display()),
        Err(error) => error,
    }
}

#[tokio::test]
async fn records_and_revisions_survive_a_restart() {
    let EmbeddedFixture { store, directory } = EmbeddedFixture::start().await;
    let revision = store.create(&key::network(&id("prod")), &network("prod", "one")).await.unwrap();
    store.put_sealed(&key::secret("ca"), b"secret").await.unwrap();
    store.close().await.unwrap();
    let store = open(directory.path()).await.unwrap();
    assert_eq!(store.get(&key::network(&id("prod"))).await.unwrap().unwrap().modified, revision);
    assert_eq!(store.get_sealed(&key::secret("ca")).await.unwrap().unwrap().as_slice(), b"secret");
    let mut watch = store.watch(&key::networks(), Revision::from(revision.get() - 1)).await.unwrap();
    assert_eq!(soon("history", watch.next()).await.unwrap().revision, revision);
}

#[tokio::test]
async fn a_directory_in_use_is_refused_with_the_pid() {
    let fixture = EmbeddedFixture::start().await;
    let error = refused(fixture.directory.path()).await.to_string();
    assert!(error.ends_with(&format!("in use by pid {}", std::process::id())), "{error}");
}

#[tokio::test]
async fn a_closed_store_frees_its_directory_and_ends_its_followers() {
    let EmbeddedFixture { store, directory } = EmbeddedFixture::start().await;
    let (mut follow, other) = (store.follow(&key::networks()), store.clone());
    soon("a listing", follow.next()).await;
    store.close().await.unwrap();
    assert_eq!(soon("the end", follow.next()).await, None);
    assert!(matches!(other.list(&key::networks()).await, Err(StoreError::Closed)));
    open(directory.path()).await.unwrap();
}

#[tokio::test]
async fn opening_ends_every_lease_and_tells_it() {
    let EmbeddedFixture { store, directory } = EmbeddedFixture::start().await;
    let lease = store.grant(Duration::from_secs(3600)).await.unwrap();
    let key = key::token(&"leased".parse().unwrap());
    let revision = store.transaction().put_leased(&key, &token("leased", 1), &lease).commit().await.unwrap();
    store.close().await.unwrap();
    let store = open(directory.path()).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), None);
    let mut watch = store.watch(&key::tokens(), revision).await.unwrap();
    let batch = soon("the deletion", watch.next()).await.unwrap();
    assert_eq!(batch.changes, [cladnet_store::Change::Deleted(key)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_sleeps_through_the_history_gets_the_difference() {
    let directory = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions { history: 5, ..EmbeddedOptions::new(directory.path()) };
    let store = Store::open_embedded(options).await.unwrap();
    let first = store.create(&key::network(&id("first")), &network("first", "x")).await.unwrap();
    let (mut sleeper, replica) = (store.follow(&key::networks()), Replica::start(&store));
    soon("a listing", sleeper.next()).await;
    for number in 0..1500 {
        let name = format!("net-{}", number % 7);
        let key = key::network(&id(&name));
        match number % 5 {
            4 => drop(store.transaction().delete(&key).commit().await.unwrap()),
            _ => drop(store.put(&key, &network(&name, &number.to_string())).await.unwrap()),
        }
    }
    let old = store.watch(&key::networks(), first).await;
    assert!(matches!(old, Err(StoreError::Compacted)), "so much history is not kept");
    let last = store.create(&key::network(&id("last")), &network("last", "x")).await.unwrap();
    let mut batches = 0;
    while batch(&mut sleeper).await.revision < last {
        batches += 1;
    }
    assert!(batches < 1500, "the sleeper was told every single change");
    replica.agrees_with(&store).await;
}

#[tokio::test(start_paused = true)]
async fn looking_again_every_few_minutes_tells_nothing_twice() {
    let EmbeddedFixture { store, directory: _directory } = EmbeddedFixture::start().await;
    store.create(&key::network(&id("one")), &network("one", "x")).await.unwrap();
    let mut follow = store.follow(&key::networks());
    soon("a listing", follow.next()).await;
    let quiet = tokio::time::timeout(Duration::from_secs(1800), follow.next()).await;
    assert!(quiet.is_err(), "half an hour of silence, but: {quiet:?}");
    let revision = store.create(&key::network(&id("two")), &network("two", "x")).await.unwrap();
    assert_eq!(batch(&mut follow).await.revision, revision);
}

#[tokio::test]
async fn files_are_private() {
    let fixture = EmbeddedFixture::start().await;
    for name in ["store.redb", "secret.key", "lock"] {
        let mode = fs::metadata(fixture.directory.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_lost_sealing_key_is_not_replaced_by_a_new_one() {
    let EmbeddedFixture { store, directory } = EmbeddedFixture::start().await;
    store.put_sealed(&key::secret("ca"), b"secret").await.unwrap();
    store.close().await.unwrap();
    let key_file = directory.path().join("secret.key");
    fs::remove_file(&key_file).unwrap();
    assert!(matches!(refused(directory.path()).await, StoreError::File { path, .. } if path == key_file));
    SealingKey::create(&key_file).unwrap();
    let store = open(directory.path()).await.unwrap();
    let error = store.get_sealed(&key::secret("ca")).await.unwrap_err();
    assert!(matches!(&error, StoreError::Seal { source, .. } if source.to_string().contains("was sealed with key")));
}

/// Opening must fail, name the file, and leave every byte of it.
async fn is_refused_untouched(bytes: &[u8], case: &str) {
    let directory = tempfile::tempdir().unwrap();
    SealingKey::create(&directory.path().join("secret.key")).unwrap();
    let file = directory.path().join("store.redb");
    fs::write(&file, bytes).unwrap();
    let error = refused(directory.path()).await;
    assert!(matches!(&error, StoreError::Unusable { path, .. } if *path == file), "{case}: {error}");
    assert!(fs::read(&file).unwrap() == bytes, "{case}: the file was changed");
}

async fn sound_file() -> Vec<u8> {
    let EmbeddedFixture { store, directory } = EmbeddedFixture::start().await;
    for number in 0..200 {
        let name = format!("net-{number}");
        store.create(&key::network(&id(&name)), &network(&name, "x")).await.unwrap();
    }
    store.close().await.unwrap();
    fs::read(directory.path().join("store.redb")).unwrap()
}

#[tokio::test]
async fn foreign_and_damaged_files_are_refused_untouched() {
    is_refused_untouched(b"", "an empty file").await;
    is_refused_untouched(b"hello", "a text").await;
    is_refused_untouched(&[0; 1 << 16], "zeroes").await;
    let sound = sound_file().await;
    is_refused_untouched(&sound[..sound.len() / 2], "the first half").await;
    is_refused_untouched(&sound[..4096], "the first page").await;
    let foreign = tempfile::NamedTempFile::new().unwrap();
    drop(redb::Database::create(foreign.path()).unwrap());
    is_refused_untouched(&fs::read(foreign.path()).unwrap(), "a database of something else").await;
}

#[tokio::test]
async fn flipped_bytes_are_refused_or_harmless() {
    let sound = sound_file().await;
    let mut refusals = 0;
    for step in 0..48 {
        let mut damaged = sound.clone();
        let at = step * damaged.len() / 48 + 37;
        damaged[at..at + 16].iter_mut().for_each(|byte| *byte ^= 0x5a);
        let directory = tempfile::tempdir().unwrap();
        SealingKey::create(&directory.path().join("secret.key")).unwrap();
        let file = directory.path().join("store.redb");
        fs::write(&file, &damaged).unwrap();
        match open(directory.path()).await {
            Ok(store) => {
                let networks = store.list(&key::networks()).await.unwrap();
                assert_eq!((networks.items.len(), networks.undecodable.len()), (200, 0), "flipped at {at}");
            }
            Err(error) => {
                assert!(matches!(error, StoreError::Unusable { .. }), "flipped at {at}: {error}");
                assert!(fs::read(&file).unwrap() == damaged, "flipped at {at}: the file was changed");
                refusals += 1;
            }
        }
    }
    assert!(refusals > 0, "no flip met a page in use");
}
