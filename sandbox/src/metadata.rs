//! The instance metadata services of the sandbox's VMs: one process that listens inside every router's namespace, knows a
//! VM by its address and answers as its provider would.
//!
//! What is answered follows from the record as it is at that moment ([`facts`]), so a changed public address shows at once.
//! The providers' modules are pure: a [`Question`] and [`Facts`] give an [`Answer`].

mod alibaba;
mod aws;
mod azure;
mod facts;
mod gcp;
mod openstack;
mod tokens;
mod tree;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use nix::sched::CloneFlags;

use crate::directory::Directory;
use crate::error::{Doing, Result};
use crate::topology::Provider;
use crate::wan::router_process;
use crate::{namespace, process};
use facts::Facts;
use tokens::Tokens;

/// The name under which the process is recorded.
pub(crate) const PROCESS_NAME: &str = "metadata";

const LINK_LOCAL: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const ALIBABA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);

/// Every address that some provider's service has.
pub(crate) const ADDRESSES: [Ipv4Addr; 2] = [LINK_LOCAL, ALIBABA];

/// Where a provider's service answers; none where this sandbox has no such service.
pub(crate) fn address(provider: Provider) -> Option<Ipv4Addr> {
    match provider {
        Provider::Aws | Provider::Azure | Provider::Gcp | Provider::Openstack => Some(LINK_LOCAL),
        Provider::Alibaba => Some(ALIBABA),
        Provider::Ibm | Provider::Kt | Provider::Ncp | Provider::Nhn | Provider::Oracle | Provider::Tencent => None,
    }
}

/// A request, as far as a provider looks at it.
struct Question<'a> {
    method: &'a Method,
    path: &'a str,
    query: &'a str,
    headers: &'a HeaderMap,
}

impl Question<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The value of a parameter; none of the providers' parameters is ever percent-encoded.
    fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }
}

/// A response.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: StatusCode,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Answer {
    fn text(body: impl Into<String>) -> Self {
        Self { status: StatusCode::OK, headers: vec![("content-type", "text/plain".into())], body: body.into() }
    }

    fn json(value: &serde_json::Value) -> Self {
        Self {
            status: StatusCode::OK,
            headers: vec![("content-type", "application/json".into())],
            body: value.to_string(),
        }
    }

    fn refused(status: StatusCode, body: impl Into<String>) -> Self {
        Self { status, headers: vec![("content-type", "text/plain".into())], body: body.into() }
    }

    fn not_found() -> Self {
        Self::refused(StatusCode::NOT_FOUND, "404 - Not Found\n")
    }

    fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// What a listener knows: whose VMs ask it.
struct Service {
    directory: Directory,
    vpc: String,
    provider: Provider,
    tokens: Tokens,
}

/// Becomes the process that answers. Returns only when it cannot go on.
pub(crate) fn run(directory: &Directory, name: &str) -> Result<()> {
    let readiness = process::detach(directory, name, CloneFlags::empty())?;
    match listen(directory) {
        Ok(listeners) => {
            readiness.ready()?;
            serve(listeners)
        }
        Err(error) => {
            readiness.failed(&error);
            Err(error)
        }
    }
}

fn listen(directory: &Directory) -> Result<Vec<(TcpListener, Service)>> {
    let state = directory.load()?;
    let mut listeners = Vec::new();
    for vpc in &state.topology.vpcs {
        let Some(address) = address(vpc.provider) else { continue };
        let router = directory.process(&router_process(&vpc.name))?.namespace("net")?;
        let listener = namespace::inside(&router, || {
            let listener =
                TcpListener::bind((address, 80)).doing(|| format!("listen on {address}:80 of {}", vpc.name))?;
            listener.set_nonblocking(true).doing(|| "make a listener non-blocking".into())?;
            Ok(listener)
        })?;
        let (directory, provider) = (directory.clone(), vpc.provider);
        listeners.push((listener, Service { directory, vpc: vpc.name.clone(), provider, tokens: Tokens::default() }));
    }
    Ok(listeners)
}

fn serve(listeners: Vec<(TcpListener, Service)>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.doing(|| "start a runtime".into())?.block_on(async {
        for (listener, service) in listeners {
            let listener = tokio::net::TcpListener::from_std(listener).doing(|| "listen for requests".into())?;
            let router = Router::new().fallback(respond).with_state(Arc::new(service));
            let server = axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>());
            tokio::spawn(async move { server.await });
        }
        std::future::pending().await
    })
}

async fn respond(
    State(service): State<Arc<Service>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request<Body>,
) -> Response<Body> {
    let facts = service.directory.load().ok().and_then(|state| Facts::of(&state, &service.vpc, client.ip()));
    let answer = match &facts {
        Some(facts) => {
            let (method, headers, uri) = (request.method(), request.headers(), request.uri());
            let question = Question { method, path: uri.path(), query: uri.query().unwrap_or_default(), headers };
            service.answer(&question, facts)
        }
        None => Answer::not_found(),
    };
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = answer.status;
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}

impl Service {
    fn answer(&self, question: &Question<'_>, facts: &Facts) -> Answer {
        match self.provider {
            Provider::Aws => aws::answer(question, facts, &self.tokens),
            Provider::Azure => azure::answer(question, facts),
            Provider::Gcp => gcp::answer(question, facts),
            Provider::Openstack => openstack::answer(question, facts),
            Provider::Alibaba => alibaba::answer(question, facts, &self.tokens),
            Provider::Ibm | Provider::Kt | Provider::Ncp | Provider::Nhn | Provider::Oracle | Provider::Tencent => {
                Answer::not_found()
            }
        }
    }
}

#[cfg(test)]
mod tests;
