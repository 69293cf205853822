//! Text from outside: nothing that anybody can type makes a reader panic, and what is read is written as it was.

use cladnet_model::{
    ApiKeyText, EndpointSource, HostId, JoinToken, NetworkDraft, PublicKey, RuleType,
    advise::parse_avoid,
    path::PathSettingsDraft,
    rule::{RuleDraft, RulesDraft},
    space,
    tariff::{Book, Document, Place, Site, check, feed, refuse_unknown_fields},
    validate,
};
use proptest::prelude::*;

/// Every field of every kind of rule.
fn hostile_rules(text: &str) -> RulesDraft {
    let (some, many) = (Some(text.to_owned()), vec![text.to_owned()]);
    let rule = |kind: &str| RuleDraft {
        id: some.clone(),
        kind: kind.to_owned(),
        comment: text.to_owned(),
        from: some.clone(),
        to: some.clone(),
        action: some.clone(),
        protocol: some.clone(),
        ports: many.clone(),
        prefix: some.clone(),
        via: some.clone(),
        mapped: some.clone(),
        prefer: some.clone(),
        forbid: many.clone(),
        encryption: some.clone(),
        rule_type: some.clone(),
        max_usd_per_gb: some.clone(),
        ..RuleDraft::default()
    };
    let rules = ["access", "advertise", "path", text].map(rule).to_vec();
    RulesDraft { default_access: some.clone(), rules, tests: many.clone() }
}

proptest! {
    #[test]
    fn no_text_makes_a_reader_panic(text in any::<String>(), pattern in "(cladnet1_|cladnet_key_|[0-9./:a-f-]{0,12}).{0,160}") {
        for text in [text, pattern] {
            let _ = text.parse::<JoinToken>();
            let _ = text.parse::<ApiKeyText>();
            let _ = text.parse::<PublicKey>();
            let _ = text.parse::<RuleType>();
            let _ = text.parse::<EndpointSource>();
            let _ = parse_avoid(&text);
            let _ = validate::check_name(&text);
            let _ = validate::check_description(&text);
            if let Ok(space) = space::parse(&text) {
                prop_assert_eq!(space.to_string(), text.as_str());
            }
            if let Ok(id) = text.parse::<HostId>() {
                prop_assert_eq!(id.as_str(), text.as_str());
            }
            let draft = NetworkDraft {
                id: Some(&text), name: Some(&text), address_space: Some(&text), description: &text,
                rule_type: Some(&text), encryption_policy: Some(&text),
                path_settings: PathSettingsDraft {
                    usd_per_ms: Some(&text), max_usd_per_gb: Some(&text), forbid: Some(std::slice::from_ref(&text)),
                    ..PathSettingsDraft::default()
                },
            };
            let told = draft.check().unwrap_err().to_string() + &hostile_rules(&text).check().unwrap_err().to_string();
            prop_assert!(!told.chars().any(char::is_control), "an error repeats control characters: {:?}", told);
        }
    }

    #[test]
    fn no_tariff_document_makes_a_reader_panic_or_a_terminal_obey(text in any::<String>(), number in any::<f64>()) {
        let today = jiff::civil::date(2026, 11, 20);
        let _ = (text.parse::<Place>(), text.parse::<Site>(), feed::aws(&[&text], today), feed::azure(&[&text], today));
        let [name, class] = [&text, "internet-egress"].map(|text| serde_json::to_string(text).expect("a string"));
        let in_table = format!("[providers.{name}]\ncurrency = {name}\nrules = [{{ class = {class}, from = [{name}], sender = {number} }}]");
        let in_lists = format!("[[surcharges]]\nname = {name}\non = {{ vpc = {name} }}\n[exchange_rates.{name}]\nusd = {number}");
        for text in [text.clone(), in_table, in_lists, format!("{name} = {number}")] {
            let read = Document::parse(&text).and_then(|(document, unknown)| {
                refuse_unknown_fields(unknown)?;
                check(&document, &Book::shipped(), today)
            });
            let told = read.map_or_else(|error| error.to_string(), |strange| strange.iter().map(ToString::to_string).collect());
            prop_assert!(!told.chars().any(char::is_control), "an error repeats control characters: {:?}", told);
        }
    }

    #[test]
    fn every_cidr_is_read_or_refused_for_one_reason(address in any::<[u8; 4]>(), prefix in 0..=32u8) {
        let [a, b, c, d] = address;
        let text = format!("{a}.{b}.{c}.{d}/{prefix}");
        let bits = u32::from_be_bytes(address);
        let host_bits = if prefix == 32 { 0 } else { u32::MAX >> prefix };
        let private = matches!((a, b), (10, _) | (172, 16..=31) | (192, 168));
        let wide_enough = prefix >= match a { 10 => 8, 172 => 12, _ => 16 };
        let right = bits & host_bits == 0 && private && wide_enough && prefix <= 30;
        prop_assert_eq!(space::parse(&text).is_ok(), right, "{}", text);
    }
}
