//! Who may cost us a handshake now. Every source address is measured by itself, so that a flood from one never sends
//! others for a cookie; a flood from ever new addresses fills the bounded table, and then newcomers are sent for one.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::discard::Discard;
use crate::sources::Sources;

/// Handshakes per second from one source without a cookie: enough for a site of VMs behind one NAT that returns.
const FREE_PER_SECOND: u32 = 256;
/// As many more from a source that has proved where it is; about a fifth of a core.
const PROVEN_PER_SECOND: u32 = 1024;
const PERIOD: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Load {
    since: Option<Instant>,
    free: Sources,
    proven: Sources,
}

/// A source that is not admitted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Excess {
    NeedsCookie,
    Discard(Discard),
}

impl Load {
    /// Counts a handshake message from `from`; `is_proven` is asked only where it matters.
    pub(super) fn admit(&mut self, now: Instant, from: IpAddr, is_proven: impl FnOnce() -> bool) -> Result<(), Excess> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= PERIOD) {
            *self = Self { since: Some(now), ..Self::default() };
        }
        if self.free.has_room(from, FREE_PER_SECOND) {
            return Ok(());
        }
        if !is_proven() {
            return Err(Excess::NeedsCookie);
        }
        if self.proven.has_room(from, PROVEN_PER_SECOND) {
            return Ok(());
        }
        Err(Excess::Discard(Discard::UnderLoad))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::sources::MAX_SOURCES;

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn a_flood_from_one_source_costs_only_itself() {
        let (mut load, now) = (Load::default(), Instant::now());
        for _ in 0..FREE_PER_SECOND {
            assert_eq!(load.admit(now, address(1), || false), Ok(()));
        }
        assert_eq!(load.admit(now, address(1), || false), Err(Excess::NeedsCookie));
        assert_eq!(load.admit(now, address(2), || false), Ok(()));
        for _ in 0..PROVEN_PER_SECOND {
            assert_eq!(load.admit(now, address(1), || true), Ok(()));
        }
        assert_eq!(load.admit(now, address(1), || true), Err(Excess::Discard(Discard::UnderLoad)));
        assert_eq!(load.admit(now + PERIOD, address(1), || false), Ok(()));
    }

    #[test]
    fn a_flood_from_everywhere_sends_newcomers_for_a_cookie_and_stays_bounded() {
        let (mut load, now) = (Load::default(), Instant::now());
        assert_eq!(load.admit(now, address(0), || false), Ok(()));
        for number in 1..2 * MAX_SOURCES as u32 {
            let _ = load.admit(now, address(number), || false);
        }
        assert_eq!(load.free.len(), MAX_SOURCES);
        assert_eq!(load.admit(now, address(0), || false), Ok(()), "who was there before is not turned away");
        assert_eq!(load.admit(now, address(u32::MAX), || false), Err(Excess::NeedsCookie));
        assert_eq!(load.admit(now, address(u32::MAX), || true), Ok(()));
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_source() {
        let (mut load, now) = (Load::default(), Instant::now());
        for host in 0..FREE_PER_SECOND {
            let _ = load.admit(now, Ipv6Addr::from_bits(0xfd << 120 | u128::from(host)).into(), || false);
        }
        assert!(load.admit(now, "fd00::ffff:1".parse().unwrap(), || false).is_err());
        assert!(load.admit(now, "fd00:0:0:1::1".parse().unwrap(), || false).is_ok());
    }
}
