use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::*;

/// A directory with a key `id` and the file.
fn written(text: &str) -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    for name in ["id", "keys.pem"] {
        let key = directory.path().join(name);
        fs::write(&key, format!("text of {name}")).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let file = directory.path().join("hosts.yaml");
    fs::write(&file, text).unwrap();
    (directory, file)
}

fn refusal(text: &str) -> String {
    let (_directory, file) = written(text);
    HostsFile::read(&file).err().unwrap().to_string()
}

#[test]
fn machines_take_what_they_do_not_say_from_the_defaults() {
    let (directory, file) = written(
        "defaults: { user: debian, key: id, bastion: edge, labels: { env: prod, tier: web }, location: { provider: aws, region: r-1 } }
hosts:
  - { name: edge, address: 192.0.2.1, port: 2222, user: admin }
  - name: db
    address: 10.0.0.5
    key: keys.pem
    labels: { tier: db }
    overlay_address: 10.9.0.20
    location: { region: r-2 }
",
    );
    fs::set_permissions(directory.path().join("keys.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    let read = HostsFile::read(&file).ok().unwrap();
    let [edge, db] = &read.targets[..] else { panic!("two machines") };
    assert_eq!((edge.user.as_str(), edge.port, edge.bastion.as_str()), ("admin", 2222, ""), "not behind itself");
    assert_eq!((db.user.as_str(), db.port, db.bastion.as_str()), ("debian", 0, "edge"));
    assert_eq!((edge.private_key.as_str(), db.private_key.as_str()), ("text of id", "text of keys.pem"));
    assert_eq!((db.labels["env"].as_str(), db.labels["tier"].as_str()), ("prod", "db"));
    let location = db.location.clone().unwrap();
    assert_eq!((location.provider.as_str(), location.region.as_str()), ("aws", "r-2"));
    assert_eq!(read.warnings.len(), 1);
    assert!(read.warnings[0].contains("keys.pem") && read.warnings[0].contains("chmod 600"), "{:?}", read.warnings);
}

#[test]
fn unknown_keys_and_wrong_values_are_told_with_line_and_column() {
    let text = "hosts:\n  - name: a\n    adress: 192.0.2.1\n";
    let refused = refusal(text);
    assert!(refused.contains("adress") && refused.contains("`address`"), "{refused}");
    assert!(refused.contains("line 3 column 5"), "{refused}");
    let refused = refusal("hosts:\n  - name: a\n    address: 192.0.2.1\n    port: ssh\n");
    assert!(refused.contains("port") && refused.contains("line 4 column 11"), "{refused}");
    let refused = refusal("hosts:\n  - name: a\n    name: b\n    address: x\n");
    assert!(refused.contains("duplicate field `name`") && refused.contains("line"), "{refused}");
    assert!(refusal("host: []\n").contains("`hosts`"));
    assert!(refusal("hosts: [\n").contains("line"));
}

#[test]
fn a_name_that_is_given_twice_is_told_with_both_lines() {
    let refused = refusal(
        "hosts:\n  - name: a\n    address: 192.0.2.1\n  - name: b\n    address: x\n  - address: 192.0.2.2\n    name: a\n",
    );
    assert!(refused.contains("lines 2 and 7") && refused.contains("\"a\""), "{refused}");
}

#[test]
fn a_key_that_is_missing_or_no_file_is_told_with_its_line() {
    let refused = refusal("hosts:\n  - name: a\n    address: 192.0.2.1\n    user: u\n    key: nothing\n");
    assert!(refused.contains("hosts.yaml:5") && refused.contains("nothing"), "{refused}");
    let refused = refusal("defaults: { user: u, key: . }\nhosts:\n  - name: a\n    address: 192.0.2.1\n");
    assert!(refused.contains("hosts.yaml:3") && refused.contains("no key file"), "{refused}");
    assert!(refusal("hosts:\n  - name: a\n    address: x\n    user: u\n").contains("has no key"));
    assert!(refusal("hosts:\n  - name: a\n    address: x\n    key: id\n").contains("has no user"));
}

#[test]
fn a_tilde_is_home_and_a_relative_path_begins_at_the_file() {
    let keys = Keys { home: Some("/home/me".into()), ..Keys::beside(Path::new("/etc/hosts.yaml")) };
    assert_eq!(keys.path(Path::new("~/.ssh/id")), Path::new("/home/me/.ssh/id"));
    assert_eq!(keys.path(Path::new("keys/id")), Path::new("/etc/keys/id"));
    assert_eq!(keys.path(Path::new("/root/id")), Path::new("/root/id"));
}

#[test]
fn refusals_of_the_service_get_the_lines_of_the_file() {
    let (_directory, file) = written(
        "defaults: { user: u, key: id }\nhosts:\n  - name: a\n    address: 192.0.2.1\n  - name: b\n    address: 127.0.0.1\n    port: 70000\n",
    );
    let read = HostsFile::read(&file).ok().unwrap();
    let said = "hosts[1].address: is loopback; hosts[1].port: is 70000; hosts[1].private_key: is missing";
    let fields = ["hosts[1].address", "hosts[1].port", "hosts[1].private_key"].map(str::to_owned);
    let told = read.explain(Failure::usage(said), &fields).to_string();
    let lines: Vec<&str> = told.lines().map(|line| line.split_once("hosts.yaml:").unwrap().1).collect();
    assert_eq!(
        lines,
        ["6: hosts[1].address is loopback", "7: hosts[1].port is 70000", "5: hosts[1].private_key is missing"]
    );
}
