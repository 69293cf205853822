//! How to reach an etcd cluster, checked before anything is sent.

use std::{fmt, time::Duration};

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};
use zeroize::Zeroizing;

use crate::{SealingKey, StoreError};

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
#[derive(Clone, Default)]
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

/// HTTP/2 pings on an idle connection, and how long an answer may take. Etcd refuses more than one in 5 s.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(6), Duration::from_secs(3));

/// For TCP and TLS together.
const CONNECT: Duration = Duration::from_secs(1);

impl EtcdOptions {
    /// Refuses what cannot work, by the name of the option.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.endpoints.is_empty() {
            return Err(option("--etcd", "give at least one endpoint, as https://host:2379".to_owned()));
        }
        for endpoint in &self.endpoints {
            let secure = endpoint.starts_with("https://");
            let reason = match (secure, &self.tls) {
                (false, _) if !endpoint.starts_with("http://") => "must begin with https:// or http://",
                (false, Some(_)) => "has no TLS, but a CA is given: use https://",
                (true, None) => "needs the CA that signed its certificate: give --etcd-ca",
                _ => continue,
            };
            return Err(option("--etcd", format!("{endpoint} {reason}")));
        }
        Ok(())
    }

    /// The client's own options.
    pub(super) fn connect_options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new()
            .with_require_leader(true)
            .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
            .with_keep_alive_while_idle(true)
            .with_connect_timeout(CONNECT);
        if let Some(Password { user, password }) = &self.password {
            options = options.with_user(user, password.as_str()).with_auto_token_refresh(true);
        }
        if let Some(tls) = &self.tls {
            options = options.with_tls(tls.client_config());
        }
        options
    }
}

impl EtcdTls {
    fn client_config(&self) -> TlsOptions {
        let mut config = TlsOptions::new().ca_certificate(Certificate::from_pem(&self.ca));
        if let Some((certificate, key)) = &self.identity {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        if let Some(name) = &self.server_name {
            config = config.domain_name(name);
        }
        config
    }
}

pub(super) fn option(option: &'static str, reason: String) -> StoreError {
    StoreError::Options { option, reason }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Password({})", self.user)
    }
}

impl fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = if self.identity.is_some() { "given" } else { "none" };
        write!(f, "EtcdTls {{ identity: {identity}, server_name: {:?} }}", self.server_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(endpoints: &[&str], tls: Option<EtcdTls>) -> String {
        let endpoints = endpoints.iter().map(ToString::to_string).collect();
        let options = EtcdOptions { endpoints, tls, ..EtcdOptions::default() };
        options.check().map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn endpoints_must_say_whether_they_are_secure_and_fit_the_rest() {
        assert!(refusal(&[], None).contains("at least one endpoint"));
        assert!(refusal(&["127.0.0.1:2379"], None).contains("must begin with"));
        assert!(refusal(&["http://a:2379", "https://b:2379"], None).contains("https://b:2379 needs the CA"));
        assert!(refusal(&["http://a:2379"], Some(EtcdTls::default())).contains("use https://"));
        assert_eq!(refusal(&["https://a:2379"], Some(EtcdTls::default())), "");
        assert_eq!(refusal(&["http://a:2379"], None), "");
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let password = Password { user: "root".into(), password: Zeroizing::new("hunter2".into()) };
        let tls = EtcdTls { identity: Some((vec![], Zeroizing::new(b"hunter2".to_vec()))), ..EtcdTls::default() };
        assert!(!format!("{password:?} {tls:?}").contains("hunter2"));
    }
}
