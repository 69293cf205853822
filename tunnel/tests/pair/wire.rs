//! A wire that loses, delays, doubles and reorders, with somebody on it who records, replays, reflects and forges. In
//! virtual time, on both engines.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cladnet_tunnel::Implementation;
use cladnet_tunnel::Implementation::Own;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::mixed::{COMBINATIONS, strangers_on};
use crate::sim::{Host, Output, between, endpoint};

const TICK: Duration = Duration::from_millis(250);

/// In percent, but for the delay.
#[derive(Debug, Clone)]
struct Weather {
    loss: u32,
    doubled: u32,
    max_delay: Duration,
    /// Attempts of the eavesdropper in each tick.
    attacks: u32,
}

const FAIR: Weather = Weather { loss: 0, doubled: 0, max_delay: Duration::ZERO, attacks: 0 };

struct Wire {
    hosts: [Host; 2],
    weather: Weather,
    rng: StdRng,
    now: Instant,
    /// By the time of arrival: which host gets what.
    flying: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    /// What was taken: the eavesdropper's record.
    recorded: Vec<(usize, Vec<u8>)>,
    /// By host: what it was sent, and what came out there.
    sent: [BTreeSet<Vec<u8>>; 2],
    delivered: [BTreeSet<Vec<u8>>; 2],
    serial: u64,
}

impl Wire {
    fn new(engines: (Implementation, Implementation), weather: Weather, seed: u64) -> Self {
        let (a, mut b) = strangers_on(engines, [None, None]);
        b.now = a.now;
        let now = a.now;
        Self {
            hosts: [a, b],
            weather,
            rng: StdRng::seed_from_u64(seed),
            now,
            flying: BTreeMap::new(),
            recorded: Vec::new(),
            sent: Default::default(),
            delivered: Default::default(),
            serial: 0,
        }
    }

    /// One tick: both may say something, time passes, what arrives arrives.
    fn tick(&mut self) {
        for host in 0..2 {
            if self.rng.random_ratio(1, 2) {
                self.send_train(host);
            }
            let output = self.hosts[host].pass(TICK);
            self.put(host, output);
        }
        self.now += TICK;
        self.arrive();
        for _ in 0..self.weather.attacks {
            self.attack();
        }
        for (host, other) in [(0, 1), (1, 0)] {
            let believed = self.hosts[host].stats_of(&self.hosts[other]).endpoint;
            assert_eq!(believed, Some(self.hosts[other].endpoint()), "nobody else can move an endpoint");
        }
    }

