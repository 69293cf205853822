//! Inside VMs: their root, their init, their services, suspension.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use cladnet_sandbox::{PublicAddress, ServiceState, Vm};
use nix::unistd::Pid;

use crate::support::{eventually, one_vpc, pings, sandbox};

fn running_pid(vm: &Vm<'_>, service: &str) -> Option<i32> {
    let services = vm.services().expect("init answers");
    match services.iter().find(|status| status.name == service)?.state {
        ServiceState::Running { pid } => Some(pid),
        _ => None,
    }
}

#[test]
fn a_vm_has_a_root_of_its_own() {
    let vms =
        "  - { name: a, vpc: home, subnet: one }\n  - { name: b, vpc: home, subnet: one, tun: false, disk_mib: 4 }";
    let sandbox = sandbox(&one_vpc(vms));
    let (a, b) = (sandbox.vm("a").expect("it exists"), sandbox.vm("b").expect("it exists"));
    assert_eq!(a.run(["hostname"]).expect("it runs").trim(), "a");
    let machine_id =
        |vm: &Vm<'_>| String::from_utf8(vm.read_file("/etc/machine-id").expect("it is there")).expect("text");
    assert_eq!(machine_id(&a).trim().len(), 32);
    assert_ne!(machine_id(&a), machine_id(&b));
    assert_ne!(machine_id(&a).into_bytes(), std::fs::read("/etc/machine-id").unwrap_or_default());
    a.write_file("/etc/cladnet-test", b"mine", 0o600).expect("it can be written");
    assert_eq!(a.run(["stat", "-c", "%a", "/etc/cladnet-test"]).expect("it is there").trim(), "600");
    assert!(b.read_file("/etc/cladnet-test").is_err(), "another VM does not see it");
    assert!(!std::path::Path::new("/etc/cladnet-test").exists(), "nor does the host");
    let processes = a.run(["sh", "-c", "ls -d /proc/[0-9]* | wc -l"]).expect("it runs");
    assert!(processes.trim().parse::<u32>().expect("a number") < 6, "only its own processes: {processes}");
    a.run(["test", "-c", "/dev/net/tun"]).expect("there is a TUN");
    b.run(["test", "!", "-e", "/dev/net/tun"]).expect("there is none where it is switched off");
    assert!(a.exec(["sysctl", "-w", "kernel.threads-max=1000"]).is_ok_and(|output| !output.status.success()));
    a.run(["sysctl", "-w", "net.ipv4.ip_forward=1"]).expect("the network's settings are its own");
}

#[test]
fn a_full_disk_is_full_for_one_vm_only() {
    let vms = "  - { name: a, vpc: home, subnet: one }\n  - { name: b, vpc: home, subnet: one, disk_mib: 4 }";
    let sandbox = sandbox(&one_vpc(vms));
    let fill = |name: &str| {
        let vm = sandbox.vm(name).expect("it exists");
        vm.exec(["dd", "if=/dev/zero", "of=/var/lib/fill", "bs=1M", "count=8"]).expect("dd runs")
    };
    let failed = fill("b");
    assert!(!failed.status.success());
    assert!(String::from_utf8_lossy(&failed.stderr).contains("No space left on device"), "{failed:?}");
    assert!(fill("a").status.success());
}

#[test]
fn programs_get_their_streams_and_give_their_exit_code() {
    let sandbox = sandbox(&one_vpc("  - { name: vm, vpc: home, subnet: one }"));
    let vm = sandbox.vm("vm").expect("it exists");
    let output = vm.exec(["sh", "-c", "echo out; echo err >&2; exit 7"]).expect("it runs");
    assert_eq!((output.status.code(), &output.stdout[..], &output.stderr[..]), (Some(7), &b"out\n"[..], &b"err\n"[..]));
    assert_eq!(vm.exec(["sh", "-c", "kill -9 $$"]).expect("it runs").status.code(), Some(128 + 9));
    let mut sleeper = vm.command(["sleep", "1000"]).expect("the binary is there").spawn().expect("it starts");
    let sleepers = || vm.exec(["pgrep", "-x", "sleep"]).expect("pgrep runs").stdout.len();
    eventually("the program runs", || sleepers() > 0);
    sleeper.kill().expect("it runs");
    sleeper.wait().expect("it was started");
    eventually("killing the command kills the program", || sleepers() == 0);
}

