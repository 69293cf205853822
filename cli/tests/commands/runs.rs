//! Connectivity tests as they are shown later. The largest one is written into the store by hand, while no server has it.

use cladnet_model::{
    ConnectivityResult, ConnectivityRun, HostId, NetworkId, RoundTrips, RunId,
    connectivity::{PairFigures, RunHost},
};
use cladnet_store::{EmbeddedOptions, Store, key};
use jiff::Timestamp;
use tokio::runtime::Runtime;

use crate::harness::Server;

const HOSTS: usize = 500;

#[test]
fn a_test_among_five_hundred_peers_is_shown() {
    let mut server = Server::start();
    server.network("prod", "10.9.0.0/16");
    server.stop();
    let run = Runtime::new().unwrap().block_on(write_run(&server));
    server.come_back();
    let shown = server.run(&["test", "show", "prod", run.as_str()]).ok().stdout;
    let pairs = HOSTS * (HOSTS - 1);
    assert!(shown.ends_with(&format!("{pairs} of {pairs} pairs answered\n")), "{}", &shown[shown.len() - 200..]);
    assert!(shown.lines().count() > pairs);
}

async fn write_run(server: &Server) -> RunId {
    let store = Store::open_embedded(EmbeddedOptions::new(server.directory.path().join("data"))).await.unwrap();
    let network: NetworkId = "prod".parse().unwrap();
    let hosts: Vec<HostId> =
        (0..HOSTS).map(|n| HostId::generate([n as u8, (n >> 8) as u8].repeat(5).try_into().unwrap())).collect();
    let name = |n: usize| format!("a-machine-of-some-region-{n}");
    let run = ConnectivityRun {
        id: RunId::at(Timestamp::now(), rand::random()),
        network: network.clone(),
        started_at: Timestamp::now(),
        deadline_at: Timestamp::now(),
        hosts: hosts.iter().enumerate().map(|(n, id)| (id.clone(), RunHost { name: name(n), asked: true })).collect(),
        absent: Vec::new(),
        outcome: None,
    };
    store.create(&key::connectivity_run(&network, &run.id), &run).await.unwrap();
    let round_trips = RoundTrips::of(&[100_000, 200_000, 300_000]).unwrap();
    for host in &hosts {
        let pair = |destination: &HostId| PairFigures {
            destination: destination.clone(),
            sent: 3,
            round_trips,
            error: String::new(),
        };
        let pairs = hosts.iter().filter(|other| *other != host).map(pair).collect();
        let result = ConnectivityResult::new(pairs, None);
        store.create(&key::connectivity_result(&network, &run.id, host), &result).await.unwrap();
    }
    // A store that is merely dropped frees its directory when its writer gets to it, and the server wants it now.
    store.close().await.unwrap();
    run.id
}
