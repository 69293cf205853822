use super::{
    super::{
        inspect::{AgentHost, AgentNetwork, AgentStatus, Free},
        traces::{Identity, Traces},
    },
    *,
};

const OURS: &str = "aa";
const SHA: &str = "5a";

fn machine() -> Inspection {
    Inspection {
        kernel: "Linux".into(),
        os: "Debian GNU/Linux 12".into(),
        arch: "x86_64".into(),
        init: Init::Systemd,
        privilege: Privilege::Sudo,
        has_tun: true,
        missing: String::new(),
        staging: Some("/home/debian/.cladnet-deploy".into()),
        staged: None,
        free: Free { staging: 1 << 20, program: 1 << 20, state: 1 << 20 },
        agent: None,
        traces: Traces::default(),
    }
}

fn agent(version: &str, sha256: &str, authority: Option<&str>, networks: &[&str]) -> Installed {
    let networks = networks.iter().map(|network| AgentNetwork {
        network: network.parse().unwrap(),
        state: "tunneling".into(),
        reason: String::new(),
        address: None,
    });
    let host = authority.map(|authority| AgentHost { id: "host-a".parse().unwrap(), authority: authority.into() });
    Installed {
        path: PROGRAM.into(),
        sha256: sha256.into(),
        version: version.parse().ok(),
        status: Some(AgentStatus { version: version.into(), pid: Some(7), host, networks: networks.collect() }),
    }
}

fn with(agent: Installed) -> Inspection {
    Inspection { agent: Some(agent), ..machine() }
}

fn decide(seen: &Inspection, action: DeploymentAction) -> Result<Plan, FailureReason> {
    let network = "prod".parse().unwrap();
    let release = Some(Release { version: Version::new(0, 2, 0), sha256: SHA.into(), bytes: 20 << 20 });
    plan(seen, &Wish { action, network: &network, authority: OURS, release }).map_err(|failed| failed.reason)
}

#[test]
fn a_bare_machine_gets_everything() {
    assert_eq!(decide(&machine(), DeploymentAction::Install), Ok(Plan::Install { upload: true, join: true }));
    let staged = Inspection { staged: Some(SHA.into()), ..machine() };
    assert_eq!(decide(&staged, DeploymentAction::Install), Ok(Plan::Install { upload: false, join: true }));
}

#[test]
fn a_member_with_this_very_agent_needs_nothing_sent() {
    let seen = with(agent("0.2.0", SHA, Some(OURS), &["prod"]));
    assert_eq!(decide(&seen, DeploymentAction::Install), Ok(Plan::Install { upload: false, join: false }));
    assert_eq!(decide(&seen, DeploymentAction::Upgrade), Ok(Plan::Upgrade { upload: false }));
}

#[test]
fn a_member_of_another_network_joins_this_one_too() {
    let seen = with(agent("0.2.0", SHA, Some(OURS), &["test"]));
    assert_eq!(decide(&seen, DeploymentAction::Install), Ok(Plan::Install { upload: false, join: true }));
}

#[test]
fn an_older_or_broken_agent_is_replaced() {
    let mut broken = agent("", "00", Some(OURS), &[]);
    broken.status = None;
    for old in [agent("0.1.9", "00", Some(OURS), &["prod"]), agent("0.2.0", "00", Some(OURS), &["prod"]), broken] {
        assert_eq!(decide(&with(old), DeploymentAction::Upgrade), Ok(Plan::Upgrade { upload: true }));
    }
    let elsewhere = Installed { path: "/usr/bin/cladnet-agent".into(), ..agent("0.2.0", SHA, None, &[]) };
    assert_eq!(decide(&with(elsewhere), DeploymentAction::Upgrade), Ok(Plan::Upgrade { upload: true }));
}

#[test]
fn a_newer_agent_is_refused() {
    let seen = with(agent("0.3.0-rc.1", "00", Some(OURS), &["prod"]));
    for action in [DeploymentAction::Install, DeploymentAction::Upgrade] {
        assert_eq!(decide(&seen, action), Err(FailureReason::NewerAgent));
    }
}

#[test]
fn an_agent_of_another_control_plane_is_left_alone() {
    let seen = with(agent("0.1.0", "00", Some("bb"), &["prod"]));
    for action in [DeploymentAction::Install, DeploymentAction::Upgrade, DeploymentAction::Uninstall] {
        assert_eq!(decide(&seen, action), Err(FailureReason::ForeignAgent), "{action}");
    }
}

