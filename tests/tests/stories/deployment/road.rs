//! Where all goes well, whatever happens to the control plane meanwhile; and where somebody else was first.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use cladnet_sandbox::Topology;
use cladnet_tests::{
    wait::eventually,
    world::{CONTROL, Deployed, HostsFile, SERVICE_PORT, Servers, SshKey, World, story},
};
use ipnet::Ipv4Net;
use serde_json::Value;

use super::{agents, nothing_there, with_ssh};

/// For failing, not a target.
const SOON: Duration = Duration::from_secs(60);

const ALL: [&str; 3] = ["aws-1", "aws-2", "gcp-1"];
const ALL_DONE: [(&str, &str); 3] = [("aws-1", "done"), ("aws-2", "done"), ("gcp-1", "done")];

#[test]
fn machines_get_their_agents_once_and_lose_them_again() {
    let key = SshKey::make().expect("a key");
    story(&clouds(&key), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        let file = machines(world, &key)?.write(&key)?;

        world.deploy(&file, "prod", &[])?.ended(&ALL_DONE)?;
        world.wait_mesh("prod", &ALL)?;
        inventory_is_known(world)?;

        let before = standing(world)?;
        let again = world.deploy(&file, "prod", &[])?;
        again.ended(&ALL_DONE)?;
        ensure!(standing(world)? == before, "a second run changed {before:?} to {:?}", standing(world)?);
        inventory_is_known(world)?;
        only_verified(world, &again)?;

        world.deploy(&file, "prod", &["--uninstall"])?.ended(&ALL_DONE)?;
        ALL.iter().try_for_each(|vm| nothing_there(world, vm))?;
        ensure!(world.addresses("prod")?.is_empty(), "there are still peers");
        world.deploy(&file, "prod", &["--uninstall"])?.ended(&ALL_DONE)
    });
}

#[test]
fn a_server_that_is_killed_in_the_middle_finishes_and_foreign_agents_stay() {
    let key = SshKey::make().expect("a key");
    story(&clouds(&key), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        let mut file = machines(world, &key)?;
        // It leaves and comes back as another host, for which the address would still be kept back.
        file.target("gcp-1")?.overlay_address = None;
        let file = file.write(&key)?;
        let id = world.begin_deployment(&file, "prod", &[])?;
        for state in ["uploading", "joining"] {
            at(world, &id, "aws-1", state)?;
            world.vm(CONTROL)?.kill_service("server", 9)?;
            eventually("the server to be back", SOON, || world.admin().run(["info"]).map(drop))?;
        }
        world.end_of_deployment(&id)?.ended(&ALL_DONE)?;
        world.wait_mesh("prod", &ALL)?;
        for vm in ALL {
            ensure!(agents(world, vm)?.len() == 1, "on {vm} there are the agents {:?}", agents(world, vm)?);
        }
        let hosts = world.admin().json(["host", "list"])?;
        ensure!(hosts["hosts"].as_array().map(Vec::len) == Some(3), "not one host for each machine: {hosts}");

        // An agent of another control plane is neither taken over nor taken away.
        world.deploy(&file, "prod", &["--uninstall"])?.ended(&ALL_DONE)?;
        belongs_to_another(world, "gcp-1")?;
        let theirs = agents(world, "gcp-1")?;
        let but_one = [("aws-1", "done"), ("aws-2", "done"), ("gcp-1", "foreign-agent")];
        for more in [&[][..], &["--uninstall"]] {
            world.deploy(&file, "prod", more)?.ended(&but_one)?;
            ensure!(agents(world, "gcp-1")? == theirs, "the other's agent was touched");
        }
        ensure!(world.agent("gcp-1", ["status"])?["networks"][0]["network"] == "theirs", "it has left");
        Ok(())
    });
}

/// Two VMs of a VPC, the second reached through the first only; and one elsewhere that no metadata service knows.
pub(super) fn clouds(key: &SshKey) -> Topology {
    with_ssh(
        key,
        "vpcs:
  - name: aws
    provider: aws
    region: ap-northeast-2
    account: \"111122223333\"
    cidrs: [10.0.0.0/16]
    subnets:
      - { name: aws-a, cidr: 10.0.1.0/24, zone: ap-northeast-2a }
      - { name: aws-c, cidr: 10.0.3.0/24, zone: ap-northeast-2c }
  - name: gcp
    provider: gcp
    region: asia-northeast3
    account: stories
    cidrs: [10.0.0.0/16]
    subnets: [{ name: gcp, cidr: 10.0.1.0/24, zone: asia-northeast3-a }]
vms:
  - { name: aws-1, vpc: aws, subnet: aws-a }
  - { name: aws-2, vpc: aws, subnet: aws-c, security_group: { tcp: [], udp: [8055] } }
  - { name: gcp-1, vpc: gcp, subnet: gcp, metadata: none }
",
    )
}

const INVENTORY: [(&str, &str, &str); 4] = [
    ("provider", "providerName", "gcp"),
    ("region", "regionId", "asia-northeast3"),
    ("zone", "availabilityZoneId", "asia-northeast3-a"),
    ("vpc", "virtualNetworkId", "stories-vpc"),
];

