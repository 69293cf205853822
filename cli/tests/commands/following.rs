//! Following a deployment on a terminal. There is no provisioner: what one would say is written into the store by hand.

use std::{fs, os::unix::fs::PermissionsExt as _};

use cladnet_model::{
    DeploymentHost, DeploymentId, DeploymentProgress,
    deployment::{DeploymentClaim, DeploymentState, Fingerprint},
};
use cladnet_store::{Store, key};
use tokio::runtime::Runtime;

use crate::{
    etcd::Etcd,
    harness::{Server, eventually},
    terminal::{CTRL_C, Terminal},
};

const KEY: &str = include_str!("../../../model/src/deployment/private_key/openssh");
const TWO: &str = "defaults: { user: debian, key: id }
hosts:
  - { name: edge, address: 192.0.2.10 }
  - { name: db-1, address: 192.0.2.11 }
";

/// A service, and the hand of a provisioner.
struct Stage {
    server: Server,
    store: Store,
    runtime: Runtime,
    // Goes last.
    _etcd: Etcd,
}

impl Stage {
    fn set() -> Self {
        let etcd = Etcd::start();
        let server = Server::replica(&etcd.arguments_of_a_service());
        server.network("prod", "10.9.0.0/24");
        let file = server.directory.path().join("id");
        fs::write(&file, KEY).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(server.directory.path().join("hosts.yaml"), TWO).unwrap();
        let runtime = Runtime::new().unwrap();
        let store = runtime.block_on(etcd.store());
        Self { server, store, runtime, _etcd: etcd }
    }

    /// `cladnet deploy` on a terminal, and the deployment that it has begun.
    fn deploy(&self) -> (Terminal, DeploymentId) {
        let file = self.server.directory.path().join("hosts.yaml");
        let arguments = ["deploy", "-f", file.to_str().unwrap(), "--network", "prod"];
        let terminal = Terminal::run(&self.server.command(&arguments));
        terminal.wait_for("no provisioner works on it yet", 1);
        let listed = self.server.json(&["deployment", "list"]);
        (terminal, listed["deployments"][0]["deploymentId"].as_str().unwrap().parse().unwrap())
    }

    fn claim(&self, id: &DeploymentId) {
        let claim = DeploymentClaim { replica: "p".to_owned() };
        self.runtime.block_on(self.store.put(&key::deployment_claim(id), &claim)).unwrap();
    }

    fn tell(&self, id: &DeploymentId, machine: &str, state: DeploymentState, offered: Option<Fingerprint>) {
        let progress = DeploymentProgress { state, offered_key: offered, ..DeploymentProgress::default() };
        let key = key::deployment_progress(id, &machine.parse().unwrap());
        self.runtime.block_on(self.store.put(&key, &progress)).unwrap();
    }

    fn machine(&self, id: &DeploymentId, machine: &str) -> DeploymentHost {
        let key = key::deployment_host(id, &machine.parse().unwrap());
        self.runtime.block_on(self.store.get(&key)).unwrap().unwrap().value
    }
}

