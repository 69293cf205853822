use cladnet_model::{MembershipStatus, PeerState};
use cladnet_proto::cladnet::v1::{self, service_message::Message as Told};
use cladnet_store::key;
use tonic::Code;

use super::*;
use crate::agents::testing::*;

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
    agent
        .take_until(&mut wire, "the other one", |copy| copy.networks.get("n").is_some_and(|n| n.peers.len() == 1))
        .await;
    assert_eq!(agent.copy.networks["n"].membership.ipv4_address_space, "10.77.0.0/16");
    assert!(!agent.copy.networks["n"].membership.ipv4_address.is_empty());

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
    second.agents.remove_membership(&network_id("n"), &gone, "test").await.unwrap();
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
    assert!(removed.elapsed() < Duration::from_secs(1), "{:?}", removed.elapsed());
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
        wire.say(Heard::Facts(v1::HostFacts::from(&facts(port)))).await;
    }
    let mut revisions = std::collections::BTreeSet::new();
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
    wire.say(Heard::Facts(v1::HostFacts::from(&facts(200)))).await;
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
