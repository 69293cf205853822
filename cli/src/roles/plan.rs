//! What a role will do, once every setting is known to be right.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use cladnet_pki::Credentials;
use cladnet_service::{CertificateFiles, Config, config::DEFAULT_PORT};
use cladnet_store::{EmbeddedOptions, EtcdOptions as StoreEtcd, EtcdTls, Password, SealingKey};
use zeroize::Zeroizing;

use super::{
    ControllerArgs, ProvisionerArgs, ServerArgs, ServiceArgs,
    options::{EtcdOptions, ServiceOptions, SettingsFile, StunListen},
    provision::{self, ProvisionerPlan},
};
use crate::{args::ClientArgs, failure::Failure, file::read_secret};

/// Where records are kept.
pub(super) enum StorePlan {
    Embedded(EmbeddedOptions),
    Etcd(StoreEtcd),
}

/// Which roles run, on what.
pub(super) struct Plan {
    pub(super) store: StorePlan,
    /// The service, if this process is a replica of it.
    pub(super) service: Option<Config>,
    /// Whether this process campaigns to be the controller.
    pub(super) controller: bool,
    /// What the provisioner works with, if this process is one.
    pub(super) provisioner: Option<ProvisionerPlan>,
    /// Where the authority's certificate is written for clients.
    pub(super) ca_file: Option<PathBuf>,
    pub(super) log: Option<String>,
}

impl Plan {
    pub(super) fn server(args: &ServerArgs, file: SettingsFile) -> Result<Self, Failure> {
        if file.etcd != EtcdOptions::default() {
            return Err(Failure::configuration(
                "[etcd]: `cladnet server` keeps its own store; take the section out, or run `cladnet service` and `cladnet controller`",
            ));
        }
        let Some(directory) = args.data_dir.clone().or_else(|| file.data_dir.clone()) else {
            return Err(Failure::configuration(
                "--data-dir DIR is missing: give a directory for the store, for example /var/lib/cladnet",
            ));
        };
        let sealing_key_file = args.common.secret_key_file.clone().or_else(|| file.secret_key_file.clone());
        if let Some(path) = &sealing_key_file {
            sealing_key(SECRET_KEY, path)?;
        }
        let options = file.under_service(&args.service);
        Ok(Self {
            controller: true,
            provisioner: Some(provision::beside(file.under_provisioner(&args.provisioner)?, &options)),
            service: Some(service(options)?),
            ca_file: Some(file.write_ca.unwrap_or_else(|| directory.join("ca.pem"))),
            store: StorePlan::Embedded(EmbeddedOptions { sealing_key_file, ..EmbeddedOptions::new(directory) }),
            log: args.common.log.clone().or(file.log),
        })
    }

    pub(super) fn service(args: &ServiceArgs, file: SettingsFile) -> Result<Self, Failure> {
        let Some(key_file) = args.common.secret_key_file.clone().or_else(|| file.secret_key_file.clone()) else {
            return Err(Failure::configuration(
                "--secret-key-file FILE is missing: it opens the authority's key in etcd; make one with: openssl rand -base64 32",
            ));
        };
        let deployment_key_file = args.deployment_key_file.as_ref().or(file.deployment_key_file.as_ref());
        let deployment_key = deployment_key_file.map(|path| sealing_key(DEPLOYMENT_KEY, path)).transpose()?;
        Ok(Self {
            store: StorePlan::Etcd(etcd(file.under_etcd(&args.etcd), Some(sealing_key(SECRET_KEY, &key_file)?))?),
            service: Some(Config { deployment_key, ..service(file.under_service(&args.service))? }),
            controller: false,
            provisioner: None,
            ca_file: args.write_ca.clone().or(file.write_ca),
            log: args.common.log.clone().or(file.log),
        })
    }

    pub(super) fn provisioner(
        args: &ProvisionerArgs,
        client: &ClientArgs,
        file: SettingsFile,
    ) -> Result<Self, Failure> {
        let deployment_key_file = args.deployment_key_file.clone().or_else(|| file.deployment_key_file.clone());
        let secret_key_file = args.common.secret_key_file.clone().or_else(|| file.secret_key_file.clone());
        let key = match (deployment_key_file, secret_key_file) {
            (Some(path), _) => sealing_key(DEPLOYMENT_KEY, &path)?,
            (None, Some(path)) => sealing_key(SECRET_KEY, &path)?,
            (None, None) => {
                return Err(Failure::configuration(
                    "--deployment-key-file FILE is missing: it opens the machines' private keys in etcd; give the services' own, or their --secret-key-file if they have none",
                ));
            }
        };
        let options = file.under_etcd(&args.etcd);
        let services = file.under_service(&ServiceOptions::default());
        let provisioner = provision::alone(file.under_provisioner(&args.provisioner)?, client, &options, &services)?;
        Ok(Self {
            store: StorePlan::Etcd(etcd(options, Some(key))?),
            service: None,
            controller: false,
            provisioner: Some(provisioner),
            ca_file: None,
            log: args.common.log.clone().or(file.log),
        })
    }

    pub(super) fn controller(args: &ControllerArgs, file: SettingsFile) -> Result<Self, Failure> {
        let key_file = args.common.secret_key_file.clone().or_else(|| file.secret_key_file.clone());
        let key = key_file.map(|path| sealing_key(SECRET_KEY, &path)).transpose()?;
        Ok(Self {
            store: StorePlan::Etcd(etcd(file.under_etcd(&args.etcd), key)?),
            service: None,
            controller: true,
            provisioner: None,
            ca_file: None,
            log: args.common.log.clone().or(file.log),
        })
    }
}

