//! The demo's story: three clouds, agents brought by SSH, one network, every pair pings; a VM sleeps and wakes elsewhere; nothing stays behind.

mod bill;
mod capture;
mod footprint;
mod page;
mod prices;
mod regions;
mod rest;

use std::{
    process::Child,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use cladnet_sandbox::{BlockedPath, Direction, PublicAddress, Topology};
use ipnet::Ipv4Net;

use crate::{
    wait::eventually,
    world::{CONTROL, HostsFile, Servers, SshKey, World},
};
use footprint::Footprint;

const NETWORK: &str = "demo";

/// The VM that is put to sleep: the one in another continent.
const SLEEPER: &str = "gcp-1";

/// The VM that nobody outside its VPC reaches by SSH, and the one it is reached through.
const INNER: &str = "aws-2";
const BASTION: &str = "aws-1";

/// Two VMs in two subnets of one zone of one VPC.
const NEIGHBOURS: [&str; 2] = ["aws-1", "aws-2"];

/// How long traffic may be away when its path dies: what is promised, and the load of a machine that runs all of it at once.
const FAILOVER: Duration = Duration::from_secs(5);

/// How long a path may take to prove itself again; for failing, not a target.
const PROVED: Duration = Duration::from_secs(60);

/// How long the first agents may take to be there; for failing, not a target.
const FIRST_AGENT: Duration = Duration::from_secs(120);

/// How long traffic may be away after the sleeper woke; what is printed is the measured time.
const RETURN: Duration = Duration::from_secs(30);

/// Raises three clouds on this machine, brings agents to their VMs by SSH, and proves the mesh.
#[derive(Debug, clap::Parser)]
#[command(name = "scripts/demo")]
pub struct Options {
    /// Verify everything, then end: exit code 0, or what failed
    #[arg(long)]
    check: bool,
    /// Run controller and service as replicas of their own on a real etcd, and kill the leading controller on the way
    #[arg(long)]
    etcd: bool,
    /// Leave the clouds running at the end, and print how to enter a VM and how to destroy them
    #[arg(long)]
    keep: bool,
    /// Another story: so many VMs (20 at most), one per region, and what their paths take in time and money
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=20), conflicts_with_all = ["etcd", "keep"])]
    regions: Option<u8>,
}

/// Tells the story; leaves nothing behind unless asked to.
pub fn run(options: &Options) -> Result<()> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    ctrlc::set_handler(move || flag.store(true, Ordering::SeqCst)).context("could not handle Ctrl-C")?;
    let before = Footprint::take()?;
    let told = match options.regions {
        Some(count) => regions::tell(count.into(), options.check, &interrupted),
        None => tell(options, &interrupted),
    };
    if interrupted.load(Ordering::SeqCst) {
        say("interrupted: everything is taken back");
    }
    let id = told?;
    if options.check {
        before.compare(&Footprint::take()?, &id).context("something stayed behind")?;
        match options.regions {
            Some(_) => say("checked: every pair pings, as quick as was measured; nothing stayed behind"),
            None => say("checked: every pair pings, the WAN saw no plaintext, nothing stayed behind"),
        }
    }
    Ok(())
}

/// Returns the id that the sandbox had.
fn tell(options: &Options, interrupted: &AtomicBool) -> Result<String> {
    let servers = if options.etcd { Servers::OnEtcd { controllers: 2, services: 2 } } else { Servers::One };
    say("raising AWS ap-northeast-2, GCP us-central1 and Azure koreacentral on this machine");
    let mut key = SshKey::make()?;
    let topology = Topology { ssh: Some(key.server()?), ..Topology::demo() };
    let mut world = World::raise(&topology, servers)?;
    let story = Story { world: &world, topology: &topology, key: &key, options };
    let outcome = story.all(interrupted);
    if outcome.is_err() && !interrupted.load(Ordering::SeqCst) {
        println!("logs: {}", world.save_logs()?.display());
    }
    outcome?;
    if options.keep {
        world.keep();
        key.keep();
        say("kept: the VMs are named as above; the control plane is the machine `control`");
    } else if !options.check {
        say("running until Ctrl-C");
        while !interrupted.load(Ordering::SeqCst) {
            thread::park_timeout(Duration::from_millis(200));
        }
    }
    Ok(world.sandbox().id().to_owned())
}

