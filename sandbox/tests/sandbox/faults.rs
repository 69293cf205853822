//! What breaks while somebody works on a VM over SSH.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cladnet_sandbox::{TcpFault, TemporarySandbox, Vm};

use crate::support::{eventually, sandbox};
use crate::{ssh, support};

/// Two VMs of a subnet with SSH servers, and a client that knows both.
fn lab(key: &ssh::Key) -> TemporarySandbox {
    let vms = "  - { name: vm, vpc: home, subnet: one, disk_mib: 8 }\n  - { name: near, vpc: home, subnet: one }";
    let sandbox = ssh::ssh_sandbox(key, vms);
    let vm = |name: &str| sandbox.vm(name).expect("it exists");
    for client in ["out-1", "near"] {
        ssh::prepare_client(&vm(client), key, &[&vm("vm")]);
    }
    sandbox
}

/// A connection over which a line comes each 20 ms; it has shown that it works.
struct Connection {
    ssh: Child,
    lines: Arc<AtomicUsize>,
}

/// For clients that notice when the other side falls silent.
const KEEP_ALIVE: &[&str] = &["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=2"];

impl Connection {
    fn open(client: &Vm<'_>, address: &str, options: &[&str]) -> Self {
        let script = "while :; do echo line; sleep 0.02; done";
        let command = [&["ssh", "-F", "/root/client/config"], options, &[address, script]].concat();
        let mut command = client.command(command).expect("the binary is there");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut ssh = command.spawn().expect("ssh runs");
        let lines = Arc::new(AtomicUsize::new(0));
        let (counter, output) = (lines.clone(), BufReader::new(ssh.stdout.take().expect("it is piped")));
        std::thread::spawn(move || {
            for _ in output.lines() {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        let connection = Self { ssh, lines };
        connection.await_more();
        connection
    }

    fn await_more(&self) {
        let before = self.lines.load(Ordering::Relaxed);
        eventually("lines come", || self.lines.load(Ordering::Relaxed) > before);
    }

    /// What the client complained of when it lost its connection.
    fn lost(mut self) -> String {
        eventually("the client gives up", || self.ssh.try_wait().expect("it was started").is_some());
        let mut text = String::new();
        self.ssh.stderr.take().expect("it is piped").read_to_string(&mut text).expect("text");
        assert_eq!(self.ssh.wait().expect("it was started").code(), Some(255), "{text}");
        text
    }

    fn close(mut self) {
        self.ssh.kill().expect("it was started");
        self.ssh.wait().expect("it was started");
    }
}

#[test]
fn a_connection_is_reset_in_the_middle_from_near_and_far() {
    let key = ssh::Key::make();
    let sandbox = lab(&key);
    let vm = |name: &str| sandbox.vm(name).expect("it exists");
    let (public, private) =
        (ssh::public_address(&vm("vm")), vm("vm").private_address().expect("it has one").to_string());
    let open = |client: &str, address: &str| Connection::open(&vm(client), address, &[]);
    let connections = [open("out-1", &public), open("near", &private)];
    vm("vm").set_tcp_fault(22, Some(TcpFault::Reset)).expect("it can be broken");
    for connection in connections {
        let problem = connection.lost();
        assert!(problem.contains("Connection reset") || problem.contains("Broken pipe"), "{problem}");
    }
    assert!(ssh::ssh_refused(&vm("out-1"), &[&public, "true"]).contains("Connection refused"));
    eventually("the server's side has ended too", || {
        vm("vm").run(["ss", "-Htn", "state", "established", "sport", "=", ":22"]).expect("ss runs").is_empty()
    });
    vm("vm").set_tcp_fault(22, None).expect("it can be mended");
    ssh::ssh_ok(&vm("out-1"), &[&public, "true"]);
    assert_eq!(vm("vm").run(["nft", "list", "ruleset"]).expect("nft runs"), "", "nothing of it stays");
}

#[test]
fn a_connection_falls_silent_and_goes_on_when_the_black_hole_closes() {
    let key = ssh::Key::make();
    let sandbox = lab(&key);
    let vm = |name: &str| sandbox.vm(name).expect("it exists");
    let (public, private) =
        (ssh::public_address(&vm("vm")), vm("vm").private_address().expect("it has one").to_string());
    vm("vm").set_tcp_fault(22, Some(TcpFault::BlackHole)).expect("it can be broken");
    assert!(support::pings(&vm("out-1"), &public), "other packets pass");
    let timeout = ["-o", "ConnectTimeout=1"];
    assert!(ssh::ssh_refused(&vm("out-1"), &[&timeout[..], &[&public, "true"]].concat()).contains("timed out"));
    assert!(ssh::ssh_refused(&vm("near"), &[&timeout[..], &[&private, "true"]].concat()).contains("timed out"));
    vm("vm").set_tcp_fault(22, None).expect("it can be mended");
    let patient = Connection::open(&vm("out-1"), &public, &[]);
    let watchful = Connection::open(&vm("out-1"), &public, KEEP_ALIVE);
    vm("vm").set_tcp_fault(22, Some(TcpFault::BlackHole)).expect("it can be broken");
    let problem = watchful.lost();
    assert!(problem.contains("not responding"), "{problem}");
    vm("vm").set_tcp_fault(22, None).expect("it can be mended");
    patient.await_more();
    patient.close();
}

#[test]
fn a_file_does_not_fit_on_a_full_disk_until_it_is_freed() {
    let key = ssh::Key::make();
    let sandbox = lab(&key);
    let (vm, out) = (sandbox.vm("vm").expect("it exists"), sandbox.vm("out-1").expect("it exists"));
    let address = ssh::public_address(&vm);
    vm.fill_disk().expect("it can be filled");
    let write = [address.as_str(), "head -c 100000 /dev/zero > big"];
    let failed = ssh::ssh(&out, &write);
    assert!(String::from_utf8_lossy(&failed.stderr).contains("No space left on device"), "{failed:?}");
    vm.free_disk().expect("it was filled");
    ssh::ssh_ok(&out, &write);
}

#[test]
fn a_server_that_does_not_listen_refuses_until_it_is_started() {
    let key = ssh::Key::make();
    let sandbox = lab(&key);
    let (vm, out) = (sandbox.vm("vm").expect("it exists"), sandbox.vm("out-1").expect("it exists"));
    let address = ssh::public_address(&vm);
    vm.stop_service("sshd").expect("it runs");
    assert!(ssh::ssh_refused(&out, &[&address, "true"]).contains("Connection refused"));
    vm.start_service("sshd").expect("it can be started");
    eventually("it listens again", || ssh::ssh(&out, &[&address, "true"]).status.success());
}

#[test]
fn a_fault_outlives_a_suspension_and_a_machine_on_the_internet_has_faults_too() {
    let key = ssh::Key::make();
    let text = format!(
        "internet:\n  - {{ name: out-1, region: seoul }}\n  - {{ name: other, region: seoul }}\n\
         ssh: {{ user: debian, authorized_keys: [\"{}\"] }}\n",
        key.public()
    );
    let sandbox = sandbox(&text);
    let (out, other) = (sandbox.vm("out-1").expect("it exists"), sandbox.vm("other").expect("it exists"));
    ssh::prepare_client(&out, &key, &[&other]);
    let address = ssh::public_address(&other);
    other.set_tcp_fault(22, Some(TcpFault::Reset)).expect("it can be broken");
    other.suspend().expect("it runs");
    other.resume(cladnet_sandbox::PublicAddress::Keep).expect("it is suspended");
    assert!(ssh::ssh_refused(&out, &[&address, "true"]).contains("Connection refused"));
    other.set_tcp_fault(22, None).expect("it can be mended");
    ssh::ssh_ok(&out, &[&address, "true"]);
}
