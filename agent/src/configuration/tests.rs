use proptest::prelude::*;

use super::{
    testing::{EPOCH, Service, host, network, peer},
    *,
};

fn take(applied: Option<&Configuration>, snapshot: Snapshot) -> Result<Configuration, Refusal> {
    Configuration::from_snapshot(&host(), &network(), applied, snapshot)
}

#[test]
fn a_snapshot_is_taken_and_told_again_as_it_was() {
    let service = Service::new().with([1, 2, 3]);
    let configuration = service.taken();
    assert_eq!(configuration.remotes().len(), 3);
    assert_eq!(configuration.settings().address, Some("10.77.0.1".parse().expect("address")));
    assert_eq!(configuration.to_snapshot(), service.snapshot());
    let applied = configuration.applied(PublicKey([1; 32]));
    assert_eq!((applied.revision, applied.count, applied.digest), (1, 3, service.snapshot().digest));
}

#[test]
fn what_does_not_add_up_is_refused() {
    let service = Service::new().with([1, 2]);
    let spoiled = |spoil: fn(&mut Snapshot)| {
        let mut snapshot = service.snapshot();
        spoil(&mut snapshot);
        take(None, snapshot).expect_err("spoiled")
    };
    assert_eq!(spoiled(|s| s.count = 3), Refusal::Count { found: 3, held: 2 });
    assert_eq!(spoiled(|s| s.peers.truncate(1)), Refusal::Count { found: 2, held: 1 });
    assert_eq!(spoiled(|s| s.digest[0] ^= 1), Refusal::Digest);
    assert_eq!(spoiled(|s| s.digest.clear()), Refusal::Digest);
    assert_eq!(spoiled(|s| s.peers[0].fingerprint.push(1)), Refusal::Digest);
    assert_eq!(spoiled(|s| s.peers[0].host_id = "host-9".into()), Refusal::Digest);
    assert_eq!(spoiled(|s| s.membership = None), Refusal::NoMembership);
    assert!(matches!(
        spoiled(|s| s.membership.as_mut().expect("is there").network_id = "prod-2".into()),
        Refusal::Network { .. }
    ));
    assert!(matches!(
        spoiled(|s| s.membership.as_mut().expect("is there").ipv4_address_space = "ten".into()),
        Refusal::Field(_)
    ));
}

#[test]
fn words_of_a_newer_service_leave_nothing_in_clear_and_keep_the_network() {
    let mut service = Service::new().with([1]);
    service.membership.rule_type = "carbon-prioritized".into();
    service.membership.encryption_policy = "sometimes".into();
    let configuration = service.taken();
    let settings = configuration.settings();
    assert_eq!(
        (settings.policy.paths.rule_type, settings.policy.encryption.policy),
        (cladnet_model::RuleType::default(), EncryptionPolicy::Always)
    );
    assert_eq!(configuration.to_snapshot(), service.snapshot(), "what it does not know it keeps");
}

#[test]
fn an_older_revision_is_refused_within_its_epoch_and_taken_in_a_new_one() {
    let mut service = Service::new().with([1]);
    service.revision = 10;
    let applied = service.taken();
    service.revision = 9;
    assert_eq!(take(Some(&applied), service.snapshot()).err(), Some(Refusal::Stale { applied: 10, found: 9 }));
    service.epoch = "epoch-2".into();
    assert_eq!(take(Some(&applied), service.snapshot()).map(|c| c.revision()), Ok(9));
}

#[test]
fn a_delta_that_does_not_fit_changes_nothing() {
    let base = Service::new().with([1, 2]);
    let mut next = base.clone().with([3]);
    next.revision = 2;
    let good = next.delta_from(&base);
    type Spoil = fn(&mut Delta);
    let cases: [(Spoil, Refusal); 5] = [
        (|d| d.base_revision = 7, Refusal::Base { applied: 1, found: 7 }),
        (|d| d.epoch = "epoch-2".into(), Refusal::Epoch { applied: EPOCH.into(), found: "epoch-2".into() }),
        (|d| d.revision = 0, Refusal::Stale { applied: 1, found: 0 }),
        (|d| d.upserts.clear(), Refusal::Count { found: 3, held: 2 }),
        (|d| d.digest[5] ^= 8, Refusal::Digest),
    ];
    for (spoil, refusal) in cases {
        let mut configuration = base.taken();
        let mut delta = good.clone();
        spoil(&mut delta);
        assert_eq!(configuration.apply(delta), Err(refusal));
        assert_eq!(configuration.to_snapshot(), base.snapshot());
    }
    let mut configuration = base.taken();
    configuration.apply(good).expect("fits");
    assert_eq!(configuration.to_snapshot(), next.snapshot());
}