    fn send_train(&mut self, host: usize) {
        let (len, count) = (self.rng.random_range(8..1392), self.rng.random_range(1..20));
        let packets: Vec<_> = (0..count)
            .map(|_| {
                let mut payload = vec![0; len];
                payload[..8].copy_from_slice(&self.next_serial().to_be_bytes());
                between(self.hosts[host].number, self.hosts[1 - host].number, &payload)
            })
            .collect();
        // Refused when too many wait for a session; those that were taken are of this train.
        self.sent[1 - host].extend(packets.iter().cloned());
        if let Ok(output) = self.hosts[host].seal_train(&packets) {
            self.put(host, output);
        }
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Hands what `host` says to the weather.
    fn put(&mut self, host: usize, output: Output) {
        for (to, datagram) in output.datagrams {
            assert_eq!(to, self.hosts[1 - host].endpoint());
            if self.rng.random_ratio(self.weather.loss, 100) {
                continue;
            }
            let copies = 1 + u32::from(self.rng.random_ratio(self.weather.doubled, 100));
            for _ in 0..copies {
                let delay = self.weather.max_delay.mul_f64(self.rng.random());
                let key = (self.now + delay, self.next_serial());
                self.flying.insert(key, (1 - host, datagram.clone()));
            }
        }
    }

    fn arrive(&mut self) {
        while let Some(first) = self.flying.first_entry().filter(|first| first.key().0 <= self.now) {
            let (host, datagram) = first.remove();
            let mut train = vec![datagram];
            // What arrives together and is of one size, the kernel hands over together.
            while let Some(next) = self.flying.first_entry()
                && next.key().0 <= self.now
                && next.get().0 == host
                && next.get().1.len() == train[0].len()
            {
                train.push(next.remove().1);
            }
            let before = self.discards(host);
            let output = self.hosts[host].open_train(self.hosts[1 - host].endpoint(), &train);
            // What was refused is not worth recording: `boringtun` may send under a session before the other side can
            // have it, and then a replay is just the packet, late.
            if self.discards(host) == before {
                self.recorded.extend(train.into_iter().map(|datagram| (host, datagram)));
            }
            for (_, packet) in &output.packets {
                assert!(self.sent[host].contains(packet), "only what was sent comes out");
                assert!(self.delivered[host].insert(packet.clone()), "once");
            }
            self.put(host, output);
        }
    }

    /// Does something with what was recorded; nothing comes of it.
    fn attack(&mut self) {
        if self.recorded.is_empty() {
            return;
        }
        let (host, mut datagram) = self.recorded[self.rng.random_range(0..self.recorded.len())].clone();
        let (true_sender, receiver) = (self.hosts[1 - host].endpoint(), self.hosts[host].endpoint());
        let (victim, from): (usize, SocketAddr) = match self.rng.random_range(0..4) {
            0 => (host, true_sender),
            1 => (host, endpoint(66)),
            2 => (1 - host, receiver),
            _ => {
                let position = self.rng.random_range(0..datagram.len());
                datagram[position] ^= 1 << self.rng.random_range(0..8);
                (host, endpoint(66))
            }
        };
        let output = self.hosts[victim].open_train(from, &[datagram]);
        assert!(output.packets.is_empty());
    }

    fn discards(&self, host: usize) -> u64 {
        self.hosts[host].tunnel.discards().iter().map(|(_, count)| count).sum()
    }

    fn lost(&self) -> usize {
        (0..2).map(|host| self.sent[host].len() - self.delivered[host].len()).sum()
    }
}

fn bad_weather() -> impl Strategy<Value = Weather> {
    (0u32..40, 0u32..30, 0u64..600).prop_map(|(loss, doubled, delay)| Weather {
        loss,
        doubled,
        max_delay: Duration::from_millis(delay),
        attacks: 5,
    })
}

/// Runs until packets pass both ways again.
fn recovers(wire: &mut Wire, ticks: usize) -> bool {
    wire.weather = FAIR;
    (0..ticks).any(|_| {
        let before = wire.delivered.each_ref().map(BTreeSet::len);
        wire.tick();
        wire.delivered.iter().zip(before).all(|(now, before)| now.len() > before)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn nothing_is_forged_doubled_or_misled(weather in bad_weather(), seed: u64, combination in 0usize..4) {
        let engines = COMBINATIONS[combination];
        let mut wire = Wire::new(engines, weather, seed);
        for _ in 0..120 {
            wire.tick();
        }
        if engines != (Own, Own) {
            // `boringtun` repeats handshakes by the real clock.
            let greeting = wire.hosts[0].initiate(&[wire.hosts[1].public_key()]);
            wire.weather = FAIR;
            wire.put(0, greeting);
        }
        // The longest that a repetition takes.
        prop_assert!(recovers(&mut wire, 80), "{} lost", wire.lost());
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn sessions_are_renewed_through_bad_weather(weather in bad_weather(), seed: u64) {
        let mut wire = Wire::new((Own, Own), weather, seed);
        for _ in 0..1600 {
            wire.tick();
        }
        prop_assert!(recovers(&mut wire, 80), "{} lost", wire.lost());
    }
}

#[test]
fn fair_weather_loses_nothing_on_any_engine() {
    for engines in COMBINATIONS {
        let mut wire = Wire::new(engines, Weather { attacks: 5, ..FAIR }, 7);
        let ticks = if engines == (Own, Own) { 1600 } else { 100 };
        (0..ticks).for_each(|_| wire.tick());
        wire.arrive();
        wire.weather = FAIR;
        assert_eq!(wire.lost(), 0, "{engines:?}");
    }
}
