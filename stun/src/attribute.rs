//! The attributes that we read and write; all others stay raw, so that nothing parses what nobody needs.

use stun_codec::{define_attribute_enums, rfc5389::attributes::XorMappedAddress};

define_attribute_enums!(Attribute, AttributeDecoder, AttributeEncoder, [XorMappedAddress]);