struct Story<'a> {
    world: &'a World,
    topology: &'a Topology,
    /// What every VM lets in by SSH.
    key: &'a SshKey,
    options: &'a Options,
}

impl Story<'_> {
    fn all(&self, interrupted: &AtomicBool) -> Result<()> {
        let steps: [fn(&Self) -> Result<()>; 10] = [
            Self::create_network,
            Self::deploy_everywhere,
            Self::show_mesh,
            Self::show_prices,
            Self::leave_a_path_and_return,
            Self::show_bill,
            Self::prove_secrecy,
            Self::sleep_and_wake,
            Self::show_etcd,
            Self::tell_how,
        ];
        for step in steps {
            step(self)?;
            ensure!(!interrupted.load(Ordering::SeqCst), "interrupted");
        }
        Ok(())
    }

    fn create_network(&self) -> Result<()> {
        say("recommending an address space that overlaps no VPC, and creating the network in it");
        let avoid: Vec<Ipv4Net> = self.topology.vpcs.iter().flat_map(|vpc| vpc.cidrs.clone()).collect();
        let avoid_text = avoid.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        print!("{}", self.world.admin().run(["network", "recommend", "--hosts", "50", "--avoid", &avoid_text])?);
        let spaces = self.world.admin().json(["network", "recommend", "--hosts", "50", "--avoid", &avoid_text])?;
        let best = spaces["addressSpaces"][0]["cidr"].as_str().context("nothing was recommended")?.to_owned();
        let space: Ipv4Net = best.parse()?;
        if let Some(taken) = avoid.iter().find(|taken| taken.contains(&space) || space.contains(*taken)) {
            bail!("the recommended {space} overlaps {taken}");
        }
        print!("{}", self.world.admin().run(["network", "create", NETWORK, "--address-space", &best])?);
        Ok(())
    }

    fn deploy_everywhere(&self) -> Result<()> {
        let names = self.world.vm_names()?;
        let target = |vm: &String| match vm.as_str() {
            INNER => self.world.target_behind(BASTION, INNER),
            vm => self.world.target(vm),
        };
        let machines = HostsFile::new(self.key, names.iter().map(target).collect::<Result<_>>()?);
        let file = machines.write(self.key)?;
        say("putting the agent on each VM by SSH, all at once: cladnet deploy");
        println!("{INNER} is reached through {BASTION} only; the machines and their host keys are in {file}");
        let begin = Instant::now();
        let deploying = self.world.admin().start(["deploy", "-f", &file, "--network", NETWORK])?;
        self.await_agents(deploying)?;
        println!("{} VMs in {:.1} s", names.len(), begin.elapsed().as_secs_f64());
        Ok(())
    }

    fn await_agents(&self, mut deploying: Child) -> Result<()> {
        let killed = if self.options.etcd { self.kill_leader_on_the_way() } else { Ok(()) };
        let status = deploying.wait().context("could not wait for cladnet deploy")?;
        ensure!(status.success(), "cladnet deploy: {status}");
        killed
    }

    fn kill_leader_on_the_way(&self) -> Result<()> {
        eventually("a VM to join", FIRST_AGENT, || {
            let begun = self.world.admin().json(["deployment", "list"])?;
            let id = begun["deployments"][0]["deploymentId"].as_str().context("no deployment")?.to_owned();
            let state = self.world.deployment_state(&id, BASTION)?;
            ensure!(["joining", "verifying", "done"].contains(&state.as_str()), "{BASTION} is {state}");
            Ok(())
        })?;
        self.kill_leader()
    }

    fn kill_leader(&self) -> Result<()> {
        let control = self.world.vm(CONTROL)?;
        let leader = ["controller-0", "controller-1"]
            .into_iter()
            .find(|name| control.service_log(name).is_ok_and(|log| log.contains("elected")))
            .context("no controller has been elected")?;
        control.kill_service(leader, 9)?;
        println!("killed the leading {leader}");
        Ok(())
    }

    fn show_mesh(&self) -> Result<()> {
        say("waiting until every pair pings");
        let names = self.world.vm_names()?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.world.wait_mesh(NETWORK, &names)?;
        say("peers");
        print!("{}", self.world.admin().run(["peer", "list", NETWORK])?);
        say("the path of every pair");
        print!("{}", self.world.admin().run(["path", "list", NETWORK, "--measure"])?);
        say("ping matrix");
        print!("{}", self.world.admin().run(["test", "connectivity", NETWORK, "--count", "3"])?);
        // Where the public path was proved first, the private one follows.
        eventually("the paths that cost least", PROVED, || self.check_paths(&names))?;
        self.check_matrix(names.len())
    }

    /// Private inside a zone of AWS's VPC, whatever the subnet; public between clouds, and between the VNets of Azure, whose peering
    /// costs more. Between zones of AWS both cost the same, and the quicker one is used.
    fn check_paths(&self, names: &[&str]) -> Result<()> {
        let paths = self.world.admin().json(["path", "list", NETWORK])?;
        let paths = paths["paths"].as_array().context("no paths")?;
        ensure!(paths.len() == names.len() * (names.len() - 1), "{} paths for {} peers", paths.len(), names.len());
        let name_of = self.host_names()?;
        for path in paths {
            let end = |field: &str| {
                let id = path[field].as_str().unwrap_or_default();
                name_of.iter().find(|(host, _)| host == id).map_or(id.to_owned(), |(_, name)| name.clone())
            };
            let (source, destination) = (end("source"), end("destination"));
            let inside = source.starts_with("aws") && destination.starts_with("aws");
            let one_zone = NEIGHBOURS.contains(&source.as_str()) && NEIGHBOURS.contains(&destination.as_str());
            let scope = path["scope"].as_str().unwrap_or_default();
            let right = (scope == "private" && inside) || (scope == "public" && !one_zone);
            ensure!(right, "the path from {source} to {destination} is {scope:?}");
        }
        Ok(())
    }

    fn host_names(&self) -> Result<Vec<(String, String)>> {
        let peers = self.world.admin().json(["peer", "list", NETWORK])?;
        let peers = peers["peers"].as_array().cloned().unwrap_or_default();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        Ok(peers.iter().map(|peer| (text(&peer["hostId"]), text(&peer["hostName"]))).collect())
    }

    fn check_matrix(&self, peers: usize) -> Result<()> {
        let test = self.world.admin().json(["test", "connectivity", NETWORK, "--count", "3"])?;
        let results = test["results"].as_array().context("no results")?;
        ensure!(results.len() == peers * (peers - 1), "{} results for {peers} peers", results.len());
        match results.iter().find(|pair| pair["received"].as_u64() == Some(0) || pair["received"].is_null()) {
            Some(silent) => bail!("no reply from {} to {}", silent["sourceName"], silent["destinationName"]),
            None => Ok(()),
        }
    }

    fn show_prices(&self) -> Result<()> {
        let names = self.world.vm_names()?;
        prices::show(self.world, &names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Cuts the private path between two VMs of one VPC while they talk, and mends it.
    fn leave_a_path_and_return(&self) -> Result<()> {
        let [here, there] = NEIGHBOURS;
        say(&format!("blocking the private path between {here} and {there} while they talk, and opening it again"));
        let (sandbox, overlay) = (self.world.sandbox(), self.world.address(NETWORK, there)?);
        let moved = |wanted: &str| {
            self.world.sends_by(NETWORK, here, there, wanted)?;
            self.world.sends_by(NETWORK, there, here, wanted)
        };
        let block = || Ok(sandbox.block(here, there, BlockedPath::Private, Direction::BothWays)?);
        let away = self.world.longest_pause(here, overlay, RETURN, block, || moved("public"))?;
        println!("blocked: the ping paused for {:.2} s, and goes by public addresses", away.as_secs_f64());
        ensure!(!self.options.check || away < FAILOVER, "traffic was away for {away:?}, not {FAILOVER:?}");

        let begin = Instant::now();
        let unblock = || Ok(sandbox.unblock(here, there, BlockedPath::Private, Direction::BothWays)?);
        let pause = self.world.longest_pause(here, overlay, PROVED, unblock, || moved("private"))?;
        println!(
            "open again: after {:.1} s the private path had proved itself and is used; the ping paused for {:.2} s",
            begin.elapsed().as_secs_f64(),
            pause.as_secs_f64()
        );
        Ok(())
    }

    fn show_bill(&self) -> Result<()> {
        bill::show(self.world, NEIGHBOURS)
    }

    fn prove_secrecy(&self) -> Result<()> {
        say("capturing the WAN while a plaintext crosses the overlay");
        let to = self.world.address(NETWORK, SLEEPER)?;
        let found = capture::planted_plaintexts(self.world, "aws-1", to)?;
        println!(
            "sent in clear: seen {} times; sent over the overlay: seen {} times",
            found.in_clear, found.in_overlay
        );
        ensure!(found.in_clear > 0, "the capture missed what was sent in clear: it proves nothing");
        ensure!(found.in_overlay == 0, "a plaintext of the overlay is on the WAN");
        Ok(())
    }

    fn sleep_and_wake(&self) -> Result<()> {
        say("suspending the GCP VM, and resuming it with another public address");
        let sleeper = self.world.vm(SLEEPER)?;
        let overlay = self.world.address(NETWORK, SLEEPER)?;
        let before = sleeper.public_address()?;
        sleeper.suspend()?;
        let after = sleeper.resume(PublicAddress::Change)?.context("the VM has no public address")?;
        let pause = self.world.first_reply("aws-1", overlay, RETURN)?;
        println!("{SLEEPER} was {before} and is {after}; the ping from aws-1 paused for {:.2} s", pause.as_secs_f64());
        ensure!(before != after, "the public address did not change");
        Ok(())
    }

    fn show_etcd(&self) -> Result<()> {
        if !self.options.etcd {
            return Ok(());
        }
        say("what etcd holds: the network with its rules, and the peers");
        for prefix in ["/cladnet/v1/network/", "/cladnet/v1/peer/"] {
            let command = ["/usr/bin/env", "ETCDCTL_API=3", "etcdctl", "get", "--prefix", prefix];
            let held = self.world.vm(CONTROL)?.run(command)?;
            ensure!(held.contains(prefix), "etcd holds nothing under {prefix}");
            print!("{held}");
        }
        Ok(())
    }

    fn tell_how(&self) -> Result<()> {
        say("the same steps as REST calls");
        rest::show(self.world, self.options.check)?;
        say("the admin's page");
        let (url, admin) = (self.world.admin_url(0)?, self.world.admin());
        println!(
            "{url}/   sign in with the API key in {}; its certificate is of {}",
            admin.key_file(),
            admin.ca_file()
        );
        println!("{url}/docs/   the REST API; the same key, with Authorize");
        println!(
            "  or: cladnet --service {url} --key-file {} --ca-file {} peer list {NETWORK}",
            admin.key_file(),
            admin.ca_file()
        );
        if self.options.check { page::check(self.world) } else { Ok(()) }
    }
}

fn say(text: &str) {
    println!("\n== {text}");
}
