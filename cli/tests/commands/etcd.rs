//! Roles alone on a real etcd that asks for a certificate and a password.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use cladnet_store::{EtcdOptions, EtcdTls, Password, Store};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::harness::{Outcome, Server, cladnet, eventually, free_port};

const PASSWORD: &str = "correct horse";

#[test]
fn replicas_that_start_together_on_etcd_agree() {
    let etcd = Etcd::start();
    let (one, other) = thread::scope(|scope| {
        let other = scope.spawn(|| Server::replica(&etcd.arguments_of_a_service()));
        (Server::replica(&etcd.arguments_of_a_service()), other.join().unwrap())
    });
    assert_eq!(fs::read(one.ca_file()).unwrap(), fs::read(other.ca_file()).unwrap());
    let key = match (one.key_file().exists(), other.key_file().exists()) {
        (true, false) => one.key_file(),
        (false, true) => other.key_file(),
        both => panic!("exactly one replica tells the first key: {both:?}"),
    };
    let create = ["network", "create", "prod", "--address-space", "172.20.0.0/24"];
    one.run_with_key(&key, &create).ok();
    assert!(other.run_with_key(&key, &["network", "show", "prod"]).ok().stdout.contains("172.20.0.0/24"));
}

#[test]
fn a_wrong_password_or_authority_of_etcd_is_told() {
    let etcd = Etcd::start();
    let wrong = etcd.directory.path().join("wrong");
    fs::write(&wrong, "battery staple").unwrap();
    let with = |flag: &str, value: &Path| {
        let mut arguments = etcd.arguments();
        let place = arguments.iter().position(|argument| *argument == flag).unwrap() + 1;
        arguments[place] = value.as_ref();
        Outcome::of(cladnet().arg("controller").args(arguments))
    };
    with("--etcd-password-file", &wrong).refused(5, &["denied"]);
    let foreign = etcd.directory.path().join("foreign.pem");
    fs::write(&foreign, authority().pem()).unwrap();
    with("--etcd-ca", &foreign).refused(6, &["store unavailable"]);
}

/// One member that trusts one authority and knows the user `root`.
pub(crate) struct Etcd {
    process: Child,
    url: String,
    directory: TempDir,
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    password: PathBuf,
    sealing_key: PathBuf,
}

impl Etcd {
    pub(crate) fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let file = |name: &str| directory.path().join(name);
        let (authority, certificate, key) = (file("etcd-ca.pem"), file("etcd.pem"), file("etcd.key"));
        issue(&authority, &certificate, &key);
        fs::write(file("password"), format!("{PASSWORD}\n")).unwrap();
        fs::write(file("secret.key"), "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n").unwrap();
        let (url, peer_url) =
            (format!("https://127.0.0.1:{}", free_port()), format!("http://127.0.0.1:{}", free_port()));
        // A test that is killed takes its server along.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "etcd", "--logger", "zap", "--log-outputs", "stderr", "--data-dir"])
            .arg(file("data"))
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("default={peer_url}"), "--client-cert-auth", "--trusted-ca-file"])
            .arg(&authority)
            .arg("--cert-file")
            .arg(&certificate)
            .arg("--key-file")
            .arg(&key)
            .stderr(fs::File::create(file("etcd.log")).unwrap())
            .stdout(Stdio::null())
            .spawn()
            .expect("these tests need a real etcd: apt-get install etcd-server etcd-client");
        let (password, sealing_key) = (file("password"), file("secret.key"));
        let etcd = Self { process, url, directory, authority, certificate, key, password, sealing_key };
        etcd.ask_for_passwords();
        etcd
    }

    fn ask_for_passwords(&self) {
        eventually("etcd to answer", || self.etcdctl(&["user", "add", &format!("root:{PASSWORD}")]));
        assert!(self.etcdctl(&["user", "grant-role", "root", "root"]));
        assert!(self.etcdctl(&["auth", "enable"]));
    }

    fn etcdctl(&self, arguments: &[&str]) -> bool {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--command-timeout", "2s", "--endpoints", &self.url]);
        command.arg("--cacert").arg(&self.authority).arg("--cert").arg(&self.certificate).arg("--key").arg(&self.key);
        command.args(arguments).output().unwrap().status.success()
    }

    fn arguments(&self) -> Vec<&OsStr> {
        vec![
            "--etcd".as_ref(),
            self.url.as_ref(),
            "--etcd-ca".as_ref(),
            self.authority.as_ref(),
            "--etcd-cert".as_ref(),
            self.certificate.as_ref(),
            "--etcd-key".as_ref(),
            self.key.as_ref(),
            "--etcd-user".as_ref(),
            "root".as_ref(),
            "--etcd-password-file".as_ref(),
            self.password.as_ref(),
        ]
    }

    pub(crate) fn arguments_of_a_service(&self) -> Vec<&OsStr> {
        [self.arguments(), vec!["--secret-key-file".as_ref(), self.sealing_key.as_ref()]].concat()
    }

    /// What the replicas keep there.
    pub(crate) async fn store(&self) -> Store {
        let read = |path| fs::read(path).unwrap();
        let identity = Some((read(&self.certificate), Zeroizing::new(read(&self.key))));
        let options = EtcdOptions {
            endpoints: vec![self.url.clone()],
            tls: Some(EtcdTls { ca: read(&self.authority), identity, server_name: None }),
            password: Some(Password { user: "root".to_owned(), password: Zeroizing::new(PASSWORD.to_owned()) }),
            ..EtcdOptions::default()
        };
        Store::connect_etcd(options).await.unwrap()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking() {
            let log = fs::read_to_string(self.directory.path().join("etcd.log")).unwrap_or_default();
            eprintln!("etcd's log:\n{log}");
        }
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// One certificate for both sides, which etcd also shows to itself.
fn issue(authority_file: &Path, certificate_file: &Path, key_file: &Path) {
    let (authority, key) = (authority(), KeyPair::generate().unwrap());
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    fs::write(authority_file, authority.pem()).unwrap();
    fs::write(certificate_file, params.signed_by(&key, &authority).unwrap().pem()).unwrap();
    fs::write(key_file, key.serialize_pem()).unwrap();
}