#[test]
fn an_agent_without_an_identity_belongs_to_nobody() {
    let seen = with(agent("0.1.0", "00", None, &[]));
    assert_eq!(decide(&seen, DeploymentAction::Install), Ok(Plan::Install { upload: true, join: true }));
}

#[test]
fn nothing_can_be_upgraded_where_nothing_is() {
    assert_eq!(decide(&machine(), DeploymentAction::Upgrade), Err(FailureReason::NotInstalled));
}

#[test]
fn the_last_membership_takes_the_agent_with_it() {
    let uninstall = |seen: &Inspection| decide(seen, DeploymentAction::Uninstall).unwrap();
    assert_eq!(uninstall(&with(agent("0.2.0", SHA, Some(OURS), &["prod"]))), Plan::Remove { leave: true });
    assert_eq!(uninstall(&with(agent("0.2.0", SHA, Some(OURS), &[]))), Plan::Remove { leave: true });
    assert_eq!(uninstall(&with(agent("0.2.0", SHA, None, &[]))), Plan::Remove { leave: false });
    assert_eq!(uninstall(&with(agent("0.2.0", SHA, Some(OURS), &["prod", "test"]))), Plan::Leave);
    assert!(matches!(uninstall(&with(agent("0.2.0", SHA, Some(OURS), &["test"]))), Plan::Nothing(_)));
    assert_eq!(uninstall(&machine()), Plan::Forget);
    let stopped = Installed { status: None, ..agent("0.3.0", SHA, None, &[]) };
    assert_eq!(uninstall(&with(stopped)), Plan::Remove { leave: false }, "a newer agent may go, too");
}

/// An agent that does not answer, and what its state tells.
fn silent(authority: &str, networks: &[&str]) -> Inspection {
    let traces = Traces {
        identity: Some(Identity { host: Some("host-a".parse().unwrap()), authority: authority.into() }),
        networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
        keeper: Some(7),
        ..Traces::default()
    };
    Inspection { traces, ..with(Installed { status: None, ..agent("0.2.0", SHA, None, &[]) }) }
}

const EVERY: [DeploymentAction; 3] =
    [DeploymentAction::Install, DeploymentAction::Upgrade, DeploymentAction::Uninstall];

#[test]
fn a_silent_agent_belongs_to_whom_its_state_says() {
    let foreign = [silent("bb", &["prod"]), silent("", &["prod"])];
    for (foreign, action) in foreign.iter().flat_map(|seen| EVERY.map(|action| (seen, action))) {
        assert_eq!(decide(foreign, action), Err(FailureReason::ForeignAgent), "{action}");
    }
    let gone = Inspection { agent: None, ..silent("bb", &[]) };
    assert_eq!(
        decide(&gone, DeploymentAction::Uninstall),
        Err(FailureReason::ForeignAgent),
        "the program only is gone"
    );
    let idle = agent("0.2.0", SHA, None, &[]);
    let blocked = Inspection { agent: Some(idle), ..silent("bb", &[]) };
    assert_eq!(
        decide(&blocked, DeploymentAction::Install),
        Err(FailureReason::ForeignAgent),
        "it cannot use its state"
    );
    let ours = silent(OURS, &["prod"]);
    assert_eq!(decide(&ours, DeploymentAction::Install), Ok(Plan::Install { upload: false, join: false }));
}

#[test]
fn a_silent_agent_is_asked_before_it_is_taken_away() {
    let decided = |seen: &Inspection| decide(seen, DeploymentAction::Uninstall).unwrap();
    for (networks, plan) in [
        (&["prod"][..], Plan::Remove { leave: false }),
        (&["prod", "test"], Plan::Leave),
        (&["test"], Plan::Nothing("the agent is in other networks only")),
    ] {
        let seen = silent(OURS, networks);
        assert_eq!(decided(&seen), plan);
        assert_eq!(plan.wants_its_word(&seen), !matches!(plan, Plan::Nothing(_)), "{plan:?}");
    }
    let answering = with(agent("0.2.0", SHA, Some(OURS), &["prod"]));
    assert!(!decided(&answering).wants_its_word(&answering));
}

