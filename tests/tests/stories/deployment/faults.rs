//! A machine each for everything that can be wrong: each is told by its word, the others go on, and once it is repaired the next
//! run finishes.

use std::time::Duration;

use anyhow::{Result, ensure};
use cladnet_sandbox::{SecurityGroup, TcpFault};
use cladnet_tests::{
    wait::eventually,
    world::{CONTROL, HostsFile, SSH_USER, Servers, SshKey, World, story},
};

use super::{nothing_there, with_ssh};

/// For failing, not a target.
const SOON: Duration = Duration::from_secs(60);

const VMS: &str = "vpcs:
  - name: aws
    provider: aws
    region: ap-northeast-2
    cidrs: [10.0.0.0/16]
    subnets: [{ name: a, cidr: 10.0.1.0/24, zone: ap-northeast-2a }]
vms:
  - { name: good, vpc: aws, subnet: a }
  - { name: locked, vpc: aws, subnet: a }
  - { name: rebuilt, vpc: aws, subnet: a }
  - { name: plain, vpc: aws, subnet: a }
  - { name: full, vpc: aws, subnet: a, disk_mib: 256 }
  - { name: bare, vpc: aws, subnet: a, tun: false }
  - { name: closed, vpc: aws, subnet: a, security_group: { tcp: [], udp: [8055] } }
  - { name: lost, vpc: aws, subnet: a }
  - { name: exotic, vpc: aws, subnet: a }
  - { name: initless, vpc: aws, subnet: a }
";

/// How each machine ends while it is as it was made.
const FAULTS: [(&str, &str); 10] = [
    ("good", "done"),
    ("locked", "authentication-failed"),
    ("rebuilt", "host-key-changed"),
    ("plain", "no-privilege"),
    ("full", "disk-full"),
    ("bare", "no-tun"),
    ("closed", "unreachable"),
    ("lost", "connection-lost"),
    ("exotic", "no-agent-binary"),
    ("initless", "unsupported-system"),
];

#[test]
fn every_fault_has_its_word_and_once_repaired_the_next_run_finishes() {
    let key = SshKey::make().expect("a key");
    let stranger = SshKey::make().expect("a key");
    let mut topology = with_ssh(&key, VMS);
    let plain = topology.vms.iter_mut().find(|vm| vm.name == "plain").expect("it is there");
    let ssh = cladnet_sandbox::Ssh { sudo: false, ..key.server().expect("the key was made") };
    plain.ssh = Some(cladnet_sandbox::SshChoice::On(ssh));
    story(&topology, Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "20"])?;
        let mut file = HostsFile::new(&key, FAULTS.iter().map(|(vm, _)| world.target(vm)).collect::<Result<_>>()?);
        pin_and_rebuild(world, &key, &mut file)?;
        file.target("locked")?.key = Some(stranger.path());
        world.vm("full")?.fill_disk()?;
        world.vm("exotic")?.write_file(UNAME, EXOTIC.as_bytes(), 0o755)?;
        world.vm("initless")?.run(["mount", "--bind", "/dev/null", INIT])?;
        let pinned = world.admin().run(["host-key", "list"])?;

        let id = world.begin_deployment(&file.write(&key)?, "prod", &["--accept-new-host-keys"])?;
        eventually("the upload to begin", SOON, || {
            let state = world.deployment_state(&id, "lost")?;
            // A quick machine may be past it already; a line that dies then is lost as well.
            ensure!(["uploading", "installing", "joining"].contains(&state.as_str()), "it is {state}");
            Ok(())
        })?;
        world.vm("lost")?.set_tcp_fault(22, Some(TcpFault::BlackHole))?;
        let ended = world.end_of_deployment(&id)?;
        ended.ended(&FAULTS)?;
        let wanted = ended.host("exotic")?["detail"].as_str().unwrap_or_default();
        ensure!(wanted.contains("cladnet-agent-riscv64"), "it does not say which one is missing: {wanted}");
        for (vm, _) in FAULTS.iter().filter(|(vm, _)| !["good", "lost"].contains(vm)) {
            nothing_there(world, vm)?;
        }
        let known = |listed: &str| listed.lines().filter(|line| line.contains("SHA256:")).count();
        let now = world.admin().run(["host-key", "list"])?;
        let rebuilt = world.vm("rebuilt")?.public_address()?.to_string();
        let line = |listed: &str| -> Option<String> {
            let line = listed.lines().find(|line| line.starts_with(&rebuilt))?;
            line.split_whitespace().find(|word| word.starts_with("SHA256:")).map(str::to_owned)
        };
        ensure!(line(&now).is_some() && line(&now) == line(&pinned), "another key is known now: {pinned}{now}");
        ensure!(known(&now) >= known(&pinned), "keys were forgotten: {now}");

        repair(world, &rebuilt)?;
        file.target("locked")?.key = None;
        let done = FAULTS.map(|(vm, _)| (vm, "done"));
        world.deploy(&file.write(&key)?, "prod", &["--accept-new-host-keys"])?.ended(&done)?;
        world.wait_mesh("prod", &["good", "lost", "full", "exotic"])
    });
}

/// Scripts on machines look here first.
const UNAME: &str = "/usr/local/bin/uname";
/// A machine of an architecture that there is no agent for.
const EXOTIC: &str = "#!/bin/sh\n[ \"$1\" = -m ] && echo riscv64 || exec /usr/bin/uname \"$@\"\n";
/// The sandbox's service manager; without it a machine has none.
const INIT: &str = "/usr/local/sbin/cladnet-init";

/// The key of `rebuilt` is known since its first sight; then the machine gets another one.
fn pin_and_rebuild(world: &World, key: &SshKey, file: &mut HostsFile) -> Result<()> {
    let target = file.target("rebuilt")?;
    target.host_key = None;
    let alone = HostsFile::new(key, vec![target.clone()]).write(key)?;
    let first = world.deploy(&alone, "prod", &["--uninstall", "--accept-new-host-keys"])?;
    first.ended(&[("rebuilt", "done")])?;
    world.vm("rebuilt")?.replace_ssh_host_key().map(drop)?;
    Ok(())
}

/// What the admin of each machine does about what was told.
fn repair(world: &World, rebuilt: &str) -> Result<()> {
    world.admin().run(["host-key", "forget", &format!("{rebuilt}:22")])?;
    world.vm("plain")?.write_file("/etc/sudoers.d/deploy", sudoers().as_bytes(), 0o440)?;
    world.vm("full")?.free_disk()?;
    world.vm("bare")?.run(["sh", "-c", "mkdir -p /dev/net && mknod -m 666 /dev/net/tun c 10 200"])?;
    let open = SecurityGroup { tcp: vec![22], udp: vec![8055], icmp: false };
    world.vm("closed")?.set_security_group(Some(open))?;
    world.vm("lost")?.set_tcp_fault(22, None)?;
    // Whoever gives the control plane an agent of that name deploys to such machines, too.
    let agents = ["/usr/local/bin/cladnet-agent", "/usr/local/bin/cladnet-agent-riscv64"];
    world.vm(CONTROL)?.run(["ln", "-s", agents[0], agents[1]])?;
    world.vm("initless")?.run(["umount", INIT])?;
    Ok(())
}

fn sudoers() -> String {
    format!("{SSH_USER} ALL=(ALL:ALL) NOPASSWD: ALL\n")
}
