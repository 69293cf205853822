//! Putting the agent in its place: program, configuration, unit; restarted only if something of it changed.

use cladnet_model::deployment::FailureReason;

use super::{
    Machine,
    inspect::AgentStatus,
    plan::{PROGRAM, Release},
};
use crate::{failed::Failed, script::INSTALL};

/// The packaged unit; it names the program where packages put it.
const UNIT: &str = include_str!("../../../scripts/packaging/cladnet-agent.service");
const PACKAGED: &str = "/usr/bin/cladnet-agent";
/// Every setting with its default, commented out: written once, the operator's from then on.
const CONFIG: &str = include_str!("../../../scripts/packaging/cladnet-agent.toml");

/// What came of it.
pub(crate) struct Installed {
    pub restarted: bool,
    pub status: AgentStatus,
}

impl Machine<'_> {
    /// Installs what was uploaded, or makes sure of what is there, unless an agent of another authority is there by now.
    pub(crate) async fn install(&self, release: &Release, authority: &str) -> Result<Installed, Failed> {
        let staged = self.staged()?;
        let arguments = [&staged, &release.sha256, self.seen.init.as_str(), &unit(), CONFIG, authority];
        let answer = INSTALL.run(self.remote, self.seen.root(), &arguments.map(|item| -> &str { item })).await?;
        let status = AgentStatus::parse(answer.text("agent_status"));
        let status = status.ok_or_else(|| {
            Failed::new(
                FailureReason::Internal,
                "the agent was installed, but what it tells of itself is not understood",
            )
        })?;
        Ok(Installed { restarted: answer.text("restarted") == "yes", status })
    }
}

fn unit() -> String {
    UNIT.replace(PACKAGED, PROGRAM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_starts_the_program_where_it_is_installed() {
        let unit = unit();
        assert!(unit.contains(&format!("\nExecStart={PROGRAM} run\n")), "{unit}");
        assert!(!unit.contains(PACKAGED));
    }
}
