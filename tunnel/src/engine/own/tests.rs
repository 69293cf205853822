//! Bytes that get past mac1, which anybody can write who knows our public key; and what cookies are bound to.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use proptest::prelude::*;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;

use super::cookie::MacWriter;
use super::*;
use crate::engine::Direction;
use crate::host::Epoch;
use crate::message::{COOKIE_REPLY_LEN, HANDSHAKE_RESPONSE_LEN, sender_index, write_head};

struct End {
    engine: OwnEngine,
    now: Instant,
}

impl End {
    fn new() -> Self {
        let (now, mut rng) = (Instant::now(), rand::rng());
        let host = Host::new(Epoch::new(now, SystemTime::now()), UnwrapErr(SysRng));
        Self { engine: OwnEngine::new(&PrivateKey::generate(&mut rng), Arc::new(host)), now }
    }

    fn peer(&self, other: &Self) -> Box<dyn PeerEngine> {
        let parameters = PeerParameters {
            public_key: other.engine.public_key(),
            preshared_key: None,
            persistent_keepalive: None,
            number: 7,
        };
        self.engine.peer(self.now, parameters).unwrap()
    }

    /// Someone who writes MACs for this end and has no key.
    fn outsider(&self) -> MacWriter {
        MacWriter::new(&self.engine.public_key())
    }

    fn admit(&self, from: &str, message: &[u8]) -> Result<(), Refusal> {
        self.engine.admit(self.now, from.parse().unwrap(), message, &mut [0; COOKIE_REPLY_LEN])
    }
}

/// An initiation of `peer` and its length.
fn initiation(peer: &dyn PeerEngine, now: Instant) -> [u8; HANDSHAKE_INITIATION_LEN] {
    let mut message = [0; HANDSHAKE_INITIATION_LEN];
    assert_eq!(peer.initiate(now, &mut message), Some(message.len()));
    message
}

/// Fills the table of sources, so that everybody needs a cookie.
fn flood(end: &End, message: &[u8]) {
    let from = |number: u32| SocketAddr::from((number.to_be_bytes(), 1));
    let refused = (1 << 24..).find(|number| end.engine.admit(end.now, from(*number), message, &mut [0; 64]).is_err());
    assert!(refused.is_some());
}

#[test]
fn a_cookie_is_bound_to_address_and_port_and_ends() {
    let (mut a, mut b) = (End::new(), End::new());
    let peer = a.peer(&b);
    let first = initiation(peer.as_ref(), a.now);
    flood(&b, &first);
    let (home, mut cookie) = ("192.0.2.1:8055", [0; COOKIE_REPLY_LEN]);
    let refusal = b.engine.admit(b.now, home.parse().unwrap(), &first, &mut cookie);
    assert_eq!(refusal, Err(Refusal::Cookie(COOKIE_REPLY_LEN)));
    assert_eq!(peer.handle_reply(a.now, &cookie, &mut []), Ok(None));

    a.now += Duration::from_secs(1);
    let second = initiation(peer.as_ref(), a.now);
    assert!(matches!(b.admit("192.0.2.1:8056", &second), Err(Refusal::Cookie(_))));
    assert!(matches!(b.admit("192.0.2.2:8055", &second), Err(Refusal::Cookie(_))));
    assert_eq!(b.admit(home, &second), Ok(()));

    b.now += Duration::from_secs(121);
    flood(&b, &first);
    assert!(matches!(b.admit(home, &second), Err(Refusal::Cookie(_))), "its secret has changed");
    a.now += Duration::from_secs(121);
    assert_eq!(initiation(peer.as_ref(), a.now)[132..], [0; 16], "and the cookie is not used for longer");
}

#[test]
fn an_ephemeral_key_of_low_order_is_refused() {
    let end = End::new();
    let mut message = [0; HANDSHAKE_INITIATION_LEN];
    write_head(&mut message, 1, &[1, 2, 3, 4]);
    end.outsider().write(end.now, &mut message);
    assert_eq!(end.admit("192.0.2.1:1", &message), Ok(()));
    assert_eq!(end.engine.read_initiation(&message).err(), Some(Discard::NotAuthentic));
}

#[test]
fn sessions_of_one_peer_have_indices_that_show_nothing() {
    let (a, b) = (End::new(), End::new());
    let peer = a.peer(&b);
    let indices: Vec<_> = (0..8)
        .map(|second| sender_index(&initiation(peer.as_ref(), a.now + Duration::from_secs(second))).unwrap())
        .collect();
    assert!(indices.iter().all(|index| index >> 8 != indices[0] >> 8 || index == &indices[0]));
}

proptest! {
    #[test]
    fn no_bytes_behind_a_true_mac1_make_an_initiation(mut message: [u8; HANDSHAKE_INITIATION_LEN]) {
        let end = End::new();
        end.outsider().write(end.now, &mut message);
        prop_assert_eq!(end.admit("192.0.2.1:1", &message), Ok(()));
        prop_assert!(end.engine.read_initiation(&message).is_err());
    }

    #[test]
    fn no_bytes_end_a_handshake_that_waits_for_its_response(
        mut response: [u8; HANDSHAKE_RESPONSE_LEN],
        mut cookie: [u8; COOKIE_REPLY_LEN],
    ) {
        let (a, b) = (End::new(), End::new());
        let (to_b, to_a) = (a.peer(&b), b.peer(&a));
        let initiation = initiation(to_b.as_ref(), a.now);
        let index = initiation[4..8].to_vec();

        response[..4].copy_from_slice(&[2, 0, 0, 0]);
        response[8..12].copy_from_slice(&index);
        a.outsider().write(a.now, &mut response);
        prop_assert!(to_b.handle_reply(a.now, &response, &mut [0; 64]).is_err());
        write_head(&mut cookie, 3, &index);
        prop_assert!(to_b.handle_reply(a.now, &cookie, &mut [0; 64]).is_err());

        let read = b.engine.read_initiation(&initiation).unwrap();
        let mut answer = [0; HANDSHAKE_RESPONSE_LEN];
        prop_assert_eq!(to_a.respond(b.now, &initiation, read, &mut answer), Ok(Some(HANDSHAKE_RESPONSE_LEN)));
        prop_assert!(to_b.handle_reply(a.now, &answer, &mut [0; 64]).unwrap().is_some());
        prop_assert!(to_b.last_handshake().is_some());
        prop_assert!(to_b.renew(a.now, Direction::Sent, &mut [0; HANDSHAKE_INITIATION_LEN]).is_none());
    }
}
