use std::collections::BTreeSet;

use cladnet_model::{MembershipStatus, PeerState};
use cladnet_proto::cladnet::v1::{self, service_message::Message as Told};
use cladnet_store::key;
use tonic::Code;

use super::*;
use crate::agents::{identity::Caller, testing::*};

/// Network `n`, a replica, and so many agents with addresses.
async fn house_with(agents: usize) -> (House, Replica, Vec<Agent>) {
    let house = House::with_network("n").await;
    let replica = house.replica().await;
    let token = house.token("n", u32::try_from(agents).unwrap(), replica.ca).await;
    let mut joined = Vec::new();
    for _ in 0..agents {
        joined.push(Machine::new().agent(&replica, &token).await);
    }
    house.assign_addresses(&network_id("n")).await;
    (house, replica, joined)
}

#[tokio::test]
async fn an_agent_is_welcomed_gets_a_snapshot_and_then_what_changes() {
    let (house, replica, mut agents) = house_with(2).await;
    let mut agent = agents.remove(0);
    let mut wire = agent.sync(&replica).await.unwrap();
    let Told::Welcome(welcome) = wire.next("welcome").await.unwrap() else { panic!("no welcome") };
    assert_eq!(welcome.network_ids, ["n"]);
    let is_known = |copy: &Copy| {
        copy.networks.get("n").is_some_and(|n| n.peers.len() == 1 && !n.membership.ipv4_address.is_empty())
    };
    agent.take_until(&mut wire, "the other one and an address", is_known).await;
    assert_eq!(agent.copy.networks["n"].membership.ipv4_address_space, "10.77.0.0/16");

    let token = house.token("n", 1, replica.ca).await;
    Machine::new().agent(&replica, &token).await;
    house.assign_addresses(&network_id("n")).await;
    let messages = agent.take_until(&mut wire, "the third", |copy| copy.networks["n"].peers.len() == 2).await;
    assert_eq!(messages, 1);
}

#[tokio::test]
async fn an_agent_resumes_on_another_replica_and_is_told_only_what_it_missed() {
    let (house, first, mut agents) = house_with(3).await;
    let second = house.replica().await;
    let mut agent = agents.remove(0);
    let mut wire = agent.sync(&first).await.unwrap();
    agent.take_until(&mut wire, "both", |copy| copy.networks.get("n").is_some_and(|n| n.peers.len() == 2)).await;
    drop(wire);

    let gone = agents.remove(0).host;
    second.service.remove_peer(&network_id("n"), &gone, "test").await.unwrap();
    let mut wire = agent.sync(&second).await.unwrap();
    assert!(matches!(wire.next("welcome").await, Ok(Told::Welcome(_))));
    let message = wire.next("what was missed").await.unwrap();
    assert!(
        matches!(&message, Told::Delta(delta) if delta.removals == [gone.to_string()] && delta.upserts.is_empty()),
        "{message:?}"
    );
    agent.copy.apply(&agent.host, message).unwrap();
}

#[tokio::test]
async fn a_removed_host_is_cut_off_and_its_peers_forget_it_without_a_controller() {
    let (_house, replica, mut agents) = house_with(2).await;
    let (mut one, mut two) = (agents.remove(0), agents.remove(0));
    let (mut wire_one, mut wire_two) = (one.sync(&replica).await.unwrap(), two.sync(&replica).await.unwrap());
    one.take_until(&mut wire_one, "two", |copy| copy.networks.get("n").is_some_and(|n| n.peers.len() == 1)).await;
    two.take_until(&mut wire_two, "one", |copy| copy.networks.get("n").is_some_and(|n| n.peers.len() == 1)).await;

    let removed = Instant::now();
    replica.agents.remove_host(&two.host, "test").await.unwrap();
    let status = wire_two.end().await;
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    one.take_until(&mut wire_one, "the removal", |copy| copy.networks["n"].peers.is_empty()).await;
    assert!(removed.elapsed() < Patience::default().silence, "silence did it: {:?}", removed.elapsed());
    assert_eq!(two.sync(&replica).await.err().map(|status| status.code()), Some(Code::PermissionDenied));
}

