//! Running a script. What is executed is always the same command; script and arguments are data on its standard input,
//! each ended by NUL, so that nothing from outside is ever part of a command line.

use std::time::Duration;

use russh::ChannelMsg;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{Remote, RemoteError};

/// More than any script of ours prints; a machine that prints more is not to be believed.
const MAX_OUTPUT: usize = 1 << 20;

/// As whom a script runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    /// Whoever logged in.
    User,
    /// root, by `sudo` that asks nothing.
    Sudo,
}

impl As {
    /// xargs makes the first item the script, the next its name, the others its arguments.
    fn command(self) -> &'static str {
        match self {
            Self::User => "xargs -0 sh -c",
            Self::Sudo => "sudo -n xargs -0 sh -c",
        }
    }
}

/// What a script printed: text in lines, without control characters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Output {
    pub stdout: String,
    pub stderr: String,
    /// xargs' own: 0 if the script ended with 0.
    pub status: Option<u32>,
}

impl Remote {
    /// Runs a script to its end.
    pub(crate) async fn run(
        &self,
        script: &str,
        arguments: &[&str],
        user: As,
        limit: Duration,
    ) -> Result<Output, RemoteError> {
        match timeout(limit, self.run_unhurried(script, arguments, user)).await {
            Ok(output) => output,
            Err(_) => Err(RemoteError::Slow { what: "a script", limit }),
        }
    }

    async fn run_unhurried(&self, script: &str, arguments: &[&str], user: As) -> Result<Output, RemoteError> {
        let mut channel = self.channel().await?;
        let lost = |error: russh::Error| RemoteError::lost("run a script", error);
        channel.exec(true, user.command()).await.map_err(lost)?;
        channel.data_bytes(input(script, arguments).to_vec()).await.map_err(lost)?;
        channel.eof().await.map_err(lost)?;
        let (mut stdout, mut stderr, mut status) = (Vec::new(), Vec::new(), None);
        loop {
            match channel.wait().await {
                Some(ChannelMsg::Data { data }) => stdout.extend_from_slice(&data),
                Some(ChannelMsg::ExtendedData { data, .. }) => stderr.extend_from_slice(&data),
                Some(ChannelMsg::Failure) => return Err(RemoteError::NoPrograms("a shell")),
                Some(ChannelMsg::ExitStatus { exit_status }) => status = Some(exit_status),
                Some(ChannelMsg::ExitSignal { .. }) => status = Some(u32::MAX),
                Some(ChannelMsg::Close) => break,
                Some(_) => {}
                // The end of the connection, unless it came after everything else.
                None if status.is_some() => break,
                None => return Err(RemoteError::lost("run a script", "no answer")),
            }
            if stdout.len() + stderr.len() > MAX_OUTPUT {
                return Err(RemoteError::Chatty { limit: MAX_OUTPUT });
            }
        }
        Ok(Output { stdout: printable(&stdout), stderr: printable(&stderr), status })
    }
}

fn input(script: &str, arguments: &[&str]) -> Zeroizing<Vec<u8>> {
    let mut input = Zeroizing::new(Vec::new());
    for item in [script, "cladnet"].iter().chain(arguments) {
        debug_assert!(!item.contains('\0'), "an argument holds NUL");
        input.extend(item.bytes().filter(|byte| *byte != 0));
        input.push(0);
    }
    input
}

/// Text without control characters but line breaks: nothing that a terminal or a page would obey.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_left_out() {
        assert_eq!(printable(b"a\x1b[2Jb\r\n\x07c\xc2\x9b1m\xff"), "a[2Jb\nc1m\u{fffd}");
    }

    #[test]
    fn script_and_arguments_are_items_of_their_own() {
        assert_eq!(input("echo \"$1\"", &["a b", "$(reboot)"]).as_slice(), b"echo \"$1\"\0cladnet\0a b\0$(reboot)\0");
    }
}
