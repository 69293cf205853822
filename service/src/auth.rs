//! Who calls, and whether they may: the one place where every gRPC call passes, and with it every REST call.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use cladnet_model::{Action, ApiKeyText, KeyId, Role};
use cladnet_store::key;
use http::{Extensions, HeaderMap, header};
use tonic::Status;
use tracing::info;

use crate::{
    Connection, Service,
    access::{self, Access},
    error::CallError,
    rate::{Limiter, RateLimit},
};

/// The bearer of an API key, in the extensions of every call that needed one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) key: KeyId,
    pub(crate) role: Role,
}

impl Caller {
    /// The caller of an RPC whose access is [`Access::Key`].
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Result<Self, CallError> {
        request
            .extensions()
            .get::<Self>()
            .cloned()
            .ok_or_else(|| CallError::Internal("the call reached its handler without a caller".to_owned()))
    }
}

/// That a call may be made, and by whom. Only [`admit`] makes it. REST asks before it reads a body and hands this on in
/// the extensions of the call it then makes, which the network cannot fill.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    rpc: &'static str,
    caller: Option<Caller>,
}

/// Wrong credentials that one network of addresses may show before it is told to wait. Right ones are never kept waiting by
/// a neighbour's wrong ones.
const FAILURES: RateLimit = RateLimit { burst: 30, every: Duration::from_secs(2) };

/// Enrolments of one network of addresses: a thousand machines behind one NAT are welcome all at once.
const ENROLMENTS: RateLimit = RateLimit { burst: 2_000, every: Duration::from_millis(10) };

/// What is counted per network of addresses.
#[derive(Debug)]
pub(crate) struct Gates {
    failures: Limiter<IpAddr>,
    enrolments: Limiter<IpAddr>,
}

impl Default for Gates {
    fn default() -> Self {
        Self { failures: FAILURES.limiter(), enrolments: ENROLMENTS.limiter() }
    }
}

/// Lets a call through to its handler, with its [`Caller`] in the extensions, or refuses it.
pub(crate) async fn authorize(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let admitted = match parts.extensions.remove::<Admission>() {
        Some(admission) if admission.rpc == parts.uri.path() => Ok(admission),
        _ => admit(&service, parts.uri.path(), &parts.headers, &parts.extensions).await,
    };
    match admitted {
        Ok(Admission { caller, .. }) => {
            caller.map(|caller| parts.extensions.insert(caller));
            next.run(Request::from_parts(parts, body)).await
        }
        Err(error) => Status::from(error).into_http(),
    }
}

/// Decides whether whoever sent these headers over this connection may call `rpc`, by [`access`]'s table.
pub(crate) async fn admit(
    service: &Service,
    rpc: &str,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Result<Admission, CallError> {
    let (rpc, access) = access::of(rpc).ok_or_else(|| CallError::Unimplemented(format!("there is no RPC {rpc}")))?;
    let connection = extensions.get::<Connection>();
    let source = connection.map(|connection| neighbourhood(connection.remote.ip()));
    let too_many = |limiter: &Limiter<IpAddr>| source.is_some_and(|source| !limiter.take(source, service.clock.now()));
    let slow_down = |what| Err(CallError::TooMany(format!("too many {what} from your network; wait a moment")));
    let caller = match access {
        Access::Open => Ok(None),
        Access::Enrolment if too_many(&service.gates.enrolments) => return slow_down("enrolments"),
        Access::Enrolment => Ok(None),
        Access::Host if connection.is_some_and(|connection| connection.certificate.is_some()) => Ok(None),
        Access::Host => Err(CallError::Unauthenticated(
            "this call is for agents: it needs the client certificate of an enrolled host".to_owned(),
        )),
        Access::Key(action) => match caller(service, headers).await {
            Ok(caller) if !caller.role.may(action) => Err(too_weak(caller.role, action)),
            known => known.map(Some),
        },
    };
    if let Err(error) = &caller {
        info!(rpc, from = connection.map(|connection| tracing::field::display(connection.remote)), %error, "call refused");
    }
    match caller {
        Err(CallError::Unauthenticated(_)) if too_many(&service.gates.failures) => slow_down("wrong credentials"),
        caller => Ok(Admission { rpc, caller: caller? }),
    }
}

/// Finds the caller by the key in `Authorization`.
async fn caller(service: &Service, headers: &HeaderMap) -> Result<Caller, CallError> {
    let refused = |reason: &str| CallError::Unauthenticated(reason.to_owned());
    let Some(header) = headers.get(header::AUTHORIZATION) else {
        return Err(refused("an API key is needed: send the header \"Authorization: Bearer cladnet_key_…\""));
    };
    let text = header.to_str().ok().and_then(|text| {
        let (scheme, key) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key)
    });
    let text = text.ok_or_else(|| refused("the Authorization header must be \"Bearer cladnet_key_…\""))?;
    let shown: ApiKeyText = text.parse().map_err(|error| refused(&format!("the API key {error}")))?;
    // One answer for an unknown, a wrong, a revoked and an expired key: a guesser learns nothing.
    match service.store.get(&key::api_key(shown.id())).await? {
        Some(record) if record.value.admits(&shown, service.clock.now()) => {
            Ok(Caller { key: record.value.id, role: record.value.role })
        }
        _ => Err(refused("the API key is not valid: it is wrong, expired or revoked")),
    }
}

fn too_weak(role: Role, action: Action) -> CallError {
    let roles: Vec<&str> =
        Role::WORDS.iter().filter(|word| word.parse::<Role>().is_ok_and(|role| role.may(action))).copied().collect();
    CallError::Denied(format!("a key of role {role} may not {action}; use one of role {}", roles.join(" or ")))
}

/// The network that an address most likely shares with its owner's other addresses: /24, or /64 of IPv6.
pub(crate) fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            IpAddr::from([a, b, c, 0])
        }
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests;