#[test]
fn a_program_decides_what_an_interrupt_means() {
    let sandbox = sandbox(&one_vpc("  - { name: vm, vpc: home, subnet: one }"));
    let vm = sandbox.vm("vm").expect("it exists");
    let script = "trap 'exit 3' INT; echo ready; while :; do sleep 0.05; done";
    // A shell cannot trap what was ignored when it began, as it is in whatever was started in the background.
    let mut command = vm.command(["env", "--default-signal=INT", "sh", "-c", script]).expect("the binary is there");
    // A terminal interrupts a whole process group: the program, and who waits for it outside the VM.
    let mut caller = command.process_group(0).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(caller.stdout.take().expect("it is piped")).read_line(&mut line).expect("it speaks");
    assert_eq!(line, "ready\n");
    let group = Pid::from_raw(caller.id().cast_signed());
    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGINT).expect("the group is there");
    let mut ended = None;
    eventually("the program ends", || {
        ended = caller.try_wait().expect("it was started");
        ended.is_some()
    });
    assert_eq!(ended.and_then(|status| status.code()), Some(3));
}

#[test]
fn a_service_is_started_again_until_it_is_stopped() {
    let sandbox = sandbox(&one_vpc("  - { name: vm, vpc: home, subnet: one }"));
    let vm = sandbox.vm("vm").expect("it exists");
    vm.add_service("ticker", ["sh", "-c", "echo started; exec sleep 1000"]).expect("it can be started");
    let first = running_pid(&vm, "ticker").expect("it runs");
    let starts = || vm.service_log("ticker").expect("there is a log").matches("started\n").count();
    eventually("it has logged its start", || starts() == 1);
    vm.kill_service("ticker", 9).expect("it runs");
    eventually("it runs again", || running_pid(&vm, "ticker").is_some_and(|pid| pid != first));
    let status = vm.services().expect("init answers").remove(0);
    assert_eq!((status.restarts, status.last_end.as_deref()), (1, Some("signal SIGKILL")));
    eventually("it has logged both starts", || starts() == 2);
    vm.stop_service("ticker").expect("it runs");
    assert_eq!(vm.services().expect("init answers")[0].state, ServiceState::Stopped);
    assert!(vm.exec(["pgrep", "-x", "sleep"]).expect("pgrep runs").stdout.is_empty());
    vm.start_service("ticker").expect("it can be started");
    assert!(running_pid(&vm, "ticker").is_some());
    assert!(vm.add_service("ticker", ["true"]).is_err(), "a name is used once");
    assert!(vm.add_service("ghost", ["/no/such/program"]).is_err(), "what cannot be started is refused");
    vm.remove_service("ticker").expect("it exists");
    assert!(vm.services().expect("init answers").is_empty());
}

#[test]
fn a_reboot_ends_everything_and_starts_the_services() {
    let sandbox = sandbox(&one_vpc("  - { name: vm, vpc: home, subnet: one }"));
    let vm = sandbox.vm("vm").expect("it exists");
    vm.add_service("daemon", ["sleep", "1000"]).expect("it can be started");
    vm.write_file("/run/volatile", b"x", 0o644).expect("it can be written");
    vm.write_file("/var/lib/durable", b"x", 0o644).expect("it can be written");
    let before = running_pid(&vm, "daemon").expect("it runs");
    vm.reboot().expect("init answers");
    eventually("the service runs again", || running_pid(&vm, "daemon").is_some_and(|pid| pid != before));
    assert!(vm.read_file("/run/volatile").is_err() && vm.read_file("/var/lib/durable").is_ok());
}

#[test]
fn a_suspended_vm_does_nothing_and_comes_back_with_another_address() {
    let sandbox =
        sandbox(&one_vpc("  - { name: vm, vpc: home, subnet: one }\n  - { name: near, vpc: home, subnet: one }"));
    suspend_and_resume(&sandbox);
}

#[test]
fn suspension_works_without_cgroups() {
    let sandbox =
        sandbox(&one_vpc("  - { name: vm, vpc: home, subnet: one }\n  - { name: near, vpc: home, subnet: one }"));
    leave_cgroups(&sandbox);
    suspend_and_resume(&sandbox);
}

