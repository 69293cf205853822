//! Settings as they are written: by flag, in the environment, in a TOML file. The file's keys are the flags' names,
//! those of etcd in a section of their own:
//!
//! ```toml
//! data-dir = "/var/lib/cladnet"
//! listen = "[::]:8053"
//! tls-name = ["cladnet.example"]
//!
//! [etcd]
//! url = ["https://etcd-1:2379", "https://etcd-2:2379"]
//! ca = "/etc/cladnet/etcd-ca.pem"
//! ```

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use cladnet_pki::channel::ServiceUrl;
use clap::Args;
use serde::Deserialize;

use crate::failure::Failure;

/// How a replica of the service is reached and what it shows.
#[derive(Debug, Default, Clone, Args)]
#[command(next_help_heading = "Listening")]
pub(super) struct ServiceOptions {
    /// TCP address of gRPC, REST and documents, all over TLS; port 0 takes a free one [default: [::]:8053].
    #[arg(long, value_name = "ADDRESS:PORT", env = "CLADNET_LISTEN")]
    pub(super) listen: Option<SocketAddr>,
    /// UDP address of STUN, or off. Agents ask it on the port of --listen [default: the same as --listen].
    #[arg(long, value_name = "ADDRESS:PORT|off", env = "CLADNET_STUN_LISTEN")]
    pub(super) stun_listen: Option<StunListen>,
    /// Name or address of this server for its certificate, beside those the machine knows. May be repeated.
    #[arg(long, value_name = "NAME", env = "CLADNET_TLS_NAME", value_delimiter = ',')]
    pub(super) tls_name: Vec<String>,
    /// Certificate chain, PEM, for browsers and other callers; agents and this command line keep the built-in one.
    #[arg(long, value_name = "FILE", env = "CLADNET_TLS_CERT")]
    pub(super) tls_cert: Option<PathBuf>,
    /// Private key of --tls-cert, PEM.
    #[arg(long, value_name = "FILE", env = "CLADNET_TLS_KEY")]
    pub(super) tls_key: Option<PathBuf>,
    /// Loopback address for cbnet.v1 without TLS, for its old callers.
    #[arg(long, value_name = "ADDRESS:PORT", env = "CLADNET_INSECURE_HTTP")]
    pub(super) insecure_http: Option<SocketAddr>,
    /// New file for the first API key, when this start makes the installation; it is printed too.
    #[arg(long, value_name = "FILE", env = "CLADNET_ADMIN_KEY_FILE")]
    pub(super) admin_key_file: Option<PathBuf>,
}

/// What a provisioner brings to machines.
#[derive(Debug, Default, Clone, Args)]
#[command(next_help_heading = "Deployments")]
pub(super) struct ProvisionerOptions {
    /// Where the agents are: cladnet-agent, and cladnet-agent-ARCH for others [default: beside this program].
    #[arg(long, value_name = "DIR", env = "CLADNET_AGENT_DIR")]
    pub(super) agent_dir: Option<PathBuf>,
    /// Where machines reach the service, with commas between several [default: as clients do; of `cladnet server` by
    /// --tls-name, else by its addresses]. No deployment connects to what is named here, by --tls-name, --service or --etcd.
    #[arg(long, value_name = "URL", env = "CLADNET_ADVERTISE", value_delimiter = ',')]
    pub(super) advertise: Vec<ServiceUrl>,
}

/// How to reach etcd.
#[derive(Debug, Default, Clone, PartialEq, Eq, Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[command(next_help_heading = "etcd")]
pub(super) struct EtcdOptions {
    /// Members of the cluster, with commas between them: https://HOST:2379.
    #[arg(long = "etcd", value_name = "URL", env = "CLADNET_ETCD", value_delimiter = ',')]
    pub(super) url: Vec<String>,
    /// Certificate of the authority that signed the members' certificates.
    #[arg(long = "etcd-ca", value_name = "FILE", env = "CLADNET_ETCD_CA")]
    pub(super) ca: Option<PathBuf>,
    /// Certificate to show to etcd.
    #[arg(long = "etcd-cert", value_name = "FILE", env = "CLADNET_ETCD_CERT")]
    pub(super) cert: Option<PathBuf>,
    /// Private key of --etcd-cert.
    #[arg(long = "etcd-key", value_name = "FILE", env = "CLADNET_ETCD_KEY")]
    pub(super) key: Option<PathBuf>,
    /// Name in the members' certificates, if it is not the host of the URL.
    #[arg(long = "etcd-server-name", value_name = "NAME", env = "CLADNET_ETCD_SERVER_NAME")]
    pub(super) server_name: Option<String>,
    /// User of etcd.
    #[arg(long = "etcd-user", value_name = "USER", env = "CLADNET_ETCD_USER")]
    pub(super) user: Option<String>,
    /// File with the password of --etcd-user.
    #[arg(long = "etcd-password-file", value_name = "FILE", env = "CLADNET_ETCD_PASSWORD_FILE")]
    pub(super) password_file: Option<PathBuf>,
}

