//! The etcd engine.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::{
    Revision, SealingKey, StoreError,
    engine::RawWatch,
    raw::{LeaseId, Outcome, RawEntry, RawListing, RawTransaction, Start},
};

/// How to reach an etcd cluster.
#[derive(Debug, Default)]
pub struct EtcdOptions {
    /// `https://host:2379` or `http://…`, each member once.
    pub endpoints: Vec<String>,
    pub tls: Option<EtcdTls>,
    pub password: Option<Password>,
    /// Opens and makes secrets; a role that touches none works without.
    pub sealing_key: Option<SealingKey>,
}

/// PEM texts for TLS to etcd.
#[derive(Debug, Clone, Default)]
pub struct EtcdTls {
    /// The CA that signed the members' certificates.
    pub ca: Vec<u8>,
    /// Certificate and private key of this client, where the cluster asks for them.
    pub identity: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    /// Name in the members' certificates, where it is not the host of the endpoint.
    pub server_name: Option<String>,
}

/// A user of etcd and its password.
pub struct Password {
    pub user: String,
    pub password: Zeroizing<String>,
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Password({})", self.user)
    }
}

pub(crate) struct Etcd {}

const NOT_YET: StoreError = StoreError::Closed;

impl Etcd {
    pub(crate) async fn connect(_options: EtcdOptions) -> Result<Self, StoreError> {
        Err(NOT_YET)
    }
    pub(crate) async fn get(&self, _key: &str) -> Result<Option<RawEntry>, StoreError> {
        Err(NOT_YET)
    }
    pub(crate) async fn list(&self, _prefix: &str) -> Result<RawListing, StoreError> {
        Err(NOT_YET)
    }
    pub(crate) async fn commit(&self, _transaction: &RawTransaction) -> Result<Outcome, StoreError> {
        Err(NOT_YET)
    }
    pub(crate) async fn watch(&self, _prefix: &str, _start: Start) -> Result<RawWatch, StoreError> {
        Err(NOT_YET)
    }
    pub(crate) async fn grant(&self, _ttl: Duration) -> Result<LeaseId, StoreError> {
        Err(NOT_YET)
    }
    pub(crate) async fn renew(&self, _lease: LeaseId) -> Result<(), StoreError> {
        Err(NOT_YET)
    }
    pub(crate) async fn revoke(&self, _lease: LeaseId) -> Result<(), StoreError> {
        Err(NOT_YET)
    }
    pub(crate) async fn compact(&self, _revision: Revision) -> Result<(), StoreError> {
        Err(NOT_YET)
    }
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
