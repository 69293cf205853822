//! A probe on the wire: type, tag of the pair, nonce, and a sealed body. A request may be padded to any length; a reply
//! is as long as the shortest request.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use chacha20poly1305::aead::AeadInPlace as _;
use chacha20poly1305::{Tag as Authenticator, XNonce};

use super::keys::OneWay;
use crate::clear::frame::Token;
use crate::discard::Discard;

/// WireGuard knows 1 to 4 and drops the rest; STUN's messages begin with two zero bits.
pub(crate) const MESSAGE_TYPE: u32 = 0xc1;
pub(crate) const TAG_LEN: usize = 8;
/// Every reply, and the shortest request.
pub(crate) const MIN_LEN: usize = BODY + BODY_LEN + AUTHENTICATOR_LEN;
pub(super) const NONCE_LEN: usize = 24;
/// Type and tag, in clear.
const HEAD_LEN: usize = 4 + TAG_LEN;
/// Where the sealed part begins.
const BODY: usize = HEAD_LEN + NONCE_LEN;
/// Without padding.
const BODY_LEN: usize = 72;
const AUTHENTICATOR_LEN: usize = 16;

const ALARM: u8 = 1;

const REQUEST: u8 = 1;
const REPLY: u8 = 2;

/// Names a pair and a direction to the two that share its key.
pub(crate) type Tag = [u8; TAG_LEN];
/// Random; who repeats it has read it.
pub(crate) type Challenge = [u8; 16];

/// What a probe says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    Request {
        /// Rises with every request of the sender to this peer, also over restarts.
        counter: u64,
        challenge: Challenge,
        /// See [`Terms::accepts`].
        accepts: Duration,
        urgency: Urgency,
    },
    Reply {
        /// That of the request.
        challenge: Challenge,
        /// The address that the request came from.
        seen_from: SocketAddr,
        terms: Terms,
    },
}

/// Why a peer is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Urgency {
    #[default]
    Routine,
    /// The sender doubts the path that its packets take. The other one's may be dead too, and it may not have noticed.
    Alarm,
}

/// What a peer tells the other of clear frames. It is believed in an answer to a fresh challenge only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// For how long it accepts them from where this goes to, up to a minute, in whole milliseconds; zero if not at all.
    pub(crate) accepts: Duration,
    /// What they are to be addressed to.
    pub(crate) receiver: u32,
    /// Random, another one after every start.
    pub(crate) epoch: Token,
    /// The counter of the next frame that it would send itself.
    pub(crate) next: u64,
}

/// Writes a probe that fills `datagram`.
pub(super) fn seal(key: &OneWay, nonce: &[u8; NONCE_LEN], body: Body, datagram: &mut [u8]) -> Result<(), Discard> {
    if datagram.len() < MIN_LEN {
        return Err(Discard::Oversized);
    }
    let (head, rest) = datagram.split_at_mut(HEAD_LEN);
    head[..4].copy_from_slice(&MESSAGE_TYPE.to_le_bytes());
    head[4..].copy_from_slice(&key.tag);
    let (nonce_bytes, rest) = rest.split_at_mut(NONCE_LEN);
    nonce_bytes.copy_from_slice(nonce);
    let (plain, authenticator) = rest.split_at_mut(rest.len() - AUTHENTICATOR_LEN);
    plain.fill(0);
    body.write(plain);
    let sealed = key.cipher.encrypt_in_place_detached(XNonce::from_slice(nonce), head, plain);
    authenticator.copy_from_slice(&sealed.map_err(|_| Discard::Oversized)?);
    Ok(())
}

/// Reads a probe; `datagram` is of no use afterwards.
pub(super) fn open(key: &OneWay, datagram: &mut [u8]) -> Result<Body, Discard> {
    if datagram.len() < MIN_LEN {
        return Err(Discard::Malformed);
    }
    let (head, rest) = datagram.split_at_mut(HEAD_LEN);
    let (nonce, rest) = rest.split_at_mut(NONCE_LEN);
    let (sealed, authenticator) = rest.split_at_mut(rest.len() - AUTHENTICATOR_LEN);
    let authenticator = Authenticator::from_slice(authenticator);
    let opened = key.cipher.decrypt_in_place_detached(XNonce::from_slice(nonce), head, sealed, authenticator);
    opened.map_err(|_| Discard::NotAuthentic)?;
    Body::read(sealed).ok_or(Discard::Malformed)
}

impl Body {
    /// Byte 0 says what it is, byte 1 holds flags; those of a later release mean nothing here.
    fn write(self, plain: &mut [u8]) {
        match self {
            Self::Request { counter, challenge, accepts, urgency } => {
                plain[0] = REQUEST;
                plain[1] = if urgency == Urgency::Alarm { ALARM } else { 0 };
                plain[2..4].copy_from_slice(&milliseconds(accepts));
                plain[8..24].copy_from_slice(&challenge);
                plain[24..32].copy_from_slice(&counter.to_le_bytes());
            }
            Self::Reply { challenge, seen_from, terms } => {
                plain[0] = REPLY;
                plain[2..4].copy_from_slice(&milliseconds(terms.accepts));
                plain[4..8].copy_from_slice(&terms.receiver.to_le_bytes());
                plain[8..24].copy_from_slice(&challenge);
                let ip = match seen_from.ip() {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                    IpAddr::V6(ip) => ip,
                };
                plain[24..40].copy_from_slice(&ip.octets());
                plain[40..42].copy_from_slice(&seen_from.port().to_le_bytes());
                plain[42..58].copy_from_slice(&terms.epoch);
                plain[58..66].copy_from_slice(&terms.next.to_le_bytes());
            }
        }
    }

    pub(crate) fn to_bytes(self) -> [u8; BODY_LEN] {
        let mut plain = [0; BODY_LEN];
        self.write(&mut plain);
        plain
    }

    pub(crate) fn read(plain: &[u8]) -> Option<Self> {
        let challenge = *plain.get(8..)?.first_chunk()?;
        let accepts = Duration::from_millis(u16::from_le_bytes(*plain.get(2..)?.first_chunk()?).into());
        match *plain.first()? {
            REQUEST => {
                let counter = u64::from_le_bytes(*plain.get(24..)?.first_chunk()?);
                let is_alarm = plain.get(1)? & ALARM != 0;
                let urgency = if is_alarm { Urgency::Alarm } else { Urgency::Routine };
                Some(Self::Request { counter, challenge, accepts, urgency })
            }
            REPLY => {
                let ip: [u8; 16] = *plain.get(24..)?.first_chunk()?;
                let port = u16::from_le_bytes(*plain.get(40..)?.first_chunk()?);
                let seen_from = SocketAddr::new(Ipv6Addr::from(ip).to_canonical(), port);
                let receiver = u32::from_le_bytes(*plain.get(4..)?.first_chunk()?);
                let next = u64::from_le_bytes(*plain.get(58..)?.first_chunk()?);
                let terms = Terms { accepts, receiver, epoch: *plain.get(42..)?.first_chunk()?, next };
                Some(Self::Reply { challenge, seen_from, terms })
            }
            _ => None,
        }
    }
}

fn milliseconds(duration: Duration) -> [u8; 2] {
    u16::try_from(duration.as_millis()).unwrap_or(u16::MAX).to_le_bytes()
}
