//! The bill of this installation: bytes from the store, priced by the book in force. Nothing of it is kept; budgets are.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use cladnet_model::{
    HostId, HostUsage, NetworkId,
    bill::{self, Bill, Budget, By, Period, Warned},
    tariff::{AttoUsd, Book},
    usage::oldest_kept,
};
use cladnet_store::{Key, Listing, StoreError, Versioned, key};
use jiff::civil::Date;
use tokio::sync::MutexGuard;
use tracing::warn;

use crate::{Service, agents::usage::day, error::CallError, events::Note, networks::TRIES};

/// Mean time between two looks at the budgets.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// A budget with what is spent of it this month.
pub(crate) struct Standing {
    pub(crate) budget: Budget,
    pub(crate) spent: AttoUsd,
    /// Records of this month's usage that cannot be read.
    pub(crate) unreadable: u32,
}

/// What hosts exchanged, as it is kept.
#[derive(Debug, Default)]
pub(crate) struct Usages {
    pub(crate) hosts: Vec<HostUsage>,
    /// Records that cannot be read: what they hold is missing. The log names them.
    pub(crate) unreadable: u32,
}

impl Usages {
    fn add(&mut self, day: Listing<HostUsage>) {
        for record in &day.undecodable {
            warn!(key = record.key, error = &record.error as &dyn std::error::Error, "usage cannot be read");
            self.unreadable = self.unreadable.saturating_add(1);
        }
        self.hosts.extend(day.items.into_iter().flat_map(|item| item.value.of_each_host()));
    }
}

/// A bill, the prices that it is made by, and how many records of usage are missing in it.
pub(crate) struct Billed {
    pub(crate) bill: Bill,
    pub(crate) book: Arc<Book>,
    pub(crate) unreadable: u32,
}

impl Service {
    /// Today, by this replica's clock.
    pub(crate) fn today(&self) -> Date {
        day(self.clock.now())
    }

    /// The prices in force.
    pub(crate) async fn prices(&self) -> Result<Arc<Book>, CallError> {
        Ok(Arc::new(self.tariff_book().await?))
    }

    /// The days that somebody names; this month so far, if nobody does.
    pub(crate) fn period(&self, from: Option<Date>, to: Option<Date>) -> Result<Period, CallError> {
        let today = self.today();
        let to = to.unwrap_or(today);
        let from = from.unwrap_or(to.first_of_month());
        if to > today {
            return Err(CallError::invalid("to", format_args!("is {to}; today is {today}")));
        }
        if from > to {
            return Err(CallError::invalid("from", format_args!("is {from}, after {to}")));
        }
        let oldest = oldest_kept(today);
        if from < oldest {
            return Err(CallError::invalid("from", format_args!("is {from}; usage is kept since {oldest}")));
        }
        Ok(Period { from, to })
    }

    /// What hosts exchanged on these days, plain peers included. While the guard is held nobody else reads any.
    pub(crate) async fn usages(
        &self,
        days: impl Iterator<Item = Date>,
    ) -> Result<(Usages, MutexGuard<'_, ()>), CallError> {
        let alone = self.billing.lock().await;
        let mut usages = Usages::default();
        for day in days {
            usages.add(self.store.list(&key::usages(day)).await?);
        }
        Ok((usages, alone))
    }

    /// The bill of a period.
    pub(crate) async fn bill(&self, period: Period, network: Option<NetworkId>, by: By) -> Result<Billed, CallError> {
        let book = self.prices().await?;
        let (Usages { hosts, unreadable }, _alone) = self.usages(period.counted()).await?;
        let priced = book.clone();
        let made = tokio::task::spawn_blocking(move || bill::bill(&priced, &hosts, period, network.as_ref(), by));
        let bill = made.await.map_err(|error| CallError::Internal(format!("the bill was not made: {error}")))?;
        Ok(Billed { bill, book, unreadable })
    }

    /// Names of hosts that there are.
    pub(crate) async fn host_names(&self) -> Result<BTreeMap<HostId, String>, CallError> {
        let hosts = self.store.list(&key::hosts()).await?.items;
        Ok(hosts.into_iter().map(|host| (host.value.id, host.value.facts.name)).collect())
    }

    /// Every budget, that of all networks first.
    pub(crate) async fn budgets(&self) -> Result<Vec<Standing>, CallError> {
        let budgets = self.budget_records().await?;
        if budgets.is_empty() {
            return Ok(Vec::new());
        }
        let Billed { bill, unreadable, .. } = self.bill(Period::month_to_date(self.today()), None, By::Network).await?;
        let standing = |record: Versioned<Budget>| Standing {
            spent: spent(&bill, &record.value),
            budget: record.value,
            unreadable,
        };
        Ok(budgets.into_iter().map(standing).collect())
    }

    async fn budget_records(&self) -> Result<Vec<Versioned<Budget>>, CallError> {
        let all = self.store.get(&key::budget_of_all()).await?;
        Ok(all.into_iter().chain(self.store.list(&key::budgets()).await?.items).collect())
    }

    /// Sets a budget in place of the one before. What was warned of is forgotten: another budget has other marks.
    pub(crate) async fn set_budget(&self, budget: Budget, actor: &str) -> Result<Standing, CallError> {
        self.write_budget(&budget, actor).await?;
        let Billed { bill, unreadable, .. } = self.bill(Period::month_to_date(self.today()), None, By::Network).await?;
        Ok(Standing { spent: spent(&bill, &budget), budget, unreadable })
    }

