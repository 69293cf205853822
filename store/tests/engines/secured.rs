//! Etcd behind TLS, client certificates and passwords.

use std::{fs, path::Path};

use cladnet_store::{EtcdOptions, EtcdTls, Password, Store, StoreError, key};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::support::{etcd::Cluster, eventually, id, network, replica::Replica, soon};

/// A CA, and what it signed.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// A certificate and its key, for a server and a client alike.
    fn sign(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new([name.to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn tls(&self) -> EtcdTls {
        EtcdTls { ca: self.issuer.pem().into_bytes(), ..EtcdTls::default() }
    }

    fn tls_as(&self, name: &str) -> EtcdTls {
        let (certificate, key) = self.sign(name);
        EtcdTls { identity: Some((certificate.into_bytes(), Zeroizing::new(key.into_bytes()))), ..self.tls() }
    }
}

fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// A member with TLS; with `client_ca` it asks for client certificates, too.
fn secured(authority: &Authority, client_certificates: ClientCertificates) -> (Cluster, TempDir) {
    let files = tempfile::tempdir().unwrap();
    let (certificate, key) = authority.sign("etcd");
    let certificate = write(files.path(), "server.pem", &certificate);
    let key = write(files.path(), "server.key", &key);
    let ca = write(files.path(), "ca.pem", &authority.issuer.pem());
    let mut extra = vec!["--cert-file", &certificate, "--key-file", &key];
    if client_certificates == ClientCertificates::Required {
        extra.extend(["--client-cert-auth", "--trusted-ca-file", &ca]);
    }
    (Cluster::start_secured(&extra), files)
}

#[derive(PartialEq)]
enum ClientCertificates {
    Required,
    Unasked,
}

fn options(cluster: &Cluster, tls: Option<EtcdTls>) -> EtcdOptions {
    EtcdOptions { endpoints: cluster.endpoints(), tls, ..EtcdOptions::default() }
}

/// The error of connecting, once the server is up: what `is_it` recognises.
async fn refusal(make: impl Fn() -> EtcdOptions, is_it: impl Fn(&StoreError) -> bool) -> StoreError {
    soon("a refusal", async {
        loop {
            match Store::connect_etcd(make()).await {
                Ok(_) => panic!("connected"),
                Err(error) if is_it(&error) => return error,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            }
        }
    })
    .await
}

async fn connect(make: impl Fn() -> EtcdOptions) -> Store {
    soon("a connection", async {
        loop {
            if let Ok(store) = Store::connect_etcd(make()).await {
                return store;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_a_client_certificate_works_and_nothing_less() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (cluster, _files) = secured(&ours, ClientCertificates::Required);
    let store = connect(|| options(&cluster, Some(ours.tls_as("cladnet")))).await;
    let revision = store.create(&key::network(&id("prod")), &network("prod", "one")).await.unwrap();
    assert_eq!(store.get(&key::network(&id("prod"))).await.unwrap().unwrap().modified, revision);
    let unavailable = |error: &StoreError| matches!(error, StoreError::Unavailable { .. });
    refusal(|| options(&cluster, Some(ours.tls())), unavailable).await;
    refusal(|| options(&cluster, Some(theirs.tls_as("cladnet"))), unavailable).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_ca_is_named_as_the_reason() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (cluster, _files) = secured(&ours, ClientCertificates::Unasked);
    connect(|| options(&cluster, Some(ours.tls()))).await;
    let error = refusal(|| options(&cluster, Some(theirs.tls())), |error| error.to_string().contains("certificate"));
    let error = error.await.to_string();
    assert!(error.contains("invalid peer certificate"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_a_password_works_on_through_a_restart_and_nobody_else_gets_in() {
    let mut cluster = Cluster::start(1);
    cluster.connect().await;
    for command in [
        "user add root:toor",
        "user grant-role root root",
        "role add cladnet",
        "role grant-permission cladnet --prefix=true readwrite /cladnet/v1/",
        "user add cladnet:secret",
        "user grant-role cladnet cladnet",
        "auth enable",
    ] {
        cluster.etcdctl(0, &command.split(' ').collect::<Vec<_>>());
    }
    let with = |password: &str| EtcdOptions {
        password: Some(Password { user: "cladnet".into(), password: Zeroizing::new(password.into()) }),
        ..options(&cluster, None)
    };
    let denied = |error: &StoreError| matches!(error, StoreError::Denied { .. });
    refusal(|| with("wrong"), denied).await;
    refusal(|| options(&cluster, None), denied).await;
    let store = connect(|| with("secret")).await;
    let replica = Replica::start(&store);
    store.create(&key::network(&id("prod")), &network("prod", "one")).await.unwrap();
    // The tokens of etcd live in its memory only.
    cluster.kill_member(0);
    cluster.start_member(0);
    let again = async || store.put(&key::network(&id("prod")), &network("prod", "two")).await.is_ok();
    eventually("writes with a fresh token", again).await;
    replica.agrees_with(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_for_an_etcd_without_users_is_refused_by_name() {
    let cluster = Cluster::start(1);
    cluster.connect().await;
    let make = || EtcdOptions {
        password: Some(Password { user: "cladnet".into(), password: Zeroizing::new("secret".into()) }),
        ..options(&cluster, None)
    };
    let error = refusal(make, |error| matches!(error, StoreError::Options { .. })).await;
    assert!(error.to_string().starts_with("--etcd-user"), "{error}");
}
