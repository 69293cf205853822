//! What the tests share: topologies, sockets inside VMs, waiting with a deadline.

use std::fs::File;
use std::net::UdpSocket;
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use cladnet_sandbox::{Sandbox, TemporarySandbox, Topology, Vm};
use nix::sched::{CloneFlags, setns};

/// How long anything may take on a machine that is busy with other tests.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Long enough for a packet that is on its way, in the tests that show that there is none.
pub(crate) const ROUND_TRIP: Duration = Duration::from_millis(1500);

pub(crate) fn sandbox(yaml: &str) -> TemporarySandbox {
    let topology = Topology::from_yaml(yaml).expect("the test's topology is valid");
    Sandbox::create(&topology).expect("a sandbox can be made (it needs root)").destroy_on_drop()
}

pub(crate) fn demo() -> TemporarySandbox {
    Sandbox::create(&Topology::demo()).expect("a sandbox can be made (it needs root)").destroy_on_drop()
}

/// Runs code on a thread inside the network of a VM; sockets that it makes stay there.
pub(crate) fn inside<T: Send>(vm: &Vm<'_>, work: impl FnOnce() -> T + Send) -> T {
    let path = format!("/proc/{}/ns/net", vm.init_pid().expect("the VM has an init"));
    let namespace = File::open(path).expect("the VM runs");
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("its network can be entered");
            work()
        });
        thread.join().expect("the work does not panic")
    })
}

/// A UDP socket inside a VM that waits for [`ROUND_TRIP`] at most.
pub(crate) fn udp(vm: &Vm<'_>, port: u16) -> UdpSocket {
    inside(vm, || {
        let socket = UdpSocket::bind(("0.0.0.0", port)).expect("the port is free");
        socket.set_read_timeout(Some(ROUND_TRIP)).expect("a timeout can be set");
        socket
    })
}

/// The next datagram and who sent it; none if there is none for a while.
pub(crate) fn receive(socket: &UdpSocket) -> Option<(String, std::net::SocketAddr)> {
    let mut buffer = [0; 2048];
    let (length, from) = socket.recv_from(&mut buffer).ok()?;
    Some((String::from_utf8_lossy(&buffer[..length]).into_owned(), from))
}

/// Waits until something holds, and says what it was if it never does.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Whether one of a few pings is answered.
pub(crate) fn pings(vm: &Vm<'_>, to: impl ToString) -> bool {
    let to = to.to_string();
    let output = vm.exec(["ping", "-n", "-c", "3", "-i", "0.2", "-W", "1", &to]).expect("ping runs");
    assert!(output.status.signal().is_none() && output.status.code() != Some(2), "ping itself failed: {output:?}");
    output.status.success()
}

/// The shortest of several round trips, in milliseconds: the one that the machine's load disturbed least.
pub(crate) fn round_trip_ms(vm: &Vm<'_>, to: impl ToString) -> f64 {
    let to = to.to_string();
    let text = vm.run(["ping", "-n", "-q", "-c", "10", "-i", "0.05", &to]).expect("ping is answered");
    let figures = text.split("mdev = ").nth(1).expect("ping prints a summary");
    figures.split('/').next().and_then(|minimum| minimum.parse().ok()).expect("ping prints the minimum")
}

/// One VPC of two subnets and a machine on the internet; `vms` is inserted below `vms:`.
pub(crate) fn one_vpc(vms: &str) -> String {
    format!(
        "
vpcs:
  - name: home
    provider: aws
    region: ap-northeast-2
    cidrs: [10.0.0.0/16]
    ipv6: 2001:db8:1::/56
    security_group: {{ tcp: [22], udp: [8055], icmp: true }}
    subnets:
      - {{ name: one, cidr: 10.0.1.0/24, zone: ap-northeast-2a }}
      - {{ name: two, cidr: 10.0.2.0/24, zone: ap-northeast-2c }}
vms:
{vms}
internet:
  - {{ name: out-1, region: seoul, ipv6: true }}
  - {{ name: out-2, region: seoul }}
wan:
  links:
    - {{ between: [aws/ap-northeast-2, internet/seoul], delay_ms: 1 }}
"
    )
}
