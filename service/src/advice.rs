//! What the address-space advisor has to know: every network, the subnets behind its peers, every host's routes and private
//! networks, and which clouds they stand in.

use std::collections::BTreeSet;

use cladnet_model::{
    advise::{Advice, Avoid, Origin, Question, advise, advise_per_block, stand_in},
    rule::NetworkRules,
};
use cladnet_store::key;
use ipnet::Ipv4Net;

use crate::{Service, error::CallError};

/// What a caller adds to what is known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    /// Hosts that will join; head-room is added.
    pub(crate) hosts: u32,
    /// Ranges to keep away from, planned ones for example.
    pub(crate) avoid: Vec<Avoid>,
    pub(crate) providers: BTreeSet<String>,
    pub(crate) limit: usize,
}

impl Service {
    /// Proposes address spaces out of all private blocks, best first.
    pub(crate) async fn advise(&self, wish: Wish) -> Result<Advice, CallError> {
        let wish = self.in_sight(wish).await?;
        Ok(advise(&self.question(&wish)))
    }

    /// Proposes address spaces out of 10/8, 172.16/12 and 192.168/16, each by itself.
    pub(crate) async fn advise_per_block(&self, wish: Wish) -> Result<[Advice; 3], CallError> {
        let wish = self.in_sight(wish).await?;
        Ok(advise_per_block(&self.question(&wish)))
    }

    /// A free prefix for each of these lengths, no two overlapping; none where nothing is left.
    pub(crate) async fn stand_ins(&self, wish: Wish, lengths: &[u8]) -> Result<Vec<Option<Ipv4Net>>, CallError> {
        let mut wish = self.in_sight(wish).await?;
        let mut found = Vec::new();
        for length in lengths {
            let free = stand_in(*length, &self.question(&wish));
            wish.avoid.extend(free.map(|range| Avoid { range, origin: Origin::Given }));
            found.push(free);
        }
        Ok(found)
    }

    /// The epoch as salt: all replicas give one answer, and two installations hardly ever the same.
    fn question<'a>(&'a self, wish: &'a Wish) -> Question<'a> {
        Question {
            hosts: wish.hosts,
            avoid: &wish.avoid,
            providers: wish.providers.clone(),
            limit: wish.limit,
            salt: &self.epoch,
        }
    }

    async fn in_sight(&self, mut wish: Wish) -> Result<Wish, CallError> {
        wish.avoid.extend(self.every_network().await?.iter().map(Avoid::of_network));
        for NetworkRules { network, rules, .. } in self.every_rule_set().await? {
            wish.avoid.extend(Avoid::of_rules(&network, &rules));
        }
        for host in self.store.list(&key::hosts()).await?.complete()? {
            wish.avoid.extend(Avoid::of_host(&host.value));
            wish.providers.extend(host.value.location().provider.map(|provider| provider.value));
        }
        Ok(wish)
    }
}
