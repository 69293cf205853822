//! The metadata server of Google Compute Engine: asks for the header `Metadata-Flavor: Google`, and sends it.
//!
//! Paths are written with dashes (`network-interfaces/0/ip`), recursive answers in JSON with capitals (`networkInterfaces`).
//! <https://cloud.google.com/compute/docs/metadata/predefined-metadata-keys>

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::facts::{Facts, number};
use super::tree::lines;
use super::{Answer, Question};

pub(super) fn answer(question: &Question<'_>, facts: &Facts) -> Answer {
    respond(question, facts).with_header("metadata-flavor", "Google").with_header("server", "Metadata Server for VM")
}

fn respond(question: &Question<'_>, facts: &Facts) -> Answer {
    if question.header("metadata-flavor") != Some("Google") || question.header("x-forwarded-for").is_some() {
        return Answer::refused(StatusCode::FORBIDDEN, "Missing Metadata-Flavor:Google header.\n");
    }
    let Some(path) = question.path.strip_prefix("/computeMetadata/v1") else {
        return match question.path {
            "/" => Answer::text("computeMetadata/\n"),
            "/computeMetadata" | "/computeMetadata/" => Answer::text("v1/\n"),
            _ => Answer::not_found(),
        };
    };
    let document = json!({ "instance": instance(facts), "project": project(facts) });
    let names = path.split('/').filter(|name| !name.is_empty());
    let found = names.into_iter().try_fold(&document, |value, name| match value {
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        value => value.get(camel_case(name)),
    });
    match (found, question.parameter("recursive")) {
        (None, _) => Answer::not_found(),
        (Some(value), Some("true")) => Answer::json(value),
        (Some(Value::Object(entries)), _) => {
            Answer::text(lines(entries.iter().map(|(name, value)| entry(name, value))) + "\n")
        }
        (Some(Value::Array(items)), _) => Answer::text(lines((0..items.len()).map(|index| format!("{index}/"))) + "\n"),
        (Some(Value::String(text)), _) => Answer::text(text.clone()),
        (Some(other), _) => Answer::text(other.to_string()),
    }
}

fn instance(facts: &Facts) -> Value {
    let project = project_number(facts);
    let zone = facts.zone.clone().unwrap_or_else(|| format!("{}-a", facts.region));
    let access: Vec<Value> = facts
        .public_address
        .iter()
        .map(|address| json!({ "externalIp": address.to_string(), "type": "ONE_TO_ONE_NAT" }))
        .collect();
    let v6: Vec<String> = facts.ipv6_address.iter().map(ToString::to_string).collect();
    json!({
        "attributes": {},
        "hostname": format!("{}.{zone}.c.{}.internal", facts.name, facts.account),
        "id": number(&facts.machine_id),
        "machineType": format!("projects/{project}/machineTypes/e2-small"),
        "name": facts.name,
        "networkInterfaces": [{
            "accessConfigs": access,
            "dnsServers": ["169.254.169.254"],
            "gateway": facts.gateway().map(|address| address.to_string()),
            "ip": facts.private_address.to_string(),
            "ipv6": v6,
            "mac": facts.mac_text(),
            "mtu": 1500,
            "network": format!("projects/{project}/networks/{}", facts.vpc),
            "subnetmask": facts.subnet_cidr.netmask().to_string(),
        }],
        "zone": format!("projects/{project}/zones/{zone}"),
    })
}

fn project(facts: &Facts) -> Value {
    json!({ "numericProjectId": project_number(facts), "projectId": facts.account })
}

fn project_number(facts: &Facts) -> u64 {
    number(&facts.account) % 1_000_000_000_000
}

/// `network-interfaces` is called `networkInterfaces` in JSON.
fn camel_case(name: &str) -> String {
    let mut parts = name.split('-');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |done, part| {
        let (head, tail) = part.split_at(part.chars().next().map_or(0, char::len_utf8));
        done + &head.to_ascii_uppercase() + tail
    })
}

/// A line of a directory: dashes again, and a slash behind what is a directory itself.
fn entry(name: &str, value: &Value) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            text.push('-');
        }
        text.push(letter.to_ascii_lowercase());
    }
    match value {
        Value::Object(_) | Value::Array(_) => text + "/",
        _ => text,
    }
}
