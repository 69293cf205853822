//! What a sandbox could leave on a machine: mounts, links, namespaces, processes, files. Taken before and after, and compared.
//! Other sandboxes may come and go meanwhile: while there is any, only what carries this one's id is held against it.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Result, bail};
use cladnet_sandbox::Sandbox;

/// Directories that the sandbox and its worlds write to.
const PLACES: [&str; 3] = ["/run/cladnet-sandbox", "/run/netns", "/tmp"];

/// Part of the names of our files in [`PLACES`]; others come and go without us.
const OURS: &str = "cladnet-";

/// See the module.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Footprint {
    mounts: BTreeSet<String>,
    links: BTreeSet<String>,
    files: BTreeSet<String>,
    /// Programs of ours that run, with their process ids.
    processes: BTreeSet<String>,
    /// Network namespaces that some process is in.
    namespaces: BTreeSet<String>,
    /// Ids of the sandboxes on this machine.
    sandboxes: BTreeSet<String>,
}

impl Footprint {
    pub(super) fn take() -> Result<Self> {
        let sandboxes = Sandbox::list()?.into_iter().collect();
        let mounts = fs::read_to_string("/proc/self/mounts")?.lines().map(str::to_owned).collect();
        let links = names(Path::new("/sys/class/net"));
        let files = PLACES
            .iter()
            .flat_map(|place| names(Path::new(place)).into_iter().map(move |name| format!("{place}/{name}")));
        let files = files.filter(|file| file.contains(OURS)).collect();
        let (mut processes, mut namespaces) = (BTreeSet::new(), BTreeSet::new());
        for pid in names(Path::new("/proc")).into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
            let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
            let program = command.split(' ').next().and_then(|path| Path::new(path).file_name()).unwrap_or_default();
            if program.as_encoded_bytes().starts_with(b"cladnet") {
                processes.insert(format!("{} ({pid})", command.trim()));
            }
            if let Ok(namespace) = fs::read_link(format!("/proc/{pid}/ns/net")) {
                namespaces.insert(namespace.display().to_string());
            }
        }
        Ok(Self { mounts, links, files, processes, namespaces, sandboxes })
    }

    /// Fails with what `after` has and this has not, of the sandbox `id`.
    pub(super) fn compare(&self, after: &Self, id: &str) -> Result<()> {
        let alone = self.sandboxes.is_empty() && after.sandboxes.is_empty();
        let kinds = [
            ("mounts", &self.mounts, &after.mounts),
            ("links", &self.links, &after.links),
            ("files", &self.files, &after.files),
            ("processes", &self.processes, &after.processes),
            ("network namespaces", &self.namespaces, &after.namespaces),
        ];
        let left = kinds.iter().filter_map(|(kind, before, after)| {
            let new = after.difference(before).filter(|item| alone || item.contains(id));
            let new: Vec<_> = new.cloned().collect();
            (!new.is_empty()).then(|| format!("{kind}: {}", new.join(", ")))
        });
        match left.collect::<Vec<_>>() {
            left if left.is_empty() => Ok(()),
            left => bail!("{}", left.join("; ")),
        }
    }
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
