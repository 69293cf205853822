//! SSH into VMs with OpenSSH's own clients: logins, files, a bastion, host keys.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cladnet_sandbox::{TemporarySandbox, Vm, VmSpec};

use crate::support::{eventually, one_vpc, sandbox};

/// A key pair on the host, for one test.
pub(crate) struct Key(PathBuf);

impl Key {
    pub(crate) fn make() -> Self {
        let path = std::env::temp_dir().join(format!("cladnet-key-{:016x}", rand::random::<u64>()));
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path).status();
        assert!(made.expect("ssh-keygen runs").success());
        Self(path)
    }

    pub(crate) fn public(&self) -> String {
        let line = std::fs::read_to_string(self.0.with_extension("pub")).expect("it was made");
        line.trim().to_owned()
    }

    fn private(&self) -> Vec<u8> {
        std::fs::read(&self.0).expect("it was made")
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        for path in [&self.0, &self.0.with_extension("pub")] {
            std::fs::remove_file(path).expect("it was made");
        }
    }
}

/// A topology of [`one_vpc`] where every machine has an SSH server unless it says otherwise.
pub(crate) fn ssh_sandbox(key: &Key, vms: &str) -> TemporarySandbox {
    let public = key.public();
    sandbox(&format!("{}\nssh: {{ user: debian, authorized_keys: [\"{public}\"] }}\n", one_vpc(vms)))
}

/// Lets the `ssh` and `sftp` of a machine use the key, and know the host keys of some VMs.
pub(crate) fn prepare_client(client: &Vm<'_>, key: &Key, known: &[&Vm<'_>]) {
    const CONFIGURATION: &[u8] = b"
        User debian
        IdentityFile /root/client/key
        IdentitiesOnly yes
        BatchMode yes
        StrictHostKeyChecking yes
        UserKnownHostsFile /root/client/known_hosts
        GlobalKnownHostsFile /dev/null
        ConnectTimeout 10
    ";
    let lines = known.iter().map(|vm| {
        let addresses = [vm.public_address(), vm.private_address()].into_iter().flatten();
        let names: Vec<String> = addresses.map(|address| address.to_string()).collect();
        format!("{} {}\n", names.join(","), vm.ssh_host_key().expect("it has one"))
    });
    let known_hosts: String = lines.collect();
    for (name, content) in [("config", CONFIGURATION), ("key", &key.private()), ("known_hosts", known_hosts.as_bytes())]
    {
        client.write_file(&format!("/root/client/{name}"), content, 0o600).expect("it can be written");
    }
}

/// Runs `ssh` on a machine.
pub(crate) fn ssh(client: &Vm<'_>, arguments: &[&str]) -> Output {
    client.exec([&["ssh", "-F", "/root/client/config"], arguments].concat()).expect("ssh runs")
}