/// `--stun-listen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) enum StunListen {
    Off,
    On(SocketAddr),
}

impl FromStr for StunListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            _ => text.parse().map(Self::On).map_err(|_| "write ADDRESS:PORT, or off".to_owned()),
        }
    }
}

impl TryFrom<String> for StunListen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// The file of `--config`: one shape for all roles, so that one file can serve several.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct SettingsFile {
    pub(super) data_dir: Option<PathBuf>,
    pub(super) log: Option<String>,
    pub(super) secret_key_file: Option<PathBuf>,
    pub(super) deployment_key_file: Option<PathBuf>,
    pub(super) write_ca: Option<PathBuf>,
    pub(super) listen: Option<SocketAddr>,
    pub(super) stun_listen: Option<StunListen>,
    pub(super) tls_name: Vec<String>,
    pub(super) tls_cert: Option<PathBuf>,
    pub(super) tls_key: Option<PathBuf>,
    pub(super) insecure_http: Option<SocketAddr>,
    pub(super) admin_key_file: Option<PathBuf>,
    pub(super) agent_dir: Option<PathBuf>,
    pub(super) advertise: Vec<String>,
    pub(super) etcd: EtcdOptions,
}

impl SettingsFile {
    /// Empty without a path. A wrong key or value is told with its line.
    pub(super) fn read(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path).map_err(|error| Failure::unreadable("--config", path, &error))?;
        toml::from_str(&text)
            .map_err(|error| Failure::configuration(format!("{}: {}", path.display(), error.to_string().trim_end())))
    }

    /// What the command line and the environment say, and the file's word where they say nothing.
    pub(super) fn under_service(&self, said: &ServiceOptions) -> ServiceOptions {
        let said = said.clone();
        ServiceOptions {
            listen: said.listen.or(self.listen),
            stun_listen: said.stun_listen.or(self.stun_listen),
            tls_name: first(said.tls_name, &self.tls_name),
            tls_cert: said.tls_cert.or_else(|| self.tls_cert.clone()),
            tls_key: said.tls_key.or_else(|| self.tls_key.clone()),
            insecure_http: said.insecure_http.or(self.insecure_http),
            admin_key_file: said.admin_key_file.or_else(|| self.admin_key_file.clone()),
        }
    }

    /// The same for a provisioner.
    pub(super) fn under_provisioner(&self, said: &ProvisionerOptions) -> Result<ProvisionerOptions, Failure> {
        let wrong = |error: cladnet_pki::channel::UrlError| Failure::configuration(format!("--advertise: {error}"));
        let advertise = match said.advertise.is_empty() {
            true => self.advertise.iter().map(|url| url.parse()).collect::<Result<_, _>>().map_err(wrong)?,
            false => said.advertise.clone(),
        };
        Ok(ProvisionerOptions { agent_dir: said.agent_dir.clone().or_else(|| self.agent_dir.clone()), advertise })
    }

    /// The same for etcd.
    pub(super) fn under_etcd(&self, said: &EtcdOptions) -> EtcdOptions {
        let (said, file) = (said.clone(), self.etcd.clone());
        EtcdOptions {
            url: first(said.url, &file.url),
            ca: said.ca.or(file.ca),
            cert: said.cert.or(file.cert),
            key: said.key.or(file.key),
            server_name: said.server_name.or(file.server_name),
            user: said.user.or(file.user),
            password_file: said.password_file.or(file.password_file),
        }
    }
}

fn first(said: Vec<String>, otherwise: &[String]) -> Vec<String> {
    if said.is_empty() { otherwise.to_vec() } else { said }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file_and_the_file_over_nothing() {
        let file: SettingsFile =
            toml::from_str("listen = '127.0.0.1:1'\ntls-name = ['a', 'b']\nstun-listen = 'off'").unwrap();
        let said = ServiceOptions { listen: "127.0.0.1:2".parse().ok(), ..ServiceOptions::default() };
        let merged = file.under_service(&said);
        assert_eq!(merged.listen, "127.0.0.1:2".parse().ok());
        assert_eq!(merged.tls_name, ["a", "b"]);
        assert_eq!(merged.stun_listen, Some(StunListen::Off));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_keys_there_are() {
        let error = toml::from_str::<SettingsFile>("log = 'info'\nlisten-on = 'x'").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("listen-on") && error.contains("`listen`"), "{error}");
        let error = toml::from_str::<SettingsFile>("[etcd]\nurls = []").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("urls"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_line() {
        let error = toml::from_str::<SettingsFile>("\nlisten = 'everywhere'").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("address"), "{error}");
    }
}
