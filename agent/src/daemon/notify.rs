//! Telling the service manager how we are (sd_notify(3)); without one nothing is told.

use std::{
    env,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

/// The control socket listens and the last configuration is applied.
pub(super) fn ready() {
    send("READY=1");
}

/// The watchdog's sign of life.
pub(super) fn alive() {
    send("WATCHDOG=1");
}

pub(super) fn stopping() {
    send("STOPPING=1");
}

fn send(state: &str) {
    let Some(name) = env::var_os("NOTIFY_SOCKET") else { return };
    let address = match name.as_bytes() {
        [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name),
        _ => SocketAddr::from_pathname(&name),
    };
    // Nobody listening is the manager's business.
    let _ = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
}
