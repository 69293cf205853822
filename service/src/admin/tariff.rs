//! Tariffs, as `cladnet.v1` shows them.

use std::{collections::BTreeSet, net::IpAddr};

use cladnet_model::{
    CloudLocation, HostId, Scope,
    location::injected,
    tariff::{Book, Class, End, Origin, PoolUsage, TariffRecord, cost},
};
use cladnet_proto::{
    cladnet::v1::{
        CheckTariffOverridesRequest, CheckTariffOverridesResponse, GetTariffBookRequest, GetTariffImportsRequest,
        GetTariffOverridesRequest, ImportTariffRequest, ListTariffRulesRequest, ListTariffRulesResponse,
        QuoteTariffRequest, SetTariffOverridesRequest, TariffBook, TariffOverrides, TariffPlace, TariffQuote,
        tariff_service_server::TariffService,
    },
    convert::{self, FieldError, optional},
};
use cladnet_store::Versioned;
use jiff::civil::Date;
use tonic::{Request, Response, Status, async_trait};

use super::Admin;
use crate::{
    auth::Caller,
    error::CallError,
    page::{Order, Page},
    tariffs::Stated,
};

#[async_trait]
impl TariffService for Admin {
    async fn get_tariff_book(&self, _: Request<GetTariffBookRequest>) -> Result<Response<TariffBook>, Status> {
        Ok(Response::new(convert::tariff_book(&self.0.tariff_book().await?)))
    }

    async fn list_tariff_rules(
        &self,
        request: Request<ListTariffRulesRequest>,
    ) -> Result<Response<ListTariffRulesResponse>, Status> {
        let request = request.into_inner();
        let page = Page { size: request.page_size, token: &request.page_token };
        let class: Option<Class> = optional("class", &request.class)?;
        if let Some(class @ (Class::Interconnect | Class::Surcharge)) = class {
            return Err(CallError::invalid("class", format_args!("is {class}; the overrides hold those")).into());
        }
        let book = self.0.tariff_book().await?;
        let doubt = book.doubt(&request.provider, "").filter(|_| !request.provider.is_empty());
        if let Some(doubt) = doubt {
            return Err(CallError::invalid("provider", doubt).into());
        }
        let wanted = |provider: &&str| request.provider.is_empty() || request.provider == **provider;
        let mut rules = Vec::new();
        for provider in book.providers().filter(wanted) {
            let is_wanted = |entry: &cladnet_model::tariff::RuleEntry| {
                class.is_none_or(|class| entry.class == class)
                    && (request.region.is_empty() || book.names(provider, entry, &request.region))
            };
            let of_provider = book.rules(provider).filter(|(_, entry)| is_wanted(entry));
            rules.extend(of_provider.map(|(rule, entry)| convert::tariff_rule(provider, rule, entry)));
        }
        rules.sort_by(|one, other| one.id.cmp(&other.id));
        let (rules, next_page_token) = page.cut(rules, Order::Rising, |rule| &rule.id)?;
        Ok(Response::new(ListTariffRulesResponse { rules, next_page_token }))
    }

    async fn quote_tariff(&self, request: Request<QuoteTariffRequest>) -> Result<Response<TariffQuote>, Status> {
        let QuoteTariffRequest { from, to, scope, date } = request.into_inner();
        let from = Place::read("from", from)?;
        let to = Place::read("to", to)?;
        let scope = optional("scope", &scope)?.unwrap_or(Scope::Public);
        let date: Date = optional("date", &date)?.unwrap_or_else(|| self.0.today());
        let book = self.0.tariff_book().await?;
        let quote = cost(&book, from.end(), to.end(), scope, date, &PoolUsage::FirstPaid);
        let doubt = |(field, place): (&str, &Place)| Some(format!("{field}: {}", place.doubt(&book)?));
        let warnings = [("from", &from), ("to", &to)].into_iter().filter_map(doubt).collect();
        Ok(Response::new(TariffQuote { warnings, ..convert::tariff_quote(&quote, &book) }))
    }

