//! The gRPC channel of agents and the CLI: HTTP/2 over our TLS configurations, which tonic's own cannot express, to
//! whichever of several replicas answers first. A channel reconnects by itself and then tries all of them again.

mod dial;
mod url;

use std::time::Duration;

use http::Uri;
use rustls::ClientConfig;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::SERVICE_NAME;
use dial::Dialer;
pub use dial::{ConnectError, DialError};
pub use url::{DEFAULT_PORT, ServiceUrl, UrlError};

/// Between two signs of life of an idle connection; below the 30 s after which the first NATs forget a TCP connection.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// A connection whose sign of life is not answered for so long is dead.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of one answer that may come unread (RFC 9113 §6.9.2: the default): a connection's window is a multiple of it.
const STREAM_WINDOW: u32 = 65_535;

/// Connects now, so that a wrong address, authority or pin is told apart; see [`ConnectError`].
pub async fn connect(services: &[ServiceUrl], tls: ClientConfig) -> Result<Channel, ConnectError> {
    let dialer = Dialer::new(services, tls);
    let probe = dialer.clone();
    let connector = service_fn(move |_: Uri| probe.clone().dial());
    endpoint()
        .connect_with_connector(connector)
        .await
        .map_err(|error| ConnectError::find(&error).unwrap_or_else(|| dialer.refused(error)))
}

/// Connects at the first request, which then carries the failure: [`ConnectError::find`] digs it out of a status.
pub fn connect_lazy(services: &[ServiceUrl], tls: ClientConfig) -> Channel {
    let dialer = Dialer::new(services, tls);
    endpoint().connect_with_connector_lazy(service_fn(move |_: Uri| dialer.clone().dial()))
}

/// As [`connect_lazy`], for a program that hands on the requests of others, `streams` of them at a time: however many of them
/// read nothing of their answers, the others' flow.
pub fn connect_lazy_for_many(services: &[ServiceUrl], tls: ClientConfig, streams: u32) -> Channel {
    let dialer = Dialer::new(services, tls);
    endpoint()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW.saturating_mul(streams))
        .connect_with_connector_lazy(service_fn(move |_: Uri| dialer.clone().dial()))
}

/// The scheme of the endpoint is `http` because TLS is the connector's business; requests say `https`.
fn endpoint() -> Endpoint {
    let origin = format!("https://{SERVICE_NAME}").parse().expect("a fixed URI");
    Endpoint::from_shared(format!("http://{SERVICE_NAME}"))
        .expect("a fixed URI")
        .origin(origin)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
}
