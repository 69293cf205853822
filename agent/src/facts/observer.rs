//! Keeps the facts fresh: the kernel says when addresses and routes change, the clocks when the machine stood still,
//! STUN servers how we are seen, the metadata service where we are. Each change is published once; a change of address
//! is announced to every peer at once.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use cladnet_model::HostFacts;
use cladnet_pki::channel::ServiceUrl;
use tokio::{
    net::lookup_host,
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tracing::{debug, info, warn};

use super::{
    Facts, Observed,
    endpoints::{Known, endpoints},
    location_file, machine,
    metadata::{self, Answer, Places},
    pause::{self, Pulse},
    survey::Survey,
};
use crate::{
    config::Config,
    device::Device,
    failure::chain,
    netlink::{Monitor, Netlink, NetlinkError},
    state::StateDir,
};

/// Everything is read anew this often, in case a message of the kernel was lost or the operator's file changed.
const REFRESH: Duration = Duration::from_secs(30);
/// The service takes no more.
const MAX_ROUTES: usize = 1_024;
/// Between two STUN rounds, from … to …: a public address can change without any sign on this machine, and traffic is to
/// be back within three seconds of it, a round trip included. It also keeps the NAT's mapping open.
const STUN_INTERVAL: (Duration, Duration) = (Duration::from_millis(1500), Duration::from_millis(2500));
/// After a change the first rounds come at once: one datagram may be lost.
const STUN_BURST: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(150), Duration::from_millis(400), Duration::from_secs(1)];
/// Service names are resolved anew this often.
const RESOLVE: Duration = Duration::from_secs(60);
/// How many servers are asked, at most.
const MAX_SERVERS: usize = 4;
/// Between attempts at the metadata service while nobody answers; the last one stays.
const METADATA_RETRY: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(600)];

/// Counts the moments at which this host may have moved; whoever holds a connection checks it then.
pub(crate) type Trigger = u64;

/// Reads, listens and asks.
pub(crate) struct Observer {
    config: Arc<Config>,
    device: Arc<Device>,
    netlink: Netlink,
    state: StateDir,
    services: watch::Receiver<Vec<ServiceUrl>>,
    facts: watch::Sender<Arc<Facts>>,
    moved: watch::Sender<Trigger>,
    survey: Survey,
    current: Facts,
    metadata_failures: usize,
    /// Addresses that we were seen at until the last change.
    left: Vec<IpAddr>,
    /// Rounds since the last change.
    round: usize,
}

/// What the tasks that wait for others bring back.
enum News {
    Metadata(Answer),
    Servers(Vec<SocketAddr>),
}

impl Observer {
    /// Takes a first look: what the kernel knows, and what the metadata service said before the last restart.
    pub(crate) async fn start(
        config: Arc<Config>,
        device: Arc<Device>,
        netlink: Netlink,
        state: StateDir,
        services: watch::Receiver<Vec<ServiceUrl>>,
    ) -> (Self, watch::Receiver<Arc<Facts>>, watch::Receiver<Trigger>) {
        let port = device.port().unwrap_or(config.listen_port);
        let mut current = Facts { port, ..Facts::default() };
        match state.metadata(&machine::machine_id()) {
            Ok(Some(instance)) => current.metadata = Answer::Found(Box::new(instance)),
            Ok(None) => {}
            Err(error) => warn!(error = chain(&error), "what metadata said before cannot be used"),
        }
        let (facts, facts_seen) = watch::channel(Arc::default());
        let (moved, moved_seen) = watch::channel(0);
        let mut observer = Self {
            config,
            device,
            netlink,
            state,
            services,
            facts,
            moved,
            survey: Survey::default(),
            current,
            metadata_failures: 0,
            left: Vec::new(),
            round: 0,
        };
        observer.look().await;
        observer.publish();
        (observer, facts_seen, moved_seen)
    }

