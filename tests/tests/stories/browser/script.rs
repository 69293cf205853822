//! A story of `tests/web` as a process of Node: it gets the facts of a world, and asks for what only the world can do, in
//! lines of JSON. When either side ends, so does the other, and the browser with it.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use cladnet_tests::{
    wait::eventually,
    world::{CONTROL, World, failures},
};
use serde::Deserialize;
use serde_json::{Value, json};

/// For failing, not a target.
const START: Duration = Duration::from_secs(30);

/// What a story asks for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Wish {
    /// Runs `cladnet` with these words; answered with the JSON it prints.
    Admin(Vec<String>),
    #[serde(rename_all = "camelCase")]
    Join {
        vm: String,
        network: String,
        host_name: String,
    },
    StopServer,
    StartServer,
}

/// Runs a story to its end; what it says on standard error is the test's.
pub(super) fn run(name: &str, world: &World) -> Result<()> {
    let mut child = node(name, world)?;
    let mut input = child.stdin.take().context("no standard input")?;
    let output = BufReader::new(child.stdout.take().context("no standard output")?);
    say(&mut input, &facts(world)?)?;
    let conversed = output.lines().try_for_each(|line| {
        let wish = line?;
        let wish = serde_json::from_str(&wish).with_context(|| format!("not understood: {wish}"))?;
        let answer = match grant(wish, world) {
            Ok(value) => json!({ "value": value }),
            Err(error) => json!({ "error": format!("{error:#}") }),
        };
        say(&mut input, &answer)
    });
    // Where the story waits for an answer that never comes, this tells it.
    drop(input);
    let status = child.wait().context("could not wait for the story")?;
    conversed?;
    ensure!(status.success(), "the story {name} failed with {status}; what it says is above");
    Ok(())
}

/// On the network of `control`: the host's changes with every sandbox, and Chromium drops what it loads when it does.
fn node(name: &str, world: &World) -> Result<Child> {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
    let modules = web.join("node_modules");
    ensure!(modules.is_dir(), "{} is missing: run `npm --prefix tests/web ci` (scripts/test does)", modules.display());
    let network = format!("--net=/proc/{}/ns/net", world.vm(CONTROL)?.init_pid()?);
    let mut command = Command::new("nsenter");
    command.args([&network, "node"]).arg(web.join("story.js")).arg(name);
    Ok(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?)
}

fn facts(world: &World) -> Result<Value> {
    let pictures = env::var_os("CLADNET_PICTURES").map(PathBuf::from);
    Ok(json!({
        "url": world.admin_url(0)?,
        "key": world.admin().key()?,
        "failures": failures(world.sandbox()),
        "pictures": pictures,
    }))
}

fn say(to: &mut ChildStdin, what: &Value) -> Result<()> {
    writeln!(to, "{what}").context("the story is gone")
}

fn grant(wish: Wish, world: &World) -> Result<Value> {
    match wish {
        Wish::Admin(words) => {
            let answer = world.admin().ask(["--output", "json"].into_iter().chain(words.iter().map(String::as_str)))?;
            ensure!(answer.code == 0, "cladnet {} failed: {}", words.join(" "), answer.stderr.trim());
            Ok(serde_json::from_str(&answer.stdout).unwrap_or_default())
        }
        Wish::Join { vm, network, host_name } => {
            call_it(world.vm(&vm)?.init_pid()?, &host_name)?;
            world.start_agent(&vm)?;
            world.join(&vm, &network)?;
            Ok(Value::Null)
        }
        Wish::StopServer => {
            world.vm(CONTROL)?.stop_service("server")?;
            Ok(Value::Null)
        }
        Wish::StartServer => {
            world.vm(CONTROL)?.start_service("server")?;
            eventually("a healthy service", START, || world.admin().run(["info"]))?;
            Ok(Value::Null)
        }
    }
}

/// Gives a machine its host name: any bytes that the kernel takes, which is more than `hostname` does.
fn call_it(init: i32, host_name: &str) -> Result<()> {
    let write = "printf %s \"$1\" > /proc/sys/kernel/hostname";
    let names = format!("--uts=/proc/{init}/ns/uts");
    let done = Command::new("nsenter").args([&names, "sh", "-c", write, "sh", host_name]).status()?;
    ensure!(done.success(), "could not set the host name: {done}");
    Ok(())
}
