//! Requests as `wg` writes them, requests as nobody should, and answers as `wg` reads them.

use proptest::prelude::*;

use super::*;

const KEY: &str = "e84b5a6d2717c1003a13b431570353dbaca9146cf150c5f8575680feba52027a";
const SECRET: &str = "188515093e952f5f22e865cef3012e72f8b5f0b598ac0309d5dacce3b70fcf52";
const ZERO: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fn set(lines: &[&str]) -> Result<Set, UapiError> {
    match parse(&format!("set=1\n{}\n", lines.join("\n"))) {
        Ok(Request::Set(set)) => Ok(set),
        Ok(Request::Get) => panic!("a set became a get"),
        Err(error) => Err(error),
    }
}

fn peer(lines: &[&str]) -> PeerChange {
    let public_key = format!("public_key={KEY}");
    let all: Vec<&str> = std::iter::once(public_key.as_str()).chain(lines.iter().copied()).collect();
    set(&all).unwrap().peers.remove(0)
}

#[test]
fn an_interface_is_set_as_written() {
    let private_key = format!("private_key={SECRET}");
    let set = set(&[&private_key, "fwmark=51", "listen_port=12912", "replace_peers=true"]).unwrap();
    let key = set.private_key.unwrap().unwrap();
    assert_eq!(HEXLOWER.encode(&*key.reveal_bytes()), SECRET);
    assert_eq!((set.listen_port, set.fwmark, set.replace_peers), (Some(12_912), Some(51), true));
}

#[test]
fn zero_and_nothing_take_away() {
    let (private_key, preshared_key) = (format!("private_key={ZERO}"), format!("preshared_key={ZERO}"));
    let set = set(&[&private_key, "fwmark="]).unwrap();
    assert!(matches!(set.private_key, Some(None)));
    assert_eq!(set.fwmark, Some(0));
    assert_eq!(peer(&[&preshared_key]).preshared_key, Some(None));
    assert_eq!(peer(&[]).preshared_key, None, "what is not named stays");
}

#[test]
fn a_peer_is_set_as_written_and_lines_belong_to_the_key_before() {
    let preshared_key = format!("preshared_key={SECRET}");
    let change = peer(&[
        "protocol_version=1",
        &preshared_key,
        "endpoint=[abcd:23::33%2]:51820",
        "replace_allowed_ips=true",
        "allowed_ip=192.168.4.4/32",
        "allowed_ip=fd00::7/64",
        "allowed_ip=-10.0.0.9/8",
        "persistent_keepalive_interval=111",
    ]);
    assert_eq!(change.endpoint.unwrap().to_string(), "[abcd:23::33%2]:51820");
    assert_eq!(change.persistent_keepalive, Some(111));
    let prefix = |text: &str| text.parse().unwrap();
    assert_eq!(
        change.allowed_ips,
        [
            AllowedIpChange::RemoveAll,
            AllowedIpChange::Add(prefix("192.168.4.4/32")),
            AllowedIpChange::Add(prefix("fd00::/64")),
            AllowedIpChange::Remove(prefix("10.0.0.0/8")),
        ]
    );
    let (first, second) = (format!("public_key={KEY}"), format!("public_key={SECRET}"));
    let two = set(&[&first, "remove=true", &second, "update_only=true", "endpoint=192.0.2.1:1"]).unwrap().peers;
    assert!(two[0].remove && !two[0].update_only && two[0].endpoint.is_none());
    assert!(two[1].update_only && !two[1].remove && two[1].endpoint.is_some());
}

#[test]
fn what_is_no_request_is_refused_with_its_line_and_without_its_value() {
    let key = format!("public_key={KEY}");
    let bad = |line, key| UapiError::BadValue { line, key };
    for (lines, error) in [
        (&["private_key=abc"][..], bad(2, "private_key")),
        (&["listen_port=65536"], bad(2, "listen_port")),
        (&["listen_port=+1"], bad(2, "listen_port")),
        (&["listen_port="], bad(2, "listen_port")),
        (&["fwmark=0x1"], bad(2, "fwmark")),
        (&["replace_peers=false"], bad(2, "replace_peers")),
        (&["endpoint=192.0.2.1:1"], UapiError::UnknownKey { line: 2 }),
        (&["mtu=1420"], UapiError::UnknownKey { line: 2 }),
        (&["nonsense"], UapiError::NoPair { line: 2 }),
        (&[&key, "listen_port=1"], UapiError::UnknownKey { line: 3 }),
        (&[&key, "endpoint=host.example:1"], bad(3, "endpoint")),
        (&[&key, "allowed_ip=10.0.0.0/33"], bad(3, "allowed_ip")),
        (&[&key, "allowed_ip=10.0.0.1"], bad(3, "allowed_ip")),
        (&[&key, "protocol_version=2"], bad(3, "protocol_version")),
        (&[&key, "update_only=yes"], bad(3, "update_only")),
    ] {
        assert_eq!(set(lines).unwrap_err(), error, "{lines:?}");
    }
    for request in ["", "get=2", "set", "set=1 ", "\0"] {
        assert_eq!(parse(request).unwrap_err(), UapiError::UnknownRequest, "{request:?}");
    }
    assert_eq!(parse("get=1\nset=1").unwrap_err(), UapiError::UnknownKey { line: 2 });
    assert_eq!(UapiError::UnknownRequest.errno(), Errno::EPROTO);
    assert_eq!(bad(2, "fwmark").errno(), Errno::EINVAL);
}