    /// Runs until the task is dropped.
    pub(crate) async fn run(mut self) -> Result<(), NetlinkError> {
        let mut monitor = Monitor::open()?;
        let mut replies = self.device.stun_replies();
        let (sender, mut news) = mpsc::channel(8);
        let mut pulse = Pulse::start();
        let mut tick = interval(pause::TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut refresh = interval(REFRESH);
        let mut resolve = interval(RESOLVE);
        let mut stun_at = Instant::now();
        let mut metadata_at = Some(Instant::now());
        loop {
            tokio::select! {
                alive = monitor.settled() => {
                    if !alive {
                        warn!("the kernel ended the stream of address changes; opening it again");
                        monitor = Monitor::open()?;
                    }
                    if self.look_and_publish().await {
                        info!(addresses = ?self.local_addresses(), "an address of this host changed");
                        self.has_moved(&mut stun_at, &mut metadata_at);
                    }
                }
                _ = tick.tick() => if pulse.paused() {
                    info!("this machine stood still; looking at everything again");
                    self.look_and_publish().await;
                    self.has_moved(&mut stun_at, &mut metadata_at);
                },
                _ = refresh.tick() => if self.look_and_publish().await {
                    self.has_moved(&mut stun_at, &mut metadata_at);
                },
                _ = resolve.tick() => self.resolve(&sender),
                changed = self.services.changed() => match changed {
                    Ok(()) => self.resolve(&sender),
                    // The agent is going down.
                    Err(_) => return Ok(()),
                },
                () = sleep_until(stun_at) => stun_at = self.ask_servers(),
                () = until(metadata_at) => {
                    metadata_at = None;
                    let sender = sender.clone();
                    tokio::spawn(async move {
                        let answer = metadata::ask(&Places::default()).await;
                        sender.send(News::Metadata(answer)).await
                    });
                }
                reply = replies.recv() => if let Ok(reply) = reply
                    && self.survey.answer(std::time::Instant::now(), reply.from, &reply.message)
                {
                    self.observed(&mut metadata_at);
                },
                Some(news) = news.recv() => match news {
                    News::Metadata(answer) => metadata_at = Some(self.learn(answer)),
                    News::Servers(found) => {
                        self.current.services = found.iter().copied().collect();
                        self.publish();
                        let asked: Vec<_> = found.into_iter().take(MAX_SERVERS).collect();
                        if self.survey.servers() != asked {
                            self.survey.set_servers(asked);
                            self.round = 0;
                            stun_at = Instant::now();
                        }
                    }
                },
            }
        }
    }

    /// Peers learn a new address from the first packet that comes from it; so there is one.
    fn has_moved(&mut self, stun_at: &mut Instant, metadata_at: &mut Option<Instant>) {
        self.device.kick_all();
        self.moved.send_modify(|count| *count += 1);
        self.round = 0;
        *stun_at = Instant::now();
        self.metadata_failures = 0;
        *metadata_at = Some(Instant::now());
    }

    fn observed(&mut self, metadata_at: &mut Option<Instant>) {
        let before = std::mem::replace(&mut self.current.observed, self.survey.observed().clone());
        info!(observed = ?self.current.observed.addresses(), "this host is seen from outside");
        if !before.addresses().is_empty() && before.addresses() != self.current.observed.addresses() {
            self.device.kick_all();
        }
        if leave(&mut self.left, &before, &self.current.observed) {
            // What the metadata service said is of the former address, and it may go on saying it for a while.
            self.metadata_failures = 0;
            *metadata_at = Some(Instant::now());
        }
        self.publish();
    }

    /// Takes the metadata service's answer and says when to ask again. Silence does not undo what it said before.
    fn learn(&mut self, answer: Answer) -> Instant {
        debug!(?answer, "metadata service asked");
        match answer {
            Answer::Found(instance) => {
                self.metadata_failures = METADATA_RETRY.len();
                if self.current.metadata.instance() != Some(&instance) {
                    info!(?instance, "the metadata service knows this host");
                    if let Err(error) = self.state.save_metadata(&machine::machine_id(), &instance) {
                        warn!(error = chain(&error), "what the metadata service said is not saved");
                    }
                }
                self.current.metadata = Answer::Found(instance);
            }
            other if self.current.metadata.instance().is_none() => self.current.metadata = other,
            _ => {}
        }
        self.publish();
        let wait = METADATA_RETRY[self.metadata_failures.min(METADATA_RETRY.len() - 1)];
        self.metadata_failures += 1;
        Instant::now() + wait
    }

    fn resolve(&self, sender: &mpsc::Sender<News>) {
        let (services, sender) = (self.services.borrow().clone(), sender.clone());
        let former = self.current.services.clone();
        tokio::spawn(async move {
            let mut answers = Vec::new();
            for service in services {
                let answer = lookup_host((service.host(), service.port())).await.map(Vec::from_iter);
                answers.push(answer.inspect_err(|error| debug!(%service, %error, "service not resolved")));
            }
            sender.send(News::Servers(servers(answers, &former))).await
        });
    }

    /// One round; says when the next one is due.
    fn ask_servers(&mut self) -> Instant {
        for server in self.survey.servers().to_vec() {
            let request = self.survey.request(server, rand::random());
            if let Err(error) = self.device.send_stun(server, &request) {
                debug!(%server, %error, "STUN request not sent");
            }
        }
        self.round += 1;
        let (from, to) = STUN_INTERVAL;
        Instant::now() + STUN_BURST.get(self.round).copied().unwrap_or_else(|| rand::random_range(from..to))
    }

    /// Reads the kernel's side and the operator's file; true if an address or the way out changed.
    async fn look_and_publish(&mut self) -> bool {
        let before = self.current.underlay.clone();
        self.look().await;
        self.publish();
        before != self.current.underlay
    }

    async fn look(&mut self) {
        self.current.problems.clear();
        // A read error is not an empty answer: what was known stays.
        match self.netlink.default_interface().await {
            Ok(underlay) => self.current.underlay = underlay,
            Err(error) => self.current.problems.push(chain(&error)),
        }
        match self.netlink.routes().await {
            Ok(routes) => {
                let is_ours = |name: &str| self.config.interface_prefix.names(name);
                let own = routes.iter().filter(|route| !route.is_default() && !route.leads_into(is_ours));
                let mut destinations: Vec<_> = own.map(|route| route.destination).collect();
                destinations.sort();
                destinations.dedup();
                destinations.truncate(MAX_ROUTES);
                self.current.host.routes = destinations;
            }
            Err(error) => self.current.problems.push(chain(&error)),
        }
        match location_file::read(&self.config.location_file) {
            Ok(operator) => self.current.operator = operator,
            Err(error) => self.current.problems.push(chain(&error)),
        }
    }

    fn local_addresses(&self) -> Vec<IpAddr> {
        self.current.underlay.iter().flat_map(|underlay| &underlay.addresses).map(ipnet::IpNet::addr).collect()
    }

    /// Puts together what the service is told, and tells everyone if it is new.
    fn publish(&mut self) {
        let interface = self.local_addresses();
        let private = self.current.underlay.iter().flat_map(|underlay| &underlay.addresses).find_map(|net| match net {
            ipnet::IpNet::V4(net) => Some(*net),
            ipnet::IpNet::V6(_) => None,
        });
        let metadata = self.current.metadata.instance().map(|instance| instance.location.clone()).unwrap_or_default();
        self.current.host = HostFacts {
            name: machine::host_name(),
            machine_id: machine::machine_id(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            endpoints: endpoints(Known {
                interface: &interface,
                port: self.current.port,
                metadata: self.current.metadata.public_address(),
                observed: &self.current.observed,
                left: &self.left,
                extra: &self.config.extra_endpoints,
            }),
            routes: std::mem::take(&mut self.current.host.routes),
            private_address: private,
            location: self.current.operator.merged(&metadata),
            advertise: self.config.forwarding.advertise.prefixes().map(ipnet::IpNet::V4).collect(),
        };
        let current = &self.current;
        self.facts.send_if_modified(|published| {
            let new = **published != *current;
            if new {
                *published = Arc::new(current.clone());
            }
            new
        });
    }
}

/// Keeps the addresses that were left at the last change, without those that we are seen at again; true if this is a change.
fn leave(left: &mut Vec<IpAddr>, before: &Observed, now: &Observed) -> bool {
    let leaving = now.left_since(before);
    let is_change = !leaving.is_empty();
    if is_change {
        *left = leaving;
    }
    let seen = now.addresses();
    left.retain(|address| seen.iter().all(|seen| seen.ip() != *address));
    is_change
}

/// What the services' names stand for now. An error is not an empty answer: after one the former servers stay as well.
fn servers(answers: Vec<io::Result<Vec<SocketAddr>>>, former: &BTreeSet<SocketAddr>) -> Vec<SocketAddr> {
    let former = former.iter().copied().filter(|_| answers.iter().any(Result::is_err)).collect::<Vec<_>>();
    let mut seen = BTreeSet::new();
    let found = answers.into_iter().flatten().flatten().chain(former);
    found.filter(|server| seen.insert(*server)).collect()
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_we_are_seen_at_again_was_not_left() {
        let seen_at = |seen: &[&str]| Observed::by_servers(seen.iter().map(|seen| seen.parse().expect("address")));
        let (first, second) = ("203.0.113.1:8055", "203.0.113.2:8055");
        let former = ["203.0.113.1".parse::<IpAddr>().expect("address")];
        let (before, moved) = (seen_at(&[first]), seen_at(&[second]));
        let mut left = Vec::new();
        assert!(leave(&mut left, &before, &moved));
        assert_eq!(left, former);
        assert!(!leave(&mut left, &moved, &moved));
        assert_eq!(left, former, "and stays left");
        assert!(!leave(&mut left, &moved, &seen_at(&[second, first])), "another server sees it");
        assert!(left.is_empty());
    }

    #[test]
    fn a_name_that_is_not_resolved_keeps_the_servers_of_before() {
        let server = |number: u8| SocketAddr::from(([192, 0, 2, number], 8053));
        let unresolved = || Err(io::Error::other("no name server"));
        let former = |numbers: &[u8]| numbers.iter().copied().map(server).collect();
        assert_eq!(servers(vec![unresolved()], &former(&[1])), [server(1)]);
        assert_eq!(servers(vec![Ok(vec![server(2)]), unresolved()], &former(&[1, 2])), [server(2), server(1)]);
        assert_eq!(servers(vec![Ok(vec![server(2)])], &former(&[1])), [server(2)]);
    }
}
