//! Two hosts that choose their paths to each other on their own, in virtual time, and packets between them.

use super::*;

/// Who sends packets, and how often.
#[derive(Debug, Clone, Copy)]
enum Talk {
    /// The first one, and the other answers.
    Pings(Duration),
    /// Each on its own, whatever it hears.
    Streams([Option<Duration>; 2]),
}

impl Talk {
    fn every(self) -> [Option<Duration>; 2] {
        match self {
            Self::Pings(every) => [Some(every), None],
            Self::Streams(every) => every,
        }
    }

    fn sends(self, host: usize) -> bool {
        matches!(self, Self::Pings(_)) || self.every()[host].is_some()
    }
}

#[derive(Debug, Clone, Copy)]
enum Message {
    Request { asked_at: Instant, urgency: Urgency },
    Answer { asked_at: Instant },
    Packet { is_answer: bool },
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
    /// Whose datagrams the private way swallows.
    is_blocked: [bool; 2],
    /// Whether answers come too late to be any.
    are_answers_late: bool,
    flying: BTreeMap<(Instant, u64), (usize, SocketAddr, Message)>,
    serial: u64,
    rng: StdRng,
    /// How long a host does not run now and then.
    stall: Duration,
    talk: Talk,
    /// When packets came to the first host.
    came: Vec<Instant>,
    packet_at: [Instant; 2],
    look_at: Instant,
}

impl TwoHosts {
    fn new(seed: u64, rtts: [Duration; 2], talk: Talk) -> Self {
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
            is_blocked: [false; 2],
            are_answers_late: false,
            flying: BTreeMap::new(),
            serial: 0,
            rng: StdRng::seed_from_u64(seed),
            stall: Duration::ZERO,
            talk,
            came: Vec::new(),
            packet_at: [now; 2],
            look_at: now,
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            (0..2).for_each(|host| self.poll(host));
            let flying = self.flying.first_key_value().map(|((at, _), _)| *at);
            let mut next = vec![Some(self.look_at), flying];
            next.extend(self.packet_at.map(Some));
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

    /// How often both ask, once that has settled.
    fn requests_per_second(&mut self) -> f64 {
        let asked = |it: &Self| it.hosts.iter().map(|host| host.prober.counts().asked).sum::<u64>();
        self.run(10 * SECOND);
        let before = asked(self);
        self.run(60 * SECOND);
        (asked(self) - before) as f64 / 60.0
    }

    fn until(&mut self, within: Duration, in_use: SocketAddr) {
        let start = self.now;
        while !self.hosts.iter().all(|host| host.in_use == Some(in_use)) {
            assert!(self.now - start < within, "{in_use} is not used by both");
            self.run(5 * MILLISECOND);
        }
    }

    fn longest_pause_since(&self, start: Instant) -> Duration {
        let times: Vec<_> = std::iter::once(start).chain(self.came.iter().copied().filter(|at| *at >= start)).collect();
        times.windows(2).map(|two| two[1] - two[0]).max().unwrap_or_default()
    }

    fn step(&mut self) {
        while let Some(first) = self.flying.first_entry().filter(|first| first.key().0 <= self.now) {
            let (to, way, message) = first.remove();
            self.take(to, way, message);
        }
        for (host, every) in self.talk.every().into_iter().enumerate() {
            if self.packet_at[host] > self.now {
                continue;
            }
            self.packet_at[host] = self.now + every.unwrap_or(SECOND);
            if every.is_some() {
                self.send_packet(host, Message::Packet { is_answer: false });
            }
        }
        if self.look_at <= self.now {
            self.look_at = self.now + LOOK_EVERY;
            (0..2).for_each(|host| self.look(host));
        }
    }

    /// Every four seconds, on average.
    fn stall(&mut self, host: usize) {
        if !self.stall.is_zero() && self.rng.random::<f64>() < LOOK_EVERY.as_secs_f64() / 4.0 {
            let stall = self.stall.mul_f64(self.rng.random());
            self.hosts[host].away_until = self.now + stall;
        }
    }

    fn look(&mut self, host: usize) {
        self.stall(host);
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
        let is_late = self.are_answers_late && matches!(message, Message::Answer { .. });
        if is_late || (self.is_blocked[from] && way == private()) {
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
                self.send(to, way, Message::Answer { asked_at });
            }
            Message::Answer { asked_at } => {
                let sighting = Sighting::Answer { endpoint: way, asked_at, mapped: way };
                host.prober.sighted(now, host.id, sighting);
            }
            Message::Packet { is_answer } => self.take_packet(to, way, is_answer),
        }
    }

