//! The admin's page as the demo tells of it: at the address that is printed, opened with the key that is printed.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::world::World;

/// Holds if the page is there, with its script, and the key opens a session that the API knows.
pub(super) fn check(world: &World) -> Result<()> {
    let url = world.admin_url(0)?;
    let page = curl(world, &[&format!("{url}/")])?;
    let script = page.split('"').find(|word| word.ends_with(".js")).context("the page has no script")?;
    curl(world, &[&format!("{url}/{}", script.trim_start_matches(['.', '/']))])?;

    let cookies = tempfile::NamedTempFile::new().context("no temporary file")?;
    let cookies = cookies.path().display().to_string();
    let session = format!("{url}/api/v1/session");
    let key = json!({ "apiKey": world.admin().key()? }).to_string();
    let origin = format!("origin: {url}");
    let as_page = ["-H", &origin, "-H", "x-cladnet-request: 1", "-H", "content-type: application/json"];
    curl(world, &[&["--cookie-jar", &cookies, "-d", &key, &session], &as_page[..]].concat())?;
    let signed_in: Value = serde_json::from_str(&curl(world, &["--cookie", &cookies, &session])?)?;
    ensure!(signed_in["role"] == "admin", "signing in led to {signed_in}");
    Ok(())
}

fn curl(world: &World, arguments: &[&str]) -> Result<String> {
    let ca = world.admin().ca_file();
    let mut curl = Command::new("curl");
    let output = curl.args(["--silent", "--show-error", "--fail", "--cacert", &ca]).args(arguments).output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the page does not answer: {}", text.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
