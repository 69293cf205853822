//! Events, as `cladnet.v1` shows them: the kept ones, and new ones as they happen.

use cladnet_proto::cladnet::v1::{
    Event, ListEventsRequest, ListEventsResponse, WatchEventsRequest, event_service_server::EventService,
};
use cladnet_store::{Change, StoreError, key};
use futures_util::{StreamExt as _, stream};
use tonic::{Request, Response, Status, async_trait};

use super::{
    Admin, optional_network,
    stream::{Messages, Place, bounded},
};
use crate::{
    auth::Caller,
    error::CallError,
    page::{Order, Page},
};

#[async_trait]
impl EventService for Admin {
    type WatchEventsStream = Messages<Event>;

    async fn list_events(&self, request: Request<ListEventsRequest>) -> Result<Response<ListEventsResponse>, Status> {
        let request = request.into_inner();
        let page = Page { size: request.page_size, token: &request.page_token };
        let network = optional_network(&request.network_id)?;
        let events = self.0.events(network.as_ref()).await.map_err(CallError::from)?;
        let (events, next_page_token) = page.cut(events, Order::Falling, |event| event.id.as_str())?;
        Ok(Response::new(ListEventsResponse { events: events.iter().map(Event::from).collect(), next_page_token }))
    }

    async fn watch_events(&self, request: Request<WatchEventsRequest>) -> Result<Response<Messages<Event>>, Status> {
        let caller = Caller::of(&request)?;
        let place = Place::take(&self.0, &caller)?;
        let network = optional_network(&request.into_inner().network_id)?;
        let now = self.0.store.list(&key::events()).await.map_err(CallError::from)?.revision;
        let watch = self.0.store.watch(&key::events(), now).await.map_err(CallError::from)?;
        let batches = stream::unfold(Some(watch), async |watch| {
            let mut watch = watch?;
            match watch.next().await {
                Ok(batch) => Some((Ok(batch.changes), Some(watch))),
                Err(error) => Some((Err(ended(error)), None)),
            }
        });
        let events = batches.flat_map(move |batch| {
            let wanted = |event: &cladnet_model::Event| network.is_none() || event.network == network;
            let events: Vec<Result<Event, Status>> = match batch {
                Err(status) => vec![Err(status)],
                Ok(changes) => changes
                    .into_iter()
                    .filter_map(|change| match change {
                        Change::Put(event) if wanted(&event.value) => Some(Ok(Event::from(&event.value))),
                        _ => None,
                    })
                    .collect(),
            };
            stream::iter(events)
        });
        Ok(Response::new(bounded(&self.0, caller, place, now, events)))
    }
}

fn ended(error: StoreError) -> Status {
    match error {
        StoreError::Compacted => Status::aborted("events came faster than they were read; watch again"),
        error => CallError::from(error).into(),
    }
}