#[tokio::test]
async fn leaving_a_network_ends_it_on_the_stream_and_frees_the_key() {
    let (house, replica, mut agents) = house_with(1).await;
    let mut agent = agents.remove(0);
    let mut wire = agent.sync(&replica).await.unwrap();
    agent.take_until(&mut wire, "the network", |copy| copy.networks.contains_key("n")).await;
    let leave = v1::LeaveRequest { network_id: "n".into() };
    agent.client(&replica).await.leave(leave).await.unwrap();
    agent.take_until(&mut wire, "the end", |copy| copy.networks.is_empty()).await;
    assert!(house.store.list(&key::public_keys()).await.unwrap().items.is_empty());
    assert_eq!(house.hosts().await, 1, "the host stays");
    agent.client(&replica).await.leave(v1::LeaveRequest::default()).await.unwrap();
    assert_eq!(house.hosts().await, 0);
}

#[tokio::test]
async fn a_newer_stream_replaces_the_older_one_on_this_and_on_another_replica() {
    let (house, first, mut agents) = house_with(1).await;
    let second = house.replica().await;
    let agent = agents.remove(0);
    let mut oldest = agent.sync(&first).await.unwrap();
    let present = async |replica: &Replica| {
        eventually("presence", async || {
            let found = house.store.get(&key::presence(&agent.host)).await.unwrap()?;
            (found.value.replica == replica.shared().parts.replica).then_some(found.modified)
        })
        .await
    };
    present(&first).await;
    let mut older = agent.sync(&first).await.unwrap();
    assert_eq!(oldest.end().await.code(), Code::Aborted);
    let newest = agent.sync(&second).await.unwrap();
    assert_eq!(older.end().await.code(), Code::Aborted);
    present(&second).await;
    drop(newest);
    eventually("no presence", async || {
        house.store.get(&key::presence(&agent.host)).await.unwrap().is_none().then_some(())
    })
    .await;
    let events = house.store.list(&key::events()).await.unwrap().items;
    let kinds: Vec<_> =
        events.iter().map(|event| event.value.kind.as_str()).filter(|k| k.starts_with("host.")).collect();
    assert_eq!(kinds, ["host.online", "host.offline"]);
}

#[tokio::test]
async fn the_presence_of_a_replica_that_stopped_is_gone() {
    let (house, replica, mut agents) = house_with(1).await;
    let agent = agents.remove(0);
    let mut wire = agent.sync(&replica).await.unwrap();
    let present = async || house.store.get(&key::presence(&agent.host)).await.unwrap().is_some();
    eventually("presence", async || present().await.then_some(())).await;
    replica.stop().await;
    assert_eq!(wire.end().await.code(), Code::Unavailable);
    eventually("no presence", async || (!present().await).then_some(())).await;
}

#[tokio::test]
async fn reports_are_written_only_if_they_differ_and_at_most_once_a_second() {
    let (house, replica, mut agents) = house_with(1).await;
    let agent = agents.remove(0);
    let wire = agent.sync(&replica).await.unwrap();
    let host_key = key::host(&agent.host);
    let before = house.store.get(&host_key).await.unwrap().unwrap();
    for port in 1..=200 {
        wire.say(Heard::Facts(HostFacts::from(&facts(port)))).await;
    }
    let mut revisions = BTreeSet::new();
    let started = Instant::now();
    let last = eventually("the last report", async || {
        let host = house.store.get(&host_key).await.unwrap().unwrap();
        revisions.insert(host.modified);
        (host.value.facts == facts(200)).then_some(host)
    })
    .await;
    revisions.remove(&before.modified);
    let allowed = 2 + usize::try_from(started.elapsed().as_secs()).unwrap();
    assert!(revisions.len() <= allowed, "{} writes", revisions.len());

    let status = v1::MembershipStatus { network_id: "n".into(), state: "tunneling".into(), ..Default::default() };
    wire.say(Heard::Facts(HostFacts::from(&facts(200)))).await;
    wire.say(Heard::Status(status.clone())).await;
    let status_key = key::status(&network_id("n"), &agent.host);
    let written = eventually("the status", async || house.store.get(&status_key).await.unwrap()).await;
    assert_eq!(
        written.value,
        MembershipStatus { state: PeerState::Tunneling, reason: String::new(), interface: String::new(), revision: 0 }
    );
    wire.say(Heard::Status(v1::MembershipStatus { network_id: "nowhere".into(), ..status.clone() })).await;
    wire.say(Heard::Status(status)).await;
    let failed = v1::MembershipStatus { network_id: "n".into(), state: "failed".into(), ..Default::default() };
    wire.say(Heard::Status(failed)).await;
    let later = eventually("the next status", async || {
        house.store.get(&status_key).await.unwrap().filter(|found| found.value.state == PeerState::Failed)
    })
    .await;
    assert_eq!(house.store.get(&host_key).await.unwrap().unwrap().modified, last.modified, "equal facts cost nothing");
    assert!(later.modified > written.modified);
    assert!(house.store.get(&key::status(&network_id("nowhere"), &agent.host)).await.unwrap().is_none());
}

