//! What an agent leaves on a machine beside what it answers: its state, its process, its port. By these one that is silent is
//! told from one that is not there, and ours from another installation's.

use cladnet_model::{HostId, NetworkId};

use crate::script::Answer;

/// What root can see of agents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Traces {
    /// Whose the state is that is kept there; none if there is none.
    pub identity: Option<Identity>,
    /// The networks of that state.
    pub networks: Vec<NetworkId>,
    /// The process that used that state last.
    pub keeper: Option<u32>,
    /// Processes of agents.
    pub running: Vec<u32>,
    /// Whether some program has the tunnel's UDP port.
    pub port_taken: bool,
}

/// Who a state says that the machine is: to tell installations apart, never to act on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub host: Option<HostId>,
    /// SHA-256 of its installation's authority, hex; empty if that cannot be told.
    pub authority: String,
}

impl Traces {
    pub(crate) fn of(answer: &Answer) -> Self {
        let words = |key| answer.text(key).split_whitespace();
        Self {
            identity: answer.get("identity").map(|_| Identity {
                host: answer.text("host").parse().ok(),
                authority: answer.text("authority").to_owned(),
            }),
            networks: words("networks").filter_map(|word| word.parse().ok()).collect(),
            keeper: answer.text("lock").parse().ok(),
            running: words("running").filter_map(|word| word.parse().ok()).collect(),
            port_taken: answer.get("port").is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_an_agent_is_understood() {
        let answer =
            "identity=yes\nhost=host-a\nauthority=ab\nnetworks=prod test\nlock=7\nrunning= 7 9\nport=taken\nend=yes\n";
        let traces = Traces::of(&Answer::of(answer));
        let identity = Identity { host: Some("host-a".parse().unwrap()), authority: "ab".into() };
        assert_eq!((traces.identity, traces.keeper, traces.running), (Some(identity), Some(7), vec![7, 9]));
        assert_eq!((traces.networks.len(), traces.port_taken), (2, true));
    }

    #[test]
    fn a_state_that_tells_nothing_is_there_all_the_same() {
        let traces = Traces::of(&Answer::of("identity=yes\nhost=\nauthority=\nend=yes\n"));
        assert_eq!(traces.identity, Some(Identity { host: None, authority: String::new() }));
        assert_eq!(Traces::of(&Answer::of("end=yes\n")), Traces::default());
    }
}
