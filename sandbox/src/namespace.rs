//! Work inside another network namespace: a thread that moves there, works, and ends.

use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns};

use crate::error::{Doing, Error, Result};
use crate::netlink::Links;

/// Runs `work` on a thread of its own in a network namespace; children that it starts are there too.
pub(crate) fn inside<T: Send>(namespace: &File, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET).doing(|| "enter a network namespace".into())?;
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs netlink requests in a network namespace.
pub(crate) fn configure<T: Send>(namespace: &File, work: impl AsyncFnOnce(&Links) -> Result<T> + Send) -> Result<T> {
    inside(namespace, || Links::run(work))
}

/// Applies an nftables ruleset in a network namespace: all of it or nothing.
pub(crate) fn apply_rules(namespace: &File, ruleset: &str) -> Result<()> {
    inside(namespace, || {
        let mut command = Command::new("nft");
        command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut nft = command.spawn().doing(|| "start nft (install nftables)".into())?;
        // A refusal closes the pipe; what nft says then matters more than that.
        let _ = nft.stdin.take().map(|mut stdin| stdin.write_all(ruleset.as_bytes()));
        let output = nft.wait_with_output().doing(|| "wait for nft".into())?;
        match output.status.success() {
            true => Ok(()),
            false => {
                let message = String::from_utf8_lossy(&output.stderr).into_owned();
                Err(Error::Program { program: "nft", message })
            }
        }
    })
}

/// Writes settings below `/proc/sys/net` of a network namespace; those that this kernel lacks are left out.
pub(crate) fn set_sysctls(namespace: &File, settings: &[(&str, &str)]) -> Result<()> {
    inside(namespace, || {
        for (name, value) in settings {
            let path = format!("/proc/sys/net/{name}");
            if std::fs::exists(&path).unwrap_or(false) {
                std::fs::write(&path, value).doing(|| format!("write {value} to {path}"))?;
            }
        }
        Ok(())
    })
}

/// Makes a router forget the flows of an address behind it, so that they do not go on under an old translation.
pub(crate) fn forget_flows(namespace: &File, address: Ipv4Addr) -> Result<()> {
    inside(namespace, || {
        for direction in ["--orig-src", "--reply-src"] {
            let mut command = Command::new("conntrack");
            command.args(["--delete", direction, &address.to_string()]);
            // It fails when there were none to forget, which is as good.
            command.output().doing(|| "start conntrack (install conntrack)".into())?;
        }
        Ok(())
    })
}
