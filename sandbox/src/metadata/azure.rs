//! The instance metadata service of Azure: the header `Metadata: true` and a version are required.
//!
//! The public address of a Standard public IP is told by `/metadata/loadbalancer` only, as in Azure.
//! <https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service>

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::facts::Facts;
use super::{Answer, Question};

/// Versions are dates; these are the newest ones, which an answer to a missing one tells.
const NEWEST_VERSIONS: [&str; 3] = ["2025-04-07", "2023-11-15", "2021-12-13"];
const OLDEST_VERSION: &str = "2017-04-02";

pub(super) fn answer(question: &Question<'_>, facts: &Facts) -> Answer {
    if question.method != Method::GET {
        return error(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed");
    }
    if !question.header("metadata").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return error(StatusCode::BAD_REQUEST, "Bad request. Required metadata header not specified");
    }
    if question.header("x-forwarded-for").is_some() {
        return error(StatusCode::BAD_REQUEST, "Bad request. Request contains an X-Forwarded-For header");
    }
    let Some(version) = question.parameter("api-version") else {
        let problem = "Bad request. api-version was not specified in the request";
        let body = json!({ "error": problem, "newest-versions": NEWEST_VERSIONS });
        return Answer { status: StatusCode::BAD_REQUEST, ..Answer::json(&body) };
    };
    if !(OLDEST_VERSION..=NEWEST_VERSIONS[0]).contains(&version) || version.len() != OLDEST_VERSION.len() {
        return error(
            StatusCode::BAD_REQUEST,
            "Bad request. api-version is invalid or was not specified in the request",
        );
    }
    let path = question.path.trim_end_matches('/');
    let document = match path.strip_prefix("/metadata/").map(|path| path.split('/').next().unwrap_or_default()) {
        Some("instance") => json!({ "instance": instance(facts) }),
        Some("loadbalancer") => return load_balancer(facts),
        _ => return error(StatusCode::NOT_FOUND, "Not found"),
    };
    let found = path.trim_start_matches("/metadata/").split('/').try_fold(&document, |value, name| match value {
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        value => value.get(name),
    });
    match (found, question.parameter("format")) {
        (None, _) => error(StatusCode::NOT_FOUND, "Not found"),
        (Some(value @ (Value::Object(_) | Value::Array(_))), None | Some("json")) => Answer::json(value),
        (Some(Value::String(text)), Some("text")) => Answer::text(text.clone()),
        _ => {
            error(StatusCode::BAD_REQUEST, "Bad request. Use format=text for a leaf and format=json for what has some")
        }
    }
}

fn instance(facts: &Facts) -> Value {
    let zone = facts.zone.clone().unwrap_or_default();
    let physical_zone = if zone.is_empty() { String::new() } else { format!("{}-az{zone}", facts.region) };
    let group = "sandbox";
    let v6: Vec<Value> =
        facts.ipv6_address.iter().map(|address| json!({ "privateIpAddress": address.to_string() })).collect();
    json!({
        "compute": {
            "azEnvironment": "AzurePublicCloud",
            "location": facts.region,
            "name": facts.name,
            "osType": "Linux",
            "physicalZone": physical_zone,
            "provider": "Microsoft.Compute",
            "resourceGroupName": group,
            "resourceId": format!(
                "/subscriptions/{}/resourceGroups/{group}/providers/Microsoft.Compute/virtualMachines/{}",
                facts.account, facts.name,
            ),
            "subscriptionId": facts.account,
            "vmId": facts.uuid(),
            "vmSize": "Standard_B1s",
            "zone": zone,
        },
        "network": { "interface": [{
            "ipv4": {
                "ipAddress": [{ "privateIpAddress": facts.private_address.to_string(), "publicIpAddress": "" }],
                "subnet": [{
                    "address": facts.subnet_cidr.network().to_string(),
                    "prefix": facts.subnet_cidr.prefix_len().to_string(),
                }],
            },
            "ipv6": { "ipAddress": v6 },
            "macAddress": facts.mac.map(|byte| format!("{byte:02X}")).concat(),
        }] },
    })
}

fn load_balancer(facts: &Facts) -> Answer {
    let Some(public) = facts.public_address else {
        return error(
            StatusCode::NOT_FOUND,
            "No load balancer metadata is found. Please check if your VM is using any",
        );
    };
    let addresses = json!([{
        "frontendIpAddress": public.to_string(),
        "privateIpAddress": facts.private_address.to_string(),
    }]);
    Answer::json(&json!({
        "loadbalancer": { "publicIpAddresses": addresses, "inboundRules": [], "outboundRules": [] },
    }))
}

fn error(status: StatusCode, problem: &str) -> Answer {
    Answer { status, ..Answer::json(&json!({ "error": problem })) }
}