fn machines(world: &World, key: &SshKey) -> Result<HostsFile> {
    let mut gcp = world.target("gcp-1")?;
    gcp.labels = [("tier", "db"), ("zone", "b")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    gcp.overlay_address = Some(overlay_address(world)?);
    gcp.location = INVENTORY.iter().map(|(word, _, value)| ((*word).to_owned(), (*value).to_owned())).collect();
    Ok(HostsFile::new(key, vec![world.target("aws-1")?, world.target_behind("aws-1", "aws-2")?, gcp]))
}

/// What the file says of gcp-1 is what callers of both APIs read.
fn inventory_is_known(world: &World) -> Result<()> {
    let listed = world.admin().json(["peer", "list", "prod"])?;
    let peer = named(&listed, "gcp-1")?;
    ensure!(peer["ipv4Address"] == overlay_address(world)?, "another address: {peer}");
    ensure!(peer["labels"]["tier"] == "db" && peer["labels"]["zone"] == "b", "other labels: {peer}");
    for (word, _, value) in INVENTORY {
        ensure!(peer["location"][word]["value"] == value, "{word} is not {value}: {peer}");
    }

    let header = format!("authorization: Bearer {}", world.admin().key()?);
    let url = format!("{}/v1/cladnet/prod/peer", world.admin_url(0)?);
    let ca = world.admin().ca_file();
    let mut curl = Command::new("curl");
    let output = curl.args(["--silent", "--show-error", "--fail", "--cacert", &ca, "-H", &header, &url]).output()?;
    ensure!(output.status.success(), "GET {url}: {}", String::from_utf8_lossy(&output.stderr));
    let listed: Value = serde_json::from_slice(&output.stdout)?;
    let peer = named(&listed, "gcp-1")?;
    ensure!(peer["ip"] == overlay_address(world)?, "another address: {peer}");
    for (_, field, value) in INVENTORY {
        ensure!(peer["details"][field] == value, "{field} is not {value}: {peer}");
    }
    Ok(())
}

fn named<'a>(listed: &'a Value, name: &str) -> Result<&'a Value> {
    let mut peers = listed["peers"].as_array().into_iter().flatten();
    peers.find(|peer| peer["hostName"] == name).with_context(|| format!("{name} is not in {listed}"))
}

/// The address that the file asks for: the last one that a host can have.
fn overlay_address(world: &World) -> Result<String> {
    let network = world.admin().json(["network", "show", "prod"])?;
    let space: Ipv4Net = network["ipv4AddressSpace"].as_str().context("no address space")?.parse()?;
    Ok(space.hosts().last().context("no addresses")?.to_string())
}

/// Nothing was sent to any machine, installed or joined.
fn only_verified(world: &World, deployed: &Deployed) -> Result<()> {
    let id = deployed.shown["deploymentId"].as_str().unwrap_or_default();
    for vm in ALL {
        let told = world.admin().run(["deployment", "transcript", id, vm])?;
        let did = |word: &str| told.lines().any(|line| line.contains(word));
        ensure!(
            did("needs no upload; the machine is in the network already") && did("all is installed already"),
            "{told}"
        );
        ensure!(did("up with") && did("answers over the overlay"), "{vm} was not verified: {told}");
        ensure!(!["uploaded", "joined", "restarted", "labels", "asked for"].into_iter().any(did), "{told}");
    }
    Ok(())
}

/// Addresses, hosts and the agents' processes.
fn standing(world: &World) -> Result<Vec<String>> {
    let mut standing = vec![format!("{:?}", world.addresses("prod")?)];
    for vm in ALL {
        let host = &world.agent(vm, ["status"])?["host"];
        standing.push(format!("{vm}: {} {:?}", host["id"], agents(world, vm)?));
    }
    Ok(standing)
}

/// Waits until a machine is at a state, or past it.
fn at(world: &World, id: &str, vm: &str, state: &str) -> Result<()> {
    const ORDER: [&str; 8] =
        ["waiting", "connecting", "inspecting", "uploading", "installing", "joining", "verifying", "done"];
    let rank = |state: &str| ORDER.iter().position(|known| *known == state);
    eventually(&format!("{vm} to be {state}"), SOON, || {
        let now = world.deployment_state(id, vm)?;
        ensure!(now != "failed", "it failed");
        ensure!(rank(&now) >= rank(state), "it is {now}");
        Ok(())
    })
}

/// Lets a VM join a network of the installation on the machine `other`.
pub(super) fn belongs_to_another(world: &World, vm: &str) -> Result<()> {
    world.install("other", "cladnet")?;
    let other = world.vm("other")?;
    let server =
        ["/usr/local/bin/cladnet", "server", "--data-dir", "/var/lib/cladnet", "--admin-key-file", "/root/key"];
    other.add_service("server", server)?;
    let admin = |arguments: &str| {
        let own = "cladnet --service https://localhost --key-file /root/key --ca-file /var/lib/cladnet/ca.pem";
        other.run(own.split(' ').chain(arguments.split(' ')))
    };
    eventually("the other installation", SOON, || Ok(admin("network create theirs --hosts 10")?))?;
    let (token, url) = (admin("token create theirs")?, format!("https://{}:{SERVICE_PORT}", other.public_address()?));
    world.start_agent(vm)?;
    world.vm(vm)?.run(["cladnet-agent", "join", &url, token.trim()])?;
    Ok(())
}
