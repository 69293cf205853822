//! The bill, as `cladnet.v1` shows it.

use std::collections::{BTreeMap, BTreeSet};

use cladnet_model::{
    HostId, Place, Scope,
    bill::{Budget as Record, By, Figures, Flow, Matrix, Move, Moved, Period, WhatIfRule, billed, priced},
    tariff::Book,
};
use cladnet_proto::{
    cladnet::v1::{
        BilledUsage, Budget, CostLine, CostReport, CostScenario, GetCostReportRequest, ListBilledUsageRequest,
        ListBilledUsageResponse, ListBudgetsRequest, ListBudgetsResponse, RemoveBudgetRequest, SetBudgetRequest,
        TrafficFlow, TrafficMove, WhatIfCostRequest, WhatIfCostResponse, cost_service_server::CostService,
    },
    convert::{optional, required},
};
use jiff::{ToSpan as _, civil::Date};
use tonic::{Request, Response, Status, async_trait};

use super::{Admin, optional_network};
use crate::{
    auth::Caller,
    costs::{Billed, Standing, Usages},
    error::CallError,
};

/// What savings are compared with.
const BASELINE: &str = "every pair over public IPv4 addresses";
/// Of the traffic that what-if prices.
const LAST_DAYS: i32 = 29;
/// Flows of a matrix that is given.
const MAX_FLOWS: usize = 10_000;
const MAX_MOVES: usize = 100;
/// Warnings of one answer: more of a kind tell nobody more.
const MAX_WARNINGS: usize = 20;
const PROVIDERS: [&str; 2] = ["aws", "azure"];

#[async_trait]
impl CostService for Admin {
    async fn get_cost_report(&self, request: Request<GetCostReportRequest>) -> Result<Response<CostReport>, Status> {
        let request = request.into_inner();
        let network = optional_network(&request.network_id)?;
        if let Some(network) = &network {
            self.0.network(network).await?;
        }
        let by: By = optional("by", &request.by)?.unwrap_or_default();
        let period = self.0.period(optional("from", &request.from)?, optional("to", &request.to)?)?;
        let Billed { bill, book, unreadable } = self.0.bill(period, network.clone(), by).await?;
        let names = if by == By::Host { self.0.host_names().await? } else { BTreeMap::new() };
        let name = |key: &str| key.parse::<HostId>().ok().and_then(|host| names.get(&host).cloned());
        let lines = bill.lines.iter().map(|(key, figures)| line(key, name(key).unwrap_or_default(), figures));
        let budgets = if period.to == self.0.today() { self.0.budgets().await? } else { Vec::new() };
        let concerned = |standing: &&Standing| network.is_none() || standing.budget.network == network;
        Ok(Response::new(CostReport {
            from: period.from.to_string(),
            to: period.to.to_string(),
            by: by.to_string(),
            lines: lines.collect(),
            total: Some(line("", String::new(), &bill.total)),
            baseline: BASELINE.to_owned(),
            tariff_book: book.version().to_owned(),
            budgets: budgets.iter().filter(concerned).map(budget).collect(),
            unreadable_records: unreadable,
        }))
    }

    async fn what_if_cost(&self, request: Request<WhatIfCostRequest>) -> Result<Response<WhatIfCostResponse>, Status> {
        let request = request.into_inner();
        let (book, today) = (self.0.prices().await?, self.0.today());
        let rules = rules(&request.rule_types)?;
        let moves = self.moves(&request.moves, request.matrix.is_empty()).await?;
        let Traffic { before, after, unreadable } = self.traffic(&request, &moves).await?;
        let mut warnings = doubts(&book, &request);
        warnings.extend(after.idle.iter().filter_map(|number| request.moves.get(*number)).map(unused));
        let assumed: BTreeSet<&str> = rules.iter().filter_map(|rule| rule.assumed()).collect();
        let assumed = assumed.into_iter().map(str::to_owned).chain((after.unsure > 0).then(|| unsure(after.unsure)));
        let (assumed, tariff_book) = (assumed.collect(), book.version().to_owned());
        let scenarios = tokio::task::spawn_blocking(move || {
            scenarios(&book, &before, (!moves.is_empty()).then_some(&after.matrix), &rules, today)
        });
        let scenarios = scenarios.await.map_err(|error| Status::internal(error.to_string()))?;
        let unreadable_records = unreadable;
        Ok(Response::new(WhatIfCostResponse { scenarios, tariff_book, warnings, assumed, unreadable_records }))
    }

