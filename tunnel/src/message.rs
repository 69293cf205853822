//! The message types on the wire, told apart by type and length only: the four of WireGuard (whitepaper §5.4), and ours.

use crate::clear::frame;
use crate::discard::Discard;
use crate::index::Receiver;
use crate::probe;

pub(crate) const HANDSHAKE_INITIATION_LEN: usize = 148;
pub(crate) const HANDSHAKE_RESPONSE_LEN: usize = 92;
pub(crate) const COOKIE_REPLY_LEN: usize = 64;
/// Type, receiver index and counter of a data message.
pub(crate) const DATA_HEADER: usize = 16;
/// Header and tag around an empty packet.
pub(crate) const DATA_OVERHEAD: usize = DATA_HEADER + 16;
/// The longest payload of a UDP datagram over IPv4.
pub(crate) const MAX_DATAGRAM: usize = 65_507;

const CLEAR: u32 = frame::MESSAGE_TYPE as u32;

/// A message's kind and, where it answers something of ours, the index that says what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    HandshakeInitiation,
    HandshakeResponse {
        receiver_index: u32,
    },
    CookieReply {
        receiver_index: u32,
    },
    /// The index as we gave it out, whether it may overtake or not; so of clear frames.
    Data {
        receiver_index: u32,
        counter: u64,
    },
    Clear {
        receiver_index: u32,
    },
    Probe {
        tag: probe::Tag,
    },
}

/// Whether the packets of a run are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Sealed,
    Clear,
}

impl Message {
    /// In which form it carries packets, and for whom; nothing of any other message.
    pub(crate) fn packets(self) -> Option<(Form, u32)> {
        match self {
            Self::Data { receiver_index, .. } => Some((Form::Sealed, receiver_index)),
            Self::Clear { receiver_index } => Some((Form::Clear, receiver_index)),
            _ => None,
        }
    }

    pub(crate) fn parse(datagram: &[u8]) -> Result<Self, Discard> {
        let message_type = u32_at(datagram, 0).ok_or(Discard::Malformed)?;
        let index = |offset| u32_at(datagram, offset).ok_or(Discard::Malformed);
        match (message_type, datagram.len()) {
            (1, HANDSHAKE_INITIATION_LEN) => Ok(Self::HandshakeInitiation),
            (2, HANDSHAKE_RESPONSE_LEN) => Ok(Self::HandshakeResponse { receiver_index: index(8)? }),
            (3, COOKIE_REPLY_LEN) => Ok(Self::CookieReply { receiver_index: index(4)? }),
            (4, DATA_OVERHEAD..) => Ok(Self::Data {
                receiver_index: Receiver::Index(index(4)?).given(),
                counter: u64::from(index(8)?) | u64::from(index(12)?) << 32,
            }),
            (CLEAR, DATA_OVERHEAD..) => Ok(Self::Clear { receiver_index: Receiver::Number(index(4)?).given() }),
            (probe::MESSAGE_TYPE, probe::MIN_LEN..) => {
                Ok(Self::Probe { tag: *datagram.get(4..).and_then(<[u8]>::first_chunk).ok_or(Discard::Malformed)? })
            }
            _ => Err(Discard::Malformed),
        }
    }
}

/// The writer's own index in a handshake message.
pub(crate) fn sender_index(message: &[u8]) -> Option<u32> {
    u32_at(message, 4)
}

pub(crate) fn data_counter(datagram: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(datagram.get(8..DATA_HEADER)?.try_into().ok()?))
}

pub(crate) fn write_data_header(datagram: &mut [u8], receiver_index: u32, counter: u64) {
    write_head(datagram, 4, &receiver_index.to_le_bytes());
    datagram[8..DATA_HEADER].copy_from_slice(&counter.to_le_bytes());
}

/// The type, and the index that follows it in every message.
pub(crate) fn write_head(message: &mut [u8], message_type: u8, index: &[u8]) {
    message[..4].copy_from_slice(&[message_type, 0, 0, 0]);
    message[4..8].copy_from_slice(index);
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let word = bytes.get(offset..offset + 4)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn data_carries_its_index_and_counter() {
        let mut datagram = vec![0; DATA_OVERHEAD];
        datagram[0] = 4;
        datagram[4..8].copy_from_slice(&7u32.to_le_bytes());
        datagram[8..16].copy_from_slice(&(1u64 << 40 | 5).to_le_bytes());
        assert_eq!(Message::parse(&datagram), Ok(Message::Data { receiver_index: 7, counter: 1 << 40 | 5 }));
    }

    #[test]
    fn a_wrong_length_or_a_reserved_bit_is_malformed() {
        for (message_type, len) in [(1, 148), (2, 92), (3, 64), (4, 32), (0xc1, 124), (0xc2, 32)] {
            let mut datagram = vec![0; len];
            datagram[0] = message_type;
            assert!(Message::parse(&datagram).is_ok());
            assert_eq!(Message::parse(&datagram[..len - 1]), Err(Discard::Malformed));
            datagram[1] = 1;
            assert_eq!(Message::parse(&datagram), Err(Discard::Malformed));
        }
    }

    proptest! {
        #[test]
        fn no_datagram_panics(datagram in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::parse(&datagram);
        }
    }
}