fn service(options: ServiceOptions) -> Result<Config, Failure> {
    let everywhere = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), DEFAULT_PORT);
    let listen_addr = options.listen.unwrap_or(everywhere);
    if let Some(address) = options.insecure_http.filter(|address| !address.ip().is_loopback()) {
        return Err(Failure::configuration(format!(
            "--insecure-http: {address} is no loopback address; keys would cross the network in clear: use 127.0.0.1:PORT"
        )));
    }
    check_names(&options.tls_name)?;
    Ok(Config {
        listen_addr,
        stun_addr: match options.stun_listen {
            Some(StunListen::Off) => None,
            Some(StunListen::On(address)) => Some(address),
            None => Some(listen_addr),
        },
        insecure_http: options.insecure_http,
        tls_names: options.tls_name,
        certificate: certificate(options.tls_cert, options.tls_key)?,
        admin_key_file: options.admin_key_file,
        deployment_key: None,
    })
}

pub(super) fn check_names(names: &[String]) -> Result<(), Failure> {
    for name in names {
        let plain = name.strip_prefix("*.").unwrap_or(name);
        if rustls::pki_types::ServerName::try_from(plain).is_err() {
            return Err(Failure::configuration(format!("--tls-name: {name:?} is neither a DNS name nor an address")));
        }
    }
    Ok(())
}

pub(super) fn certificate(chain: Option<PathBuf>, key: Option<PathBuf>) -> Result<Option<CertificateFiles>, Failure> {
    let (chain, key) = match (chain, key) {
        (None, None) => return Ok(None),
        (Some(chain), Some(key)) => (chain, key),
        (Some(_), None) => {
            return Err(Failure::configuration("--tls-key FILE is missing: --tls-cert needs its private key"));
        }
        (None, Some(_)) => {
            return Err(Failure::configuration("--tls-cert FILE is missing: --tls-key needs its certificate"));
        }
    };
    let key_text = read_secret("--tls-key", &key)?;
    let chain_text =
        std::fs::read_to_string(&chain).map_err(|error| Failure::unreadable("--tls-cert", &chain, &error))?;
    Credentials::from_pem(&chain_text, &key_text)
        .map_err(|error| Failure::configuration(format!("--tls-cert, --tls-key: {}", crate::failure::chain(&error))))?;
    Ok(Some(CertificateFiles { chain, key }))
}

const SECRET_KEY: &str = "--secret-key-file";
const DEPLOYMENT_KEY: &str = "--deployment-key-file";

fn sealing_key(flag: &str, path: &Path) -> Result<SealingKey, Failure> {
    SealingKey::load(path).map_err(|error| {
        Failure::configuration(format!(
            "{flag}: {}; make one with: openssl rand -base64 32",
            crate::failure::chain(&error)
        ))
    })
}

fn etcd(options: EtcdOptions, sealing_key: Option<SealingKey>) -> Result<StoreEtcd, Failure> {
    if options.url.is_empty() {
        return Err(Failure::configuration(
            "--etcd URL is missing: give the members of the cluster, https://HOST:2379",
        ));
    }
    let https = options.url.iter().filter(|url| url.starts_with("https://")).count();
    let http = options.url.iter().filter(|url| url.starts_with("http://")).count();
    if https + http != options.url.len() || (https > 0 && http > 0) {
        return Err(Failure::configuration(
            "--etcd: write every member as https://HOST:PORT, or every one as http://HOST:PORT",
        ));
    }
    let tls = tls(&options)?;
    match (https > 0, &tls) {
        (true, None) => {
            return Err(Failure::configuration(
                "--etcd-ca FILE is missing: https members need the certificate of their authority",
            ));
        }
        (false, Some(_)) => {
            return Err(Failure::configuration(
                "--etcd: the members are http, but --etcd-ca asks for TLS; write https://",
            ));
        }
        _ => {}
    }
    let password = match (options.user, options.password_file) {
        (None, None) => None,
        (Some(user), Some(file)) => Some(Password { user, password: read_secret("--etcd-password-file", &file)? }),
        _ => return Err(Failure::configuration("--etcd-user and --etcd-password-file go together; give both")),
    };
    Ok(StoreEtcd { endpoints: options.url, tls, password, sealing_key })
}

fn tls(options: &EtcdOptions) -> Result<Option<EtcdTls>, Failure> {
    let read = |flag: &str, path: &Path| std::fs::read(path).map_err(|error| Failure::unreadable(flag, path, &error));
    let identity = match (&options.cert, &options.key) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some((read("--etcd-cert", cert)?, Zeroizing::new(read("--etcd-key", key)?))),
        _ => return Err(Failure::configuration("--etcd-cert and --etcd-key go together; give both")),
    };
    match &options.ca {
        Some(ca) => {
            Ok(Some(EtcdTls { ca: read("--etcd-ca", ca)?, identity, server_name: options.server_name.clone() }))
        }
        None if identity.is_some() || options.server_name.is_some() => {
            Err(Failure::configuration("--etcd-ca FILE is missing: give the certificate of the authority of etcd"))
        }
        None => Ok(None),
    }
}
