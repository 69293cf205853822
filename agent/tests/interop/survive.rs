//! What a tunnel outlives: moving, being killed, losing its interface.

use std::time::{Duration, Instant};

use crate::hosts::{Pair, Peer};
use crate::lab::{Lab, Side, eventually};

/// Less than WireGuard's own retry takes, so that it cannot be what helped. How fast it really is, benchmarks say.
const SOON: Duration = Duration::from_secs(4);

#[test]
fn ours_moves_and_wireguard_go_follows() {
    let Some(lab) = Lab::new() else { return };
    let pair = Pair::new();
    let reference = pair.start_reference(&lab, Side::B, &Peer { endpoint: None, ..pair.peer(Side::A) });
    let _a = pair.start_ours(&lab, Side::A, &pair.peer(Side::B));
    assert!(lab.pings(Side::A));
    lab.move_address(Side::A, "192.0.2.1/24", "192.0.2.11/24");
    // Nothing is sent through the tunnel: noticing the change is enough.
    eventually("wireguard-go sees the new address", SOON, || reference.endpoint(&lab) == "192.0.2.11:8055");
    assert!(lab.pings(Side::B));
}

#[test]
fn wireguard_go_moves_and_ours_follows() {
    let Some(lab) = Lab::new() else { return };
    let pair = Pair::new();
    let reference = pair.start_reference(&lab, Side::B, &pair.peer(Side::A));
    let _a = pair.start_ours(&lab, Side::A, &pair.peer(Side::B));
    assert!(lab.pings(Side::A));
    lab.move_address(Side::B, "192.0.2.2/24", "192.0.2.12/24");
    // It holds on to the source address it had; another port lets go of that.
    reference.listen_on(&lab, 8066);
    eventually("ours answers at the new address", SOON, || lab.pings(Side::B));
    assert!(lab.pings(Side::A));
}

#[test]
fn traffic_is_back_soon_after_a_kill() {
    let Some(lab) = Lab::new() else { return };
    let pair = Pair::new();
    let a = pair.start_ours(&lab, Side::A, &pair.peer(Side::B));
    let _b = pair.start_ours(&lab, Side::B, &pair.peer(Side::A));
    assert!(lab.pings(Side::B));
    a.kill();
    let start = Instant::now();
    let _a = pair.start_ours(&lab, Side::A, &pair.peer(Side::B));
    eventually("the survivor reaches the restarted side", SOON, || lab.pings(Side::B));
    println!("traffic is back {:?} after the restart", start.elapsed());
}

#[test]
fn wireguard_go_reaches_ours_soon_after_a_kill() {
    let Some(lab) = Lab::new() else { return };
    let pair = Pair::new();
    let _b = pair.start_reference(&lab, Side::B, &pair.peer(Side::A));
    let a = pair.start_ours(&lab, Side::A, &pair.peer(Side::B));
    assert!(lab.pings(Side::B));
    a.kill();
    let _a = pair.start_ours(&lab, Side::A, &pair.peer(Side::B));
    eventually("wireguard-go reaches the restarted side", SOON, || lab.pings(Side::B));
}

#[test]
fn a_deleted_interface_is_put_back() {
    let Some(lab) = Lab::new() else { return };
    let pair = Pair::new();
    let _a = pair.start_ours(&lab, Side::A, &pair.peer(Side::B));
    let _b = pair.start_ours(&lab, Side::B, &pair.peer(Side::A));
    assert!(lab.pings(Side::A));
    assert!(lab.run(Side::A, "ip", &["link", "del", "cbnet0"]).status.success());
    eventually("the interface is back", SOON, || lab.pings(Side::A));
    assert!(lab.pings(Side::B), "over the session there was");
}