#[test]
fn a_peer_that_cannot_be_used_is_left_out_and_the_others_are_not() {
    let mut service = Service::new().with([1, 2, 3, 4]);
    let mut spoil = |host: &str, spoil: fn(&mut RemotePeer)| spoil(service.peers.get_mut(host).expect("is there"));
    spoil("host-1", |peer| peer.public_key = vec![0; 32]);
    spoil("host-2", |peer| peer.ipv4_address = "192.168.0.1".into());
    spoil("host-3", |peer| peer.endpoints[0].scope = "relay".into());
    let configuration = service.taken();
    let remotes: Vec<_> = configuration.remotes().keys().map(HostId::as_str).collect();
    assert_eq!(remotes, ["host-3", "host-4"], "an unknown kind of endpoint is one endpoint less");
    assert_eq!(configuration.remotes()[&"host-3".parse::<HostId>().expect("id")].endpoints, []);
    assert_eq!(configuration.to_snapshot(), service.snapshot(), "the digest is over all");
}

#[test]
fn a_peer_that_becomes_unusable_goes_and_comes_back_when_it_is_good() {
    let base = Service::new().with([1]);
    let mut bad = base.clone();
    bad.revision = 2;
    bad.peers.insert("host-1".into(), RemotePeer { public_key: vec![], fingerprint: vec![9], ..peer(1, 1) });
    let mut configuration = base.taken();
    configuration.apply(bad.delta_from(&base)).expect("fits");
    assert_eq!(configuration.remotes().len(), 0);
    let good = Service { revision: 3, ..base };
    configuration.apply(good.delta_from(&bad)).expect("fits");
    assert_eq!(configuration.remotes().len(), 1);
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Remove(u8),
    Rename(u8),
}

fn steps() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let step = prop_oneof![
        3 => (0..12u8, 1..4u8).prop_map(|(host, content)| Step::Put(host, content)),
        2 => (0..12u8).prop_map(Step::Remove),
        1 => (2..6u8).prop_map(Step::Rename),
    ];
    prop::collection::vec(prop::collection::vec(step, 0..6), 1..12)
}

proptest! {
    /// Also when deltas are lost, doubled or out of order: those are refused, and a snapshot sets things right.
    #[test]
    fn deltas_lead_where_snapshots_do(changes in steps(), fate in prop::collection::vec(0..5u8, 12)) {
        let mut service = Service::new().with([1, 2]);
        let mut configuration = service.taken();
        for (changes, fate) in changes.into_iter().zip(fate) {
            let before = service.clone();
            service.revision += 1;
            for change in changes {
                match change {
                    Step::Put(host, content) => service.put(host, content),
                    Step::Remove(host) => drop(service.peers.remove(&format!("host-{host}"))),
                    Step::Rename(name) => {
                        service.membership.network_name = format!("name {name}");
                        service.membership.fingerprint = vec![name];
                    }
                }
            }
            let delta = service.delta_from(&before);
            match fate {
                0 => continue,
                1 => {
                    let _ = configuration.apply(delta.clone());
                    prop_assert!(configuration.apply(delta).is_err(), "a second time");
                }
                _ => {
                    let _ = configuration.apply(delta);
                }
            }
            prop_assert!(configuration.revision() <= service.revision);
            if configuration.revision() == service.revision {
                prop_assert_eq!(configuration.to_snapshot(), service.snapshot());
            } else {
                configuration = take(Some(&configuration), service.snapshot()).expect("newer");
            }
        }
        let fresh = take(Some(&configuration), service.snapshot()).expect("newer or equal");
        let taken = service.taken();
        prop_assert_eq!(fresh.remotes(), taken.remotes());
    }
}