    /// A network that is deleted meanwhile leaves none to a later one of its id.
    async fn write_budget(&self, budget: &Budget, actor: &str) -> Result<(), CallError> {
        let network = budget.network.as_ref();
        for _ in 0..TRIES {
            let mut transaction = self.store.transaction().put(&budget_key(network), budget);
            if let Some(network) = network {
                transaction = transaction.exists(&self.network(network).await?.key);
            }
            let message = format!("{} may cost {:.2} USD a month", whose(network), budget.monthly);
            let note = Note { kind: "budget.set", network, host: None, actor, message };
            match self.note(transaction, note).commit().await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(contended())
    }

    pub(crate) async fn remove_budget(&self, network: Option<&NetworkId>, actor: &str) -> Result<(), CallError> {
        let key = budget_key(network);
        for _ in 0..TRIES {
            let found = self.store.get(&key).await?;
            let found = found.ok_or_else(|| CallError::NotFound(format!("{} has no budget", whose(network))))?;
            let message = format!("{} has no budget any more", whose(network));
            let note = Note { kind: "budget.removed", network, host: None, actor, message };
            let transaction = self.store.transaction().unchanged(&key, found.modified).delete(&key);
            match self.note(transaction, note).commit().await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(contended())
    }

    /// Warns of every budget that has passed a mark; of each mark once a month, whichever replica sees it.
    pub(crate) async fn warn_of_budgets(&self) -> Result<(), CallError> {
        let budgets = self.budget_records().await?;
        if budgets.is_empty() {
            return Ok(());
        }
        let today = self.today();
        let Billed { bill, .. } = self.bill(Period::month_to_date(today), None, By::Network).await?;
        for record in budgets {
            let spent = spent(&bill, &record.value);
            if let Some(due) = record.value.due(today, spent) {
                self.warn_of(&record, due, spent).await?;
            }
        }
        Ok(())
    }

    async fn warn_of(&self, record: &Versioned<Budget>, due: Warned, spent: AttoUsd) -> Result<(), CallError> {
        let budget = Budget { warned: Some(due), ..record.value.clone() };
        let network = budget.network.as_ref();
        let message = format!(
            "{} has spent {:.2} of {:.2} USD this month, {} %",
            whose(network),
            spent.round(),
            budget.monthly,
            budget.percent(spent)
        );
        warn!(whose = whose(network), percent = budget.percent(spent), "a budget is nearly spent");
        let note = Note { kind: "budget.warning", network, host: None, actor: "service", message };
        let transaction = self.store.transaction().unchanged(&record.key, record.modified).put(&record.key, &budget);
        match self.note(transaction, note).commit().await {
            Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()), // another replica was faster
            Err(error) => Err(error.into()),
        }
    }
}

/// What this month has cost of what a budget is about.
fn spent(bill: &Bill, budget: &Budget) -> AttoUsd {
    match &budget.network {
        Some(network) => bill.by_network.get(network).copied().unwrap_or_default(),
        None => bill.total.spent,
    }
}

fn budget_key(network: Option<&NetworkId>) -> Key<Budget> {
    network.map_or_else(key::budget_of_all, key::budget)
}

fn whose(network: Option<&NetworkId>) -> String {
    network.map_or_else(|| "all networks together".to_owned(), |network| format!("network {network}"))
}

fn contended() -> CallError {
    CallError::Conflict("others keep changing this budget or its network; repeat the call".to_owned())
}

/// Looks at the budgets until the replica stops.
pub(crate) async fn warn_for_ever(service: &Service) {
    loop {
        tokio::time::sleep(LOOK_EVERY.mul_f64(rand::random_range(0.5..1.5))).await;
        if let Err(error) = service.warn_of_budgets().await {
            warn!(%error, "budgets not looked at");
        }
    }
}

#[cfg(test)]
mod tests {
    use cladnet_model::{Exchanged, Scope};

    use cladnet_store::{DecodeError, Undecodable};

    use super::*;
    use crate::agents::testing::*;

    #[tokio::test]
    async fn usage_that_cannot_be_read_is_counted_and_hides_no_other() {
        let house = House::with_network("n").await;
        let day = house.replica().await.service.today();
        let usage = HostUsage::new(network_id("n"), host_id("a"), day);
        house.store.put(&key::usage(day, &usage.network, &usage.host), &usage).await.unwrap();
        let mut listing = house.store.list(&key::usages(day)).await.unwrap();
        let strange = key::usage(day, &usage.network, &host_id("b")).to_string();
        listing.undecodable.push(Undecodable { key: strange, error: DecodeError::Newer { found: 9 } });
        let mut usages = Usages::default();
        usages.add(listing);
        assert_eq!((usages.unreadable, usages.hosts), (1, vec![usage]));
    }

    #[tokio::test]
    async fn every_mark_of_a_budget_is_warned_of_once_by_one_replica() {
        let house = House::with_network("n").await;
        let (one, other) = (house.replica().await, house.replica().await);
        let budget = Budget::check(Some(network_id("n")), 1_000_000_000, 50).unwrap();
        one.service.set_budget(budget, "test").await.unwrap();
        let today = one.service.today();
        let mut usage = HostUsage::new(network_id("n"), host_id("a"), today);
        let zone = |zone: &str| format!("aws/us-east-1/use1-az{zone}/vpc-1").parse().unwrap();
        let bytes = Exchanged { sent: 60 << 30, ..Exchanged::default() };
        for expected in [1, 2] {
            usage.add(&zone("1"), &zone("2"), Scope::Private, bytes);
            house.store.put(&key::usage(today, &usage.network, &usage.host), &usage).await.unwrap();
            for service in [&one.service, &other.service, &one.service] {
                service.warn_of_budgets().await.unwrap();
            }
            let events = house.store.list(&key::events()).await.unwrap().items;
            let warnings = events.iter().filter(|event| event.value.kind == "budget.warning").count();
            assert_eq!(warnings, expected);
        }
    }
}
