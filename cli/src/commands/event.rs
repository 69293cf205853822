//! `cladnet event`.

use cladnet_proto::cladnet::v1::{Event, ListEventsRequest, WatchEventsRequest};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use crate::{
    api::{Api, request},
    failure::Failure,
    output::{Output, Table, one_line},
};

#[derive(Debug, Subcommand)]
pub(crate) enum EventCommand {
    /// List what happened, the newest last
    ///
    ///   cladnet event list --network prod --follow
    #[command(verbatim_doc_comment)]
    List(ListArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Of this network only.
    #[arg(long, value_name = "NETWORK", default_value = "", hide_default_value = true)]
    network: String,
    /// How many to show.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Go on with new ones as they happen, until Ctrl-C.
    #[arg(long)]
    follow: bool,
}

pub(super) async fn run(api: &Api, out: Output, command: EventCommand) -> Result<(), Failure> {
    let EventCommand::List(args) = command;
    if args.follow { follow(api, out, args).await } else { list(api, out, &args).await }
}

async fn list(api: &Api, out: Output, args: &ListArgs) -> Result<(), Failure> {
    let ask = ListEventsRequest { network_id: args.network.clone(), page_size: args.limit, page_token: String::new() };
    let listed = api.events().list_events(request(ask)).await?.into_inner();
    out.show(&listed, |listed| {
        let oldest_first: Vec<_> = listed.events.iter().rev().collect();
        Table::of(["AT", "EVENT", "NETWORK", "HOST", "BY", "MESSAGE"], "no events", &oldest_first, |event| {
            [
                moment(event),
                event.kind.clone(),
                event.network_id.clone(),
                event.host_id.clone(),
                event.actor.clone(),
                event.message.clone(),
            ]
        })
    })
}

/// The watch starts before the list is read, so that nothing falls between the two.
async fn follow(api: &Api, out: Output, args: ListArgs) -> Result<(), Failure> {
    let watch = WatchEventsRequest { network_id: args.network.clone() };
    let mut new = api.events().watch_events(watch).await?.into_inner();
    let ask = ListEventsRequest { network_id: args.network, page_size: args.limit, page_token: String::new() };
    let mut listed = api.events().list_events(request(ask)).await?.into_inner().events;
    listed.reverse();
    listed.iter().try_for_each(|event| out.show_next(event, line))?;
    while let Some(event) = new.message().await? {
        if listed.iter().all(|seen| seen.event_id != event.event_id) {
            out.show_next(&event, line)?;
        }
    }
    Err(Failure::failed("the service ended the stream; start again to go on"))
}

fn line(event: &Event) -> String {
    let parts = [&moment(event), &event.kind, &event.network_id, &event.host_id, &event.actor, &event.message];
    let said: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).map(|part| one_line(part)).collect();
    said.join("  ")
}

fn moment(event: &Event) -> String {
    let at = event.at.and_then(|at| Timestamp::new(at.seconds, at.nanos).ok());
    at.map_or_else(String::new, |at| format!("{at:.3}"))
}
