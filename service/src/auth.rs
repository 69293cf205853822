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
use cladnet_model::{Action, ApiKey, ApiKeyText, KeyId, Role, SessionId, SessionSecret};
use cladnet_store::key;
use http::{Extensions, HeaderMap, HeaderValue, header};
use tonic::Status;
use tracing::info;

use crate::{
    Connection, Service,
    access::{self, Access},
    connection::Acquaintance,
    error::CallError,
    in_process::InProcess,
    rate::{Limiter, RateLimit},
    web::{FromPage, Resumed},
};

/// The bearer of an API key, or of a session that was begun with one, in the extensions of every call that needed one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) key: KeyId,
    pub(crate) role: Role,
    /// If they sit before the page: what they are signed in with.
    pub(crate) session: Option<SessionId>,
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

/// Sign-ins to the page with one key: each is written down and told, so that their number is not for the caller to choose.
const SIGN_INS: RateLimit = RateLimit { burst: 60, every: Duration::from_secs(5) };

/// What is counted per network of addresses, or per key.
#[derive(Debug)]
pub(crate) struct Gates {
    failures: Limiter<IpAddr>,
    enrolments: Limiter<IpAddr>,
    sign_ins: Limiter<KeyId>,
}

impl Default for Gates {
    fn default() -> Self {
        Self { failures: FAILURES.limiter(), enrolments: ENROLMENTS.limiter(), sign_ins: SIGN_INS.limiter() }
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
    let caller = match access {
        Access::Open => Ok(None),
        Access::Enrolment if too_many(service, &service.gates.enrolments, extensions) => Err(slow_down("enrolments")),
        Access::Enrolment => Ok(None),
        Access::Host if connection.is_some_and(|connection| connection.certificate.is_some()) => Ok(None),
        Access::Host => Err(CallError::Unauthenticated(
            "this call is for agents: it needs the client certificate of an enrolled host".to_owned(),
        )),
        Access::Key(action) => match caller(service, headers, extensions).await {
            Ok(caller) if !caller.role.may(action) => Err(too_weak(caller.role, action)),
            known => known.map(Some),
        },
    };
    if let Err(error) = &caller {
        info!(rpc, from = connection.map(|connection| tracing::field::display(connection.remote)), %error, "call refused");
    }
    let caller = caller.map_err(|error| counted(service, extensions, error))?;
    if let (Some(_), Some(acquaintance)) = (&caller, extensions.get::<Acquaintance>()) {
        acquaintance.make();
    }
    Ok(Admission { rpc, caller })
}

/// Counts a wrong credential of whoever is at the other end; who has shown too many is told to wait instead.
pub(crate) fn counted(service: &Service, extensions: &Extensions, error: CallError) -> CallError {
    let is_wrong = matches!(error, CallError::Unauthenticated(_));
    match is_wrong && too_many(service, &service.gates.failures, extensions) {
        true => slow_down("wrong credentials"),
        false => error,
    }
}

fn too_many(service: &Service, limiter: &Limiter<IpAddr>, extensions: &Extensions) -> bool {
    let source = extensions.get::<Connection>().map(|connection| neighbourhood(connection.remote.ip()));
    source.is_some_and(|source| !limiter.take(source, service.clock.now()))
}

/// Counts a sign-in with a key that is good; refused after too many.
pub(crate) fn sign_in_counted(service: &Service, key: &KeyId) -> Result<(), CallError> {
    match service.gates.sign_ins.take(key.clone(), service.clock.now()) {
        true => Ok(()),
        false => Err(CallError::TooMany("too many sign-ins with this API key; wait a moment".to_owned())),
    }
}

fn slow_down(what: &str) -> CallError {
    CallError::TooMany(format!("too many {what} from your network; wait a moment"))
}

fn refused(reason: &str) -> CallError {
    CallError::Unauthenticated(reason.to_owned())
}

/// Finds the caller: inside this process, by the key in `Authorization`, or by the session of the page.
async fn caller(service: &Service, headers: &HeaderMap, extensions: &Extensions) -> Result<Caller, CallError> {
    if let Some(InProcess(caller)) = extensions.get() {
        return Ok(caller.clone());
    }
    match (headers.get(header::AUTHORIZATION), extensions.get::<FromPage>()) {
        (Some(header), _) => {
            let ApiKey { id, role, .. } = bearer(service, header).await?;
            Ok(Caller { key: id, role, session: None })
        }
        (None, Some(page)) => {
            let Resumed { id, key, .. } = of_session(service, page.secret.as_ref()).await?;
            Ok(Caller { key: key.id, role: key.role, session: Some(id) })
        }
        (None, None) => Err(refused("an API key is needed: send the header \"Authorization: Bearer cladnet_key_…\"")),
    }
}

/// The session behind a cookie. One answer for whatever is wrong with it.
pub(crate) async fn of_session(service: &Service, secret: Option<&SessionSecret>) -> Result<Resumed, CallError> {
    let resumed = match secret {
        Some(secret) => service.resume(secret).await?,
        None => None,
    };
    resumed.ok_or_else(|| refused("the session is over; sign in again"))
}

async fn bearer(service: &Service, header: &HeaderValue) -> Result<ApiKey, CallError> {
    let text = header.to_str().ok().and_then(|text| {
        let (scheme, key) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key)
    });
    let text = text.ok_or_else(|| refused("the Authorization header must be \"Bearer cladnet_key_…\""))?;
    key_of(service, text).await
}

/// The record of an API key that is shown as text.
pub(crate) async fn key_of(service: &Service, text: &str) -> Result<ApiKey, CallError> {
    let shown: ApiKeyText = text.parse().map_err(|error| refused(&format!("the API key {error}")))?;
    // One answer for an unknown, a wrong, a revoked and an expired key: a guesser learns nothing.
    match service.store.get(&key::api_key(shown.id())).await? {
        Some(record) if record.value.admits(&shown, service.clock.now()) => Ok(record.value),
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
