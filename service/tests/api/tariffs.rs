//! Tariffs over REST: quoted, overridden, imported, and every wrong field refused by name.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    cast::enrolled,
    harness::{Answer, Harness},
};

async fn set(harness: &Harness, body: Value) -> Answer {
    harness.rest(Method::PUT, "/api/v1/tariffs/overrides", Some(body)).await
}

async fn import(harness: &Harness, provider: &str, document: &str) -> Answer {
    harness.rest(Method::PUT, &format!("/api/v1/tariffs/imports/{provider}"), Some(json!({"document": document}))).await
}

/// Of a GB from AWS in Virginia to GCP in the same town, by public addresses.
async fn price(harness: &Harness) -> Value {
    let ask =
        json!({"from": {"provider": "aws", "region": "us-east-1"}, "to": {"provider": "gcp", "region": "us-east4"}});
    let quote = harness.post("/api/v1/tariffs/quote", ask).await;
    assert_eq!(quote.status, StatusCode::OK, "{quote:?}");
    quote.body["perGbNanoUsd"].clone()
}

#[tokio::test]
async fn a_quote_tells_its_parts_with_their_sources() {
    let harness = Harness::start().await;
    let ask = json!({
        "from": {"provider": "aws", "region": "ap-northeast-2", "zone": "apne2-az1", "vpc": "v1", "account": "a"},
        "to": {"provider": "aws", "region": "ap-northeast-2", "vpc": "v1", "account": "a"},
        "scope": "private",
    });
    let quote = harness.post("/api/v1/tariffs/quote", ask).await.body;
    assert_eq!(quote["class"], "cross-zone-private", "{quote}");
    assert_eq!((&quote["perGbNanoUsd"], &quote["estimated"]), (&json!("18626452"), &json!(true)));
    let [sender, receiver] = quote["parts"].as_array().expect("parts").as_slice() else { panic!("{quote}") };
    assert_eq!((&sender["side"], &receiver["side"]), (&json!("sender"), &json!("receiver")));
    assert_eq!((&sender["listedNano"], &sender["unit"]), (&json!("10000000"), &json!("GiB")));
    assert!(sender["sources"][0]["url"].as_str().is_some_and(|url| url.starts_with("https://")), "{sender}");
    assert_eq!(quote["bookCompiledOn"], "2026-11-20");

    let unknown = json!({"from": {"provider": "gcp", "region": "asia-northeast3"}, "to": {"provider": "gcp", "region": "asia-northeast1"}});
    let quote = harness.post("/api/v1/tariffs/quote", unknown).await.body;
    assert_eq!(quote["perGbNanoUsd"], Value::Null, "unknown is not free: {quote}");
    assert!(quote["parts"][0]["unpriced"].as_str().is_some_and(|why| why.contains("no price")), "{quote}");
}