#[test]
fn the_table_is_drawn_anew_and_host_keys_are_asked_about() {
    let stage = Stage::set();
    let (mut terminal, id) = stage.deploy();
    stage.claim(&id);
    stage.tell(&id, "edge", DeploymentState::Installing, None);
    terminal.wait_for("installing", 1);
    let shown = terminal.shown();
    let (before, redrawn) = shown.split_once("\x1b[J").expect("what was there is taken away first");
    assert!(before.ends_with("\x1b[4A"), "up over a head, two machines and a summary: {shown:?}");
    assert!(redrawn.contains("MACHINE") && redrawn.contains("db-1"), "{shown:?}");

    let (first, second) = (Fingerprint::of(b"first"), Fingerprint::of(b"second"));
    stage.tell(&id, "edge", DeploymentState::ConfirmHostKey, Some(first));
    terminal.wait_for("[y/N]", 1);
    let listed = stage.server.run(&["deployment", "list"]).ok().stdout;
    let mut lines = listed.lines().map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()));
    let column = lines.next().unwrap().position(|name| name == "UNCONFIRMED").expect("a column");
    assert_eq!(lines.next().unwrap().nth(column), Some("1"), "who waits for a person is told:\n{listed}");
    assert!(stage.server.run(&["deployment", "show", id.as_str()]).ok().stdout.contains(", 1 to be confirmed"));
    assert!(terminal.shown().contains(&first.to_string()) && terminal.shown().contains("192.0.2.10, port 22"));
    terminal.types("n\n");
    terminal.wait_for(&format!("cladnet deployment confirm {id} edge {first}"), 1);
    assert_eq!(stage.machine(&id, "edge").confirmed, None);
    stage.tell(&id, "db-1", DeploymentState::ConfirmHostKey, Some(second));
    terminal.wait_for("[y/N]", 2);
    terminal.types("y\n");
    eventually("the key to be confirmed", || stage.machine(&id, "db-1").confirmed == Some(second));
    assert!(stage.machine(&id, "db-1").confirmed_by.is_some());
    assert_eq!(terminal.shown().matches("[y/N]").count(), 2, "nothing is asked twice");

    stage.tell(&id, "edge", DeploymentState::Done, None);
    stage.tell(&id, "db-1", DeploymentState::Done, None);
    assert_eq!(terminal.ends(), 0, "{}", terminal.shown());
    let last = terminal.shown();
    assert!(last.rsplit("\x1b[J").next().unwrap().contains("finished, 2 of 2 machines done, 0 failed"), "{last:?}");
}

#[test]
fn ctrl_c_asks_whether_to_cancel() {
    let stage = Stage::set();
    let (mut terminal, id) = stage.deploy();
    terminal.types(CTRL_C);
    terminal.wait_for("Cancel the deployment?", 1);
    terminal.types("n\n");
    assert_eq!(terminal.ends(), 1);
    let goes_on = format!("the deployment goes on: cladnet deployment show --follow {id}");
    assert!(terminal.shown().contains(&goes_on), "{}", terminal.shown());

    let mut again = Terminal::run(&stage.server.command(&["deployment", "show", "--follow", id.as_str()]));
    again.wait_for("no provisioner works on it yet", 1);
    again.types(CTRL_C);
    again.wait_for("Cancel the deployment?", 1);
    again.types(CTRL_C);
    assert_eq!(again.ends(), 1, "a second one lets it run");
    assert!(again.shown().contains(&goes_on), "{}", again.shown());

    let mut last = Terminal::run(&stage.server.command(&["deployment", "show", "--follow", id.as_str()]));
    last.wait_for("no provisioner works on it yet", 1);
    last.types(CTRL_C);
    last.wait_for("Cancel the deployment?", 1);
    last.types("y\n");
    assert_eq!(last.ends(), 1, "it was not done");
    assert!(last.shown().contains(&format!("{id}: cancelled, 0 of 2 machines done")), "{}", last.shown());
    let shown = stage.server.json(&["deployment", "show", id.as_str()]);
    assert_eq!((&shown["state"], &shown["hosts"][0]["state"]), (&"finished".into(), &"cancelled".into()));
}

#[test]
fn a_key_that_has_all_its_streams_still_follows_to_the_end() {
    const STREAMS_OF_A_KEY: usize = 10;
    let stage = Stage::set();
    let (terminal, id) = stage.deploy();
    stage.claim(&id);
    let mut terminals = vec![terminal];
    for _ in 0..STREAMS_OF_A_KEY {
        let more = Terminal::run(&stage.server.command(&["deployment", "show", "--follow", id.as_str()]));
        more.wait_for("0 of 2 machines done", 1);
        terminals.push(more);
    }
    stage.tell(&id, "edge", DeploymentState::Done, None);
    stage.tell(&id, "db-1", DeploymentState::Done, None);
    for mut terminal in terminals {
        assert_eq!(terminal.ends(), 0, "{}", terminal.shown());
        assert!(!terminal.shown().contains("trying again"), "{}", terminal.shown());
    }
}
