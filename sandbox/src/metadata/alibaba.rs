//! The instance metadata service of Alibaba ECS, on its own address; a session token may be used and need not.

use axum::http::StatusCode;

use super::facts::{Facts, identifier};
use super::tokens::Tokens;
use super::tree::Tree;
use super::{Answer, Question};

pub(super) fn answer(question: &Question<'_>, facts: &Facts, tokens: &Tokens) -> Answer {
    if question.path == "/latest/api/token" {
        return tokens.issue(question, facts, "x-aliyun-ecs-metadata-token-ttl-seconds");
    }
    let token = question.header("x-aliyun-ecs-metadata-token");
    if token.is_some_and(|token| !tokens.accept(token, facts)) {
        return Answer::refused(StatusCode::UNAUTHORIZED, "401 - Unauthorized\n");
    }
    match question.path.strip_prefix("/latest/meta-data") {
        Some(path) => meta_data(facts).answer(path),
        None => Answer::not_found(),
    }
}

fn meta_data(facts: &Facts) -> Tree {
    let mut tree = Tree::default();
    tree.set("eipv4", facts.public_address.map(|address| address.to_string()));
    tree.set("hostname", facts.name.clone());
    tree.set("instance-id", identifier("i", &facts.machine_id));
    tree.set("mac", facts.mac_text());
    tree.set("network-type", "vpc".to_owned());
    tree.set("owner-account-id", facts.account.clone());
    tree.set("private-ipv4", facts.private_address.to_string());
    tree.set("region-id", facts.region.clone());
    tree.set("vpc-cidr-block", facts.vpc_cidrs.first().map(ToString::to_string));
    tree.set("vpc-id", identifier("vpc", &facts.vpc));
    tree.set("vswitch-cidr-block", facts.subnet_cidr.to_string());
    tree.set("vswitch-id", identifier("vsw", &facts.subnet));
    tree.set("zone-id", facts.zone.clone());
    tree
}
