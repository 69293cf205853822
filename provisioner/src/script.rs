//! The fixed scripts that run on machines, and what they answer: lines of `key=value`, the last one `end=yes`. A script
//! that was cut off lacks it.

use std::{collections::BTreeMap, time::Duration};

use cladnet_model::deployment::FailureReason;

use crate::{
    failed::Failed,
    remote::{As, Output, Remote},
};

/// A script with its name for people and the time it may take; all begin with the same lines.
pub(crate) struct Script {
    name: &'static str,
    text: &'static str,
    limit: Duration,
}

macro_rules! script {
    ($name:literal, $seconds:literal) => {
        Script {
            name: $name,
            text: concat!(include_str!("../scripts/prelude.sh"), include_str!(concat!("../scripts/", $name, ".sh"))),
            limit: Duration::from_secs($seconds),
        }
    };
}

/// A machine under load looks at its disks and asks its agent, which has 20 s to answer.
pub(crate) const INSPECT: Script = script!("inspect", 60);
pub(crate) const LOOK: Script = script!("look", 20);
/// The agent is given 5 s, and a unit that fails to start the time that systemd gives it.
pub(crate) const WAKE: Script = script!("wake", 120);
/// Waits up to 60 s for another attempt to end and 20 s for the agent; copies some megabytes.
pub(crate) const INSTALL: Script = script!("install", 150);
/// Waits as long for another attempt. The agent gives an unreachable service 30 s, and waits for the interface.
pub(crate) const JOIN: Script = script!("join", 180);
/// The agent answers within 20 s, or after its pings.
pub(crate) const AGENT: Script = script!("agent", 45);
/// Waits up to 60 s for another attempt; the agent answers within 20 s.
pub(crate) const LEAVE: Script = script!("leave", 120);
/// Waits as long; the agent has 10 s to end.
pub(crate) const REMOVE: Script = script!("remove", 120);
pub(crate) const CLEAN: Script = script!("clean", 20);

/// What a script answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer(BTreeMap<String, String>);

impl Script {
    /// Runs it to its end.
    pub(crate) async fn run(&self, remote: &Remote, user: As, arguments: &[&str]) -> Result<Answer, Failed> {
        let output = remote.run(self.text, arguments, user, self.limit).await?;
        let answer = Answer::parse(&output.stdout);
        match answer.get("error") {
            Some(word) => Err(self.refused(word, answer.text("detail"), &output)),
            None if answer.get("end").is_some() => Ok(answer),
            None => Err(self.cut_off(&output)),
        }
    }

    fn refused(&self, word: &str, detail: &str, output: &Output) -> Failed {
        let said = last_words(&output.stderr);
        match word {
            "corrupt" => Failed::new(FailureReason::UploadCorrupt, format!("{detail}; repeat the deployment")),
            "disk-full" => Failed::new(FailureReason::DiskFull, format!("{detail} ({said}); make room there")),
            "does-not-run" => {
                Failed::new(FailureReason::UnsupportedSystem, format!("the agent does not run there: {detail}"))
            }
            "not-running" => Failed::new(
                FailureReason::UnsupportedSystem,
                format!("the agent was installed but does not answer; its last words: {detail}"),
            ),
            "foreign" => Failed::new(FailureReason::ForeignAgent, detail),
            "busy" => Failed::new(FailureReason::Internal, format!("{detail}; repeat it when that has ended")),
            _ => Failed::new(FailureReason::UnsupportedSystem, format!("{detail} ({said})")),
        }
    }

    fn cut_off(&self, output: &Output) -> Failed {
        let said = last_words(&output.stderr);
        let script = self.name;
        Failed::new(
            FailureReason::UnsupportedSystem,
            format!(
                "the script \"{script}\" did not end there ({said}); it needs sh, xargs and the usual small programs"
            ),
        )
    }
}

impl Answer {
    fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.split_once('='));
        Self(lines.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect())
    }

    /// A value; absent if it is empty.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A value, empty if absent.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.get(key).unwrap_or_default()
    }

    /// A number, 0 if it is none.
    pub(crate) fn number(&self, key: &str) -> u64 {
        self.text(key).parse().unwrap_or_default()
    }

    #[cfg(test)]
    pub(crate) fn of(text: &str) -> Self {
        Self::parse(text)
    }
}

/// The end of what was complained of.
fn last_words(stderr: &str) -> String {
    const SHOWN: usize = 300;
    let text = stderr.trim().replace('\n', "; ");
    let from = text.ceil_char_boundary(text.len().saturating_sub(SHOWN));
    if text.is_empty() { "it said nothing".to_owned() } else { text[from..].to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_hold_whatever_follows_the_first_sign() {
        let answer = Answer::parse("os=Debian GNU/Linux 12\nstatus={\"a\":\"b=c\"}\nempty=\nnoise\nfree=17\n");
        assert_eq!(answer.get("os"), Some("Debian GNU/Linux 12"));
        assert_eq!(answer.get("status"), Some(r#"{"a":"b=c"}"#));
        assert_eq!((answer.get("empty"), answer.text("none")), (None, ""));
        assert_eq!((answer.number("free"), answer.number("os")), (17, 0));
    }

    #[test]
    fn complaints_are_told_by_their_end() {
        assert_eq!(last_words("a\nb\n"), "a; b");
        assert_eq!(last_words(" \n"), "it said nothing");
        assert!(last_words(&"é".repeat(1000)).len() <= 302);
    }
}
