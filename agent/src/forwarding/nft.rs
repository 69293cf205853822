//! The program `nft`, which puts a ruleset into force whole or not at all.

use std::{io, process::Stdio, time::Duration};

use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

use super::ruleset::TABLE;

const PROGRAM: &str = "nft";
/// It takes milliseconds; more only where something is broken.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub(crate) enum NftError {
    #[error("the program nft is missing; install the package nftables")]
    Missing,
    #[error("cannot run nft")]
    Run(#[source] io::Error),
    #[error("nft does not come to an end")]
    Stuck,
    #[error("nft refuses the table {TABLE}: {0}")]
    Refused(String),
}

/// Puts a ruleset into force.
pub(super) async fn apply(ruleset: &str) -> Result<(), NftError> {
    let (good, message) = run(&["-f", "-"], ruleset).await?;
    if good { Ok(()) } else { Err(NftError::Refused(message)) }
}

/// Whether our table is there: a firewall that is started anew takes everybody's away.
pub(super) async fn has_table() -> Result<bool, NftError> {
    let words: Vec<&str> = ["list", "table"].into_iter().chain(TABLE.split(' ')).collect();
    run(&words, "").await.map(|(good, _)| good)
}

/// Whether it ended well, and the first line of what it says otherwise.
async fn run(arguments: &[&str], input: &str) -> Result<(bool, String), NftError> {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => NftError::Missing,
        _ => NftError::Run(error),
    })?;
    let finished = async {
        if let Some(mut stdin) = child.stdin.take() {
            // A refusal closes the pipe; what it says then matters more than that.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await.map_err(NftError::Run)
    };
    let output = timeout(TIMEOUT, finished).await.map_err(|_| NftError::Stuck)??;
    let text = String::from_utf8_lossy(&output.stderr);
    Ok((output.status.success(), text.lines().next().unwrap_or_default().to_owned()))
}
