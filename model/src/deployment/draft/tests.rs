use super::*;

const KEY: &str = include_str!("../private_key/openssh");

fn machine<'a>(name: &'a str, address: &'a str) -> MachineDraft<'a> {
    MachineDraft { name, address, user: "debian", private_key: PrivateKeyText(KEY), ..MachineDraft::default() }
}

fn check_among(
    hosts: Vec<MachineDraft<'_>>,
    taken: &BTreeMap<Ipv4Addr, Holder>,
    action: &str,
) -> Result<DeploymentSettings, InvalidInput> {
    let policy = AddressPolicy::default();
    let around = Surroundings { space: "10.9.0.0/24".parse().unwrap(), taken, policy: &policy };
    DeploymentDraft { action, hosts, ..DeploymentDraft::default() }.check(&around)
}

fn check(hosts: Vec<MachineDraft<'_>>) -> Result<DeploymentSettings, InvalidInput> {
    check_among(hosts, &BTreeMap::new(), "")
}

/// The only fault of these machines.
fn fault(hosts: Vec<MachineDraft<'_>>) -> (String, String) {
    let mut faults = check(hosts).unwrap_err().0;
    assert_eq!(faults.len(), 1, "{faults:?}");
    let fault = faults.remove(0);
    (fault.field, fault.problem)
}

#[test]
fn what_is_absent_takes_its_default() {
    let bastion = MachineDraft { location: vec![("provider", "AWS"), ("zone", "")], ..machine("b", "Host.Example.") };
    let inner = MachineDraft { bastion: "b", overlay_address: "10.9.0.20", ..machine("inner", "10.0.0.5") };
    let settings = check(vec![inner, bastion]).unwrap();
    assert_eq!((settings.action, settings.concurrency), (DeploymentAction::Install, 10));
    let [inner, bastion] = &settings.hosts[..] else { panic!("{settings:?}") };
    assert_eq!((inner.ssh.port, inner.bastion.as_ref().unwrap().as_str()), (22, "b"));
    assert_eq!(inner.overlay_address, Some(Ipv4Addr::new(10, 9, 0, 20)));
    assert_eq!(bastion.ssh.address, "host.example");
    assert_eq!(bastion.location.provider.as_ref().unwrap().value, "aws");
    assert_eq!(bastion.location.zone, None);
}

#[test]
fn all_faults_of_a_machine_are_told_at_once() {
    let wrong = MachineDraft {
        name: "VM",
        address: "192.0.2.10:22",
        port: 70_000,
        user: "-oProxyCommand=x",
        private_key: PrivateKeyText("secret stuff"),
        host_key: "MD5:00",
        bastion: "",
        labels: [("a b".to_owned(), String::new())].into(),
        overlay_address: "10.9.0.255",
        location: vec![("vpc", "a\u{1b}b")],
    };
    let error = check(vec![machine("a", "192.0.2.1"), wrong.clone()]).unwrap_err();
    let fields: Vec<&str> = error.0.iter().map(|fault| fault.field.strip_prefix("hosts[1].").unwrap()).collect();
    let all =
        ["name", "address", "port", "user", "private_key", "host_key", "labels.a b", "overlay_address", "location.vpc"];
    assert_eq!(fields, all);
    assert!(!error.to_string().contains("secret stuff") && !format!("{wrong:?}").contains("secret stuff"));
}

#[test]
fn a_name_and_a_place_are_given_once_in_whatever_spelling() {
    let (field, problem) = fault(vec![machine("a", "192.0.2.1"), machine("b", "192.0.2.2"), machine("a", "192.0.2.3")]);
    assert_eq!(field, "hosts[2].name");
    assert!(problem.contains("hosts[0]"), "{problem}");
    for (one, other) in [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1", "::ffff:192.0.2.1"),
        ("2001:db8::1", "2001:0DB8:0:0::1"),
        ("vm.example.org", "VM.Example.Org."),
    ] {
        let (field, problem) = fault(vec![machine("a", one), machine("b", other)]);
        assert_eq!(field, "hosts[1].address", "{one} {other}");
        assert!(problem.contains("hosts[0]"), "{problem}");
    }
    let ports = vec![machine("a", "192.0.2.1"), MachineDraft { port: 2222, ..machine("b", "192.0.2.1") }];
    assert!(check(ports).is_ok(), "another port is another machine");
}

#[test]
fn clouds_that_overlap_have_one_address_behind_two_bastions() {
    let behind = |name, bastion| MachineDraft { bastion, ..machine(name, "10.0.0.5") };
    let bastions = || vec![machine("east", "192.0.2.1"), machine("west", "192.0.2.2")];
    let apart = [bastions(), vec![behind("a", "east"), behind("b", "west"), machine("c", "10.0.0.5")]].concat();
    assert_eq!(check(apart).unwrap().hosts.len(), 5);
    let (field, problem) = fault([bastions(), vec![behind("a", "east"), behind("b", "east")]].concat());
    assert_eq!(field, "hosts[3].address");
    assert!(problem.contains("hosts[2]"), "{problem}");
}