/// What a command printed that must succeed over SSH.
pub(crate) fn ssh_ok(client: &Vm<'_>, arguments: &[&str]) -> String {
    let output = ssh(client, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// What the client complained of when it could not connect.
pub(crate) fn ssh_refused(client: &Vm<'_>, arguments: &[&str]) -> String {
    let output = ssh(client, arguments);
    assert_eq!(output.status.code(), Some(255), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn public_address(vm: &Vm<'_>) -> String {
    vm.public_address().expect("it has one").to_string()
}

#[test]
fn a_user_logs_in_with_a_key_becomes_root_and_moves_files() {
    let key = Key::make();
    let sandbox = ssh_sandbox(&key, "  - { name: vm, vpc: home, subnet: one, disk_mib: 16 }");
    let (vm, out) = (sandbox.vm("vm").expect("it exists"), sandbox.vm("out-1").expect("it exists"));
    prepare_client(&out, &key, &[&vm]);
    let address = public_address(&vm);
    assert_eq!(ssh_ok(&out, &[&address, "hostname; id -un; sudo -n id -u"]), "vm\ndebian\n0\n");
    assert_eq!(ssh(&out, &[&address, "exit 7"]).status.code(), Some(7));
    let transfer = format!(
        "head -c 3000000 /dev/urandom > /root/sent && printf 'put /root/sent one\\nrename one two\\nget two /root/got\\n' \
         | sftp -q -F /root/client/config -b - {address} && cmp /root/sent /root/got"
    );
    out.run(["sh", "-c", &transfer]).expect("what comes back is what was sent");
    assert_eq!(vm.run(["stat", "-c", "%U", "/home/debian/two"]).expect("it is there").trim(), "debian");
    vm.reboot().expect("init answers");
    eventually("it can be logged in again", || ssh(&out, &[&address, "true"]).status.success());
}

#[test]
fn only_the_key_opens_the_door() {
    let (key, other) = (Key::make(), Key::make());
    let sandbox = ssh_sandbox(&key, "  - { name: vm, vpc: home, subnet: one }");
    let (vm, out) = (sandbox.vm("vm").expect("it exists"), sandbox.vm("out-1").expect("it exists"));
    let address = public_address(&vm);
    prepare_client(&out, &other, &[&vm]);
    assert!(ssh_refused(&out, &[&address, "true"]).contains("Permission denied (publickey)"));
    prepare_client(&out, &key, &[&vm]);
    assert!(ssh_refused(&out, &["-l", "root", &address, "true"]).contains("Permission denied (publickey)"));
    let passwords = ["-o", "PreferredAuthentications=password,keyboard-interactive", &address, "true"];
    assert!(ssh_refused(&out, &passwords).contains("Permission denied (publickey)"));
}

#[test]
fn machines_may_have_other_users_or_no_server() {
    let key = Key::make();
    let own = |user: &str| format!("{{ user: {user}, authorized_keys: [\"{}\"], sudo: false }}", key.public());
    let vms = format!(
        "  - {{ name: plain, vpc: home, subnet: one, ssh: {} }}\n  - {{ name: root, vpc: home, subnet: one, ssh: {} }}\n  \
         - {{ name: closed, vpc: home, subnet: one, ssh: off }}",
        own("alice"),
        own("root")
    );
    let sandbox = ssh_sandbox(&key, &vms);
    let vm = |name: &str| sandbox.vm(name).expect("it exists");
    let out = vm("out-1");
    prepare_client(&out, &key, &[&vm("plain"), &vm("root")]);
    let plain = public_address(&vm("plain"));
    assert_eq!(ssh_ok(&out, &["-l", "alice", &plain, "id -un"]), "alice\n");
    assert!(!ssh(&out, &["-l", "alice", &plain, "sudo -n true"]).status.success());
    assert_eq!(ssh_ok(&out, &["-l", "root", &public_address(&vm("root")), "id -u"]), "0\n");
    assert!(ssh_refused(&out, &[&public_address(&vm("closed")), "true"]).contains("Connection refused"));
    assert!(vm("closed").ssh_host_key().is_err() && vm("closed").services().expect("init answers").is_empty());
}

#[test]
fn a_vm_without_a_way_in_is_reached_through_a_bastion() {
    let key = Key::make();
    let sandbox = ssh_sandbox(
        &key,
        "  - { name: bastion, vpc: home, subnet: one }\n  - { name: inner, vpc: home, subnet: two, security_group: { tcp: [] } }",
    );
    let vm = |name: &str| sandbox.vm(name).expect("it exists");
    let (out, bastion, inner) = (vm("out-1"), vm("bastion"), vm("inner"));
    prepare_client(&out, &key, &[&bastion, &inner]);
    let directly = ssh_refused(&out, &["-o", "ConnectTimeout=2", &public_address(&inner), "true"]);
    assert!(directly.contains("timed out"), "{directly}");
    let private = inner.private_address().expect("it has one").to_string();
    let jump = format!("debian@{}", public_address(&bastion));
    assert_eq!(ssh_ok(&out, &["-J", &jump, &private, "hostname"]), "inner\n");
}

#[test]
fn host_keys_belong_to_one_vm_and_nothing_of_the_host_is_touched() {
    let host = || {
        let files = std::fs::read_dir("/etc/ssh").expect("OpenSSH is installed").flatten();
        let mut files: Vec<(PathBuf, Vec<u8>)> = files
            .filter(|entry| entry.path().is_file())
            .map(|entry| (entry.path(), std::fs::read(entry.path()).expect("root may read it")))
            .collect();
        files.sort();
        (files, std::fs::read("/etc/passwd").expect("it is there"), std::fs::read("/etc/shadow").expect("it is there"))
    };
    let before = host();
    let key = Key::make();
    let sandbox = ssh_sandbox(
        &key,
        "  - { name: a, vpc: home, subnet: one }\n  - { name: b, vpc: home, subnet: one }\n  - { name: c, vpc: home, subnet: one, ssh: off }",
    );
    let vm = |name: &str| sandbox.vm(name).expect("it exists");
    let (a, b) = (vm("a").ssh_host_key().expect("it has one"), vm("b").ssh_host_key().expect("it has one"));
    assert!(a.starts_with("ssh-ed25519 AAAA") && a.split(' ').count() == 2 && a != b, "{a} {b}");
    let scanned = vm("out-1").run(["ssh-keyscan", "-t", "ed25519", &public_address(&vm("a"))]).expect("it answers");
    assert!(scanned.trim_end().ends_with(&a), "{scanned}");
    let keys = |name: &str| vm(name).exec(["sh", "-c", "ls /etc/ssh/ssh_host_*"]).expect("it runs").stdout;
    assert_eq!(keys("a"), b"/etc/ssh/ssh_host_ed25519_key\n/etc/ssh/ssh_host_ed25519_key.pub\n");
    assert_eq!(keys("c"), b"", "the host's own keys are not shown");
    assert_eq!(host(), before);
}

#[test]
fn a_rebuilt_vm_has_another_host_key() {
    let key = Key::make();
    let sandbox = ssh_sandbox(&key, "  - { name: vm, vpc: home, subnet: one }");
    let (vm, out) = (sandbox.vm("vm").expect("it exists"), sandbox.vm("out-1").expect("it exists"));
    prepare_client(&out, &key, &[&vm]);
    let (old, address) = (vm.ssh_host_key().expect("it has one"), public_address(&vm));
    let new = vm.replace_ssh_host_key().expect("it has one to replace");
    assert!(new != old && vm.ssh_host_key().expect("it has one") == new);
    assert!(ssh_refused(&out, &[&address, "true"]).contains("REMOTE HOST IDENTIFICATION HAS CHANGED"));
    prepare_client(&out, &key, &[&vm]);
    ssh_ok(&out, &[&address, "true"]);
}

#[test]
fn a_vm_that_comes_later_has_the_server_of_its_topology() {
    let key = Key::make();
    let sandbox = ssh_sandbox(&key, "  - { name: vm, vpc: home, subnet: one, ssh: off }");
    let late = sandbox.add_vm(&VmSpec::new("late", "home", "one")).expect("it can be added");
    let out = sandbox.vm("out-1").expect("it exists");
    prepare_client(&out, &key, &[&late]);
    assert_eq!(ssh_ok(&out, &[&public_address(&late), "hostname"]), "late\n");
}

#[test]
fn a_missing_sshd_is_told_before_anything_is_made() {
    let path = std::env::temp_dir().join(format!("cladnet-ssh-{}.yaml", std::process::id()));
    let text = "internet: [{ name: a, region: seoul }]\nssh: { user: debian, authorized_keys: [] }\n";
    std::fs::write(&path, text).expect("it can be written");
    let id = format!("bare-{}", std::process::id());
    let script = "mount --bind \"$1\" /usr/sbin && exec \"$2\" create -f \"$3\" --id \"$4\"";
    let empty = Path::new("/usr/games");
    assert!(!empty.join("sshd").exists());
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .args([empty, Path::new(env!("CARGO_BIN_EXE_cladnet-sandbox")), &path, Path::new(&id)])
        .output()
        .expect("unshare runs");
    std::fs::remove_file(&path).expect("it was written");
    let problem = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        problem.trim_end(),
        "cladnet-sandbox: a machine with SSH needs /usr/sbin/sshd: install the package openssh-server"
    );
    assert!(!cladnet_sandbox::Sandbox::list().expect("it can be listed").contains(&id));
}
