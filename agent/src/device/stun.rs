//! Telling STUN from WireGuard on the tunnel's socket. The codec is elsewhere: only the fixed header is looked at here.

use std::net::SocketAddr;

/// Answers kept for a receiver that is late; more than any one survey of servers asks for.
pub(super) const BACKLOG: usize = 32;
/// RFC 8489 §5.
const HEADER_LEN: usize = 20;
const MAGIC_COOKIE: [u8; 4] = 0x2112_A442_u32.to_be_bytes();
/// RFC 8489 §6.1: a message stays below the smallest path MTU.
const MAX_LEN: usize = 1280;

/// A STUN message that arrived on the tunnel's socket.
#[derive(Debug, Clone)]
pub struct StunReply {
    pub from: SocketAddr,
    pub message: Vec<u8>,
}

/// No WireGuard message matches: their second to fourth bytes are zero and the fifth begins a random index, so one that
/// carried the cookie there would still have to start with a type that is no STUN method.
pub(super) fn is_stun(datagram: &[u8]) -> bool {
    (HEADER_LEN..=MAX_LEN).contains(&datagram.len())
        && datagram[0] >> 6 == 0
        && datagram[4..8] == MAGIC_COOKIE
        && datagram[1..4] != [0, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stun_is_known_by_its_cookie_and_wireguard_is_not_taken_for_it() {
        let mut binding_success = [0u8; 32];
        binding_success[..8].copy_from_slice(&[1, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42]);
        assert!(is_stun(&binding_success));
        assert!(!is_stun(&binding_success[..19]));

        let mut data_with_an_unlucky_index = binding_success;
        data_with_an_unlucky_index[..4].copy_from_slice(&[4, 0, 0, 0]);
        assert!(!is_stun(&data_with_an_unlucky_index));
        assert!(!is_stun(&[]));
    }
}
