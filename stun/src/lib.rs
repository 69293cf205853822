//! The part of STUN (RFC 8489) that tells a host its public address: Binding requests and their answers, without
//! credentials. Owns no socket and draws no randomness; both sides multiplex it with WireGuard on one UDP port.

mod attribute;

use std::net::SocketAddr;

use bytecodec::{DecodeExt as _, EncodeExt as _};
use stun_codec::{
    Attribute as _, Message, MessageClass, MessageDecoder, MessageEncoder,
    rfc5389::{attributes::XorMappedAddress, methods::BINDING},
};

use attribute::Attribute;

/// What ties an answer to its request; random, so that nobody else can answer.
pub type TransactionId = [u8; 12];

const HEADER_LENGTH: usize = 20;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// Attributes of types below this one must be understood or the request be refused (RFC 8489 §14).
const COMPREHENSION_OPTIONAL: u16 = 0x8000;
/// Longest message worth reading: what every path carries in one piece (RFC 8489 §6.1).
const MAX_LENGTH: usize = 548;

/// Whether a datagram is STUN: two zero bits, the magic cookie and a length that fits (RFC 8489 §5). The first byte of
/// a WireGuard message is 1 to 4 as well, but its next three are zero where STUN has its length and cookie.
pub fn is_stun(datagram: &[u8]) -> bool {
    let Some((header, attributes)) = datagram.split_first_chunk::<HEADER_LENGTH>() else { return false };
    header[0] & 0xc0 == 0
        && header[4..8] == MAGIC_COOKIE
        && usize::from(u16::from_be_bytes([header[2], header[3]])) == attributes.len()
        && attributes.len().is_multiple_of(4)
}

/// "From where do you see me?"
pub fn binding_request(transaction_id: TransactionId) -> Vec<u8> {
    encode(Message::new(MessageClass::Request, BINDING, stun_codec::TransactionId::new(transaction_id)))
}

/// The answer to a Binding request that came from `from`: 32 bytes, 44 for IPv6. Nothing else is answered, so that a
/// forged source gains an attacker nothing.
pub fn answer(datagram: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
    let request = decode(datagram, MessageClass::Request)?;
    if request.unknown_attributes().any(|a| a.get_type().as_u16() < COMPREHENSION_OPTIONAL) {
        return None;
    }
    let mut response = Message::new(MessageClass::SuccessResponse, BINDING, request.transaction_id());
    response.add_attribute(XorMappedAddress::new(SocketAddr::new(from.ip().to_canonical(), from.port())));
    Some(encode(response))
}

/// Which request a server answered, and the address it saw. The caller compares the id with those it has sent.
pub fn parse_response(datagram: &[u8]) -> Option<(TransactionId, SocketAddr)> {
    let response = decode(datagram, MessageClass::SuccessResponse)?;
    let address = response.get_attribute::<XorMappedAddress>()?.address();
    Some((*response.transaction_id().as_bytes(), address))
}

/// A Binding message of one class.
fn decode(datagram: &[u8], class: MessageClass) -> Option<Message<Attribute>> {
    if datagram.len() > MAX_LENGTH || !is_stun(datagram) {
        return None;
    }
    let message = MessageDecoder::<Attribute>::new().decode_from_bytes(datagram).ok()?.ok()?;
    (message.method() == BINDING && message.class() == class).then_some(message)
}

fn encode(message: Message<Attribute>) -> Vec<u8> {
    MessageEncoder::new().encode_into_bytes(message).expect("an address attribute always fits a message")
}

#[cfg(test)]
mod tests;
