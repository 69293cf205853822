//! The SSH server of a VM: the host's `sshd` program under the VM's init, with a configuration, host keys and a user that
//! exist in this VM only. Nothing of the host's own SSH server is used or changed.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::protocol::ServiceSpec;
use super::services::SEARCH_PATH;
use crate::error::{Doing, Error, Result};
use crate::topology::Ssh;

/// The service's name.
pub(crate) const SERVICE: &str = "sshd";

/// The only host key's private half; the public one is beside it.
pub(crate) const HOST_KEY: &str = "/etc/ssh/ssh_host_ed25519_key";

/// Makes a host key in the place of any other.
pub(crate) const MAKE_HOST_KEY: &str =
    "rm -f /etc/ssh/ssh_host_*; ssh-keygen -q -t ed25519 -N '' -C '' -f /etc/ssh/ssh_host_ed25519_key";

/// What the SSH server of a VM is made of: the program, who brings it, and whether only `sudo` needs it.
const PROGRAMS: &[(&str, &str, bool)] = &[
    ("/usr/sbin/sshd", "openssh-server", false),
    ("/usr/bin/ssh-keygen", "openssh-client", false),
    ("/usr/sbin/useradd", "passwd", false),
    ("/usr/bin/sudo", "sudo", true),
];

/// Takes the user's name and whether he may use sudo; reads his authorized keys.
///
/// Without PAM, `sshd` refuses a user with a locked password; one that nothing matches is as good.
const MAKE_USER: &str = r#"
    set -e; umask 022
    id -u "$1" >/dev/null 2>&1 || useradd --no-log-init --create-home --shell /bin/bash "$1"
    usermod --password '*' "$1"
    home=$(getent passwd "$1" | cut -d: -f6)
    mkdir -p "$home/.ssh"
    cat > "$home/.ssh/authorized_keys"
    chown -R "$1:" "$home/.ssh"
    chmod 700 "$home/.ssh"; chmod 600 "$home/.ssh/authorized_keys"
    if [ "$2" = true ]; then
        mkdir -p /etc/sudoers.d
        echo "$1 ALL=(ALL:ALL) NOPASSWD: ALL" > /etc/sudoers.d/sandbox
        chmod 440 /etc/sudoers.d/sandbox
    fi
"#;

/// Says which program is missing, before anything is made.
pub(crate) fn check_programs<'a>(servers: impl Iterator<Item = &'a Ssh>) -> Result<()> {
    for ssh in servers {
        for &(program, package, only_for_sudo) in PROGRAMS {
            if (ssh.sudo || !only_for_sudo) && !Path::new(program).exists() {
                return Err(Error::NoProgram { program, package });
            }
        }
    }
    Ok(())
}

/// Makes host key, user and configuration, from inside the VM; returns the service that is to run.
pub(super) fn set_up(ssh: &Ssh) -> Result<ServiceSpec> {
    run(MAKE_USER, &[&ssh.user, &ssh.sudo.to_string()], &ssh.authorized_keys.join("\n"))?;
    run(MAKE_HOST_KEY, &[], "")?;
    fs::write("/etc/ssh/sshd_config", configuration(ssh)).doing(|| "write /etc/ssh/sshd_config".into())?;
    // A reboot empties /run.
    let script = "umask 022; mkdir -p /run/sshd; exec /usr/sbin/sshd -D -e";
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    Ok(ServiceSpec { name: SERVICE.to_owned(), command, environment: BTreeMap::new() })
}

/// See sshd_config(5).
fn configuration(ssh: &Ssh) -> String {
    let root = if ssh.user == "root" { "prohibit-password" } else { "no" };
    format!(
        "HostKey {HOST_KEY}
AllowUsers {}
PermitRootLogin {root}
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PidFile none
PrintMotd no
AcceptEnv LANG LC_*
Subsystem sftp internal-sftp
",
        ssh.user
    )
}

fn run(script: &str, arguments: &[&str], input: &str) -> Result<()> {
    let doing = || "set up SSH in the VM".to_owned();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, "sh"]).args(arguments).env_clear().env("PATH", SEARCH_PATH).env("LC_ALL", "C");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().doing(doing)?;
    // A script that fails early reads nothing; what it says then matters more than that.
    let _ = child.stdin.take().map(|mut stdin| writeln!(stdin, "{input}"));
    let output = child.wait_with_output().doing(doing)?;
    match output.status.success() {
        true => Ok(()),
        false => {
            Err(Error::Process { process: doing(), message: String::from_utf8_lossy(&output.stderr).into_owned() })
        }
    }
}
