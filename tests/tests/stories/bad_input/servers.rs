//! A control plane that cannot start: it says why before it opens a port or touches data, and the one that runs goes on.

use anyhow::{Result, ensure};
use cladnet_tests::{
    wait::eventually,
    world::{CONTROL, Servers, story},
};

use super::{CONFIGURATION, CONFLICT, SOON, USAGE, on, refused, standing};
use crate::clouds;

#[test]
fn a_server_that_cannot_start_says_why_and_disturbs_nobody() {
    story(&clouds::control_only(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        let control = world.vm(CONTROL)?;
        control.stop_service("server")?;
        // A copy of what somebody writes would be one of no moment.
        let copy = "cd /root && umask 77 && mkdir copy && cp -a /var/lib/cladnet/store.redb copy/ \
            && head -c 32 /dev/zero | base64 > other.key";
        control.run(["sh", "-c", copy])?;
        control.start_service("server")?;
        eventually("the server to be back", SOON, || world.admin().run(["info"]).map(drop))?;
        let before = standing(world)?;
        let server = |arguments: &[&str]| on(world, CONTROL, ["cladnet", "server"].iter().chain(arguments).copied());
        let file = |text: &str| -> Result<_> {
            control.write_file("/root/server.toml", text.as_bytes(), 0o644)?;
            server(&["--config", "/root/server.toml"])
        };

        let key = file("data-dir = \"/root/new\"\nlistn = \"[::]:9053\"\n")?;
        refused("a wrong key", &key, CONFIGURATION, &["/root/server.toml", "line 2", "listn", "`listen`"])?;
        let value = file("# one line\ndata-dir = \"/root/new\"\nlisten = \"everywhere\"\n")?;
        refused("a wrong value", &value, CONFIGURATION, &["/root/server.toml", "line 3", "listen"])?;
        let absent = server(&["--config", "/root/absent.toml"])?;
        refused("no such file", &absent, CONFIGURATION, &["--config", "/root/absent.toml"])?;
        let flag = server(&["--data-dir", "/root/new", "--listen", "everywhere"])?;
        refused("a wrong flag", &flag, USAGE, &["--listen", "everywhere"])?;
        ensure!(!control.exec(["test", "-e", "/root/new"])?.status.success(), "a data directory was made");

        let busy = server(&["--data-dir", "/root/new"])?;
        refused("a busy port", &busy, CONFLICT, &["[::]:8053 is in use", "--listen"])?;
        let data = server(&["--data-dir", "/var/lib/cladnet", "--listen", "[::]:9053"])?;
        refused("a data directory in use", &data, CONFLICT, &["/var/lib/cladnet", "in use by pid "])?;
        let wrong =
            server(&["--data-dir", "/root/copy", "--secret-key-file", "/root/other.key", "--listen", "[::]:9053"])?;
        refused("another sealing key", &wrong, CONFIGURATION, &["key"])?;

        let after = standing(world)?;
        ensure!(before == after, "before {before}, after {after}");
        Ok(())
    });
}
