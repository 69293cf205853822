//! How join tokens and API keys are written: one word that a double click selects, `prefix_part_…_checksum`, each
//! part in lower-case base 32. The checksum tells a slip of the hand from a forgery; it protects nothing.

use data_encoding::BASE32_NOPAD;
use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

/// First word of a join token: the product and the version of the form.
pub(crate) const TOKEN_PREFIX: &str = "cladnet1";
/// First words of an API key.
pub(crate) const KEY_PREFIX: &str = "cladnet_key";

/// Five bytes are eight characters: one slip in 10¹² goes unnoticed here and is refused by the service.
const CHECKSUM_BYTES: usize = 5;

/// Why a text is no join token, or no API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// Nothing was given.
    #[error("is empty; {0} begins with \"{prefix}_\"", prefix = .0.prefix())]
    Empty(CredentialKind),
    /// It begins with something else.
    #[error("is not {0}, which begins with \"{prefix}_\"", prefix = .0.prefix())]
    Foreign(CredentialKind),
    /// The right thing in the wrong place.
    #[error("is {found}, but {wanted} is wanted here")]
    WrongKind { found: CredentialKind, wanted: CredentialKind },
    /// Not all of it was copied.
    #[error("is cut short: {kind} has {wanted} characters, this has {found}; copy it again")]
    CutShort { kind: CredentialKind, wanted: usize, found: usize },
    /// Something was copied with it.
    #[error("is too long: {kind} has {wanted} characters, this has {found}; copy it again")]
    TooLong { kind: CredentialKind, wanted: usize, found: usize },
    /// A character is wrong.
    #[error("is mistyped: its checksum does not match; copy it again")]
    Mistyped,
}

/// What a text claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialKind {
    Token,
    Key,
}

impl CredentialKind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Token => TOKEN_PREFIX,
            Self::Key => KEY_PREFIX,
        }
    }

    /// What `text` begins as, if as any of ours.
    fn of(text: &str) -> Option<Self> {
        [Self::Token, Self::Key].into_iter().find(|kind| strip(text, kind.prefix()).is_some())
    }
}

impl std::fmt::Display for CredentialKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Token => "a join token",
            Self::Key => "an API key",
        })
    }
}

/// Bytes in lower-case base 32 without padding (RFC 4648 §6).
pub(crate) fn base32(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

/// What [`base32`] was given, if it was as many bytes.
pub(crate) fn from_base32<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    let bytes = BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).ok()?;
    bytes.try_into().ok()
}

/// Writes the parts with their checksum.
pub(crate) fn encode(kind: CredentialKind, parts: &[&[u8]]) -> String {
    let mut text = kind.prefix().to_owned();
    for part in parts {
        text.push('_');
        text.push_str(&base32(part));
    }
    let checksum = checksum(&text);
    text.push('_');
    text.push_str(&checksum);
    text
}

/// Reads parts of the given lengths in bytes; white space around the text is forgiven, since files end in a newline.
pub(crate) fn decode<const N: usize>(
    kind: CredentialKind,
    text: &str,
    lengths: [usize; N],
) -> Result<[Zeroizing<Vec<u8>>; N], CredentialError> {
    let text = text.trim();
    let rest = match CredentialKind::of(text) {
        _ if text.is_empty() => return Err(CredentialError::Empty(kind)),
        None => return Err(CredentialError::Foreign(kind)),
        Some(found) if found != kind => return Err(CredentialError::WrongKind { found, wanted: kind }),
        Some(_) => &text[kind.prefix().len()..],
    };
    let parts_length: usize =
        lengths.iter().chain([&CHECKSUM_BYTES]).map(|bytes| 1 + BASE32_NOPAD.encode_len(*bytes)).sum();
    let (found, wanted) = (text.chars().count(), kind.prefix().len() + parts_length);
    if found < wanted {
        return Err(CredentialError::CutShort { kind, wanted, found });
    }
    if found > wanted {
        return Err(CredentialError::TooLong { kind, wanted, found });
    }
    let (body, given) = text.rsplit_once('_').ok_or(CredentialError::Mistyped)?;
    if checksum(body) != given {
        return Err(CredentialError::Mistyped);
    }
    let mut words = rest[1..].split('_');
    let mut parts = std::array::from_fn(|_| Zeroizing::new(Vec::new()));
    for (part, length) in parts.iter_mut().zip(lengths) {
        let upper = Zeroizing::new(words.next().unwrap_or_default().to_ascii_uppercase());
        *part = Zeroizing::new(BASE32_NOPAD.decode(upper.as_bytes()).map_err(|_| CredentialError::Mistyped)?);
        if part.len() != length {
            return Err(CredentialError::Mistyped);
        }
    }
    Ok(parts)
}

/// A part of a known length; [`decode`] has checked it.
pub(crate) fn array<const LENGTH: usize>(part: &[u8]) -> Result<[u8; LENGTH], CredentialError> {
    part.try_into().map_err(|_| CredentialError::Mistyped)
}

fn strip<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    text.strip_prefix(prefix)?.strip_prefix('_')
}

fn checksum(text: &str) -> String {
    base32(&digest(&SHA256, text.as_bytes()).as_ref()[..CHECKSUM_BYTES])
}
