//! Recommended address spaces.

use crate::harness::Server;

#[test]
fn without_an_address_space_the_best_one_is_taken() {
    let server = Server::start();
    let best = server.json(&["network", "recommend", "--hosts", "100"])["addressSpaces"][0]["cidr"].clone();
    assert_eq!(server.json(&["network", "create", "--hosts", "100"])["ipv4AddressSpace"], best);
    let next = server.json(&["network", "recommend", "--hosts", "100"]);
    assert_ne!(next["addressSpaces"][0]["cidr"], best);
}

#[test]
fn recommendations_keep_clear_of_what_is_named() {
    let server = Server::start();
    let avoid = ["10.0.0.0/8", "172.16.0.0/12"].join(",");
    let spaces = server.json(&["network", "recommend", "--avoid", &avoid, "--limit", "3"]);
    let spaces = spaces["addressSpaces"].as_array().unwrap();
    assert!(!spaces.is_empty() && spaces.len() <= 3);
    assert!(spaces.iter().all(|space| space["cidr"].as_str().unwrap().starts_with("192.168.")), "{spaces:?}");
    let nothing = server.run(&["network", "recommend", "--avoid", &format!("{avoid},192.168.0.0/16")]);
    assert_eq!(nothing.code, 1, "{nothing:?}");
}

#[test]
fn what_is_no_range_cannot_be_avoided() {
    let server = Server::start();
    server.run(&["network", "recommend", "--avoid", "10.0.0.0/33"]).refused(2, &["avoid", "10.0.0.0/33"]);
}
