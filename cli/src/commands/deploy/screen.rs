//! How a deployment looks while it goes on: a table that is drawn anew on a terminal, a line per change elsewhere, nothing
//! where a program reads.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Write as _},
};

use cladnet_proto::cladnet::v1::{Deployment, DeploymentHost};
use terminal_size::{Height, Width, terminal_size};

use crate::{
    commands::deployment::standing,
    failure::Failure,
    output::{Format, Table, one_line},
};

pub(super) enum Screen {
    /// The number of lines that are drawn now.
    Live(usize),
    /// What was told of each machine last.
    Lines(BTreeMap<String, String>),
    Silent,
}

impl Screen {
    pub(super) fn new(format: Format) -> Self {
        match format {
            Format::Table if io::stdout().is_terminal() => Self::Live(0),
            Format::Table => Self::Lines(BTreeMap::new()),
            Format::Json | Format::Yaml => Self::Silent,
        }
    }

    pub(super) fn draw(&mut self, now: &Deployment) -> Result<(), Failure> {
        match self {
            Self::Live(_) => self.redraw(now),
            Self::Lines(told) => {
                let mut stderr = io::stderr().lock();
                for host in &now.hosts {
                    let line = line(host);
                    if told.get(&host.name) != Some(&line) {
                        writeln!(stderr, "{line}")?;
                        told.insert(host.name.clone(), line);
                    }
                }
                Ok(())
            }
            Self::Silent => Ok(()),
        }
    }

    /// Takes away what is drawn, for other text.
    pub(super) fn clear(&mut self) -> Result<(), Failure> {
        if let Self::Live(drawn @ 1..) = self {
            // Up to the first line of ours, and everything from there on away.
            print!("\x1b[{drawn}A\x1b[J");
            io::stdout().flush()?;
            *drawn = 0;
        }
        Ok(())
    }

    fn redraw(&mut self, now: &Deployment) -> Result<(), Failure> {
        self.clear()?;
        let (Width(width), Height(height)) = terminal_size().unwrap_or((Width(80), Height(24)));
        let lines = lines(now, usize::from(width), usize::from(height));
        let mut stdout = io::stdout().lock();
        lines.iter().try_for_each(|line| writeln!(stdout, "{line}"))?;
        stdout.flush()?;
        *self = Self::Live(lines.len());
        Ok(())
    }
}

fn line(host: &DeploymentHost) -> String {
    let detail = [host.failure.as_str(), host.detail.as_str()].into_iter().filter(|text| !text.is_empty());
    let detail = detail.map(one_line).collect::<Vec<_>>().join(": ");
    format!("{}  {}  {detail}", host.name, host.state).trim_end().to_owned()
}

/// At most a screen: where the machines do not fit, those that something happens at.
fn lines(now: &Deployment, width: usize, height: usize) -> Vec<String> {
    let room = height.saturating_sub(3).max(1); // the head, the summary, the cursor
    let mut hosts: Vec<&DeploymentHost> = now.hosts.iter().collect();
    if hosts.len() > room {
        hosts.retain(|host| !matches!(host.state.as_str(), "waiting" | "done" | "cancelled"));
        hosts.truncate(room);
    }
    let table = Table::of(["MACHINE", "ADDRESS", "STATE", "DETAIL"], "", &hosts, |host| {
        let detail = if host.failure.is_empty() { &host.system } else { &host.failure };
        [host.name.clone(), host.address.clone(), host.state.clone(), detail.clone()]
    });
    let table = table.plain();
    let lines = table.lines().map(str::to_owned).chain([standing(now)]);
    lines.map(|line| line.chars().take(width.saturating_sub(1)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, state: &str) -> DeploymentHost {
        DeploymentHost { name: name.into(), address: "192.0.2.1".into(), state: state.into(), ..Default::default() }
    }

    #[test]
    fn what_does_not_fit_on_the_screen_is_what_nothing_happens_at() {
        let hosts = vec![host("a", "done"), host("b", "installing"), host("c", "waiting"), host("d", "failed")];
        let now = Deployment { hosts, total: 4, done: 1, failed: 1, claimed: true, ..Deployment::default() };
        assert_eq!(lines(&now, 80, 24).len(), 6, "a head, all machines, the summary");
        let few = lines(&now, 80, 5);
        assert_eq!(few.len(), 4, "{few:?}");
        assert!(few[1].starts_with("b ") && few[2].starts_with("d "), "{few:?}");
        assert!(lines(&now, 10, 24).iter().all(|line| line.chars().count() < 10));
    }

    #[test]
    fn a_failure_is_told_in_one_line() {
        let failed = DeploymentHost { failure: "no-tun".into(), detail: "load\nit".into(), ..host("a", "failed") };
        assert_eq!(line(&failed), r"a  failed  no-tun: load\nit");
        assert_eq!(line(&host("a", "waiting")), "a  waiting");
    }
}
