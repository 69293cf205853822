//! From making to destroying: sandboxes outlive their makers, stand side by side, and leave nothing behind.

use std::process::{Command, Stdio};
use std::time::Duration;

use cladnet_sandbox::{Sandbox, Topology, VmSpec};

use crate::support::{demo, eventually, pings};

const BINARY: &str = env!("CARGO_BIN_EXE_cladnet-sandbox");

/// Command lines of living processes that name a sandbox.
fn processes_of(id: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").expect("there is a /proc").flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains("cladnet-sandbox process") && line.contains(&format!(" {id} "))).collect()
}

fn assert_nothing_left(id: &str) {
    assert_eq!(processes_of(id), Vec::<String>::new());
    assert!(!Sandbox::list().expect("it can be listed").contains(&id.to_owned()));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("there is one");
    assert!(!mounts.contains(&format!("cladnet-sandbox/{id}")), "{mounts}");
    for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/freezer"] {
        assert!(
            !std::path::Path::new(root).join(format!("cladnet-sandbox-{id}")).exists(),
            "a cgroup is left in {root}"
        );
    }
}

/// In a network, mount and process namespace of its own, where nobody else changes anything, everything can be compared.
#[test]
fn destroy_leaves_the_machine_as_it_was() {
    const SCRIPT: &str = r#"
        set -eu
        mount -t tmpfs none /run
        ip link set lo up
        snapshot() {
            ip -o link; ip -o address; ip route; ip -6 route; nft list ruleset
            cat /proc/self/mounts; find /run; ls /sys/fs/cgroup /sys/fs/cgroup/*/ | grep "cladnet-sandbox-$1" || true
            # Alone, so that no other program of this function is in the list.
            programs=$(ps -eo args --no-headers)
            echo "$programs" | grep -v -e '^ps ' -e defunct | sort
        }
        snapshot "$2" > /tmp/before-$2
        "$1" create --demo --id "$2" > /dev/null
        "$1" service "$2" aws-1 add sleeper -- sleep 1000
        "$1" suspend "$2" gcp-1
        snapshot "$2" > /tmp/during-$2
        "$1" destroy "$2"
        snapshot "$2" > /tmp/after-$2
        ! cmp -s /tmp/before-$2 /tmp/during-$2 || { echo "the snapshot does not see a sandbox"; exit 1; }
        diff /tmp/before-$2 /tmp/after-$2
    "#;
    let id = format!("whole-{}", std::process::id());
    let arguments = ["--net", "--mount", "--pid", "--fork", "--mount-proc", "bash", "-c", SCRIPT, "bash", BINARY, &id];
    let output = Command::new("unshare").args(arguments).output().expect("unshare runs");
    for part in ["before", "during", "after"] {
        let _ = std::fs::remove_file(format!("/tmp/{part}-{id}"));
    }
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_sandbox_outlives_its_maker() {
    let id = format!("orphan-{}", std::process::id());
    let made = Command::new(BINARY).args(["create", "--demo", "--id", &id]).output().expect("the binary runs");
    assert!(made.status.success(), "{made:?}");
    let sandbox = Sandbox::open(&id).expect("it is there without its maker").destroy_on_drop();
    assert_eq!(sandbox.vms().expect("it is known").len(), 7);
    assert!(pings(&sandbox.vm("aws-1").expect("it exists"), "10.0.2.10"));
    sandbox.destroy().expect("it can be destroyed");
    assert_nothing_left(&id);
    sandbox.destroy().expect("twice is no error");
}

#[test]
fn destroying_what_was_never_finished_leaves_nothing() {
    for (round, milliseconds) in [1, 5, 15, 30, 50, 70, 90, 120].into_iter().enumerate() {
        let id = format!("torn-{}-{round}", std::process::id());
        let mut maker = Command::new(BINARY);
        maker.args(["create", "--demo", "--id", &id]).stdout(Stdio::null());
        let mut maker = maker.spawn().expect("the binary runs");
        std::thread::park_timeout(Duration::from_millis(milliseconds));
        maker.kill().expect("it was started");
        maker.wait().expect("it was started");
        if let Ok(sandbox) = Sandbox::open(&id) {
            sandbox.destroy().expect("it can be destroyed");
        }
        eventually("its processes are gone", || processes_of(&id).is_empty());
        assert_nothing_left(&id);
    }
}

#[test]
fn several_sandboxes_do_not_notice_each_other() {
    let (one, two) = (demo(), demo());
    assert_ne!(one.id(), two.id());
    let access = |sandbox: &Sandbox| sandbox.vm("control").and_then(|vm| vm.host_access()).expect("the demo has it");
    assert_ne!(access(&one), access(&two));
    let control = two.vm("control").expect("it exists").public_address().expect("it has one");
    one.destroy().expect("it can be destroyed");
    assert_nothing_left(one.id());
    assert!(pings(&two.vm("gcp-1").expect("it exists"), control), "the other goes on");
}

#[test]
fn a_sandbox_that_cannot_be_made_leaves_nothing_and_says_why() {
    let mut topology = Topology::demo();
    topology.vpcs[0].udp_timeout_seconds = Some(u32::MAX);
    let id = format!("broken-{}", std::process::id());
    let error = Sandbox::create_as(&id, &topology).expect_err("the kernel refuses the timeout");
    assert!(error.to_string().contains("nf_conntrack_udp_timeout"), "{error}");
    assert_nothing_left(&id);
}

#[test]
fn an_id_is_used_once() {
    let sandbox = demo();
    let error = Sandbox::create_as(sandbox.id(), &Topology::demo()).expect_err("the id is taken");
    assert!(error.to_string().contains("exists already"), "{error}");
    sandbox.vm("aws-1").expect("the first is untouched").run(["true"]).expect("and works");
}

#[test]
fn vms_come_and_go_while_the_sandbox_runs() {
    let sandbox = demo();
    for _ in 0..3 {
        let vm = sandbox.add_vm(&VmSpec::new("late", "aws-seoul", "aws-a1")).expect("it can be added");
        assert_eq!(vm.private_address().expect("it has one").to_string(), "10.0.1.11");
        let control = sandbox.vm("control").expect("it exists").public_address().expect("it has one");
        assert!(pings(&vm, "10.0.2.10") && pings(&vm, control));
        vm.add_service("sleeper", ["sleep", "1000"]).expect("it can be started");
        assert!(sandbox.add_vm(&VmSpec::new("late", "aws-seoul", "aws-a1")).is_err(), "a name is used once");
        sandbox.remove_vm("late").expect("it exists");
        assert!(sandbox.vm("late").is_err());
        assert!(!pings(&sandbox.vm("aws-1").expect("it exists"), "10.0.1.11"));
    }
    assert!(sandbox.remove_vm("control").is_err(), "machines on the internet stay");
    assert!(sandbox.add_vm(&VmSpec::new("lost", "aws-seoul", "nowhere")).is_err());
    assert_eq!(sandbox.vms().expect("it is known").len(), 7);
}