    async fn get_tariff_overrides(
        &self,
        _: Request<GetTariffOverridesRequest>,
    ) -> Result<Response<TariffOverrides>, Status> {
        Ok(Response::new(kept(self.0.tariff(Origin::Operator).await?)))
    }

    async fn set_tariff_overrides(
        &self,
        request: Request<SetTariffOverridesRequest>,
    ) -> Result<Response<TariffOverrides>, Status> {
        let caller = Caller::of(&request)?;
        let SetTariffOverridesRequest { document, expected_version } = request.into_inner();
        let stated =
            self.0.set_tariff(&document, expected_version, caller.key.as_str()).await.map_err(within_document)?;
        Ok(Response::new(wire(stated)))
    }

    async fn check_tariff_overrides(
        &self,
        request: Request<CheckTariffOverridesRequest>,
    ) -> Result<Response<CheckTariffOverridesResponse>, Status> {
        let (_, warnings) = self.0.check_tariff(&request.into_inner().document).await.map_err(within_document)?;
        Ok(Response::new(CheckTariffOverridesResponse { warnings: convert::tariff_warnings(&warnings) }))
    }

    async fn get_tariff_imports(
        &self,
        _: Request<GetTariffImportsRequest>,
    ) -> Result<Response<TariffOverrides>, Status> {
        Ok(Response::new(kept(self.0.tariff(Origin::Imported).await?)))
    }

    async fn import_tariff(&self, request: Request<ImportTariffRequest>) -> Result<Response<TariffOverrides>, Status> {
        let caller = Caller::of(&request)?;
        let ImportTariffRequest { provider, document } = request.into_inner();
        let known: BTreeSet<String> = Book::shipped().providers().map(str::to_owned).collect();
        if !known.contains(&provider) {
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            return Err(CallError::invalid("provider", format!("is {provider:?}; use one of {known}")).into());
        }
        let stated = self.0.import_tariff(&provider, &document, caller.key.as_str()).await.map_err(within_document)?;
        Ok(Response::new(wire(stated)))
    }
}

fn kept(record: Option<Versioned<TariffRecord>>) -> TariffOverrides {
    convert::tariff_overrides(record.map(|record| record.value).as_ref(), &[])
}

fn wire((record, warnings): Stated) -> TariffOverrides {
    convert::tariff_overrides(record.as_ref(), &warnings)
}

/// The paths of a document's faults begin at the document.
fn within_document(mut error: CallError) -> CallError {
    for field in error.fields().iter_mut().filter(|field| field.field != "document") {
        field.field = format!("document.{}", field.field);
    }
    error
}

/// An end of a path, as a caller gives it.
struct Place {
    location: CloudLocation,
    host: Option<HostId>,
    address: Option<IpAddr>,
}

impl Place {
    fn read(field: &str, place: Option<TariffPlace>) -> Result<Self, CallError> {
        let TariffPlace { provider, account, region, zone, vpc, host_id, address } = place.unwrap_or_default();
        let mut location = CloudLocation::default();
        let fields = [("provider", provider), ("account", account), ("region", region), ("zone", zone), ("vpc", vpc)];
        for (name, value) in fields {
            let value = injected(name, &value).map_err(|error| FieldError::new(format!("{field}.{name}"), error))?;
            if let Some(slot) = location.slot(name) {
                *slot = value;
            }
        }
        let host = optional(&format!("{field}.host_id"), &host_id)?;
        Ok(Self { location, host, address: optional(&format!("{field}.address"), &address)? })
    }

    /// What is odd of its names.
    fn doubt(&self, book: &Book) -> Option<String> {
        let value = |field| self.location.get(field).map_or("", |located| located.value.as_str());
        if value("provider").is_empty() { None } else { book.doubt(value("provider"), value("region")) }
    }

    fn end(&self) -> End<'_> {
        End { location: &self.location, host: self.host.as_ref(), address: self.address }
    }
}
