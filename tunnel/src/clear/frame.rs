//! A clear frame on the wire. It is as long as the sealed datagram of the same packet, so that trains are of one stride
//! either way: type, receiver and counter before the padded packet, and the token where the seal would be.

use crate::datapath::REJECT_AFTER_MESSAGES;
use crate::discard::Discard;
use crate::message::{DATA_HEADER, DATA_OVERHEAD, data_counter, write_head};

/// WireGuard knows 1 to 4 and drops the rest; STUN's messages begin with two zero bits.
pub(crate) const MESSAGE_TYPE: u8 = 0xc2;
pub(super) const HEADER_LEN: usize = DATA_HEADER;
const TOKEN_LEN: usize = DATA_OVERHEAD - DATA_HEADER;

/// Half of one is each end's epoch; both together are told on every frame, and alone only in sealed probes.
pub(crate) type Token = [u8; TOKEN_LEN];

/// The token of two runs, one of each end.
pub(super) fn token(ours: &Token, theirs: &Token) -> Token {
    std::array::from_fn(|at| ours[at] ^ theirs[at])
}

/// Makes a frame of a datagram of a train, whose packet lies where it is.
pub(super) fn write(datagram: &mut [u8], receiver: u32, counter: u64, token: &Token) {
    write_head(datagram, MESSAGE_TYPE, &receiver.to_le_bytes());
    datagram[8..HEADER_LEN].copy_from_slice(&counter.to_le_bytes());
    let end = datagram.len() - TOKEN_LEN;
    datagram[end..].copy_from_slice(token);
}

/// The counter and the padded packet of a frame that bears this token.
pub(crate) fn read<'a>(datagram: &'a [u8], token: &Token) -> Result<(u64, &'a [u8]), Discard> {
    let (head, rest) = datagram.split_at_checked(HEADER_LEN).ok_or(Discard::Malformed)?;
    let (packet, borne) = rest.split_last_chunk::<TOKEN_LEN>().ok_or(Discard::Malformed)?;
    // As numbers, so that no byte tells by the time it takes whether it is right.
    if u128::from_le_bytes(*borne) != u128::from_le_bytes(*token) {
        return Err(Discard::ClearStale);
    }
    let counter = data_counter(head).filter(|counter| *counter < REJECT_AFTER_MESSAGES);
    Ok((counter.ok_or(Discard::CounterExhausted)?, packet))
}
