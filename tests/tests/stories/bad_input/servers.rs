//! A control plane that cannot start: it says why before it opens a port or touches data, and the one that runs goes on.

use anyhow::{Result, ensure};
use cladnet_tests::world::{CONTROL, Servers, story};

use super::{CONFIGURATION, CONFLICT, USAGE, on, refused, standing};
use crate::clouds;

#[test]
fn a_server_that_cannot_start_says_why_and_disturbs_nobody() {
    story(&clouds::control_only(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        let before = standing(world)?;
        let server = |arguments: &[&str]| on(world, CONTROL, ["cladnet", "server"].iter().chain(arguments).copied());
        let file = |text: &str| -> Result<_> {
            world.vm(CONTROL)?.write_file("/root/server.toml", text.as_bytes(), 0o644)?;
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
        ensure!(!world.vm(CONTROL)?.exec(["test", "-e", "/root/new"])?.status.success(), "a data directory was made");

        let busy = server(&["--data-dir", "/root/new"])?;
        refused("a busy port", &busy, CONFLICT, &["[::]:8053 is in use", "--listen"])?;
        let data = server(&["--data-dir", "/var/lib/cladnet", "--listen", "[::]:9053"])?;
        refused("a data directory in use", &data, CONFLICT, &["/var/lib/cladnet", "in use by pid "])?;
        let sealed = world.vm(CONTROL)?.run(["sh", "-c", "cd /root && umask 77 && head -c 32 /dev/zero | base64 > other.key && mkdir copy && cp -a /var/lib/cladnet/store.redb copy/"]);
        ensure!(sealed.is_ok(), "{sealed:?}");
        let wrong =
            server(&["--data-dir", "/root/copy", "--secret-key-file", "/root/other.key", "--listen", "[::]:9053"])?;
        refused("another sealing key", &wrong, CONFIGURATION, &["key"])?;

        let after = standing(world)?;
        ensure!(before == after, "before {before}, after {after}");
        Ok(())
    });
}
