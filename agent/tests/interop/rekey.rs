//! A rekey as it happens: WireGuard's two minutes, in real time, with traffic all along.

use std::time::Duration;

use crate::hosts::{Pair, Peer};
use crate::lab::{Lab, Side};

/// `REKEY_AFTER_TIME` (whitepaper §6.1) and a little.
const BEYOND_A_REKEY: Duration = Duration::from_secs(128);
const PINGS_PER_SECOND: u64 = 5;

/// Whoever initiated renews: both roles at once, in two labs.
#[test]
fn keys_are_renewed_after_two_minutes_without_losing_a_packet() {
    std::thread::scope(|scope| {
        for caller in [Side::A, Side::B] {
            scope.spawn(move || renews(caller));
        }
    });
}

fn renews(caller: Side) {
    let Some(lab) = Lab::new() else { return };
    let pair = Pair::new();
    let knows = |side: Side| Peer { endpoint: pair.peer(side).endpoint.filter(|_| side != caller), ..pair.peer(side) };
    let reference = pair.start_reference(&lab, Side::B, &knows(Side::A));
    let _a = pair.start_ours(&lab, Side::A, &knows(Side::B));
    assert!(lab.pings(caller));
    let first = reference.latest_handshake(&lab);
    assert_ne!(first, 0);

    let count = (BEYOND_A_REKEY.as_secs() * PINGS_PER_SECOND).to_string();
    let interval = format!("{:.2}", 1.0 / PINGS_PER_SECOND as f64);
    let to = caller.other().overlay().to_string();
    let output = lab.run(caller, "ping", &["-q", "-c", &count, "-i", &interval, "-W", "2", &to]);
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(report.contains(&format!("{count} received")), "{caller:?} initiated: {report}");
    let renewed = reference.latest_handshake(&lab) - first;
    assert!((115..=128).contains(&renewed), "{caller:?} initiated: renewed after {renewed} s");
}
