//! The instance metadata service of AWS EC2, version 2: a session token is required.
//!
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-categories.html>

use axum::http::StatusCode;
use serde_json::json;

use super::facts::{Facts, identifier};
use super::tokens::Tokens;
use super::tree::{Tree, lines};
use super::{Answer, Question};

pub(super) fn answer(question: &Question<'_>, facts: &Facts, tokens: &Tokens) -> Answer {
    if question.path == "/latest/api/token" {
        return tokens.issue(question, facts, "x-aws-ec2-metadata-token-ttl-seconds");
    }
    // A request of version 1 has no token.
    let token = question.header("x-aws-ec2-metadata-token");
    if !token.is_some_and(|token| tokens.accept(token, facts)) {
        return Answer::refused(StatusCode::UNAUTHORIZED, "401 - Unauthorized\n");
    }
    if question.path == "/latest/dynamic/instance-identity/document" {
        return Answer::json(&identity_document(facts));
    }
    match question.path.strip_prefix("/latest/meta-data") {
        Some(path) => meta_data(facts).answer(path),
        None => Answer::not_found(),
    }
}

fn identity_document(facts: &Facts) -> serde_json::Value {
    json!({
        "accountId": facts.account,
        "architecture": "x86_64",
        "availabilityZone": facts.zone,
        "billingProducts": null,
        "devpayProductCodes": null,
        "marketplaceProductCodes": null,
        "imageId": identifier("ami", "sandbox"),
        "instanceId": instance_id(facts),
        "instanceType": "t3.small",
        "kernelId": null,
        "pendingTime": "2026-01-01T00:00:00Z",
        "privateIp": facts.private_address,
        "ramdiskId": null,
        "region": facts.region,
        "version": "2017-09-30",
    })
}

fn meta_data(facts: &Facts) -> Tree {
    let mut tree = Tree::default();
    let dashed = facts.private_address.to_string().replace('.', "-");
    let hostname = format!("ip-{dashed}.{}.compute.internal", facts.region);
    tree.set("ami-id", identifier("ami", "sandbox"));
    tree.set("hostname", hostname.clone());
    tree.set("instance-id", instance_id(facts));
    tree.set("instance-type", "t3.small".to_owned());
    tree.set("local-hostname", hostname);
    tree.set("local-ipv4", facts.private_address.to_string());
    tree.set("mac", facts.mac_text());
    tree.set("public-ipv4", facts.public_address.map(|address| address.to_string()));
    tree.set("placement/availability-zone", facts.zone.clone());
    tree.set("placement/availability-zone-id", facts.zone.as_deref().and_then(zone_id));
    tree.set("placement/region", facts.region.clone());
    tree.set("services/partition", "aws".to_owned());
    let interface = format!("network/interfaces/macs/{}", facts.mac_text());
    let mut set = |name: &str, value: Option<String>| tree.set(&format!("{interface}/{name}"), value);
    let public = facts.public_address.map(|address| address.to_string());
    set("device-number", Some("0".to_owned()));
    set("interface-id", Some(identifier("eni", &facts.name)));
    set("ipv6s", facts.ipv6_address.map(|address| address.to_string()));
    set("local-ipv4s", Some(facts.private_address.to_string()));
    set("mac", Some(facts.mac_text()));
    set("owner-id", Some(facts.account.clone()));
    set("public-ipv4s", public.clone());
    set("subnet-id", Some(identifier("subnet", &facts.subnet)));
    set("subnet-ipv4-cidr-block", Some(facts.subnet_cidr.to_string()));
    set("subnet-ipv6-cidr-blocks", facts.subnet_ipv6.map(|prefix| prefix.to_string()));
    set("vpc-id", Some(identifier("vpc", &facts.vpc)));
    set("vpc-ipv4-cidr-block", facts.vpc_cidrs.first().map(ToString::to_string));
    set("vpc-ipv4-cidr-blocks", Some(lines(&facts.vpc_cidrs)));
    set("vpc-ipv6-cidr-blocks", facts.vpc_ipv6.map(|prefix| prefix.to_string()));
    if let Some(public) = public {
        set(&format!("ipv4-associations/{public}"), Some(facts.private_address.to_string()));
    }
    tree
}

fn instance_id(facts: &Facts) -> String {
    format!("i-{}", &facts.machine_id.get(..17).unwrap_or(&facts.machine_id))
}

/// `ap-northeast-2a` is called `apne2-az1`. Real accounts shuffle the letters; here `a` is always 1.
fn zone_id(zone: &str) -> Option<String> {
    const DIRECTIONS: &[(&str, &str)] = &[
        ("northeast", "ne"),
        ("northwest", "nw"),
        ("southeast", "se"),
        ("southwest", "sw"),
        ("north", "n"),
        ("south", "s"),
        ("east", "e"),
        ("west", "w"),
        ("central", "c"),
    ];
    let letter = zone.chars().last().filter(char::is_ascii_lowercase)?;
    let mut parts = zone[..zone.len() - 1].split('-');
    let (area, direction, number) = (parts.next()?, parts.next()?, parts.next()?);
    let (_, short) = DIRECTIONS.iter().find(|(name, _)| *name == direction)?;
    Some(format!("{area}{short}{number}-az{}", u32::from(letter) - u32::from('a') + 1))
}