#[test]
fn addresses_that_no_machine_has_are_refused() {
    for address in [
        "",
        "127.0.0.1",
        "169.254.169.254",
        "::1",
        "fe80::1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "a b",
        "-a",
        "a..b",
        "user@vm",
        "a_b",
        "vm.0x1",
        "999.1.1.1",
        "http://vm",
    ] {
        assert_eq!(fault(vec![machine("a", address)]).0, "hosts[0].address", "{address}");
    }
    assert!(check(vec![machine("a", "3com.example"), machine("b", "xn--bcher-kva.example")]).is_ok());
}

#[test]
fn a_bastion_is_another_machine_of_the_list_that_is_reached_directly() {
    let behind = |name, address, bastion| MachineDraft { bastion, ..machine(name, address) };
    let cases = [
        (vec![behind("a", "10.0.0.1", "nobody")], "no machine of this list"),
        (vec![behind("a", "10.0.0.1", "a")], "itself"),
        (vec![machine("c", "192.0.2.1"), behind("b", "10.0.0.2", "c"), behind("a", "10.0.0.1", "b")], "directly"),
    ];
    for (hosts, right) in cases {
        let (field, problem) = fault(hosts);
        assert!(field.ends_with(".bastion") && problem.contains(right), "{field} {problem}");
    }
    let circle = check(vec![behind("a", "10.0.0.1", "b"), behind("b", "10.0.0.2", "a")]).unwrap_err();
    assert_eq!(circle.0.len(), 2, "{circle}");
    let (field, problem) = fault(vec![machine("b", "192.0.2.1"), behind("a", "inner.example", "b")]);
    assert!(field == "hosts[1].address" && problem.contains("IP address"), "{field} {problem}");
}

#[test]
fn an_overlay_address_is_free_and_inside_the_network() {
    let with = |name, address, overlay_address| MachineDraft { overlay_address, ..machine(name, address) };
    for (overlay, right) in [("10.8.0.1", "10.9.0.0/24"), ("ten", "IPv4"), ("10.9.0.0", "10.9.0.1")] {
        let (field, problem) = fault(vec![with("a", "192.0.2.1", overlay)]);
        assert!(field == "hosts[0].overlay_address" && problem.contains(right), "{field} {problem}");
    }
    let (field, _) = fault(vec![with("a", "192.0.2.1", "10.9.0.7"), with("b", "192.0.2.2", "10.9.0.7")]);
    assert_eq!(field, "hosts[1].overlay_address");

    let holder = Holder { name: "db".to_owned(), addresses: vec!["192.0.2.9".parse().unwrap()], until: None };
    let left = Holder { name: "host-x".to_owned(), until: Some(Timestamp::UNIX_EPOCH), ..Holder::default() };
    let taken = BTreeMap::from([(Ipv4Addr::new(10, 9, 0, 7), holder), (Ipv4Addr::new(10, 9, 0, 8), left)]);
    let ask = |name, address, action| check_among(vec![with(name, address, "10.9.0.7")], &taken, action);
    assert!(ask("a", "192.0.2.1", "").unwrap_err().to_string().contains("db"));
    assert!(ask("db", "192.0.2.1", "").is_ok(), "it has the machine's name");
    assert!(ask("a", "::ffff:192.0.2.9", "").is_ok(), "it has the machine's address");
    assert!(ask("a", "192.0.2.1", "uninstall").is_ok(), "nothing is asked for");
    let refused = check_among(vec![with("a", "192.0.2.1", "10.9.0.8")], &taken, "").unwrap_err().to_string();
    assert!(refused.contains("kept back until 1970-01-01T00:00:00Z because host-x has left"), "{refused}");
}

#[test]
fn the_list_has_one_to_a_thousand_machines_and_words_are_checked() {
    assert_eq!(fault(vec![]).0, "hosts");
    assert!(fault(vec![MachineDraft::default(); 1001]).1.contains("1000"));
    let taken = BTreeMap::new();
    assert_eq!(check_among(vec![machine("a", "192.0.2.1")], &taken, "remove").unwrap_err().field(), "action");
    let policy = AddressPolicy::default();
    let around = Surroundings { space: "10.9.0.0/24".parse().unwrap(), taken: &taken, policy: &policy };
    let hosts = vec![machine("a", "192.0.2.1")];
    let draft = DeploymentDraft { concurrency: 101, hosts, ..DeploymentDraft::default() };
    assert_eq!(draft.check(&around).unwrap_err().field(), "concurrency");
}

#[test]
fn a_list_that_is_wrong_as_a_whole_is_told_by_its_first_faults() {
    let error = check(vec![MachineDraft::default(); 1000]).unwrap_err();
    assert_eq!(error.0.len(), MAX_FAULTS + 1);
    assert!(error.0.last().unwrap().to_string().contains("more faults"), "{error}");
}
