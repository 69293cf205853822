//! Networks: their life, and everything that cannot be one.

use crate::harness::Server;

#[test]
fn a_network_is_made_shown_changed_and_deleted() {
    let server = Server::start();
    assert!(server.run(&["network", "list"]).ok().stdout.starts_with("no networks"));
    let made = server.json(&["network", "create", "prod", "--address-space", "172.20.0.0/24", "--name", "Production"]);
    assert_eq!((&made["ruleType"], &made["encryptionPolicy"]), (&"cost-prioritized".into(), &"always".into()));

    let shown = server.run(&["network", "show", "prod"]).ok().stdout;
    assert!(shown.contains("address space      172.20.0.0/24"), "{shown}");
    let listed = server.run(&["network", "list"]).ok().stdout;
    assert!(listed.lines().nth(1).unwrap().starts_with("prod"), "{listed}");

    server.run(&["network", "update", "prod", "--address-space", "172.20.0.0/23", "--rule-type", "balanced"]).ok();
    let changed = server.json(&["network", "show", "prod"]);
    assert_eq!((&changed["ipv4AddressSpace"], &changed["name"]), (&"172.20.0.0/23".into(), &"Production".into()));

    server.run(&["network", "delete", "prod"]).refused(2, &["--yes"]);
    server.run(&["network", "delete", "prod", "--yes"]).ok();
    server.run(&["network", "show", "prod"]).refused(3, &["prod"]);
}

#[test]
fn no_bad_network_is_made() {
    let server = Server::start();
    server.network("taken", "172.20.0.0/24");
    let space = |cidr: &str, code: i32, words: &[&str]| {
        server.run(&["network", "create", "bad", "--address-space", cidr]).refused(code, words);
    };
    let field = "ipv4_address_space";
    space("everywhere", 2, &[field, "everywhere"]);
    space("8.8.8.0/24", 2, &[field, "10.0.0.0/8"]);
    space("fd00::/64", 2, &[field]);
    space("172.21.0.0/31", 2, &[field]);
    space("172.21.0.0/32", 2, &[field]);
    space("172.21.0.7/24", 2, &[field, "172.21.0.0/24"]);
    space("172.20.0.128/25", 2, &["172.20.0.0/24", "taken"]);
    server.run(&["network", "create", "a/b"]).refused(2, &["network_id", "[a-z0-9-]"]);
    server.run(&["network", "create", "a b"]).refused(2, &["network_id", "[a-z0-9-]"]);
    server.run(&["network", "create", &"a".repeat(64)]).refused(2, &["network_id", "63"]);
    server.run(&["network", "create", ""]).refused(2, &["[a-z0-9-]"]);
    server.run(&["network", "create", "taken", "--address-space", "172.21.0.0/24"]).refused(4, &["taken"]);
    server.run(&["network", "create", "bad", "--rule-type", "fast"]).refused(2, &["rule_type", "balanced"]);
    server.run(&["network", "create", "bad", "--encryption", "never"]).refused(2, &["encryption_policy", "always"]);
    server.run(&["network", "create", "bad", "--hosts", "5000000000"]).refused(2, &["--hosts"]);
    server.run(&["network", "create", "bad", "--usd-per-ms", "dear"]).refused(2, &["usd_per_ms", "0.02"]);
    server.run(&["network", "create", "bad", "--max-usd-per-gb=-1"]).refused(2, &["max_usd_per_gb", "0.02"]);
    server.run(&["network", "create", "bad", "--max-rtt-ms", "60001"]).refused(2, &["max_rtt_ms", "60000"]);
    server.run(&["network", "create", "bad", "--forbid", "everything"]).refused(2, &["forbid[0]", "public-v6"]);
    server.run(&["network", "create", "bad", "--forbid", "private,public"]).refused(2, &["forbid", "no scope"]);
    server.run(&["network", "create", "bad", "--forbid", "public", "--rule-type", "basic"]).refused(2, &["basic"]);
    assert_eq!(server.json(&["network", "list"])["networks"].as_array().unwrap().len(), 1);
}

