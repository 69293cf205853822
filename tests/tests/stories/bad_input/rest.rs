//! The same refusals over REST, as `curl` meets them: a status, a problem document, the field by its JSON name.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use cladnet_tests::world::{Servers, World, story};
use serde_json::Value;

use super::standing;
use crate::clouds;

/// Method, path below `/api/v1`, body, status, field, what must be said.
const REFUSALS: &[(&str, &str, &str, u16, &str, &str)] = &[
    ("POST", "networks", r#"{"ipv4AddressSpace":"banana"}"#, 422, "ipv4AddressSpace", "10.64.0.0/16"),
    ("POST", "networks", r#"{"ipv4AddressSpace":"8.8.8.0/24"}"#, 422, "ipv4AddressSpace", "10.0.0.0/8"),
    ("POST", "networks", r#"{"ipv4AddressSpace":"fd00::/64"}"#, 422, "ipv4AddressSpace", "IPv6"),
    ("POST", "networks", r#"{"ipv4AddressSpace":"10.9.0.0/31"}"#, 422, "ipv4AddressSpace", "/30"),
    ("POST", "networks", r#"{"ipv4AddressSpace":"172.20.0.0/24"}"#, 422, "ipv4AddressSpace", "network taken"),
    (
        "POST",
        "networks",
        r#"{"ipv4AddressSpace":"10.9.0.0/28","expectedHosts":99}"#,
        422,
        "ipv4AddressSpace",
        "14 hosts",
    ),
    ("POST", "networks", r#"{"networkId":"a b"}"#, 422, "networkId", "[a-z0-9-]"),
    ("POST", "networks", r#"{"networkId":"a/b"}"#, 422, "networkId", "[a-z0-9-]"),
    ("POST", "networks", r#"{"networkId":"taken","ipv4AddressSpace":"10.9.0.0/28"}"#, 409, "networkId", "taken"),
    ("POST", "networks", r#"{"ruleType":"cheapest"}"#, 422, "ruleType", "balanced"),
    ("POST", "networks", r#"{"networkName":"new"}"#, 400, "networkName", "networkId, name, ipv4AddressSpace"),
    ("POST", "networks", r#"{"networkId":7}"#, 400, "networkId", "expected a string"),
    ("POST", "networks", r#"{"networkId":"#, 400, "", "not JSON"),
    ("POST", "networks", "[]", 400, "", ""),
    ("PATCH", "networks/taken", r#"{"ipv4AddressSpace":"172.20.0.1/24"}"#, 422, "ipv4AddressSpace", "172.20.0.0/24"),
    ("PATCH", "networks/nowhere", r#"{"name":"x"}"#, 404, "", "nowhere"),
    ("GET", "networks/nowhere", "", 404, "", "nowhere"),
    ("GET", "networks/a%2Fb", "", 422, "networkId", "'/'"),
    ("GET", "networks?pageSise=2", "", 400, "pageSise", "pageSize"),
    ("GET", "networks/nowhere/peers", "", 404, "", "nowhere"),
    ("DELETE", "networks/nowhere", "", 404, "", "nowhere"),
    ("DELETE", "networks", "", 405, "", "DELETE"),
    ("POST", "tokens", r#"{"networkId":"nowhere"}"#, 404, "", "nowhere"),
    ("GET", "elsewhere", "", 404, "", "/api/v1/elsewhere"),
];

#[test]
fn rest_refuses_with_a_problem_document_that_names_the_field() {
    story(&clouds::control_only(), Servers::One, |world| {
        world.admin().run(["network", "create", "taken", "--address-space", "172.20.0.0/28"])?;
        let admin = world.admin().key()?;
        let before = standing(world)?;
        for (method, path, body, status, field, detail) in REFUSALS {
            let what = format!("{method} {path} {body}");
            let answer = call(world, Some(&admin), method, path, body)?;
            ensure!(answer.field() == *field, "{what}: field {:?} instead of {field:?}", answer.field());
            answer.is_problem(&what, *status, detail)?;
        }

        let none = call(world, None, "GET", "networks", "")?;
        none.is_problem("no key", 401, "Authorization: Bearer")?;
        let unknown = call(world, Some("cladnet_key_nobody"), "GET", "networks", "")?;
        unknown.is_problem("a key of nobody", 401, "key")?;
        let viewer = world.admin().run(["key", "create", "--role", "viewer"])?;
        ensure!(call(world, Some(viewer.trim()), "GET", "networks", "")?.status == 200, "a viewer may look");
        for (method, path) in [("POST", "networks"), ("DELETE", "networks/taken"), ("POST", "tokens"), ("POST", "keys")]
        {
            let denied = call(world, Some(viewer.trim()), method, path, r"{}")?;
            denied.is_problem(&format!("{method} {path} by a viewer"), 403, "admin")?;
        }

        let after = standing(world)?;
        ensure!(before == after, "before {before}, after {after}");
        Ok(())
    });
}

/// What the service answered.
pub(super) struct Answer {
    pub(super) status: u16,
    content_type: String,
    body: Value,
}

impl Answer {
    fn field(&self) -> &str {
        self.body["field"].as_str().unwrap_or_default()
    }

    /// RFC 9457, with our `request_id`.
    pub(super) fn is_problem(&self, what: &str, status: u16, detail: &str) -> Result<()> {
        let Self { status: found, content_type, body } = self;
        ensure!(*found == status && body["status"] == status, "{what}: status {found} instead of {status}: {body}");
        ensure!(content_type == "application/problem+json", "{what}: {content_type}: {body}");
        ensure!(body["detail"].as_str().is_some_and(|told| told.contains(detail)), "{what}: no {detail:?} in {body}");
        ensure!(body["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{what}: no request_id in {body}");
        ensure!(body["title"].is_string() && body["type"].is_string(), "{what}: {body}");
        Ok(())
    }
}

/// One call with `curl`, from the host.
pub(super) fn call(world: &World, key: Option<&str>, method: &str, path: &str, body: &str) -> Result<Answer> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "10", "--cacert", &world.admin().ca_file()]);
    curl.args(["--write-out", "\n%{http_code} %{content_type}", "--request", method]);
    if let Some(key) = key {
        curl.args(["--header", &format!("Authorization: Bearer {key}")]);
    }
    if !body.is_empty() {
        curl.args(["--header", "Content-Type: application/json", "--data", body]);
    }
    let output = curl.arg(format!("{}/api/v1/{path}", world.admin_url(0)?)).output().context("could not run curl")?;
    let printed = String::from_utf8(output.stdout)?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let (body, last) = printed.rsplit_once('\n').with_context(|| format!("no answer from curl: {told}"))?;
    let (status, content_type) = last.split_once(' ').with_context(|| format!("curl printed {printed}: {told}"))?;
    let body = serde_json::from_str(body).with_context(|| format!("no JSON: {printed} {told}"))?;
    Ok(Answer { status: status.parse()?, content_type: content_type.to_owned(), body })
}
