//! Keeps the view current and wakes whom a change concerns. One watch per replica, whatever the number of agents.

use std::sync::Arc;

use cladnet_model::HostId;
use cladnet_store::{AnyRecord, Update, key};
use tonic::Status;

use super::{
    Shared, commands,
    streams::replaced,
    view::{Changes, View},
};

/// Follows the store until the replica stops, or until no more can be heard of the store.
pub(super) async fn run(shared: &Arc<Shared>) {
    let mut updates = shared.parts.store.follow(&key::everything());
    let _ = shared.stale.set(updates.stale_since()); // runs once
    loop {
        let update = tokio::select! {
            update = updates.next() => update,
            () = shared.parts.shutdown.cancelled() => None,
        };
        let Some(update) = update else { break };
        take(shared, update);
    }
}

fn take(shared: &Arc<Shared>, update: Update<AnyRecord>) {
    let (changes, revision) = {
        let mut view = shared.view.write().expect("no holder of this lock panics");
        (view.apply(update), view.revision())
    };
    shared.revision.send_replace(revision.unwrap_or(i64::MIN));
    if changes.reset {
        shared.streams.end_all(&Status::aborted("the store was restored; connect again"));
        return;
    }
    let view = shared.view();
    wake(shared, &view, &changes);
    for host in &changes.presences {
        look_at_presence(shared, &view, host);
    }
    drop(view);
    for change in changes.commands {
        commands::take(shared, change);
    }
}

fn wake(shared: &Shared, view: &View, changes: &Changes) {
    for network in &changes.networks {
        shared.streams.wake(view.members(network));
    }
    shared.streams.wake(changes.hosts.iter());
    if changes.tariffs {
        shared.streams.wake_all();
    }
}

/// A stream that another replica took over ends here; a presence that vanished under a living stream is written again, and
/// of one that vanished with its stream it is told that the host is gone.
pub(super) fn look_at_presence(shared: &Shared, view: &View, host: &HostId) {
    let Some(handle) = shared.streams.get(host) else {
        if view.is_lost(host) {
            shared.streams.touch(host);
        }
        return;
    };
    let claimed = handle.claimed();
    match view.presence(host) {
        Some((presence, written))
            if presence.replica != shared.parts.replica && claimed.get() > 0 && *written > claimed =>
        {
            handle.end(replaced());
        }
        Some(_) => {}
        None if claimed.get() > 0 => shared.streams.touch(host),
        None => {}
    }
}
