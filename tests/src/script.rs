//! A script of `tests/web`, a story or a measurement in a browser, as a process of Node: it gets the facts of a world, and asks
//! for what only the world can do, in lines of JSON. When either side ends, so does the other, and the browser with it.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    wait::eventually,
    world::{CONTROL, World, failures},
};

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
    /// Where a machine is reached by SSH, and its host key.
    Machine(String),
    StopServer,
    StartServer,
}

/// Runs the script at `path` below `tests/web` to its end, which is told `given` beside the facts of the world; returns what it
/// found out. What it says on standard error is ours.
pub fn run(path: &str, world: &World, given: &Value) -> Result<Value> {
    let mut child = node(path, world)?;
    let mut input = child.stdin.take().context("no standard input")?;
    let output = BufReader::new(child.stdout.take().context("no standard output")?);
    let mut found = Value::Null;
    say(&mut input, &facts(world, given)?)?;
    let conversed = output.lines().try_for_each(|line| {
        let said: Value = serde_json::from_str(&line?).context("the script spoke no JSON")?;
        if let Some(value) = said.get("found") {
            found = value.clone();
            return say(&mut input, &json!({}));
        }
        let wish = Wish::deserialize(&said).with_context(|| format!("not understood: {said}"))?;
        let answer = match grant(wish, world) {
            Ok(value) => json!({ "value": value }),
            Err(error) => json!({ "error": format!("{error:#}") }),
        };
        say(&mut input, &answer)
    });
    // Where the story waits for an answer that never comes, this tells it.
    drop(input);
    let status = child.wait().context("could not wait for the script")?;
    conversed?;
    ensure!(status.success(), "{path} failed with {status}; what it says is above");
    Ok(found)
}

/// On the network of `control`: the host's changes with every sandbox, and Chromium drops what it loads when it does.
fn node(path: &str, world: &World) -> Result<Child> {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
    let modules = web.join("node_modules");
    ensure!(modules.is_dir(), "{} is missing: run `npm --prefix tests/web ci` (scripts/test does)", modules.display());
    let network = format!("--net=/proc/{}/ns/net", world.vm(CONTROL)?.init_pid()?);
    let mut command = Command::new("nsenter");
    command.args([&network, "node"]).arg(web.join("story.js")).arg(path);
    Ok(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?)
}

fn facts(world: &World, given: &Value) -> Result<Value> {
    let pictures = env::var_os("CLADNET_PICTURES").map(PathBuf::from);
    Ok(json!({
        "url": world.admin_url(0)?,
        "key": world.admin().key()?,
        "failures": failures(world.sandbox()),
        "pictures": pictures,
        "given": given,
    }))
}

fn say(to: &mut ChildStdin, what: &Value) -> Result<()> {
    writeln!(to, "{what}").context("the script is gone")
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
        Wish::Machine(vm) => Ok(serde_json::to_value(world.target(&vm)?)?),
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
