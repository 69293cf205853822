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
use http::{HeaderMap, header, request::Parts};
use tonic::{Code, Status};

use crate::{
    Connection, Service,
    access::{self, Access},
    error::CallError,
    rate::RateLimit,
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

/// Failed credentials that one network of addresses may show before it has to wait.
const FAILURES: RateLimit = RateLimit { burst: 30, every: Duration::from_secs(2) };

/// Enrolments of one network of addresses: a thousand machines behind one NAT are still welcome within half a minute.
const ENROLMENTS: RateLimit = RateLimit { burst: 200, every: Duration::from_millis(10) };

/// What [`authorize`] counts per network of addresses.
#[derive(Debug)]
pub(crate) struct Gates {
    failures: crate::rate::Limiter<IpAddr>,
    enrolments: crate::rate::Limiter<IpAddr>,
}

impl Default for Gates {
    fn default() -> Self {
        Self { failures: FAILURES.limiter(), enrolments: ENROLMENTS.limiter() }
    }
}

/// Lets a call through to its handler, with its [`Caller`] in the extensions, or refuses it.
pub(crate) async fn authorize(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let Some(access) = access::of(parts.uri.path()) else {
        return Status::unimplemented(format!("there is no RPC {}", parts.uri.path())).into_http();
    };
    let source = parts.extensions.get::<Connection>().map(|connection| neighbourhood(connection.remote.ip()));
    match check(&service, access, source, &parts).await {
        Ok(Some(caller)) => drop(parts.extensions.insert(caller)),
        Ok(None) => {}
        Err(error) => {
            count_failure(&service, source, matches!(error, CallError::Unauthenticated(_)));
            return Status::from(error).into_http();
        }
    }
    let response = next.run(Request::from_parts(parts, body)).await;
    if access == Access::Enrolment {
        let refused = Status::from_header_map(response.headers())
            .is_some_and(|status| matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied));
        count_failure(&service, source, refused);
    }
    response
}

async fn check(
    service: &Service,
    access: Access,
    source: Option<IpAddr>,
    request: &Parts,
) -> Result<Option<Caller>, CallError> {
    let now = service.clock.now();
    let slow_down = |what| Err(CallError::TooMany(format!("too many {what} from your address; wait a moment")));
    if let Some(source) = source {
        if access != Access::Open && !service.gates.failures.has_room(&source, now) {
            return slow_down("failed attempts");
        }
        if access == Access::Enrolment && !service.gates.enrolments.take(source, now) {
            return slow_down("enrolments");
        }
    }
    match access {
        Access::Open | Access::Enrolment => Ok(None),
        Access::Host => match request.extensions.get::<Connection>() {
            Some(Connection { certificate: Some(_), .. }) => Ok(None),
            _ => Err(CallError::Unauthenticated(
                "this call is for agents: it needs the client certificate of an enrolled host".to_owned(),
            )),
        },
        Access::Key(action) => {
            let caller = caller(service, &request.headers).await?;
            if caller.role.may(action) { Ok(Some(caller)) } else { Err(too_weak(caller.role, action)) }
        }
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

fn count_failure(service: &Service, source: Option<IpAddr>, failed: bool) {
    if let Some(source) = source.filter(|_| failed) {
        service.gates.failures.take(source, service.clock.now());
    }
}

/// The network that an address most likely shares with its owner's other addresses: /24, or /64 of IPv6.
fn neighbourhood(address: IpAddr) -> IpAddr {
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
