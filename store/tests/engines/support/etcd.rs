//! Real etcd servers, from Debian's `etcd-server`, on free ports of the loopback, gone when the fixture is.

use std::{
    fs::File,
    net::{Ipv4Addr, TcpListener},
    process::{Child, Command, Stdio},
};

use cladnet_store::{EtcdOptions, SealingKey, Store};
use tempfile::TempDir;

use crate::support::soon;

/// Members of one cluster.
pub(crate) struct Cluster {
    pub(crate) members: Vec<Member>,
    initial: String,
    extra: Vec<String>,
    directory: TempDir,
}

/// One etcd process, or none while it is down.
pub(crate) struct Member {
    pub(crate) client_url: String,
    peer_url: String,
    name: String,
    pub(crate) process: Option<Child>,
}

impl Cluster {
    /// Starts `size` members.
    pub(crate) fn start(size: usize) -> Self {
        Self::start_with(size, &[])
    }

    /// Starts `size` members with further options.
    pub(crate) fn start_with(size: usize, extra: &[&str]) -> Self {
        Self::start_at("http", size, extra)
    }

    /// Starts one member that its clients reach by TLS.
    pub(crate) fn start_secured(extra: &[&str]) -> Self {
        Self::start_at("https", 1, extra)
    }

    fn start_at(scheme: &str, size: usize, extra: &[&str]) -> Self {
        let members: Vec<Member> = (0..size)
            .map(|number| Member {
                client_url: format!("{scheme}://127.0.0.1:{}", free_port()),
                peer_url: format!("http://127.0.0.1:{}", free_port()),
                name: format!("m{number}"),
                process: None,
            })
            .collect();
        let named: Vec<String> = members.iter().map(|member| format!("{}={}", member.name, member.peer_url)).collect();
        let extra = extra.iter().map(ToString::to_string).collect();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut cluster = Self { members, initial: named.join(","), extra, directory };
        (0..size).for_each(|number| cluster.start_member(number));
        cluster
    }

    /// Starts a member, or starts it again on its data.
    pub(crate) fn start_member(&mut self, number: usize) {
        let member = &mut self.members[number];
        let (home, url) = (self.directory.path().join(&member.name), &member.client_url);
        let log = File::options().create(true).append(true).open(home.with_extension("log")).expect("a log file");
        // A test that is killed takes its servers along.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", "etcd"])
            .args(["--name", &member.name, "--logger", "zap", "--log-outputs", "stderr"])
            .arg("--data-dir")
            .arg(&home)
            .args(["--listen-client-urls", url, "--advertise-client-urls", url])
            .args(["--listen-peer-urls", &member.peer_url, "--initial-advertise-peer-urls", &member.peer_url])
            .args(["--initial-cluster", &self.initial, "--initial-cluster-state", "new"])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .args(&self.extra)
            .stdout(Stdio::null())
            .stderr(log);
        let process = command.spawn().unwrap_or_else(|error| {
            panic!(
                "cannot start `etcd` ({error}): these tests need a real one: apt-get install etcd-server etcd-client"
            )
        });
        member.process = Some(process);
    }

    /// Kills a member as `kill -9` does.
    pub(crate) fn kill_member(&mut self, number: usize) {
        self.members[number].kill();
    }

    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.client_url.clone()).collect()
    }

    pub(crate) fn options(&self) -> EtcdOptions {
        EtcdOptions { endpoints: self.endpoints(), sealing_key: Some(SealingKey::generate()), ..EtcdOptions::default() }
    }

    /// Connects as soon as the cluster answers.
    pub(crate) async fn connect(&self) -> Store {
        soon("etcd to answer", async {
            loop {
                match Store::connect_etcd(self.options()).await {
                    Ok(store) => return store,
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                }
            }
        })
        .await
    }

    /// Runs `etcdctl` against one member and returns what it printed.
    pub(crate) fn etcdctl(&self, number: usize, arguments: &[&str]) -> String {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}", self.members[number].client_url))
            .args(arguments)
            .output()
            .expect("`etcdctl` of Debian's etcd-client");
        assert!(output.status.success(), "etcdctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text from etcdctl")
    }
}

impl Member {
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("etcd to be killed");
            process.wait().expect("etcd to be gone");
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its number").port()
}