#[tokio::test]
async fn a_ping_is_answered_and_a_stream_that_does_not_begin_with_hello_is_refused() {
    let (_house, replica, mut agents) = house_with(1).await;
    let agent = agents.remove(0);
    let mut wire = agent.sync(&replica).await.unwrap();
    wire.say(Heard::Ping(())).await;
    while !matches!(wire.next("a pong").await.unwrap(), Told::Pong(())) {}

    let (said, outbound) = mpsc::channel(1);
    said.try_send(AgentMessage { message: Some(Heard::Ping(())) }).unwrap();
    let mut client = agent.client(&replica).await;
    let told = client.sync(tokio_stream::wrappers::ReceiverStream::new(outbound)).await.unwrap().into_inner();
    assert_eq!(Wire { said, told }.end().await.code(), Code::FailedPrecondition);
}

/// A stream without TLS in between, whose agent reads when the test does.
async fn slow(
    replica: &Replica,
    agent: &Agent,
    patience: Patience,
) -> (mpsc::Sender<Result<AgentMessage, Status>>, Outgoing) {
    let record = replica.shared().parts.store.get(&key::host(&agent.host)).await.unwrap().unwrap();
    let caller = Caller { host: record.value, revision: record.modified, valid_for: Duration::from_secs(3_600) };
    let (said, heard) = mpsc::channel(8);
    let hello =
        Hello { facts: Some(agent.facts.clone()), applied: agent.copy.applied(&agent.host), ..Hello::default() };
    said.send(Ok(AgentMessage { message: Some(Heard::Hello(hello)) })).await.unwrap();
    let heard = tokio_stream::wrappers::ReceiverStream::new(heard);
    (said, start(replica.agents.shared.clone(), caller, None, heard, patience))
}

#[tokio::test]
async fn a_slow_agent_costs_no_message_and_gets_what_it_missed_in_one_piece() {
    let (house, replica, mut agents) = house_with(2).await;
    let (mut agent, other) = (agents.remove(0), agents.remove(0));
    let (_said, mut told) = slow(&replica, &agent, Patience::default()).await;
    let first =
        async |told: &mut Outgoing| timeout(DEADLINE, told.next()).await.unwrap().unwrap().unwrap().message.unwrap();
    assert!(matches!(first(&mut told).await, Told::Welcome(_)));
    let mut last = 0;
    for port in 1..=300 {
        let found = house.store.get(&key::host(&other.host)).await.unwrap().unwrap();
        let moved = cladnet_model::Host { facts: facts(port), ..found.value };
        last = house.store.replace(&key::host(&other.host), &moved, found.modified).await.unwrap().get();
    }
    replica.shared().reached(last).await.unwrap();
    let mut messages = 0;
    while agent
        .copy
        .networks
        .get("n")
        .is_none_or(|n| n.peers.values().all(|p| !p.endpoints[0].address.ends_with(":300")))
    {
        let message = first(&mut told).await;
        messages += usize::from(!matches!(message, Told::UsageTaken(_)));
        agent.copy.apply(&agent.host, message).unwrap();
    }
    assert_eq!(messages, 1, "what was missed is told in one piece");
}

