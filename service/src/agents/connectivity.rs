//! The pinging of connectivity tests: agents ping each other over the overlay, some at a time, and whatever is there by
//! the deadline is the answer. Each has its turn and no more: those that are silent keep nobody from theirs.

use std::time::Duration;

use cladnet_model::{HostId, NetworkId};
use cladnet_proto::cladnet::v1::{PingCommand, PingResult, agent_command::Command};
use tokio::time::Instant;

use super::{
    Agents,
    commands::{AT_A_TIME, CommandError},
};

/// Hosts that an agent is asked to ping at a time: it pings as many at once, and their results fit into one answer.
const PIECE: usize = 64;

/// What a turn takes beyond its pings: the way to the agent and back, and the last replies.
const MARGIN: Duration = Duration::from_secs(3);

/// What to measure.
#[derive(Debug, Clone)]
pub(crate) struct ConnectivityPlan {
    pub(crate) network: NetworkId,
    /// Who pings.
    pub(crate) sources: Vec<HostId>,
    /// Who is pinged, by everybody else; members of the network.
    pub(crate) hosts: Vec<HostId>,
    pub(crate) count: u32,
    pub(crate) interval: Duration,
    pub(crate) deadline: Instant,
}

/// How long an agent is waited for that pings one piece of the hosts.
pub(crate) fn turn(count: u32, interval: Duration) -> Duration {
    interval * count + MARGIN
}

/// How many turns it takes until so many agents have pinged so many hosts each.
pub(crate) fn turns(agents: usize, hosts: usize) -> u32 {
    let turns = agents.div_ceil(AT_A_TIME) * hosts.saturating_sub(1).div_ceil(PIECE); // nobody pings itself
    u32::try_from(turns).unwrap_or(u32::MAX)
}

impl Agents {
    /// Lets the hosts ping each other. Every answer is `taken` in when it comes, or what there is of it at the deadline; what
    /// that made of it is returned for all of them.
    pub(crate) async fn ping_each_other<T>(
        &self,
        plan: &ConnectivityPlan,
        taken: impl Fn(&HostId, Vec<PingResult>, Option<CommandError>) -> T,
    ) -> Vec<(HostId, T)> {
        let taken = &taken;
        let ask = |source| async move {
            let (pings, error) = self.ping(plan, source).await;
            taken(source, pings, error)
        };
        let answers = self.ask_all(&plan.sources, ask).await;
        answers.into_iter().map(|(source, answer)| (source.clone(), answer)).collect()
    }

    /// One host's part, piece by piece: what it measured, and what stopped it if something did. It has a turn for each piece;
    /// whoever misses one is asked no more.
    async fn ping(&self, plan: &ConnectivityPlan, source: &HostId) -> (Vec<PingResult>, Option<CommandError>) {
        let others: Vec<&HostId> = plan.hosts.iter().filter(|host| *host != source).collect();
        let mut measured = Vec::new();
        for piece in others.chunks(PIECE) {
            let now = Instant::now();
            if now >= plan.deadline {
                return (measured, Some(CommandError::NotAsked));
            }
            let command = PingCommand {
                network_id: plan.network.to_string(),
                host_ids: piece.iter().map(ToString::to_string).collect(),
                count: plan.count,
                interval: prost_types::Duration::try_from(plan.interval).ok(),
            };
            let deadline = plan.deadline.min(now + turn(plan.count, plan.interval));
            match self.command(source, Command::Ping(command), deadline).await {
                Ok(result) => measured.extend(result.pings),
                Err(error) => return (measured, Some(error)),
            }
        }
        (measured, None)
    }
}

#[cfg(test)]
mod tests {
    use cladnet_model::Presence;
    use cladnet_proto::cladnet::v1::{AgentCommand, CommandResult};
    use jiff::Timestamp;
    use prost::Message as _;

    use super::*;
    use crate::{
        agents::{commands::MAX_RESULT, testing::*},
        connectivity::MOST_PINGS,
    };

    fn presence() -> Presence {
        Presence { replica: "here".to_owned(), since: Timestamp::UNIX_EPOCH, from: None }
    }

    #[tokio::test]
    async fn agents_that_never_answer_keep_no_other_from_its_turn() {
        let house = House::new().await;
        let replica = house.replica().await;
        let agents = replica.agents.clone();
        replica.stop().await;
        tokio::time::pause(); // nothing but this test's agents runs any more
        let streams = &agents.shared.streams;
        let silent: Vec<HostId> = (0..AT_A_TIME).map(|number| host_id(&format!("silent-{number}"))).collect();
        let _kept: Vec<_> = silent.iter().map(|host| streams.open(host, presence())).collect();
        let talks = host_id("talks");
        let (handle, mut commands) = streams.open(&talks, presence());
        let answers = tokio::spawn(async move {
            while let Some(AgentCommand { command_id, command: Some(command), .. }) = commands.recv().await {
                handle.answered(CommandResult { command_id, ..pong(command).unwrap() });
            }
        });
        let sources: Vec<HostId> = silent.iter().chain([&talks]).cloned().collect();
        let plan = ConnectivityPlan {
            network: network_id("n"),
            sources: sources.clone(),
            hosts: sources.into_iter().chain([host_id("plain")]).collect(), // more than one piece
            count: 3,
            interval: Duration::from_millis(10),
            deadline: Instant::now() + Duration::from_secs(100),
        };
        let told = agents.ping_each_other(&plan, |_, pings, error| (pings.len(), error)).await;
        let (last, others) = told.split_last().unwrap();
        assert_eq!(*last, (talks, (AT_A_TIME + 1, None)));
        assert!(others.iter().all(|(_, told)| *told == (0, Some(CommandError::TimedOut))), "{others:?}");

        let late = ConnectivityPlan { deadline: Instant::now() + Duration::from_secs(1), ..plan };
        let told = agents.ping_each_other(&late, |_, pings, error| (pings.len(), error)).await;
        assert_eq!(told.last().unwrap().1, (0, Some(CommandError::NotAsked)));
        answers.abort();
    }

    #[test]
    fn the_results_of_a_piece_fit_into_an_answer() {
        let ping = PingResult {
            host_id: "h".repeat(64),
            sent: MOST_PINGS,
            rtts_us: vec![u32::MAX; MOST_PINGS as usize],
            error: "e".repeat(100),
        };
        assert!(CommandResult { pings: vec![ping; PIECE], ..CommandResult::default() }.encoded_len() < MAX_RESULT);
    }

    #[test]
    fn many_agents_and_many_hosts_take_more_turns() {
        assert_eq!([turns(1, 2), turns(64, 65), turns(65, 65), turns(65, 66)], [1, 1, 2, 4]);
    }
}