#[test]
fn suspension_works_with_the_first_version_of_cgroups() {
    let root = std::path::Path::new("/sys/fs/cgroup/freezer");
    if !root.join("cgroup.procs").exists() {
        eprintln!("this kernel has no freezer of version 1 mounted: there is nothing to prove here");
        return;
    }
    let sandbox =
        sandbox(&one_vpc("  - { name: vm, vpc: home, subnet: one }\n  - { name: near, vpc: home, subnet: one }"));
    leave_cgroups(&sandbox);
    let own = root.join(format!("cladnet-sandbox-{}", sandbox.id())).join("vm");
    std::fs::create_dir_all(&own).expect("it can be made");
    let init = sandbox.vm("vm").expect("it exists").init_pid().expect("it runs").to_string();
    std::fs::write(own.join("cgroup.procs"), init).expect("it can be moved");
    suspend_and_resume(&sandbox);
    sandbox.vm("vm").expect("it exists").suspend().expect("it runs");
    sandbox.destroy().expect("what is frozen can be destroyed");
    assert!(!own.exists());
}

/// Takes a VM out of its cgroup: then it is what it would be on a machine that has none.
fn leave_cgroups(sandbox: &cladnet_sandbox::Sandbox) {
    let init = sandbox.vm("vm").expect("it exists").init_pid().expect("it runs").to_string();
    for mount in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/freezer"].map(std::path::Path::new) {
        let own = mount.join(format!("cladnet-sandbox-{}", sandbox.id())).join("vm");
        if own.is_dir() {
            std::fs::write(mount.join("cgroup.procs"), &init).expect("it can be moved");
            std::fs::remove_dir(&own).expect("it is empty");
        }
    }
}

fn suspend_and_resume(sandbox: &cladnet_sandbox::Sandbox) {
    let vm = |name: &str| sandbox.vm(name).expect("it exists");
    let (vm, near, out) = (vm("vm"), vm("near"), vm("out-1"));
    vm.add_service("counter", ["sh", "-c", "while :; do echo x; sleep 0.02; done"]).expect("it can be started");
    // Read from outside: nothing can be run inside while it sleeps.
    let log = format!("/proc/{}/root/var/log/counter.log", vm.init_pid().expect("it runs"));
    let count = || std::fs::metadata(&log).expect("the log is there").len();
    eventually("the service counts", || count() > 5);
    let old = vm.public_address().expect("it has one");
    vm.suspend().expect("it runs");
    assert!(vm.suspend().is_err() && vm.exec(["true"]).is_ok_and(|output| !output.status.success()));
    let asleep = count();
    assert!(!pings(&out, old), "no packet from outside is answered");
    assert!(!pings(&near, vm.private_address().expect("it has one")), "nor one from its subnet");
    assert_eq!(count(), asleep, "nothing ran meanwhile");
    let new = vm.resume(PublicAddress::Change).expect("it is suspended").expect("it has a public address");
    assert_ne!(new, old);
    eventually("the service counts again", || count() > asleep);
    assert!(pings(&out, new) && !pings(&out, old));
    assert!(pings(&near, vm.private_address().expect("it has one")));
    assert!(vm.resume(PublicAddress::Keep).is_err());
}

#[test]
fn an_address_changes_without_suspension_and_flows_follow() {
    let sandbox = sandbox(&one_vpc("  - { name: vm, vpc: home, subnet: one }"));
    let (vm, out) = (sandbox.vm("vm").expect("it exists"), sandbox.vm("out-1").expect("it exists"));
    let (inner, outer) = (crate::support::udp(&vm, 8055), crate::support::udp(&out, 7000));
    let to = (out.public_address().expect("it has one"), 7000);
    let old = vm.public_address().expect("it has one");
    inner.send_to(b"x", to).expect("it is sent");
    assert_eq!(crate::support::receive(&outer).expect("it arrives").1.ip(), old);
    let new = vm.readdress().expect("it has a public address");
    assert_eq!(vm.public_address().expect("it has one"), new);
    inner.send_to(b"x", to).expect("it is sent");
    assert_eq!(crate::support::receive(&outer).expect("it arrives").1.ip(), new);
    assert!(out.readdress().is_err(), "a machine on the internet keeps its address");
}
