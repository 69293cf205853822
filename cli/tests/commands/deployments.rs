//! Deployments from a file, and what is asked about them. The provisioner of the server finds nobody at these addresses
//! of documentation (RFC 5737), so that nothing here reaches a machine.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use crate::harness::Server;

const KEY: &str = include_str!("../../../model/src/deployment/private_key/openssh");
const ENCRYPTED: &str = include_str!("../../../model/src/deployment/private_key/openssh_encrypted");
const PUBLIC: &str = include_str!("../../../model/src/deployment/private_key/openssh.pub");

/// A file of machines, beside its key.
fn hosts(server: &Server, text: &str) -> PathBuf {
    let directory = server.directory.path();
    write_key(&directory.join("id"), KEY);
    write_key(&directory.join("id.pub"), PUBLIC);
    write_key(&directory.join("locked"), ENCRYPTED);
    let file = directory.join("hosts.yaml");
    fs::write(&file, text).unwrap();
    file
}

fn write_key(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

const TWO: &str = "defaults: { user: debian, key: id }
hosts:
  - { name: edge, address: 192.0.2.10 }
  - { name: db-1, address: 10.255.0.5, bastion: edge, labels: { tier: db }, location: { provider: aws } }
";

#[test]
fn a_deployment_is_begun_shown_listed_and_cancelled() {
    let server = Server::start();
    server.network("prod", "10.9.0.0/24");
    let file = hosts(&server, TWO);
    let begun = server.json(&["deploy", "-f", file.to_str().unwrap(), "--network", "prod", "--no-wait"]);
    assert_eq!((&begun["action"], &begun["total"]), (&"install".into(), &2.into()));
    assert_eq!(begun["hosts"][1]["bastion"], "edge");
    let id = begun["deploymentId"].as_str().unwrap();
    assert_eq!(server.json(&["deployment", "list", "prod"])["deployments"][0]["deploymentId"], id);
    let shown = server.run(&["deployment", "show", id]).ok().stdout;
    assert!(shown.contains("edge") && shown.contains("of 2 machines"), "{shown}");
    let cancelled = server.json(&["deployment", "cancel", id]);
    // The provisioner may have been faster.
    assert!(cancelled["cancelledAt"].is_string() || cancelled["state"] == "finished", "{cancelled}");
    assert_eq!(server.json(&["deployment", "forget", id])["deploymentId"], id);
    server.run(&["deployment", "transcript", id, "edge"]).ok();
    server.run(&["deployment", "transcript", id, "nobody"]).refused(3, &["nobody"]);
    server.run(&["deployment", "confirm", id, "edge", "SHA256:x"]).refused(2, &["fingerprint", "ssh-keygen"]);
    server.run(&["deployment", "show", "deployment-nobody"]).refused(3, &["deployment-nobody"]);
    let listed = server.run(&["deployment", "list"]).ok().stdout;
    assert!(listed.contains(id) && !listed.contains("running"), "{listed}");
}

#[test]
fn the_servers_own_provisioner_works_on_it_and_the_exit_code_tells_how_it_went() {
    let server = Server::start();
    server.network("prod", "10.9.0.0/24");
    let file = hosts(&server, "hosts:\n  - { name: here, address: localhost, user: u, key: id }\n");
    let failed = server.run(&["deploy", "-f", file.to_str().unwrap(), "--network", "prod"]);
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(failed.stdout.contains("address-refused") && failed.stdout.contains("1 failed"), "{failed:?}");
    let id = &server.json(&["deployment", "list"])["deployments"][0]["deploymentId"];
    let again = server.run(&["deployment", "show", "--follow", id.as_str().unwrap(), "--output", "json"]);
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.stdout.contains(r#""failure": "address-refused""#), "{again:?}");
}

#[test]
fn following_waits_for_a_service_that_is_away_when_it_begins() {
    let mut server = Server::start();
    server.network("prod", "10.9.0.0/24");
    let file = hosts(&server, "hosts:\n  - { name: here, address: localhost, user: u, key: id }\n");
    let begun = server.json(&["deploy", "-f", file.to_str().unwrap(), "--network", "prod", "--no-wait"]);
    let id = begun["deploymentId"].as_str().unwrap();
    server.stop();
    let mut following = server.command(&["deployment", "show", "--follow", id]);
    let mut following = following.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(following.stderr.take().unwrap()).lines().map(Result::unwrap);
    let first = told.next().expect("it says what it waits for");
    assert!(first.contains("cannot reach the service") && first.contains("trying again"), "{first}");
    server.come_back();
    let ended = following.wait_with_output().unwrap();
    let shown = String::from_utf8(ended.stdout).unwrap();
    assert!(shown.contains("finished, 0 of 1 machines done, 1 failed"), "{shown} {:?}", told.collect::<Vec<_>>());
    assert_eq!(ended.status.code(), Some(1));
    server.run(&["deployment", "show", "--follow", "deployment-nobody"]).refused(3, &["deployment-nobody"]);
}

#[test]
fn refusals_name_the_lines_of_the_file() {
    let server = Server::start();
    server.network("prod", "10.9.0.0/24");
    let deploy = |text: &str| {
        let file = hosts(&server, text);
        server.run(&["deploy", "-f", file.to_str().unwrap(), "--network", "prod"])
    };
    let twice = "defaults: { user: u, key: id }\nhosts:\n  - { name: a, address: x }\n  - { name: a, address: y }\n";
    deploy(twice).refused(2, &["lines 3 and 4"]);
    deploy("hosts:\n  - { name: a, adress: x }\n").refused(2, &["hosts.yaml", "adress", "line 2 column 16"]);
    let wrong = "defaults: { user: u }
hosts:
  - { name: a, address: 127.0.0.1, key: id }
  - { name: b, address: 192.0.2.1, key: id.pub }
  - { name: c, address: 192.0.2.1, key: id, bastion: d, overlay_address: 10.8.0.1 }
";
    let words = ["yaml:3: hosts[0].address", "yaml:4: hosts[1].private_key", "public key", "yaml:5: hosts[2].bastion"];
    deploy(wrong).refused(2, &words);
    deploy("hosts:\n  - { name: a, address: x, user: u, key: locked }\n")
        .refused(2, &["yaml:2: hosts[0].private_key", "needs a passphrase", "ssh-keygen -p"]);
    let missing = server.directory.path().join("none.yaml");
    server.run(&["deploy", "-f", missing.to_str().unwrap(), "--network", "prod"]).refused(64, &["none.yaml"]);
    let file = hosts(&server, TWO);
    server.run(&["deploy", "-f", file.to_str().unwrap(), "--network", "nowhere"]).refused(3, &["nowhere"]);
    let both = ["deploy", "-f", "x", "--network", "prod", "--upgrade", "--uninstall"];
    server.run(&both).refused(2, &["--upgrade", "--uninstall"]);
}

#[test]
fn keys_that_others_can_read_are_warned_of_and_viewers_may_not_deploy() {
    let server = Server::start();
    server.network("prod", "10.9.0.0/24");
    let file = hosts(&server, TWO);
    fs::set_permissions(server.directory.path().join("id"), fs::Permissions::from_mode(0o644)).unwrap();
    let arguments = ["deploy", "-f", file.to_str().unwrap(), "--network", "prod", "--no-wait"];
    let viewer = server.key_of("viewer");
    let denied = server.run_with_key(&viewer, &arguments);
    assert_eq!((denied.code, denied.stdout.as_str()), (5, ""), "{denied:?}");
    assert!(denied.stderr.contains("chmod 600"), "{denied:?}");
    assert!(server.run(&arguments).ok().stderr.contains("chmod 600"));
}

#[test]
fn host_keys_are_listed_and_forgotten() {
    let server = Server::start();
    assert_eq!(server.run(&["host-key", "list"]).ok().stdout, "no host keys\n");
    server.run(&["host-key", "forget", "192.0.2.10:22"]).refused(3, &["192.0.2.10:22"]);
    server.run(&["host-key", "forget", "192.0.2.10"]).refused(2, &["address:port"]);
}
