//! The digest of a set of records, by which two sides find out cheaply that they hold the same: each record enters with
//! its id and a fingerprint of its content. It can be carried on in constant time when one record changes.
//!
//! It guards against loss and bugs, not against forgery: the channel is authenticated. XOR of hashes is no
//! collision-resistant set hash.

use std::fmt;

use ring::digest::{Context, SHA256};

/// XOR of `SHA-256(length of id as one byte ‖ id ‖ fingerprint)` over all records; of no records, 32 zero bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SetDigest([u8; 32]);

impl SetDigest {
    /// Puts a record in, or takes the same record out: both are the same operation.
    pub fn toggle(&mut self, id: &str, fingerprint: &[u8]) {
        let mut context = Context::new(&SHA256);
        context.update(&[u8::try_from(id.len()).unwrap_or(u8::MAX)]);
        context.update(id.as_bytes());
        context.update(fingerprint);
        for (byte, other) in self.0.iter_mut().zip(context.finish().as_ref()) {
            *byte ^= other;
        }
    }

    /// The digest with one record put in or taken out.
    #[must_use]
    pub fn toggled(mut self, id: &str, fingerprint: &[u8]) -> Self {
        self.toggle(id, fingerprint);
        self
    }

    /// The digest as it travels.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl<'a> FromIterator<(&'a str, &'a [u8])> for SetDigest {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a [u8])>>(records: I) -> Self {
        records.into_iter().fold(Self::default(), |digest, (id, fingerprint)| digest.toggled(id, fingerprint))
    }
}

impl fmt::Debug for SetDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_records_does_not_matter_and_their_content_does() {
        let digest = |records: &[(&str, &[u8])]| records.iter().copied().collect::<SetDigest>();
        assert_eq!(digest(&[("a", b"1"), ("b", b"2")]), digest(&[("b", b"2"), ("a", b"1")]));
        assert_ne!(digest(&[("a", b"1"), ("b", b"2")]), digest(&[("a", b"2"), ("b", b"1")]));
        assert_ne!(digest(&[("ab", b"c")]), digest(&[("a", b"bc")]), "the id's end is part of it");
    }

    #[test]
    fn a_record_taken_out_leaves_the_digest_of_the_others() {
        let one = SetDigest::default().toggled("a", b"1");
        assert_eq!(one.toggled("b", b"2").toggled("b", b"2"), one);
        assert_eq!(one.toggled("a", b"1").as_bytes(), &[0; 32]);
    }
}