#[test]
fn path_settings_are_stated_kept_and_taken_back() {
    let server = Server::start();
    let stated = ["--rule-type", "balanced", "--usd-per-ms", "0.002", "--max-rtt-ms", "80", "--forbid", "public-v6"];
    server.run(&[&["network", "create", "prod", "--address-space", "172.20.0.0/24"], &stated[..]].concat()).ok();
    let shown = server.json(&["network", "show", "prod"]);
    assert_eq!((shown["usdPerMs"].as_str(), shown["usdPerLossPercent"].as_str()), (Some("0.002"), Some("0.01")));
    assert_eq!((shown["maxRttMs"].as_u64(), &shown["forbid"]), (Some(80), &serde_json::json!(["public-v6"])));
    server.run(&["network", "update", "prod", "--max-usd-per-gb", "0.05"]).ok();
    let shown = server.json(&["network", "show", "prod"]);
    assert_eq!((shown["maxRttMs"].as_u64(), shown["maxUsdPerGb"].as_str()), (Some(80), Some("0.05")));
    let sheet = server.run(&["network", "show", "prod"]).ok();
    assert!(sheet.stdout.contains("at most 80 ms, at most 0.05 USD/GB, nothing by public-v6 addresses"), "{sheet:?}");
    server.run(&["network", "update", "prod", "--rule-type", "basic", "--forbid", "public"]).refused(2, &["forbid"]);
    server
        .run(&["network", "update", "prod", "--max-rtt-ms", "0", "--max-usd-per-gb", "none", "--forbid", "none"])
        .ok();
    let shown = server.json(&["network", "show", "prod"]);
    assert_eq!((shown["maxRttMs"].as_u64().unwrap_or(0), shown["maxUsdPerGb"].as_str().unwrap_or("")), (0, ""));
    let events = server.run(&["event", "list", "--network", "prod"]).ok();
    assert!(events.stdout.contains("path settings from"), "{events:?}");
}

#[test]
fn no_bad_change_is_made() {
    let server = Server::start();
    server.run(&["network", "create", "prod", "--address-space", "172.20.0.0/24"]).ok();
    server.run(&["network", "update", "prod"]).refused(2, &["nothing to change"]);
    server.run(&["network", "update", "nowhere", "--name", "x"]).refused(3, &["nowhere"]);
    server.run(&["network", "update", "prod", "--name", "x", "--expected-generation", "99"]).refused(4, &[]);
    server.run(&["network", "update", "prod", "--address-space", "172.20.0.0/31"]).refused(2, &["ipv4_address_space"]);
    server.run(&["network", "delete", "nowhere", "--yes"]).refused(3, &["nowhere"]);
    assert_eq!(server.json(&["network", "show", "prod"])["ipv4AddressSpace"], "172.20.0.0/24");
}

#[test]
fn a_network_whose_id_begins_like_anothers_is_another() {
    let server = Server::start();
    server.network("prod", "172.20.0.0/24");
    server.network("prod-1", "172.20.1.0/24");
    server.run(&["network", "delete", "prod", "--yes"]).ok();
    assert_eq!(server.json(&["network", "list"])["networks"][0]["networkId"], "prod-1");
    assert!(server.run(&["peer", "list", "prod-1"]).ok().stdout.starts_with("no peers"));
    server.run(&["peer", "list", "prod"]).refused(3, &["prod"]);
    server.run(&["peer", "show", "prod-1", "vm-a"]).refused(3, &["vm-a"]);
}

#[test]
fn what_happened_is_told() {
    let server = Server::start();
    server.network("prod", "172.20.0.0/24");
    let events = server.json(&["event", "list", "--network", "prod"]);
    assert_eq!(events["events"][0]["kind"], "network.created");
}

#[test]
fn yaml_is_the_same_answer() {
    let server = Server::start();
    server.run(&["network", "create", "prod", "--address-space", "172.20.0.0/24"]).ok();
    let yaml = server.run(&["network", "show", "prod", "--output", "yaml"]).ok().stdout;
    assert!(yaml.contains("networkId: prod\n") && yaml.contains("ipv4AddressSpace: 172.20.0.0/24\n"), "{yaml}");
}
