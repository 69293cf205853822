use cladnet_model::{CloudLocation, Endpoint, EndpointSource, HostFacts, Located, LocationSource, PublicKey, Scope};
use tonic::Code;

use super::*;
use crate::cladnet::v1;

fn facts() -> HostFacts {
    HostFacts {
        name: "vm-1".into(),
        machine_id: "0123".into(),
        agent_version: "0.1.0".into(),
        endpoints: vec![Endpoint {
            address: "[2001:db8::1]:8055".parse().unwrap(),
            scope: Scope::PublicV6,
            source: EndpointSource::Stun,
        }],
        routes: vec!["10.0.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()],
        private_address: Some("10.0.1.4/24".parse().unwrap()),
        location: CloudLocation {
            zone: Some(Located { value: "apne2-az1".into(), source: LocationSource::Metadata }),
            ..CloudLocation::default()
        },
        advertise: vec!["10.2.0.0/16".parse().unwrap()],
    }
}

#[test]
fn facts_come_back_as_they_went() {
    assert_eq!(HostFacts::try_from(v1::HostFacts::from(&facts())), Ok(facts()));
    assert_eq!(HostFacts::try_from(v1::HostFacts::default()), Ok(HostFacts::default()), "nothing is known yet");
}

#[test]
fn a_wrong_field_is_named_with_its_path() {
    let mut wire = v1::HostFacts::from(&facts());
    wire.endpoints[0].scope = "relay".into();
    let error = host_facts("facts", Some(wire)).unwrap_err();
    assert_eq!(error.field, "facts.endpoints[0].scope");
    assert_eq!(error.reason, r#"is "relay"; use private, public or public-v6"#);

    let mut wire = v1::HostFacts::from(&facts());
    wire.routes[1] = "10.0.0.0".into();
    assert_eq!(HostFacts::try_from(wire).unwrap_err().field, "routes[1]");
}

#[test]
fn an_error_travels_as_invalid_argument_with_the_field_beside_it() {
    let status = Status::from(public_key("public_key", &[1; 31]).unwrap_err());
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "public_key: has 31 bytes; a WireGuard public key has 32");
    assert_eq!(status.metadata().get(FIELD).unwrap(), "public_key");
}

#[test]
fn a_public_key_is_32_bytes_and_not_zero() {
    assert_eq!(public_key("k", &[7; 32]), Ok(PublicKey([7; 32])));
    assert!(public_key("k", &[0; 32]).is_err());
    assert!(public_key("k", &[]).is_err());
}

#[test]
fn location_fields_of_a_newer_release_are_left_out_and_injected_ones_are_marked() {
    let mut wire = v1::AgentLocation::from(&facts().location);
    wire.fields.insert("rack".into(), v1::AgentLocationField { value: "7".into(), source: "camera".into() });
    assert_eq!(CloudLocation::try_from(wire), Ok(facts().location));

    let wire = v1::InjectedLocation { provider: "AWS".into(), ..v1::InjectedLocation::default() };
    let location = injected_location(wire).unwrap();
    assert_eq!(location.provider, Some(Located { value: "aws".into(), source: LocationSource::Injected }));
    assert_eq!(location.region, None);
}

#[test]
fn endless_input_is_refused() {
    let wire = v1::HostFacts { host_name: "a".repeat(254), ..v1::HostFacts::default() };
    assert_eq!(HostFacts::try_from(wire).unwrap_err().field, "host_name");
    let wire = v1::HostFacts { routes: vec!["10.0.0.0/8".into(); 1_025], ..v1::HostFacts::default() };
    assert_eq!(HostFacts::try_from(wire).unwrap_err().field, "routes");
    let wire = v1::HostFacts { advertise: vec!["10.0.0.0/8".into(); 65], ..v1::HostFacts::default() };
    assert_eq!(HostFacts::try_from(wire).unwrap_err().field, "advertise");
}

#[test]
fn a_name_that_a_terminal_would_obey_is_refused() {
    let wire = v1::HostFacts { host_name: "vm\u{1b}[2J".into(), ..v1::HostFacts::default() };
    let error = host_facts("facts", Some(wire)).unwrap_err();
    assert_eq!(error.to_string(), "facts.host_name: contains U+001B, a character that is not shown; remove it");
    let wire = v1::InjectedLocation { vpc: "vpc-1\n".into(), ..v1::InjectedLocation::default() };
    assert_eq!(injected_location(wire).unwrap_err().field, "vpc");
}

#[test]
fn a_moment_before_1970_keeps_a_positive_fraction() {
    let at: jiff::Timestamp = "1969-12-31T23:59:58.25Z".parse().unwrap();
    assert_eq!(timestamp(at), prost_types::Timestamp { seconds: -2, nanos: 250_000_000 });
}
