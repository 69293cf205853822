//! Two hosts that choose their paths to each other on their own, in virtual time, and somebody who pings from one to the other.

use super::*;

const PING_EVERY: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy)]
enum Message {
    Request { asked_at: Instant, urgency: Urgency },
    Answer { asked_at: Instant },
    Ping,
    Pong,
}

struct Host {
    prober: Prober,
    id: PeerId,
    in_use: Option<SocketAddr>,
    unanswered_since: Option<Instant>,
    elsewhere: Option<SocketAddr>,
    has_traffic: bool,
    /// Its threads do not run before.
    away_until: Instant,
}

/// What both hosts call `private()` and `public()` are two ways between them.
struct TwoHosts {
    now: Instant,
    hosts: [Host; 2],
    rtts: BTreeMap<SocketAddr, Duration>,
    is_blocked: bool,
    flying: BTreeMap<(Instant, u64), (usize, SocketAddr, Message)>,
    serial: u64,
    rng: StdRng,
    /// How long a host does not run now and then.
    stall: Duration,
    pongs: Vec<Instant>,
    ping_at: Instant,
    look_at: Instant,
}

impl TwoHosts {
    fn new(seed: u64, rtts: [Duration; 2], stall: Duration) -> Self {
        let now = Instant::now() + Duration::from_secs(86_400);
        let host = |number: u32| {
            let mut jitter = StdRng::seed_from_u64(seed ^ u64::from(number));
            let mut prober = Prober::new(now, move || jitter.random());
            let id = (interface(), key(number));
            prober.set_peers(now, id.0, BTreeMap::from([(id.1, pair(&[private(), public()]))]));
            Host {
                prober,
                id,
                in_use: None,
                unanswered_since: None,
                elsewhere: None,
                has_traffic: false,
                away_until: now,
            }
        };
        Self {
            now,
            hosts: [host(1), host(2)],
            rtts: BTreeMap::from_iter([private(), public()].into_iter().zip(rtts)),
            is_blocked: false,
            flying: BTreeMap::new(),
            serial: 0,
            rng: StdRng::seed_from_u64(seed),
            stall,
            pongs: Vec::new(),
            ping_at: now,
            look_at: now,
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            (0..2).for_each(|host| self.poll(host));
            let flying = self.flying.first_key_value().map(|((at, _), _)| *at);
            let mut next = vec![Some(self.ping_at), Some(self.look_at), flying];
            for host in &mut self.hosts {
                next.push(host.prober.wake_at().map(|at| at.max(host.away_until)));
            }
            let next = next.into_iter().flatten().min().unwrap_or(end).max(self.now);
            if next > end {
                self.now = end;
                return;
            }
            self.now = next;
            self.step();
        }
    }

    fn until(&mut self, within: Duration, in_use: SocketAddr) {
        let start = self.now;
        while !self.hosts.iter().all(|host| host.in_use == Some(in_use)) {
            assert!(self.now - start < within, "{in_use} is not used by both");
            self.run(5 * MILLISECOND);
        }
    }

    fn longest_pause_since(&self, start: Instant) -> Duration {
        let times: Vec<_> =
            std::iter::once(start).chain(self.pongs.iter().copied().filter(|at| *at >= start)).collect();
        times.windows(2).map(|two| two[1] - two[0]).max().unwrap_or_default()
    }

    fn step(&mut self) {
        while let Some(first) = self.flying.first_entry().filter(|first| first.key().0 <= self.now) {
            let (to, way, message) = first.remove();
            self.take(to, way, message);
        }
        if self.ping_at <= self.now {
            self.ping_at = self.now + PING_EVERY;
            self.send_packet(0, Message::Ping);
            for host in 0..2 {
                if !self.stall.is_zero() && self.rng.random::<f64>() < 0.005 {
                    let stall = self.stall.mul_f64(self.rng.random());
                    self.hosts[host].away_until = self.now + stall;
                }
            }
        }
        if self.look_at <= self.now {
            self.look_at = self.now + LOOK_EVERY;
            (0..2).for_each(|host| self.look(host));
        }
    }

    fn look(&mut self, host: usize) {
        let now = self.now;
        let host = &mut self.hosts[host];
        if host.away_until > now {
            return;
        }
        let unanswered = host.unanswered_since.map(|since| now - since);
        let has_traffic = std::mem::take(&mut host.has_traffic);
        host.prober.note(now, host.id, Activity { has_traffic, unanswered, elsewhere: host.elsewhere });
    }

    fn poll(&mut self, host: usize) {
        if self.hosts[host].away_until > self.now {
            return;
        }
        for action in self.hosts[host].prober.poll(self.now) {
            match action {
                Action::Ask { endpoint, urgency, .. } => {
                    self.send(host, endpoint, Message::Request { asked_at: self.now, urgency });
                }
                Action::Steer { to, .. } => {
                    let host = &mut self.hosts[host];
                    (host.in_use, host.unanswered_since, host.elsewhere) = (to, None, None);
                }
            }
        }
    }

    fn send_packet(&mut self, from: usize, message: Message) {
        let now = self.now;
        let host = &mut self.hosts[from];
        host.has_traffic = true;
        host.unanswered_since.get_or_insert(now);
        if let Some(way) = host.in_use {
            self.send(from, way, message);
        }
    }

    fn send(&mut self, from: usize, way: SocketAddr, message: Message) {
        if self.is_blocked && way == private() {
            return;
        }
        self.serial += 1;
        let arrival = self.now + self.rtts[&way] / 2;
        let at = arrival.max(self.hosts[1 - from].away_until);
        self.flying.insert((at, self.serial), (1 - from, way, message));
    }

    fn take(&mut self, to: usize, way: SocketAddr, message: Message) {
        let now = self.now;
        let host = &mut self.hosts[to];
        match message {
            Message::Request { asked_at, urgency } => {
                let is_alarm = urgency == Urgency::Alarm;
                host.prober.sighted(now, host.id, Sighting::Request { from: way, is_alarm });
                return self.send(to, way, Message::Answer { asked_at });
            }
            Message::Answer { asked_at } => {
                let sighting = Sighting::Answer { endpoint: way, asked_at, mapped: way };
                return host.prober.sighted(now, host.id, sighting);
            }
            Message::Ping | Message::Pong => {}
        }
        host.has_traffic = true;
        if host.in_use == Some(way) {
            host.unanswered_since = None;
        } else {
            host.elsewhere = Some(way);
        }
        match message {
            Message::Ping => self.send_packet(to, Message::Pong),
            _ => self.pongs.push(now),
        }
    }
}

#[test]
fn a_path_that_two_hosts_take_back_pauses_nothing() {
    for _ in 0..100 {
        let seed = rand::random();
        let stall = [Duration::ZERO, 300 * MILLISECOND][usize::from(seed % 2 == 1)];
        let mut hosts = TwoHosts::new(seed, [MILLISECOND, 2 * MILLISECOND], stall);
        hosts.until(20 * SECOND, private());
        let phase = SECOND.mul_f64(3.0 * hosts.rng.random::<f64>());
        hosts.run(phase);
        hosts.is_blocked = true;
        hosts.until(5 * SECOND, public());
        hosts.run(100 * MILLISECOND);
        hosts.is_blocked = false;
        let start = hosts.now;
        hosts.until(60 * SECOND, private());
        hosts.run(5 * SECOND);
        let pause = hosts.longest_pause_since(start);
        assert!(pause <= SECOND, "{pause:?}; seed {seed}");
    }
}
