//! Agents by SSH, as an admin brings them: a key pair, a file of machines, `cladnet deploy`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use cladnet_sandbox::Ssh;
use serde::Serialize;
use serde_json::Value;
use tempfile::TempDir;

use super::World;

/// Whom machines let in by SSH.
pub const SSH_USER: &str = "debian";

/// A key pair for SSH, and a place for files of machines beside it.
pub struct SshKey {
    directory: TempDir,
}

impl SshKey {
    pub fn make() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("cladnet-ssh-").tempdir().context("no temporary directory")?;
        let key = Self { directory };
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(key.path());
        ensure!(command.status().context("could not run ssh-keygen")?.success(), "ssh-keygen made no key");
        Ok(key)
    }

    /// The private key's file.
    pub fn path(&self) -> PathBuf {
        self.directory().join("id_ed25519")
    }

    /// What a topology says of SSH, for machines that let this key in.
    pub fn server(&self) -> Result<Ssh> {
        let public = fs::read_to_string(self.path().with_extension("pub"))?;
        Ok(Ssh { user: SSH_USER.to_owned(), authorized_keys: vec![public.trim().to_owned()], sudo: true })
    }

    /// Keeps the files when this is dropped.
    pub fn keep(&mut self) {
        self.directory.disable_cleanup(true);
    }

    fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// What `cladnet deploy -f` reads.
#[derive(Debug, Clone, Serialize)]
pub struct HostsFile {
    pub defaults: Defaults,
    pub hosts: Vec<Target>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Defaults {
    pub user: String,
    pub key: PathBuf,
}

/// One machine of it.
#[derive(Debug, Clone, Serialize)]
pub struct Target {
    pub name: String,
    pub address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bastion: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlay_address: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub location: BTreeMap<String, String>,
}

impl HostsFile {
    pub fn new(key: &SshKey, hosts: Vec<Target>) -> Self {
        let key = key.path().file_name().map(PathBuf::from).unwrap_or_default();
        Self { defaults: Defaults { user: SSH_USER.to_owned(), key }, hosts }
    }

    /// The machine of that name.
    pub fn target(&mut self, name: &str) -> Result<&mut Target> {
        self.hosts.iter_mut().find(|target| target.name == name).with_context(|| format!("{name} is not in the file"))
    }

    /// Writes it beside the key, and says where.
    pub fn write(&self, key: &SshKey) -> Result<String> {
        let path = key.directory().join("hosts.yaml");
        fs::write(&path, serde_norway::to_string(self)?)?;
        Ok(path.display().to_string())
    }
}

/// How a deployment ended, or stands.
#[derive(Debug)]
pub struct Deployed {
    pub code: i32,
    /// As `cladnet deployment show` has it.
    pub shown: Value,
}

impl Deployed {
    /// Holds if every machine ended like this: `done`, or the word of its failure.
    pub fn ended(&self, wanted: &[(&str, &str)]) -> Result<()> {
        for (name, word) in wanted {
            let host = self.host(name)?;
            let said = if host["state"] == "failed" { &host["failure"] } else { &host["state"] };
            ensure!(*said == *word, "{name} ended with {said}, not {word}: {host}");
        }
        ensure!(self.shown["hosts"].as_array().map(Vec::len) == Some(wanted.len()), "other machines: {}", self.shown);
        let is_done = wanted.iter().all(|(_, word)| *word == "done");
        ensure!((self.code == 0) == is_done, "the exit code is {}: {}", self.code, self.shown);
        Ok(())
    }

    /// One machine of it.
    pub fn host(&self, name: &str) -> Result<&Value> {
        let mut hosts = self.shown["hosts"].as_array().into_iter().flatten();
        hosts.find(|host| host["name"] == name).with_context(|| format!("{name} is not in {}", self.shown))
    }
}

impl World {
    /// A VM as its admin knows it: its public address and its host key.
    pub fn target(&self, vm: &str) -> Result<Target> {
        let address = self.vm(vm)?.public_address()?.to_string();
        Ok(Target {
            name: vm.to_owned(),
            address,
            host_key: Some(self.vm(vm)?.ssh_host_key()?),
            bastion: None,
            key: None,
            labels: BTreeMap::new(),
            overlay_address: None,
            location: BTreeMap::new(),
        })
    }

    /// A VM that is reached through another one of its VPC.
    pub fn target_behind(&self, bastion: &str, vm: &str) -> Result<Target> {
        let address = self.vm(vm)?.private_address()?.to_string();
        Ok(Target { address, bastion: Some(bastion.to_owned()), ..self.target(vm)? })
    }

    /// `cladnet deploy`, to its end.
    pub fn deploy(&self, file: &str, network: &str, more: &[&str]) -> Result<Deployed> {
        let arguments = ["--output", "json", "deploy", "-f", file, "--network", network];
        let answer = self.admin().ask(arguments.into_iter().chain(more.iter().copied()))?;
        let shown = serde_json::from_str(&answer.stdout)
            .with_context(|| format!("cladnet deploy ended with {}: {}", answer.code, answer.stderr.trim()))?;
        Ok(Deployed { code: answer.code, shown })
    }

    /// The same, begun; what is returned is its id.
    pub fn begin_deployment(&self, file: &str, network: &str, more: &[&str]) -> Result<String> {
        let begun = self.deploy(file, network, &[more, &["--no-wait"]].concat())?;
        Ok(begun.shown["deploymentId"].as_str().context("it has no id")?.to_owned())
    }

    /// A deployment that was begun, once it has ended.
    pub fn end_of_deployment(&self, id: &str) -> Result<Deployed> {
        let answer = self.admin().ask(["--output", "json", "deployment", "show", "--follow", id])?;
        let shown = serde_json::from_str(&answer.stdout).with_context(|| answer.stderr.clone())?;
        Ok(Deployed { code: answer.code, shown })
    }

    /// The state of a machine of a deployment.
    pub fn deployment_state(&self, id: &str, name: &str) -> Result<String> {
        let now = Deployed { code: 0, shown: self.admin().json(["deployment", "show", id])? };
        Ok(now.host(name)?["state"].as_str().unwrap_or_default().to_owned())
    }
}
