//! The first start: several replicas at once make one installation, and the key is told once.

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

use cladnet_model::{ApiKeyText, Secret};
use cladnet_service::{BootstrapError, CertificateFiles, Config, Server, StartError};
use cladnet_store::{EmbeddedOptions, Store};

use crate::harness::free_ports;

#[tokio::test]
async fn replicas_that_start_together_agree_and_one_tells_the_key() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open_embedded(EmbeddedOptions::new(directory.path())).await.expect("a store");
    let bind = || Server::bind(free_ports(), store.clone());
    let (one, two, three) = tokio::join!(bind(), bind(), bind());
    let servers = [one.expect("starts"), two.expect("starts"), three.expect("starts")];
    assert_eq!(servers.iter().filter(|server| server.first_key().is_some()).count(), 1);
    assert!(servers.iter().all(|server| server.ca_pem() == servers[0].ca_pem()));
    assert!(bind().await.expect("starts again").first_key().is_none(), "told once");
}

#[tokio::test]
async fn the_first_key_is_written_to_a_private_file_that_was_not_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open_embedded(EmbeddedOptions::new(directory.path())).await.expect("a store");
    let path = directory.path().join("admin.key");
    let config = || Config { admin_key_file: Some(path.clone()), ..free_ports() };
    std::fs::write(&path, "something of somebody").expect("writes");
    let error = Server::bind(config(), store.clone()).await.err().expect("refused");
    assert!(matches!(error, StartError::Bootstrap(BootstrapError::KeyFile { .. })), "{error}");
    assert_eq!(std::fs::read_to_string(&path).expect("reads"), "something of somebody");

    std::fs::remove_file(&path).expect("removes");
    let server = Server::bind(config(), store.clone()).await.expect("starts");
    let written = std::fs::read_to_string(&path).expect("reads");
    assert_eq!(written.trim(), server.first_key().expect("a first start").to_string());
    assert_eq!(std::fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o600);
    drop(server);
    Server::bind(config(), store).await.expect("a later start leaves the file alone");
    assert_eq!(std::fs::read_to_string(&path).expect("reads"), written);
}

#[tokio::test]
async fn a_start_goes_on_with_the_private_key_file_of_one_that_was_interrupted() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open_embedded(EmbeddedOptions::new(directory.path())).await.expect("a store");
    let path = directory.path().join("admin.key");
    let left = ApiKeyText::new([1; 10], Secret::new([2; 32]));
    std::fs::write(&path, format!("{left}\n")).expect("writes");
    let bind = || Server::bind(Config { admin_key_file: Some(path.clone()), ..free_ports() }, store.clone());
    let allow = |mode| std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("sets the mode");
    allow(0o644);
    let error = bind().await.err().expect("others may have read it");
    assert!(matches!(error, StartError::Bootstrap(BootstrapError::KeyFile { .. })), "{error}");
    allow(0o600);
    assert_eq!(bind().await.expect("starts").first_key(), Some(&left));
    let record = store.get(&cladnet_store::key::api_key(left.id())).await.expect("reads").expect("is there").value;
    assert_eq!(record.secret_hash, left.secret_hash());
    assert_eq!(std::fs::read_to_string(&path).expect("reads").trim(), left.to_string());
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named_and_nothing_is_made() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open_embedded(EmbeddedOptions::new(directory.path())).await.expect("a store");
    let (chain, key) = (directory.path().join("chain.pem"), directory.path().join("key.pem"));
    let certificate = Some(CertificateFiles { chain: chain.clone(), key: key.clone() });
    let bind = || Server::bind(Config { certificate: certificate.clone(), ..free_ports() }, store.clone());
    let missing = bind().await.err().expect("refused");
    assert!(source(&missing).contains("chain.pem"), "{}", source(&missing));
    std::fs::write(&chain, "no certificate").and_then(|()| std::fs::write(&key, "no key")).expect("writes");
    let wrong = bind().await.err().expect("refused");
    assert!(source(&wrong).contains("key.pem"), "{}", source(&wrong));
    assert!(store.get(&cladnet_store::key::cluster()).await.expect("reads").is_none());
}

fn source(error: &dyn std::error::Error) -> String {
    error.source().map(ToString::to_string).unwrap_or_default()
}