#[tokio::test]
async fn an_agent_that_takes_nothing_and_one_that_says_nothing_are_cut_off() {
    let (_house, replica, mut agents) = house_with(2).await;
    let (deaf, mute) = (agents.remove(0), agents.remove(0));
    let long = Duration::from_secs(3_600);
    let deaf_wire = slow(&replica, &deaf, Patience { silence: long, stall: Duration::from_millis(200) }).await;
    let mut mute_wire = slow(&replica, &mute, Patience { silence: Duration::from_millis(200), stall: long }).await;
    let last = loop {
        match timeout(DEADLINE, mute_wire.1.next()).await.unwrap() {
            Some(Ok(_)) => {}
            Some(Err(status)) => break status,
            None => panic!("ended without a reason"),
        }
    };
    assert_eq!(last.code(), Code::DeadlineExceeded);
    for agent in [&deaf, &mute] {
        eventually("the stream", async || replica.shared().streams.get(&agent.host).is_none().then_some(())).await;
    }
    drop(deaf_wire);
}

#[tokio::test]
async fn an_endpoint_that_no_host_may_advertise_reaches_nobody() {
    let (house, replica, mut agents) = house_with(1).await;
    let agent = agents.remove(0);
    let wire = agent.sync(&replica).await.unwrap();
    let mut bad = agent.facts.clone();
    for address in ["127.0.0.1:8055", "169.254.169.254:80", "10.77.0.9:8055", "198.51.100.9:8055"] {
        bad.endpoints.push(v1::AgentEndpoint {
            address: address.into(),
            scope: "public".into(),
            source: "stun".into(),
        });
    }
    bad.host_name = "told".into();
    wire.say(Heard::Facts(bad)).await;
    let host = eventually("the report", async || {
        house.store.get(&key::host(&agent.host)).await.unwrap().filter(|host| host.value.facts.name == "told")
    })
    .await;
    let kept: Vec<String> = host.value.facts.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
    assert_eq!(kept, ["192.0.2.1:8055", "198.51.100.9:8055"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_cut_off_while_a_host_is_removed_and_history_compacted_tells_its_agents() {
    let etcd = Etcd::start().await;
    let house = etcd.house().await;
    house.create_network("n").await;
    let proxy = etcd.proxy().await;
    let (near, far) = (house.replica().await, proxy.house().await);
    let far = far.replica().await;
    let token = house.token("n", 2, near.ca).await;
    let mut one = Machine::new().agent(&near, &token).await;
    let two = Machine::new().agent(&near, &token).await;
    house.assign_addresses(&network_id("n")).await;
    let mut wire_one = one.sync(&far).await.unwrap();
    let mut wire_two = two.sync(&far).await.unwrap();
    one.take_until(&mut wire_one, "two", |copy| copy.networks.get("n").is_some_and(|n| n.peers.len() == 1)).await;

    proxy.cut();
    near.agents.remove_host(&two.host, "test").await.unwrap();
    let after = house.store.put(&key::network(&network_id("later")), &network("later")).await.unwrap();
    house.store.compact(after).await.unwrap();
    assert_eq!(one.copy.networks["n"].peers.len(), 1, "a cut is no removal");
    proxy.heal();
    one.take_until(&mut wire_one, "the removal", |copy| copy.networks["n"].peers.is_empty()).await;
    assert_eq!(wire_two.end().await.code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_keep_what_they_have_while_the_store_does_not_answer() {
    let etcd = Etcd::start().await;
    let house = etcd.house().await;
    house.create_network("n").await;
    let proxy = etcd.proxy().await;
    let replica = proxy.house().await.replica().await;
    let token = house.token("n", 2, replica.ca).await;
    let mut agent = Machine::new().agent(&replica, &token).await;
    Machine::new().agent(&replica, &token).await;
    house.assign_addresses(&network_id("n")).await;
    let mut wire = agent.sync(&replica).await.unwrap();
    agent.take_until(&mut wire, "the other", |copy| copy.networks.get("n").is_some_and(|n| n.peers.len() == 1)).await;

    proxy.cut();
    wire.say(Heard::Ping(())).await;
    while !matches!(wire.next("a pong").await.unwrap(), Told::Pong(())) {}
    drop(wire);
    let mut wire = agent.sync(&replica).await.expect("what this replica last saw of the host counts");
    assert!(matches!(wire.next("welcome").await.unwrap(), Told::Welcome(welcome) if welcome.network_ids == ["n"]));
    wire.say(Heard::Ping(())).await;
    let next = wire.next("a pong, and nothing before it").await.unwrap();
    assert!(matches!(next, Told::Pong(())), "{next:?}");
}

#[tokio::test]
async fn a_stream_ends_with_the_certificate_that_opened_it() {
    let (_house, replica, mut agents) = house_with(1).await;
    let agent = agents.remove(0);
    let record = replica.shared().parts.store.get(&key::host(&agent.host)).await.unwrap().unwrap();
    let caller = Caller { host: record.value, revision: record.modified, valid_for: Duration::from_millis(100) };
    let (said, heard) = mpsc::channel(1);
    said.send(Ok(AgentMessage { message: Some(Heard::Hello(Hello::default())) })).await.unwrap();
    let heard = tokio_stream::wrappers::ReceiverStream::new(heard);
    let mut told = start(replica.agents.shared.clone(), caller, None, heard, Patience::default());
    let last = loop {
        match timeout(DEADLINE, told.next()).await.unwrap() {
            Some(Ok(_)) => {}
            Some(Err(status)) => break status,
            None => panic!("ended without a reason"),
        }
    };
    assert_eq!(last.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_late_write_of_an_earlier_report_is_put_right() {
    let (house, replica, mut agents) = house_with(1).await;
    let agent = agents.remove(0);
    let wire = agent.sync(&replica).await.unwrap();
    let status = v1::MembershipStatus { network_id: "n".into(), state: "tunneling".into(), ..Default::default() };
    wire.say(Heard::Status(status)).await;
    let (host_key, status_key) = (key::host(&agent.host), key::status(&network_id("n"), &agent.host));
    let reported = eventually("the status", async || house.store.get(&status_key).await.unwrap()).await.value;

    let found = house.store.get(&host_key).await.unwrap().unwrap();
    let late = cladnet_model::Host { facts: facts(1), ..found.value.clone() };
    house.store.put(&host_key, &late).await.unwrap();
    house.store.put(&status_key, &MembershipStatus { state: PeerState::Failed, ..reported.clone() }).await.unwrap();
    eventually("what the agent says", async || {
        let host = house.store.get(&host_key).await.unwrap()?.value;
        let status = house.store.get(&status_key).await.unwrap()?.value;
        (host.facts == found.value.facts && status == reported).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_panics_tells_its_agent_and_ends_alone() {
    let (house, replica, agents) = house_with(2).await;
    let record = house.store.get(&key::host(&agents[0].host)).await.unwrap().unwrap();
    let caller = Caller { host: record.value, revision: record.modified, valid_for: Duration::from_secs(3_600) };
    let hello = AgentMessage { message: Some(Heard::Hello(Hello::default())) };
    let heard = futures_util::stream::iter([true, false])
        .map(move |first| if first { Ok(hello.clone()) } else { panic!("a bug") });
    let mut told = start(replica.agents.shared.clone(), caller, None, heard, Patience::default());
    let end = loop {
        let next = timeout(DEADLINE, told.next()).await.expect("the stream goes on");
        if let Err(status) = next.expect("a reason") {
            break status;
        }
    };
    assert_eq!(end.code(), Code::Internal, "{end}");
    let mut wire = agents[1].sync(&replica).await.unwrap();
    assert!(matches!(wire.next("welcome").await, Ok(Told::Welcome(_))));
}