    async fn list_billed_usage(
        &self,
        request: Request<ListBilledUsageRequest>,
    ) -> Result<Response<ListBilledUsageResponse>, Status> {
        let ListBilledUsageRequest { provider, from, to } = request.into_inner();
        if !PROVIDERS.contains(&provider.as_str()) {
            let reason = format!("is {provider:?}; use {}", PROVIDERS.join(" or "));
            return Err(CallError::invalid("provider", reason).into());
        }
        let period: Period = self.0.period(optional("from", &from)?, optional("to", &to)?)?;
        let days = period.counted().filter(|day| *day >= period.from);
        let (Usages { hosts, unreadable }, _alone) = self.0.usages(days).await?;
        let book = self.0.prices().await?;
        let usages = billed(&book, &provider, &hosts).into_iter().map(|((usage_type, day), bytes)| BilledUsage {
            usage_type,
            day: day.to_string(),
            bytes,
        });
        Ok(Response::new(ListBilledUsageResponse {
            usages: usages.collect(),
            from: period.from.to_string(),
            to: period.to.to_string(),
            unreadable_records: unreadable,
        }))
    }

    async fn set_budget(&self, request: Request<SetBudgetRequest>) -> Result<Response<Budget>, Status> {
        let caller = Caller::of(&request)?;
        let SetBudgetRequest { network_id, monthly_nano_usd, warn_percent } = request.into_inner();
        let network = optional_network(&network_id)?;
        let checked = Record::check(network, monthly_nano_usd, warn_percent).map_err(CallError::from)?;
        Ok(Response::new(budget(&self.0.set_budget(checked, caller.key.as_str()).await?)))
    }

    async fn list_budgets(&self, _: Request<ListBudgetsRequest>) -> Result<Response<ListBudgetsResponse>, Status> {
        let budgets = self.0.budgets().await?.iter().map(budget).collect();
        Ok(Response::new(ListBudgetsResponse { budgets }))
    }

    async fn remove_budget(&self, request: Request<RemoveBudgetRequest>) -> Result<Response<()>, Status> {
        let caller = Caller::of(&request)?;
        let network = optional_network(&request.into_inner().network_id)?;
        self.0.remove_budget(network.as_ref(), caller.key.as_str()).await?;
        Ok(Response::new(()))
    }
}

/// Traffic as it went, and with the moves.
struct Traffic {
    before: Matrix,
    after: Moved,
    /// Records of it that cannot be read.
    unreadable: u32,
}

impl Admin {
    async fn traffic(&self, request: &WhatIfCostRequest, moves: &[Move]) -> Result<Traffic, CallError> {
        if !request.matrix.is_empty() {
            let before = matrix(&request.matrix)?;
            return Ok(Traffic { after: before.moved(&[], moves), before, unreadable: 0 });
        }
        let network = optional_network(&request.network_id)?;
        if let Some(network) = &network {
            self.0.network(network).await?;
        }
        let today = self.0.today();
        let days = (0..=LAST_DAYS).map(|past| today - past.days());
        let (Usages { mut hosts, unreadable }, _alone) = self.0.usages(days).await?;
        hosts.retain(|usage| network.as_ref().is_none_or(|network| usage.network == *network));
        let before = Matrix::of(&hosts);
        Ok(Traffic { after: before.moved(&hosts, moves), before, unreadable })
    }

    /// A host by id or name, or else a region. The flows of a matrix that is given belong to no host.
    async fn moves(&self, moves: &[TrafficMove], of_hosts: bool) -> Result<Vec<Move>, CallError> {
        if moves.is_empty() {
            return Ok(Vec::new());
        }
        if moves.len() > MAX_MOVES {
            let reason = format!("has {} moves; use at most {MAX_MOVES}", moves.len());
            return Err(CallError::invalid("moves", reason));
        }
        let names = self.0.host_names().await?;
        let mut checked: Vec<Move> = Vec::new();
        for (number, TrafficMove { what, to }) in moves.iter().enumerate() {
            let to: Place = required(&format!("moves[{number}].to"), to)?;
            let field = format!("moves[{number}].what");
            if what.contains('/') {
                let from: Place = required(&field, what)?;
                if from.zone.is_some() || to.zone.is_some() {
                    return Err(CallError::invalid(
                        field,
                        "is a region, which moves as a whole, so name no zone; or name a host",
                    ));
                }
                checked.push(Move::Region(from, to));
                continue;
            }
            let is_meant = |(id, name): &(&HostId, &String)| id.as_str() == what || name.as_str() == what;
            let mut found = names.iter().filter(is_meant).map(|(id, _)| id);
            match (found.next(), found.next()) {
                (Some(host), None) if of_hosts => checked.push(Move::Host(host.clone(), to)),
                (Some(_), None) => {
                    return Err(CallError::invalid(field, "is a host, and the matrix knows regions only"));
                }
                (Some(_), Some(_)) => {
                    return Err(CallError::invalid(
                        field,
                        format_args!("is {what:?}, and several hosts have that name; use an id"),
                    ));
                }
                _ => return Err(CallError::invalid(field, format_args!("is {what:?}, and there is no such host"))),
            }
        }
        let is_same = |one: &Move, other: &Move| match (one, other) {
            (Move::Host(one, _), Move::Host(other, _)) => one == other,
            (Move::Region(one, _), Move::Region(other, _)) => {
                (&one.provider, &one.region) == (&other.provider, &other.region)
            }
            _ => false,
        };
        let again =
            (0..checked.len()).find(|last| checked[..*last].iter().any(|other| is_same(other, &checked[*last])));
        match again {
            Some(number) => Err(CallError::invalid(format!("moves[{number}].what"), "moves twice; say where to once")),
            None => Ok(checked),
        }
    }
}

