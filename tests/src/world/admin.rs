//! The admin's side: the command `cladnet` on the host, with the first key.

use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{World, binary};

/// What a command answered.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs `cladnet` against one replica of a world's service.
pub struct Admin<'a> {
    world: &'a World,
    replica: u16,
}

impl World {
    /// The admin, talking to the first replica.
    pub fn admin(&self) -> Admin<'_> {
        self.admin_at(0)
    }

    /// The admin, talking to a certain replica.
    pub fn admin_at(&self, replica: u16) -> Admin<'_> {
        Admin { world: self, replica }
    }
}

impl Admin<'_> {
    /// Runs the command, whatever comes of it.
    pub fn ask<'s>(&self, arguments: impl IntoIterator<Item = &'s str>) -> Result<Answer> {
        let output = self.command()?.args(arguments).output().context("could not run cladnet")?;
        Ok(output.into())
    }

    /// Runs the command, which must succeed, and returns what it printed.
    pub fn run<const N: usize>(&self, arguments: [&str; N]) -> Result<String> {
        let answer = self.ask(arguments)?;
        if answer.code != 0 {
            bail!("cladnet {} failed with {}: {}", arguments.join(" "), answer.code, answer.stderr.trim());
        }
        Ok(answer.stdout)
    }

    /// Runs the command, which must succeed, and reads its JSON.
    pub fn json<const N: usize>(&self, arguments: [&str; N]) -> Result<Value> {
        let mut command = self.command()?;
        let output = command.args(["--output", "json"]).args(arguments).output().context("could not run cladnet")?;
        if !output.status.success() {
            bail!("cladnet {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("cladnet {} printed no JSON", arguments.join(" ")))
    }

    /// Begins the command; what it prints is seen at once.
    pub fn start<'s>(&self, arguments: impl IntoIterator<Item = &'s str>) -> Result<Child> {
        self.command()?.args(arguments).stdin(Stdio::null()).spawn().context("could not run cladnet")
    }

    /// The key itself, for callers that are not `cladnet`.
    pub fn key(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.world.work().join("admin.key"))?.trim().to_owned())
    }

    /// Where the CA's certificate is on the host.
    pub fn ca_file(&self) -> String {
        self.world.work().join("ca.pem").display().to_string()
    }

    /// Where the key is on the host.
    pub fn key_file(&self) -> String {
        self.world.work().join("admin.key").display().to_string()
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(binary("cladnet")?);
        command.arg("--service").arg(self.world.admin_url(self.replica)?);
        command.arg("--key-file").arg(self.key_file()).arg("--ca-file").arg(self.ca_file());
        Ok(command)
    }
}
