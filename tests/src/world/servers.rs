//! The control plane of a world: one process, or its roles apart on a real etcd; always services of the machine `control`.

use std::{fs, net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, ensure};
use cladnet_sandbox::{ServiceState, Vm};

use super::{CONTROL, World, binary};
use crate::wait::eventually;

/// Port of the first service replica; the next replica has the next port but nine.
pub const SERVICE_PORT: u16 = 8053;

const DATA: &str = "/var/lib/cladnet";
const KEY: &str = "/root/admin.key";
const SECRET: &str = "/root/secret.key";
const CA: &str = "/root/ca.pem";
const PROVISIONER_KEY: &str = "/root/provisioner.key";
const ETCD: &str = "http://127.0.0.1:2379";

/// How long a control plane may take to answer.
const START: Duration = Duration::from_secs(30);

/// What runs on `control`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Servers {
    /// `cladnet server` on an embedded store.
    One,
    /// etcd, and so many replicas of `cladnet controller` and `cladnet service`.
    OnEtcd { controllers: u16, services: u16 },
}

impl World {
    pub(super) fn start_servers(&self) -> Result<()> {
        let control = self.vm(CONTROL)?;
        install(&control, "cladnet")?;
        if self.deploys {
            install(&control, "cladnet-agent")?;
        }
        match self.servers {
            Servers::One => self.start_one(&control)?,
            Servers::OnEtcd { controllers, services } => self.start_on_etcd(&control, controllers, services)?,
        }
        self.fetch_credentials(&control)?;
        eventually("a healthy service", START, || self.admin().run(["info"]).map(drop))?;
        match (self.deploys, self.servers) {
            (true, Servers::OnEtcd { services, .. }) => self.start_provisioner(&control, services),
            _ => Ok(()),
        }
    }

    /// The URL agents use for replica `replica`, counted from 0.
    pub fn service_url(&self, replica: u16) -> Result<String> {
        Ok(format!("https://{}:{}", self.vm(CONTROL)?.public_address()?, port(replica)))
    }

    /// The URL people on the host use for replica `replica`.
    pub fn admin_url(&self, replica: u16) -> Result<String> {
        Ok(format!("https://{}:{}", self.vm(CONTROL)?.host_access()?, port(replica)))
    }

    /// Names of the control plane's services on `control`.
    pub fn server_names(&self) -> Vec<String> {
        match self.servers {
            Servers::One => vec!["server".to_owned()],
            Servers::OnEtcd { controllers, services } => {
                let controllers = (0..controllers).map(|n| format!("controller-{n}"));
                controllers.chain((0..services).map(|n| format!("service-{n}"))).collect()
            }
        }
    }

    /// Whether the service that admins ask was stopped, and not killed.
    pub(super) fn is_service_stopped(&self) -> Result<bool> {
        let name = match self.servers {
            Servers::One => "server",
            Servers::OnEtcd { .. } => "service-0",
        };
        let services = self.vm(CONTROL)?.services()?;
        Ok(services.iter().any(|service| service.name == name && service.state == ServiceState::Stopped))
    }

    fn start_one(&self, control: &Vm<'_>) -> Result<()> {
        let listen = format!("[::]:{SERVICE_PORT}");
        let url = self.service_url(0)?;
        let mut command =
            vec!["/usr/local/bin/cladnet", "server", "--data-dir", DATA, "--admin-key-file", KEY, "--listen", &listen];
        if self.deploys {
            command.extend(["--advertise", &url]);
        }
        Ok(control.add_service("server", command)?)
    }

    fn start_on_etcd(&self, control: &Vm<'_>, controllers: u16, services: u16) -> Result<()> {
        let etcd = ["/usr/bin/etcd", "--data-dir", "/var/lib/etcd-cladnet", "--logger", "zap", "--log-level", "warn"];
        control.add_service("etcd", etcd)?;
        let health = ["/usr/bin/env", "ETCDCTL_API=3", "etcdctl", "--endpoints", ETCD, "endpoint", "health"];
        eventually("a healthy etcd", START, || Ok(control.run(health)?))?;
        let secret = control.run(["/bin/sh", "-c", "head -c 32 /dev/urandom | base64"])?;
        control.write_file(SECRET, secret.as_bytes(), 0o600)?;
        for n in 0..controllers {
            let command = ["/usr/local/bin/cladnet", "controller", "--etcd", ETCD, "--secret-key-file", SECRET];
            control.add_service(&format!("controller-{n}"), command)?;
        }
        for n in 0..services {
            let listen = format!("[::]:{}", port(n));
            let mut command = vec!["/usr/local/bin/cladnet", "service", "--etcd", ETCD, "--secret-key-file", SECRET];
            command.extend(["--listen", &listen]);
            // The first replica makes the installation, and is done with it before the others start.
            if n == 0 {
                command.extend(["--admin-key-file", KEY, "--write-ca", CA]);
            }
            control.add_service(&format!("service-{n}"), command)?;
            eventually("the first API key", START, || Ok(control.read_file(KEY)?))?;
        }
        Ok(())
    }

    /// A provisioner of its own, beside the services.
    fn start_provisioner(&self, control: &Vm<'_>, services: u16) -> Result<()> {
        let key = self.admin().run(["key", "create", "--name", "provisioner", "--role", "provisioner"])?;
        control.write_file(PROVISIONER_KEY, key.trim().as_bytes(), 0o600)?;
        let urls = (0..services).map(|n| self.service_url(n)).collect::<Result<Vec<_>>>()?.join(",");
        let mut command = vec!["/usr/local/bin/cladnet", "provisioner", "--etcd", ETCD, "--secret-key-file", SECRET];
        command.extend(["--service", &urls, "--ca-file", CA, "--key-file", PROVISIONER_KEY]);
        Ok(control.add_service("provisioner", command)?)
    }

    /// Brings the admin's key and the CA's certificate to the host, as an admin would.
    fn fetch_credentials(&self, control: &Vm<'_>) -> Result<()> {
        let ca = if self.servers == Servers::One { format!("{DATA}/ca.pem") } else { CA.to_owned() };
        for (from, to) in [(KEY, "admin.key"), (ca.as_str(), "ca.pem")] {
            let content = eventually(from, START, || {
                let content = control.read_file(from)?;
                ensure!(!content.is_empty(), "{from} is empty");
                Ok(content)
            })?;
            fs::write(self.work().join(to), content)?;
        }
        Ok(())
    }

    /// The control plane's address on the internet.
    pub fn control_address(&self) -> Result<Ipv4Addr> {
        Ok(self.vm(CONTROL)?.public_address()?)
    }
}

fn port(replica: u16) -> u16 {
    SERVICE_PORT + replica * 10
}

/// Copies a binary of this project into a machine.
pub(super) fn install(vm: &Vm<'_>, name: &str) -> Result<()> {
    let content = fs::read(binary(name)?).with_context(|| format!("could not read {name}"))?;
    Ok(vm.write_file(&format!("/usr/local/bin/{name}"), &content, 0o755)?)
}
