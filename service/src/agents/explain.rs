//! Why a path is used: *explain* ranks with the function that the agent itself chooses by, over what the agent went by.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use cladnet_model::{
    CloudLocation, Endpoint, HostId, NetworkId,
    path::{Candidate, CandidateState, HostView, PairPolicy, Pricing, Transport, ancestor, rank, summary},
    tariff::{Book, Price},
};
use cladnet_proto::{
    cladnet::v1::{ExplainPathResponse, PathCandidate, PathReport},
    convert,
};
use jiff::{civil::Date, tz::TimeZone};
use tokio::time::Instant;

use super::{Agents, RoundTrips, commands::CommandError};
use crate::error::CallError;

impl Agents {
    /// Every candidate from one member to another, best first, and why it won or lost. While the source's agent does not
    /// answer, what the service knows of both is ranked, and the summary says so.
    pub(crate) async fn explain(
        &self,
        network: &NetworkId,
        source: &HostId,
        destination: &HostId,
        deadline: Duration,
    ) -> Result<ExplainPathResponse, CallError> {
        let mut pair = self.pair(network, source, destination)?;
        let (mut reports, error) =
            self.reports(network, source, &[destination], RoundTrips::Known, Instant::now() + deadline).await;
        let report = reports.pop();
        if let Some(known) = report.as_ref().map(known_endpoints).filter(|known| !known.is_empty()) {
            pair.theirs.endpoints = known; // what the agent ranked, should the service have heard newer ones
        }
        let (seen, told) = report.as_ref().map(convert::measurements).unwrap_or_default();
        let found = pair.candidates(&told);
        let basic = ancestor(found.clone());
        let PairPolicy { paths: policy, encryption } = &pair.policy;
        let ranked = rank(policy, found, &seen);
        let route = ranked.iter().find(|ranked| ranked.state == CandidateState::InUse).or(ranked.first());
        let route = route.and_then(|ranked| ranked.candidate.route.clone().ok());
        let transport = report.as_ref().and_then(transport);
        let candidate = |ranked| pair.priced(convert::candidate(ranked, &seen), &ranked.candidate.endpoint);
        Ok(ExplainPathResponse {
            source: source.to_string(),
            destination: destination.to_string(),
            rule_type: policy.rule_type.to_string(),
            encryption: encryption.sentence(route, transport),
            summary: summary(&ranked) + &pair.doubt(report.as_ref(), error),
            candidates: ranked.iter().map(candidate).collect(),
            tariff_version: pair.book.version().to_owned(),
            tariff_date: pair.book.compiled().map(|date| date.to_string()).unwrap_or_default(),
            basic: basic.map(|basic| pair.basic(&basic)),
            limits: policy.limits(),
            rule_ids: pair.policy.rules().into_iter().map(ToString::to_string).collect(),
        })
    }

    fn pair(&self, network: &NetworkId, source: &HostId, destination: &HostId) -> Result<Pair, CallError> {
        let view = self.shared.view();
        let state = view.network(network);
        let state = state.ok_or_else(|| CallError::NotFound(format!("there is no network {network}")))?;
        let end = |host: &HostId| {
            let known = view.host(host).filter(|_| state.membership(host).is_some());
            let (record, _) =
                known.ok_or_else(|| CallError::NotFound(format!("{host} is no peer of network {network}")))?;
            let (location, endpoints) = (record.location(), record.facts.endpoints.clone());
            Ok::<_, CallError>(End { host: host.clone(), location, endpoints })
        };
        let (ours, theirs) = (end(source)?, end(destination)?);
        let name = |host: &HostId| view.host(host).map(|(record, _)| record.facts.name.as_str());
        let policy = state.pair_policy(source, destination, name);
        Ok(Pair {
            policy: policy.ok_or_else(|| CallError::NotFound(format!("there is no network {network}")))?,
            ours,
            theirs,
            book: view.tariffs().map_or_else(Book::shipped, |tariffs| tariffs.book().clone()),
            today: self.shared.parts.clock.now().to_zoned(TimeZone::UTC).date(),
        })
    }
}

/// What the service knows of a pair.
struct Pair {
    policy: PairPolicy,
    ours: End,
    theirs: End,
    book: Arc<Book>,
    today: Date,
}

/// One end of a path.
struct End {
    host: HostId,
    location: CloudLocation,
    endpoints: Vec<Endpoint>,
}

impl End {
    fn view(&self) -> HostView<'_> {
        HostView { location: &self.location, endpoints: &self.endpoints }
    }
}

impl Pair {
    fn pricing(&self) -> Pricing<'_> {
        Pricing { book: &self.book, on: self.today, local: &self.ours.host, remote: &self.theirs.host }
    }

    /// With the prices that the agent goes by, where it has told them.
    fn candidates(&self, told: &BTreeMap<SocketAddr, Option<Price>>) -> Vec<Candidate> {
        let mut found = self.pricing().candidates(self.ours.view(), self.theirs.view());
        for candidate in &mut found {
            if let Some(price) = told.get(&candidate.endpoint.address) {
                candidate.price = *price;
            }
        }
        found
    }

    fn priced(&self, candidate: PathCandidate, endpoint: &Endpoint) -> PathCandidate {
        let (pricing, ours, theirs) = (self.pricing(), self.ours.view(), self.theirs.view());
        PathCandidate {
            price: Some(convert::tariff_quote(&pricing.quote(ours, theirs, endpoint), &self.book)),
            return_price: Some(convert::tariff_quote(&pricing.quote_back(ours, theirs, endpoint), &self.book)),
            ..candidate
        }
    }

    fn basic(&self, candidate: &Candidate) -> PathCandidate {
        let endpoint = &candidate.endpoint;
        let (address, scope) = (endpoint.address.to_string(), endpoint.scope.to_string());
        self.priced(PathCandidate { endpoint: address, scope, ..PathCandidate::default() }, endpoint)
    }

    /// In what the answer may differ from what the agent does.
    fn doubt(&self, report: Option<&PathReport>, error: Option<CommandError>) -> String {
        match (report, error) {
            (Some(report), _) if report.tariff_version.is_empty() => {
                " (ranked by the service: this agent measures nothing and knows no prices)".to_owned()
            }
            (Some(report), _) if report.tariff_version != self.book.version() => format!(
                " (the agent goes by tariff book {}; the prices shown are of {})",
                report.tariff_version,
                self.book.version()
            ),
            (Some(_), _) => String::new(),
            (None, Some(error)) => format!(" (as the service sees it: {error})"),
            (None, None) => " (as the service sees it: the agent does not know this peer yet)".to_owned(),
        }
    }
}

fn known_endpoints(report: &PathReport) -> Vec<Endpoint> {
    report.candidates.iter().filter_map(|wire| Endpoint::try_from(wire.clone()).ok()).collect()
}

/// An agent that says nothing of it is of a release that seals everything.
fn transport(report: &PathReport) -> Option<Transport> {
    if report.transport.is_empty() { Some(Transport::Untrusted) } else { report.transport.parse().ok() }
}