    fn take_packet(&mut self, to: usize, way: SocketAddr, is_answer: bool) {
        let host = &mut self.hosts[to];
        host.has_traffic = true;
        if host.in_use == Some(way) {
            host.unanswered_since = None;
        } else {
            host.elsewhere = Some(way);
        }
        if to == 0 {
            self.came.push(self.now);
        }
        if matches!(self.talk, Talk::Pings(_)) && !is_answer {
            self.send_packet(to, Message::Packet { is_answer: true });
        }
    }
}

#[test]
fn a_path_that_two_hosts_take_back_pauses_nothing() {
    for _ in 0..100 {
        let seed = rand::random();
        let mut hosts = TwoHosts::new(seed, [MILLISECOND, 2 * MILLISECOND], Talk::Pings(20 * MILLISECOND));
        hosts.stall = [Duration::ZERO, 300 * MILLISECOND][usize::from(seed % 2 == 1)];
        hosts.until(20 * SECOND, private());
        let phase = SECOND.mul_f64(3.0 * hosts.rng.random::<f64>());
        hosts.run(phase);
        hosts.is_blocked = [true; 2];
        hosts.until(5 * SECOND, public());
        hosts.run(100 * MILLISECOND);
        hosts.is_blocked = [false; 2];
        let start = hosts.now;
        hosts.until(60 * SECOND, private());
        hosts.run(5 * SECOND);
        let pause = hosts.longest_pause_since(start);
        assert!(pause <= SECOND, "{pause:?}; seed {seed}");
    }
}

/// Every host that sends leaves the way, whether its own packets are lost or the answers of the other one; where both send on
/// their own, whoever hears nothing tells the other.
#[test]
fn a_hole_in_one_direction_is_left_within_a_second_and_a_half_whoever_sends() {
    let mut worst = Duration::ZERO;
    for _ in 0..1_000 {
        let seed = rand::random();
        let mut rng = StdRng::seed_from_u64(seed);
        let mut rtts = [(); 2].map(|()| MILLISECOND.mul_f64(1.0 + 199.0 * rng.random::<f64>()));
        rtts.sort();
        let [one, other] = [(); 2].map(|()| MILLISECOND.mul_f64(10.0 + 90.0 * rng.random::<f64>()));
        let talks = [Talk::Pings(one), Talk::Streams([Some(one), None]), Talk::Streams([Some(one), Some(other)])];
        let (talk, deaf) = (talks[rng.random_range(0..talks.len())], rng.random_range(0..2));
        let mut hosts = TwoHosts::new(seed, rtts, talk);
        // So long that the round trips are well known.
        let phase = SECOND.mul_f64(2.0 * rng.random::<f64>());
        hosts.run(10 * SECOND + phase);
        hosts.until(20 * SECOND, private());

        hosts.is_blocked[1 - deaf] = true;
        let start = hosts.now;
        let stays = |hosts: &TwoHosts| (0..2).any(|it| talk.sends(it) && hosts.hosts[it].in_use != Some(public()));
        while stays(&hosts) {
            let took = hosts.now - start;
            assert!(took <= 1_500 * MILLISECOND, "host {deaf} hears nothing, {talk:?}, {rtts:?}; seed {seed}");
            hosts.run(5 * MILLISECOND);
        }
        worst = worst.max(hosts.now - start);
    }
    println!("left after {worst:?} at most");
}

/// Machines that are too busy to answer in time are not made busier by that.
#[test]
fn two_hosts_that_answer_late_or_too_late_ask_each_other_little() {
    let seed = rand::random();
    let rtts = [MILLISECOND, 2 * MILLISECOND];
    let mut hosts = TwoHosts::new(seed, rtts, Talk::Pings(20 * MILLISECOND));
    hosts.run(10 * SECOND);
    hosts.are_answers_late = true;
    let too_late = hosts.requests_per_second();
    hosts.are_answers_late = false;
    hosts.run(2 * SECOND);
    for host in &hosts.hosts {
        let probed = host.prober.measured(hosts.now, host.id.0)[&host.id.1].probed.clone();
        assert!(probed.iter().all(|probed| probed.state == State::Answers), "{probed:?}; seed {seed}");
    }

    hosts.rtts.values_mut().for_each(|rtt| *rtt = 2 * SECOND);
    let late = hosts.requests_per_second();
    // Each host asks at two endpoints once a second, at most.
    assert!([too_late, late].iter().all(|rate| *rate <= 4.5), "{too_late:.1} and {late:.1} a second; seed {seed}");
}
