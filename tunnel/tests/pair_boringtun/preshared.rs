//! The library takes a preshared key once.

use cladnet_tunnel::{PeerConfig, PresharedKey};

use crate::sim::{between, carry, friends};

#[test]
fn a_new_preshared_key_means_a_new_session() {
    let (a, b) = friends();
    let key = Some(PresharedKey::from_bytes([9; 32]));
    let applied = a.set_peers(&[PeerConfig { preshared_key: key.clone(), ..b.as_peer() }]);
    assert_eq!(applied.to_greet, [b.public_key()]);
    assert!(carry(&a, &b, a.seal(&between(1, 2, b"?")).unwrap()).is_empty());
    b.set_peers(&[PeerConfig { preshared_key: key, ..a.as_peer() }]);
    carry(&b, &a, b.initiate(&[a.public_key()]));
    let packet = between(1, 2, b"!");
    assert_eq!(carry(&a, &b, a.seal(&packet).unwrap()), [(2, packet)]);
}
