//! The demo's steps as REST calls that can be pasted into a shell; with `--check` those that only read are also made.

use std::process::Command;

use anyhow::{Result, ensure};

use super::NETWORK;
use crate::world::World;

pub(super) fn show(world: &World, check: bool) -> Result<()> {
    let (url, admin) = (world.admin_url(0)?, world.admin());
    println!("export KEY=$(cat {}) CA={}", admin.key_file(), admin.ca_file());
    let calls = [
        ("POST", "/api/v1/address-spaces/recommend".to_owned(), r#"{"hosts": 50, "avoid": ["10.0.0.0/16"]}"#),
        ("POST", "/api/v1/networks".to_owned(), r#"{"networkId": "second", "expectedHosts": 50}"#),
        ("POST", "/api/v1/tokens".to_owned(), r#"{"networkId": "demo"}"#),
        ("GET", format!("/api/v1/networks/{NETWORK}/peers"), ""),
        ("GET", format!("/api/v1/networks/{NETWORK}/paths"), ""),
        ("POST", format!("/api/v1/networks/{NETWORK}/connectivity-tests"), r#"{"count": 3}"#),
        ("GET", format!("/v1/cladnet/{NETWORK}/peer"), ""),
    ];
    for (method, path, body) in &calls {
        let body_text =
            if body.is_empty() { String::new() } else { format!(" -H 'content-type: application/json' -d '{body}'") };
        println!("curl --cacert $CA -H \"authorization: Bearer $KEY\" -X {method} {url}{path}{body_text}");
        if check && *method == "GET" {
            call(&format!("{url}{path}"), &admin.ca_file(), &admin.key()?)?;
        }
    }
    Ok(())
}

fn call(url: &str, ca: &str, key: &str) -> Result<()> {
    let header = format!("authorization: Bearer {key}");
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--cacert", ca, "-H", &header, url])
        .output()?;
    ensure!(output.status.success(), "GET {url}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