#[test]
fn no_machine_gets_a_second_agent() {
    let running = |pids: &[u32]| Traces { running: pids.to_vec(), ..Traces::default() };
    let elsewhere = Inspection { traces: running(&[9]), ..machine() };
    let beside = Inspection { traces: running(&[7, 9]), ..with(agent("0.2.0", SHA, Some(OURS), &["prod"])) };
    for (seen, action) in [elsewhere, beside].iter().flat_map(|seen| EVERY.map(|action| (seen, action))) {
        assert_eq!(decide(seen, action), Err(FailureReason::ForeignAgent), "{action}");
    }
    let alone = Inspection { traces: running(&[7]), ..with(agent("0.2.0", SHA, Some(OURS), &["prod"])) };
    assert!(decide(&alone, DeploymentAction::Install).is_ok());
    let mut stuck = silent(OURS, &["prod"]);
    stuck.traces.running = vec![7];
    assert!(decide(&stuck, DeploymentAction::Upgrade).is_ok(), "it is the one that uses our state");
}

#[test]
fn a_port_that_another_program_has_is_left_to_it() {
    let taken = Inspection { traces: Traces { port_taken: true, ..Traces::default() }, ..machine() };
    assert_eq!(decide(&taken, DeploymentAction::Install), Err(FailureReason::ForeignAgent));
    assert_eq!(decide(&taken, DeploymentAction::Uninstall), Ok(Plan::Forget), "there is no agent to take away");
    let own = Inspection { traces: taken.traces, ..with(agent("0.2.0", SHA, Some(OURS), &["prod"])) };
    assert!(decide(&own, DeploymentAction::Upgrade).is_ok());
}

#[test]
fn a_machine_that_cannot_run_an_agent_is_refused_with_the_reason() {
    let cases = [
        (Inspection { kernel: "FreeBSD".into(), ..machine() }, FailureReason::UnsupportedSystem),
        (Inspection { init: Init::None, ..machine() }, FailureReason::UnsupportedSystem),
        (Inspection { missing: "sha256sum".into(), ..machine() }, FailureReason::UnsupportedSystem),
        (Inspection { privilege: Privilege::None, ..machine() }, FailureReason::NoPrivilege),
        (Inspection { has_tun: false, ..machine() }, FailureReason::NoTun),
        (Inspection { staging: None, ..machine() }, FailureReason::DiskFull),
        (Inspection { free: Free { program: 30 << 10, ..machine().free }, ..machine() }, FailureReason::DiskFull),
    ];
    for (seen, reason) in cases {
        assert_eq!(decide(&seen, DeploymentAction::Install), Err(reason), "{seen:?}");
    }
}

#[test]
fn a_machine_without_an_agent_for_its_architecture_is_refused() {
    let network = "prod".parse().unwrap();
    let wish = Wish { action: DeploymentAction::Install, network: &network, authority: OURS, release: None };
    let failed = plan(&machine(), &wish).unwrap_err();
    assert_eq!(failed.reason, FailureReason::NoAgentBinary);
    assert!(failed.detail.contains("cladnet-agent-x86_64"), "{failed}");
    assert!(plan(&machine(), &Wish { action: DeploymentAction::Uninstall, ..wish }).is_ok());
}

#[test]
fn every_plan_is_told_to_people_as_a_sentence() {
    let choices = [(true, true), (true, false), (false, true), (false, false)];
    let installs = choices.map(|(upload, join)| Plan::Install { upload, join });
    let upgrades = [true, false].map(|upload| Plan::Upgrade { upload });
    let removals = [true, false].map(|leave| Plan::Remove { leave });
    let rest = [Plan::Leave, Plan::Forget, Plan::Nothing("the agent is in other networks only")];
    let plans = [&installs[..], &upgrades, &removals, &rest].concat();
    let told: std::collections::BTreeSet<_> = plans.iter().map(Plan::to_string).collect();
    assert_eq!(told.len(), plans.len(), "each has its own: {told:#?}");
    for sentence in &told {
        assert!(sentence.starts_with("to do: ") || sentence.starts_with("nothing to do: "), "{sentence}");
        assert!(!sentence.contains(['{', '}', '_', '"']), "a form of the program's: {sentence}");
    }
    assert_eq!(installs[0].to_string(), "to do: upload the agent, install it and join the network");
}
