//! The file of `cladnet deploy -f`: which machines, as whom, with which keys. Its shape is checked here; what the values
//! mean is the service's business, whose refusals are told with the file's lines.

mod locate;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use cladnet_proto::cladnet::v1::{DeploymentTarget, InjectedLocation};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::failure::Failure;
use locate::{Location, Step, locate};

/// A file of private keys is small; a larger one was given by mistake.
const LARGEST_KEY: u64 = 64 * 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    defaults: Defaults,
    hosts: Vec<Entry>,
}

/// What machines have that do not say otherwise.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Defaults {
    user: Option<String>,
    key: Option<PathBuf>,
    port: Option<u32>,
    bastion: Option<String>,
    labels: BTreeMap<String, String>,
    location: Inventory,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    address: String,
    port: Option<u32>,
    user: Option<String>,
    key: Option<PathBuf>,
    #[serde(default)]
    host_key: String,
    bastion: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    overlay_address: String,
    #[serde(default)]
    location: Inventory,
}

/// What the inventory knows of a machine's cloud.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Inventory {
    provider: String,
    account: String,
    region: String,
    zone: String,
    vpc: String,
    subnet: String,
}

/// The file's machines with the texts of their keys, as the API wants them.
pub(crate) struct HostsFile {
    path: PathBuf,
    text: String,
    pub(crate) targets: Vec<DeploymentTarget>,
    /// What a person should look at, and what works nevertheless.
    pub(crate) warnings: Vec<String>,
}

impl HostsFile {
    /// Reads the file and every key it names.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(path).map_err(|error| Failure::unreadable("-f", path, &error))?;
        let document: Document =
            serde_norway::from_str(&text).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        let mut file = Self { path: path.to_owned(), text, targets: Vec::new(), warnings: Vec::new() };
        file.check_names(&document.hosts)?;
        let mut keys = Keys::beside(path);
        for (index, entry) in document.hosts.into_iter().enumerate() {
            let target = file.target(entry, index, &document.defaults, &mut keys)?;
            file.targets.push(target);
        }
        file.warnings = keys.warnings;
        Ok(file)
    }

    /// A refusal of the service, with the lines of the fields that it names.
    pub(crate) fn explain(&self, failure: Failure, fields: &[String]) -> Failure {
        let mut text = failure.to_string();
        for field in fields {
            let Some(line) = self.line_of(field) else { continue };
            text = text.replacen(&format!("{field}: "), &format!("\n  {}:{line}: {field} ", self.path.display()), 1);
        }
        Failure::new(failure.exit, text.trim_start().replace("; \n", "\n"))
    }

    fn check_names(&self, entries: &[Entry]) -> Result<(), Failure> {
        let mut seen = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            if let Some(first) = seen.insert(entry.name.as_str(), index) {
                let [first, second] = [first, index].map(|index| self.line(index, "name"));
                return Err(Failure::usage(format!(
                    "{}: lines {first} and {second} both name a machine {:?}; give every machine a name of its own",
                    self.path.display(),
                    entry.name
                )));
            }
        }
        Ok(())
    }

    fn target(
        &self,
        entry: Entry,
        index: usize,
        defaults: &Defaults,
        keys: &mut Keys,
    ) -> Result<DeploymentTarget, Failure> {
        let at = |field: &str, what: &str| {
            let line = self.line(index, field);
            Failure::usage(format!("{}:{line}: machine {:?} {what}", self.path.display(), entry.name))
        };
        let Some(user) = entry.user.or_else(|| defaults.user.clone()) else {
            return Err(at("name", "has no user; write user: NAME there, or under defaults"));
        };
        let Some(key) = entry.key.as_ref().or(defaults.key.as_ref()) else {
            return Err(at("name", "has no key; write key: FILE there, or under defaults"));
        };
        let private_key = keys.read(key).map_err(|reason| at("key", &format!("has a key that is no use: {reason}")))?;
        // A bastion for all is not behind itself.
        let bastion = entry.bastion.or_else(|| defaults.bastion.clone().filter(|bastion| *bastion != entry.name));
        let mut labels = defaults.labels.clone();
        labels.extend(entry.labels);
        Ok(DeploymentTarget {
            name: entry.name,
            address: entry.address,
            port: entry.port.or(defaults.port).unwrap_or_default(),
            user,
            private_key: private_key.to_string(),
            host_key: entry.host_key,
            bastion: bastion.unwrap_or_default(),
            labels,
            overlay_address: entry.overlay_address,
            location: Some(entry.location.or(&defaults.location)),
        })
    }

    fn line(&self, index: usize, field: &str) -> usize {
        let entry = [Step::Key("hosts"), Step::Index(index)];
        let exact = locate(&self.text, &[&entry[..], &[Step::Key(field)]].concat());
        exact.or_else(|| locate(&self.text, &entry)).map_or(1, |Location { line }| line)
    }

    /// The line of a field as the API names it: `hosts[3].private_key`.
    fn line_of(&self, field: &str) -> Option<usize> {
        let (index, field) = field.strip_prefix("hosts[")?.split_once("].")?;
        let field = match field.split('.').next()? {
            "private_key" => "key",
            field => field,
        };
        Some(self.line(index.parse().ok()?, field))
    }
}

impl Inventory {
    fn or(self, defaults: &Self) -> InjectedLocation {
        let either = |own: String, default: &String| if own.is_empty() { default.clone() } else { own };
        InjectedLocation {
            provider: either(self.provider, &defaults.provider),
            account: either(self.account, &defaults.account),
            region: either(self.region, &defaults.region),
            zone: either(self.zone, &defaults.zone),
            vpc: either(self.vpc, &defaults.vpc),
            subnet: either(self.subnet, &defaults.subnet),
        }
    }
}

/// The key files, each read once.
struct Keys {
    directory: PathBuf,
    home: Option<PathBuf>,
    known: HashMap<PathBuf, Zeroizing<String>>,
    warnings: Vec<String>,
}

impl Keys {
    fn beside(file: &Path) -> Self {
        Self {
            directory: file.parent().unwrap_or(Path::new("")).to_owned(),
            home: std::env::home_dir(),
            known: HashMap::new(),
            warnings: Vec::new(),
        }
    }

    /// `~` is the caller's home; other paths begin where the file is.
    fn path(&self, named: &Path) -> PathBuf {
        match (named.strip_prefix("~"), &self.home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => self.directory.join(named),
        }
    }

    fn read(&mut self, named: &Path) -> Result<Zeroizing<String>, String> {
        let path = self.path(named);
        if let Some(known) = self.known.get(&path) {
            return Ok(known.clone());
        }
        let unreadable = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
        let metadata = fs::metadata(&path).map_err(unreadable)?;
        if !metadata.is_file() || metadata.len() > LARGEST_KEY {
            return Err(format!("{} is no key file", path.display()));
        }
        let text = Zeroizing::new(fs::read_to_string(&path).map_err(unreadable)?);
        if metadata.mode() & 0o077 != 0 {
            let path = path.display();
            self.warnings.push(format!("others on this machine can read {path}; make it yours with: chmod 600 {path}"));
        }
        self.known.insert(path, text.clone());
        Ok(text)
    }
}

#[cfg(test)]
mod tests;