fn line(key: &str, name: String, figures: &Figures) -> CostLine {
    CostLine {
        key: key.to_owned(),
        name,
        sent_bytes: figures.sent,
        received_bytes: figures.received,
        spent_nano_usd: figures.spent.round().0,
        saved_nano_usd: figures.saved.round().0,
        unpriced_bytes: figures.unpriced,
        uncompared_bytes: figures.uncompared,
        estimated_bytes: figures.estimated,
        clear_bytes: figures.clear,
        spared_cpu_ms: u64::try_from(figures.spared().as_millis()).unwrap_or(u64::MAX),
    }
}

fn budget(standing: &Standing) -> Budget {
    let Standing { budget, spent, unreadable } = standing;
    let percent = budget.percent(*spent);
    Budget {
        network_id: budget.network.as_ref().map(ToString::to_string).unwrap_or_default(),
        monthly_nano_usd: budget.monthly.0,
        warn_percent: budget.warn_percent,
        spent_nano_usd: spent.round().0,
        spent_percent: percent,
        warning: percent >= budget.warn_percent,
        unreadable_records: *unreadable,
    }
}

/// Places that nobody knows, each told once.
fn doubts(book: &Book, request: &WhatIfCostRequest) -> Vec<String> {
    let flows = request.matrix.iter().enumerate().flat_map(|(number, flow)| {
        [("source", &flow.source), ("destination", &flow.destination)]
            .map(|(name, text)| (format!("matrix[{number}].{name}"), text))
    });
    let moves = request.moves.iter().enumerate().flat_map(|(number, TrafficMove { what, to })| {
        let region = what.contains('/').then_some(("what", what));
        let named = region.into_iter().chain([("to", to)]);
        named.map(move |(name, text)| (format!("moves[{number}].{name}"), text))
    });
    let mut told = BTreeSet::new();
    let doubt = |(field, text): (String, &String)| {
        let Place { provider, region, .. } = text.parse::<Place>().ok()?;
        let doubt = book.doubt(&provider.unwrap_or_default(), &region.unwrap_or_default())?;
        told.insert(doubt.clone()).then(|| format!("{field}: {doubt}"))
    };
    flows.chain(moves).filter_map(doubt).take(MAX_WARNINGS).collect()
}

fn unused(TrafficMove { what, .. }: &TrafficMove) -> String {
    format!("{what:?} moves, and this traffic has nothing of it")
}

fn unsure(bytes: u64) -> String {
    let megabytes = bytes.div_ceil(1_000_000);
    format!(
        "moves: bytes are kept by place, not by pair of hosts; of {megabytes} MB it is not known how many went between hosts that move, \
         and they are taken to be spread evenly"
    )
}

fn rules(texts: &[String]) -> Result<Vec<WhatIfRule>, CallError> {
    let all = WhatIfRule::WORDS.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let texts = if texts.is_empty() { &all } else { texts };
    let read = |(number, text): (usize, &String)| required(&format!("rule_types[{number}]"), text);
    Ok(texts.iter().enumerate().map(read).collect::<Result<_, _>>()?)
}

fn matrix(flows: &[TrafficFlow]) -> Result<Matrix, CallError> {
    if flows.len() > MAX_FLOWS {
        return Err(CallError::invalid("matrix", format_args!("has {} flows; use at most {MAX_FLOWS}", flows.len())));
    }
    let mut matrix = Matrix::default();
    for (number, TrafficFlow { source, destination, scope, bytes }) in flows.iter().enumerate() {
        let field = |name: &str| format!("matrix[{number}].{name}");
        let flow = Flow {
            from: required(&field("source"), source)?,
            to: required(&field("destination"), destination)?,
            scope: optional(&field("scope"), scope)?.unwrap_or(Scope::Public),
        };
        matrix.add(flow, *bytes);
    }
    Ok(matrix)
}

fn scenarios(
    book: &Book,
    before: &Matrix,
    after: Option<&Matrix>,
    rules: &[WhatIfRule],
    at: Date,
) -> Vec<CostScenario> {
    let scenario = |name: String, matrix: &Matrix, rule| {
        let priced = priced(book, matrix, rule, at);
        CostScenario {
            name,
            bytes: matrix.flows().fold(0, |sum: u64, (_, bytes)| sum.saturating_add(bytes)),
            cost_nano_usd: priced.spent.round().0,
            unpriced_bytes: priced.unpriced,
            estimated_bytes: priced.estimated,
        }
    };
    let mut scenarios = vec![scenario("as it went".to_owned(), before, None)];
    scenarios.extend(after.map(|after| scenario("moved".to_owned(), after, None)));
    let last = after.unwrap_or(before);
    scenarios.extend(rules.iter().map(|rule| scenario(rule.to_string(), last, Some(*rule))));
    scenarios
}