#[test]
fn a_state_is_told_as_wg_reads_it() {
    let bytes: [u8; 32] = HEXLOWER.decode(SECRET.as_bytes()).unwrap().try_into().unwrap();
    let (private_key, preshared_key) = (PrivateKey::from_bytes(bytes), PresharedKey::from_bytes(bytes));
    let known = PeerState {
        public_key: private_key.public_key(),
        preshared_key: Some(&preshared_key),
        endpoint: Some("192.0.2.1:8055".parse().unwrap()),
        last_handshake: Duration::new(5, 6),
        tx_bytes: 7,
        rx_bytes: 8,
        persistent_keepalive: 25,
        allowed_ips: vec!["10.0.0.0/8".parse().unwrap(), "::/0".parse().unwrap()],
    };
    let state = State { private_key: Some(&private_key), listen_port: 8055, fwmark: 1, peers: vec![known] };
    let public_key = HEXLOWER.encode(private_key.public_key().as_bytes());
    let expected = format!(
        "private_key={SECRET}\nlisten_port=8055\nfwmark=1\npublic_key={public_key}\npreshared_key={SECRET}\n\
         protocol_version=1\nendpoint=192.0.2.1:8055\nlast_handshake_time_sec=5\nlast_handshake_time_nsec=6\n\
         tx_bytes=7\nrx_bytes=8\npersistent_keepalive_interval=25\nallowed_ip=10.0.0.0/8\nallowed_ip=::/0\n\
         errno=0\n\n"
    );
    assert_eq!(*describe(&state), expected);
    assert_eq!(verdict(Some(Errno::EADDRINUSE)), format!("errno=-{}\n\n", libc::EADDRINUSE));
    let empty = State { private_key: None, listen_port: 1, fwmark: 0, peers: vec![] };
    assert_eq!(*describe(&empty), "listen_port=1\nerrno=0\n\n");
}

/// Lines that are nearly right, so that the interesting ways through are taken.
fn line() -> impl Strategy<Value = String> {
    let keys = prop::sample::select(vec![
        "set",
        "get",
        "private_key",
        "listen_port",
        "fwmark",
        "replace_peers",
        "public_key",
        "update_only",
        "remove",
        "preshared_key",
        "endpoint",
        "persistent_keepalive_interval",
        "replace_allowed_ips",
        "allowed_ip",
        "protocol_version",
        "",
    ]);
    let values = prop_oneof![
        Just(KEY.to_owned()),
        Just(ZERO.to_owned()),
        Just("true".to_owned()),
        "-?[0-9a-f.:/%\\[\\]]{0,20}",
        any::<String>(),
    ];
    (keys, "=?", values).prop_map(|(key, equals, value)| format!("{key}{equals}{value}"))
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        let _ = parse(&text);
    }

    #[test]
    fn no_lines_make_it_panic(lines in prop::collection::vec(line(), 0..30)) {
        let _ = parse(&format!("set=1\n{}", lines.join("\n")));
        let _ = parse(&lines.join("\n"));
    }

    #[test]
    fn what_is_read_is_what_was_written(port: u16, mark: u32, keepalive: u16, address: std::net::IpAddr, len in 0u8..=32) {
        let endpoint = SocketAddr::new(address, port);
        let prefix = IpNet::new(address, len).unwrap().trunc();
        let request = format!(
            "set=1\nlisten_port={port}\nfwmark={mark}\npublic_key={KEY}\nendpoint={endpoint}\n\
             persistent_keepalive_interval={keepalive}\nallowed_ip={prefix}\n"
        );
        let Ok(Request::Set(set)) = parse(&request) else { panic!("refused: {request}") };
        prop_assert_eq!((set.listen_port, set.fwmark), (Some(port), Some(mark)));
        prop_assert_eq!(set.peers[0].endpoint, Some(endpoint));
        prop_assert_eq!(set.peers[0].persistent_keepalive, Some(keepalive));
        prop_assert_eq!(&set.peers[0].allowed_ips, &[AllowedIpChange::Add(prefix)]);
    }
}
