//! Parsers that only a peer's bytes come to, behind a seal or a token: for the fuzzer, which has neither.

use crate::clear::frame;
use crate::probe::Body;

/// Reads what a probe holds, if it can be read; false if the same, written again, is read as something else.
pub fn probe_is_read_as_written(plain: &[u8]) -> bool {
    Body::read(plain).is_none_or(|body| Body::read(&body.to_bytes()) == Some(body))
}

/// The padded packet of a frame that bears whatever token is expected.
pub fn frame(datagram: &[u8]) -> Option<&[u8]> {
    let token = datagram.last_chunk()?;
    frame::read(datagram, token).ok().map(|(_, packet)| packet)
}