#[tokio::test]
async fn a_quote_of_a_place_that_nobody_knows_says_so() {
    let harness = Harness::start().await;
    let ask = json!({"from": {"provider": "aws", "region": "us-eest-1"}, "to": {"provider": "amazon"}});
    let quote = harness.post("/api/v1/tariffs/quote", ask).await.body;
    let told: Vec<_> = quote["warnings"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(told.len() == 2 && told[0].starts_with("from: \"us-eest-1\" is no region of aws"), "{told:?}");
    assert_eq!(told[1], "to: \"amazon\" is no provider that is known");
}

#[tokio::test]
async fn overrides_are_set_kept_apart_by_version_and_taken_back() {
    let harness = Harness::start().await;
    let shipped = price(&harness).await;
    let empty = harness.get("/api/v1/tariffs/overrides").await.body;
    assert_eq!((&empty["version"], &empty["document"]), (&json!("0"), &json!("")));

    let document = "[providers.aws]\nunit = 'GB'\nrules = [{ class = 'internet-egress', sender = 0.05 }]";
    let made = set(&harness, json!({"document": document, "expectedVersion": "0"})).await;
    assert_eq!((made.status, &made.body["version"]), (StatusCode::OK, &json!("1")), "{made:?}");
    assert_eq!(price(&harness).await, "50000000");

    let stale = set(&harness, json!({"document": "", "expectedVersion": "0"})).await;
    assert_eq!(stale.status, StatusCode::CONFLICT, "{stale:?}");
    assert_eq!(price(&harness).await, "50000000");

    let back = set(&harness, json!({"document": "", "expectedVersion": "1"})).await;
    assert_eq!((back.status, &back.body["version"]), (StatusCode::OK, &json!("2")), "{back:?}");
    assert_eq!(price(&harness).await, shipped);
    let events = harness.get("/api/v1/events").await.body;
    let kinds =
        events["events"].as_array().expect("a list").iter().filter(|event| event["kind"] == "tariff.overridden");
    assert_eq!(kinds.count(), 2, "{events}");
}

#[tokio::test]
async fn a_wrong_document_is_refused_by_its_field_and_the_last_good_one_stays() {
    let harness = Harness::start().await;
    let good = "[providers.aws]\nunit = 'GB'\nrules = [{ class = 'internet-egress', sender = 0.05 }]";
    assert_eq!(set(&harness, json!({"document": good})).await.status, StatusCode::OK);
    let rules = |rules: &str| format!("[providers.aws]\nrules = [{rules}]");
    let cases = [
        (rules("{ class = 'internet-egress', sender = -1 }"), "document.providers.aws.rules[0].sender", "0 or more"),
        (rules("{ class = 'by-ship', sender = 1 }"), "document.providers.aws.rules[0].class", "internet-egress"),
        (
            rules("{ class = 'internet-egress', sender = 1 }, { class = 'internet-egress', sender = 2 }"),
            "document.providers.aws.rules[1]",
            "rules[0]",
        ),
        ("colour = 'red'".to_owned(), "document.colour", "not known"),
        ("[[".to_owned(), "document", ""),
        (format!("note = '{}'", "x".repeat(600_000)), "document", "at most"),
    ];
    for (document, field, right) in cases {
        for (method, path) in
            [(Method::PUT, "/api/v1/tariffs/overrides"), (Method::POST, "/api/v1/tariffs/overrides/check")]
        {
            let refused = harness.rest(method, path, Some(json!({"document": document}))).await;
            assert_eq!(refused.status, 422, "{refused:?}");
            assert_eq!(refused.body["field"], field, "{refused:?}");
            assert!(refused.body["detail"].as_str().is_some_and(|detail| detail.contains(right)), "{refused:?}");
        }
    }
    assert_eq!(price(&harness).await, "50000000");

    let strange = json!({"document": "[providers.own-rack]\nrules = [{ class = 'internet-egress', sender = 0.01 }]"});
    let checked = harness.post("/api/v1/tariffs/overrides/check", strange).await;
    assert_eq!(checked.body["warnings"][0]["field"], "providers.own-rack", "{checked:?}");
    let gateway = "[[surcharges]]\nname = 'NAT'\non = { host = 'host-of-nobody' }\nsends = 0.05";
    let checked = harness.post("/api/v1/tariffs/overrides/check", json!({"document": gateway})).await;
    assert_eq!(checked.body["warnings"][0]["field"], "surcharges[0].on", "{checked:?}");
    let known = enrolled(&harness.store, "prod", "vm-1").await;
    let gateway = gateway.replace("host-of-nobody", known.as_str());
    let checked = harness.post("/api/v1/tariffs/overrides/check", json!({"document": gateway})).await;
    assert_eq!((checked.status, &checked.body["warnings"]), (StatusCode::OK, &json!([])), "{checked:?}");
    assert_eq!(price(&harness).await, "50000000", "a check changes nothing");
}

#[tokio::test]
async fn an_import_replaces_one_providers_figures_and_lies_under_the_operators() {
    let harness = Harness::start().await;
    let of = |provider: &str, price: &str| {
        format!(
            "compiled = '2026-11-21'\n[providers.{provider}]\nunit = 'GB'\nrules = [{{ class = 'internet-egress', sender = {price} }}]"
        )
    };
    let shipped = price(&harness).await;
    let imported = import(&harness, "aws", &of("aws", "0.2")).await;
    assert_eq!(imported.status, StatusCode::OK, "{imported:?}");
    assert_eq!(price(&harness).await, "200000000");
    assert_eq!(import(&harness, "azure", &of("azure", "0.3")).await.status, StatusCode::OK);
    let kept = harness.get("/api/v1/tariffs/imports").await.body;
    assert!(
        ["[providers.aws]", "[providers.azure]"]
            .iter()
            .all(|name| kept["document"].as_str().expect("text").contains(name))
    );

    let rules = harness.get("/api/v1/tariffs/rules?provider=aws&class=internet-egress&region=us-east-1").await.body;
    let origins: Vec<&str> =
        rules["rules"].as_array().expect("a list").iter().filter_map(|rule| rule["origin"].as_str()).collect();
    assert_eq!(origins, ["imported", "shipped"], "{rules}");
    for (asked, field) in [("provider=awz", "provider"), ("class=surcharge", "class")] {
        let refused = harness.get(&format!("/api/v1/tariffs/rules?{asked}")).await;
        assert_eq!((refused.status.as_u16(), &refused.body["field"]), (422, &json!(field)), "{refused:?}");
    }

    for (provider, document, field) in [
        ("aws", of("gcp", "0.1"), "document.providers.gcp"),
        ("aws", "suggested_defaults = true".to_owned(), "document.suggested_defaults"),
        ("moon", of("moon", "0.1"), "provider"),
    ] {
        let refused = import(&harness, provider, &document).await;
        assert_eq!((refused.status.as_u16(), &refused.body["field"]), (422, &json!(field)), "{refused:?}");
    }
    assert_eq!(set(&harness, json!({"document": of("aws", "0.04")})).await.status, StatusCode::OK);
    assert_eq!(price(&harness).await, "40000000");
    assert_eq!(set(&harness, json!({"document": ""})).await.status, StatusCode::OK);
    assert_eq!(import(&harness, "aws", "").await.status, StatusCode::OK);
    assert_eq!(price(&harness).await, shipped);
}
