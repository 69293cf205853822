//! Against the vectors of RFC 5769, round trips, and any bytes at all.

use proptest::prelude::*;

use super::*;

/// RFC 5769 §2.2 without its MESSAGE-INTEGRITY and FINGERPRINT: SOFTWARE "test vector" and 192.0.2.1:32853.
const RFC_5769_RESPONSE: &[u8] = b"\x01\x01\x00\x1c\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
    \x80\x22\x00\x0b\x74\x65\x73\x74\x20\x76\x65\x63\x74\x6f\x72\x20\
    \x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43";
const RFC_5769_ID: TransactionId = *b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";

#[test]
fn the_response_of_the_rfc_is_read() {
    let expected = "192.0.2.1:32853".parse().expect("an address");
    assert_eq!(parse_response(RFC_5769_RESPONSE), Some((RFC_5769_ID, expected)));
}

#[test]
fn a_request_is_twenty_bytes_and_its_answer_little_more() {
    let request = binding_request([7; 12]);
    assert_eq!(request, [b"\x00\x01\x00\x00\x21\x12\xa4\x42".as_slice(), &[7; 12]].concat());
    for (from, length) in [("203.0.113.7:4242", 32), ("[2001:db8::7]:4242", 44)] {
        let from = from.parse().expect("an address");
        let answer = answer(&request, from).expect("a request");
        assert_eq!((parse_response(&answer), answer.len()), (Some(([7; 12], from)), length));
    }
}

#[test]
fn an_address_mapped_into_ipv6_is_told_as_ipv4() {
    let from = "[::ffff:203.0.113.7]:9".parse().expect("an address");
    let answer = answer(&binding_request([1; 12]), from).expect("a request");
    assert_eq!(parse_response(&answer), Some(([1; 12], "203.0.113.7:9".parse().expect("an address"))));
}

#[test]
fn answers_indications_and_unknown_demands_are_not_answered() {
    let from = "203.0.113.7:4242".parse().expect("an address");
    let indication = b"\x00\x11\x00\x00\x21\x12\xa4\x42............".as_slice();
    let demand = b"\x00\x01\x00\x04\x21\x12\xa4\x42............\x00\x03\x00\x00".as_slice();
    let remark = b"\x00\x01\x00\x04\x21\x12\xa4\x42............\x80\x22\x00\x00".as_slice();
    assert_eq!(answer(RFC_5769_RESPONSE, from), None);
    assert_eq!(answer(indication, from), None);
    assert_eq!(answer(demand, from), None);
    assert!(answer(remark, from).is_some());
    assert_eq!(parse_response(&binding_request([1; 12])), None);
}

#[test]
fn wireguard_messages_are_not_stun() {
    for (kind, length) in [(1u8, 148), (2, 92), (3, 64), (4, 32)] {
        let mut message = vec![0x21; length];
        message[..4].copy_from_slice(&[kind, 0, 0, 0]);
        assert!(!is_stun(&message));
    }
}

/// Bytes that reach the attributes: a right header in front of anything.
fn plausible() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![Just(0x0001u16), Just(0x0101), Just(0x0111), any::<u16>()];
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64),
        prop::collection::vec(any::<u8>(), 0..32)
            .prop_map(|value| [b"\x00\x20\x00\x08\x00\x01".as_slice(), &value].concat()),
    ];
    (kind, any::<TransactionId>(), body).prop_map(|(kind, id, mut body)| {
        body.truncate(body.len() / 4 * 4);
        let length = u16::try_from(body.len()).expect("short");
        [&kind.to_be_bytes(), &length.to_be_bytes(), MAGIC_COOKIE.as_slice(), &id, &body].concat()
    })
}

proptest! {
    #[test]
    fn any_bytes_never_panic(bytes in prop_oneof![plausible(), prop::collection::vec(any::<u8>(), 0..700)], from: SocketAddr) {
        let _ = (is_stun(&bytes), parse_response(&bytes), answer(&bytes, from));
    }

    #[test]
    fn an_answer_never_exceeds_44_bytes(bytes in plausible(), from: SocketAddr) {
        prop_assert!(answer(&bytes, from).is_none_or(|answer| answer.len() <= 44));
    }

    #[test]
    fn every_address_survives_the_way_back(id: TransactionId, ip: std::net::IpAddr, port: u16) {
        let from = SocketAddr::new(ip.to_canonical(), port);
        let answer = answer(&binding_request(id), from).expect("a request");
        prop_assert_eq!(parse_response(&answer), Some((id, from)));
    }
}
