//! How a machine becomes a host, and a host a member: a join token is counted down in the same transaction that creates
//! what it admits, so that it never admits one more, and a repeated request finds what the first one made.

use std::{net::IpAddr, time::Duration};

use cladnet_model::{
    Host, HostFacts, HostId, JoinToken, Membership, NetworkId, PublicKey, PublicKeyOwner, Token, TokenState,
};
use cladnet_pki::request_spki_sha256;
use cladnet_proto::{
    cladnet::v1::{
        EnrolRequest, EnrolResponse, JoinRequest, JoinResponse, RenewCertificateRequest, RenewCertificateResponse,
    },
    convert,
};
use cladnet_store::{Revision, StoreError, Transaction, Versioned, key};
use tracing::info;

use super::{
    CERTIFICATE_LIFETIME, Shared,
    identity::{Caller, identity},
    reports::admissible,
};
use crate::{auth::neighbourhood, error::CallError, events::Note};

/// Networks that one host may be in: the tunnel tries the key of each on every handshake.
pub(crate) const MAX_MEMBERSHIPS: usize = 16;

/// For so long the same request is answered again instead of refused: its first answer may have been lost.
const REPEAT: Duration = Duration::from_secs(600);

/// Tries against other replicas that use the same token; each lost try is another's success.
const ATTEMPTS: usize = 64;

/// A request to enrol, checked as far as it can be without the store.
struct Application {
    token: JoinToken,
    certificate_request: Vec<u8>,
    /// As [`Host::identity`].
    identity: String,
    public_key: PublicKey,
    facts: HostFacts,
}

impl Application {
    fn parse(request: EnrolRequest, shared: &Shared) -> Result<Self, CallError> {
        let spki = request_spki_sha256(&request.certificate_request).map_err(bad_request)?;
        Ok(Self {
            token: convert::required("token", &request.token)?,
            certificate_request: request.certificate_request,
            identity: identity(&spki),
            public_key: convert::public_key("public_key", &request.public_key)?,
            facts: admissible(&shared.view(), convert::host_facts("facts", request.facts)?),
        })
    }
}

/// What a key that is taken already belongs to.
enum Owner {
    /// The same request made it a moment ago.
    Repeated(PublicKeyOwner),
    Other,
}

impl Shared {
    /// Makes the machine a host of this installation, and a member of the token's network.
    pub(super) async fn enrol(&self, request: EnrolRequest, from: Option<IpAddr>) -> Result<EnrolResponse, CallError> {
        let application = Application::parse(request, self)?;
        self.admit(&application.token, from).await?; // before anything that costs more
        let id = HostId::generate(rand::random());
        let certificate = self.sign(&application.certificate_request, &id)?;

        let _turn = self.turns.take(application.token.id()).await;
        for _ in 0..ATTEMPTS {
            let token = self.admit(&application.token, from).await?;
            match self.owner(&application.public_key, &token.value, Some(&application.identity)).await? {
                Some(Owner::Repeated(owner)) => {
                    info!(host = %owner.host, network = %owner.network, "enrolment repeated");
                    let certificate = self.sign(&application.certificate_request, &owner.host)?;
                    return Ok(self.enrolled(owner.host, certificate, owner.network));
                }
                Some(Owner::Other) => return Err(key_in_use()),
                None => {}
            }
            usable(&token.value, self.parts.clock.now())?;
            self.must_exist(&token.value.network).await?;
            match self.create_host(&application, &id, &token).await {
                Ok(_) => {
                    info!(host = %id, network = %token.value.network, token = %token.value.id, "host enrolled");
                    return Ok(self.enrolled(id, certificate, token.value.network));
                }
                Err(StoreError::Conflict { .. } | StoreError::OutcomeUnknown { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(crowded())
    }

    /// Makes a host a member of one more network.
    pub(super) async fn join(
        &self,
        mut caller: Caller,
        request: JoinRequest,
        from: Option<IpAddr>,
    ) -> Result<JoinResponse, CallError> {
        let shown: JoinToken = convert::required("token", &request.token)?;
        let public_key = convert::public_key("public_key", &request.public_key)?;
        self.admit(&shown, from).await?;

        let _turn = self.turns.take(shown.id()).await;
        for _ in 0..ATTEMPTS {
            let token = self.admit(&shown, from).await?;
            let network = &token.value.network;
            match self.owner(&public_key, &token.value, None).await? {
                Some(Owner::Repeated(owner)) if owner.host == caller.host.id => {
                    return Ok(JoinResponse { network_id: owner.network.to_string() });
                }
                Some(_) => return Err(key_in_use()),
                None => {}
            }
            usable(&token.value, self.parts.clock.now())?;
            self.must_exist(network).await?;
            if self.is_member(&caller, network).await? {
                match self.keep_shown(&caller.host.id, &token).await {
                    Ok(()) => return Err(already_member(network)),
                    Err(StoreError::Conflict { .. } | StoreError::OutcomeUnknown { .. }) => continue,
                    Err(error) => return Err(error.into()),
                }
            }
            match self.create_membership(&caller, public_key, &token).await {
                Ok(_) => {
                    info!(host = %caller.host.id, %network, token = %token.value.id, "host joined a further network");
                    return Ok(JoinResponse { network_id: network.to_string() });
                }
                Err(StoreError::Conflict { .. } | StoreError::OutcomeUnknown { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            caller = self.again(caller).await?;
        }
        Err(crowded())
    }

    /// A new certificate for a host that still has its key.
    pub(super) fn renew(
        &self,
        caller: &Caller,
        request: &RenewCertificateRequest,
    ) -> Result<RenewCertificateResponse, CallError> {
        let spki = request_spki_sha256(&request.certificate_request).map_err(bad_request)?;
        if identity(&spki) != caller.host.identity {
            let reason = "is for another key; it must be signed by the key of the certificate that is renewed";
            return Err(CallError::invalid("certificate_request", reason));
        }
        let certificate = self.sign(&request.certificate_request, &caller.host.id)?;
        info!(host = %caller.host.id, "certificate renewed");
        Ok(RenewCertificateResponse { certificate })
    }

    /// The record of the token that is shown. One answer for an unknown and a wrong one: a guesser learns nothing.
    /// Only wrong ones are counted: whoever knows a token's id must not keep its holder out.
    async fn admit(&self, shown: &JoinToken, from: Option<IpAddr>) -> Result<Versioned<Token>, CallError> {
        let now = self.parts.clock.now();
        match self.parts.store.get(&key::token(shown.id())).await? {
            Some(token) if token.value.is_of(shown) => Ok(token),
            _ => {
                if !self.wrong_secrets.take(shown.id().clone(), now) {
                    let reason = "too many wrong secrets for this join token; wait a moment";
                    return Err(CallError::TooMany(reason.to_owned()));
                }
                if from.is_some_and(|from| !self.wrong_tokens.take(neighbourhood(from), now)) {
                    return Err(CallError::TooMany(
                        "too many wrong join tokens from your network; wait a moment".to_owned(),
                    ));
                }
                Err(CallError::Unauthenticated("the join token is not valid; ask for a new one".to_owned()))
            }
        }
    }

    async fn must_exist(&self, network: &NetworkId) -> Result<(), CallError> {
        match self.parts.store.get(&key::network(network)).await? {
            Some(_) => Ok(()),
            None => Err(CallError::Precondition(format!(
                "network {network}, which the join token is for, was deleted; ask for a token of another one"
            ))),
        }
    }

    /// Whose the key is, if it is anybody's. `identity` is what the host must have for a repetition.
    async fn owner(
        &self,
        public_key: &PublicKey,
        token: &Token,
        identity: Option<&str>,
    ) -> Result<Option<Owner>, CallError> {
        let store = &self.parts.store;
        let Some(owner) = store.get(&key::public_key(public_key)).await? else { return Ok(None) };
        let owner = owner.value;
        if owner.token.as_ref() != Some(&token.id) {
            return Ok(Some(Owner::Other));
        }
        let membership = store.get(&key::membership(&owner.network, &owner.host)).await?;
        let host = store.get(&key::host(&owner.host)).await?;
        let (Some(membership), Some(host)) = (membership, host) else { return Ok(Some(Owner::Other)) };
        let recent = self.parts.clock.now() < membership.value.joined_at + REPEAT;
        let same_machine = identity.is_none_or(|identity| host.value.identity == identity);
        Ok(Some(if recent && same_machine { Owner::Repeated(owner) } else { Owner::Other }))
    }

    /// Whether the caller is a member already; refuses one membership too many. The view is as new as the host's record,
    /// which every join rewrites.
    async fn is_member(&self, caller: &Caller, network: &NetworkId) -> Result<bool, CallError> {
        self.reached(caller.revision.get()).await?;
        let view = self.view();
        let host = &caller.host.id;
        if view.networks_of(host).any(|(id, _)| id == network) {
            return Ok(true);
        }
        match view.networks_of(host).count() {
            count if count >= MAX_MEMBERSHIPS => Err(CallError::Precondition(format!(
                "this host is in {count} networks and no host can be in more; leave one first"
            ))),
            _ => Ok(false),
        }
    }

    /// Keeps that a member showed a token which it does not need and which stays as it is. Only the host itself can show it
    /// on this connection: whoever gave it to one machine only knows now which host that machine is.
    async fn keep_shown(&self, host: &HostId, token: &Versioned<Token>) -> Result<(), StoreError> {
        let store = &self.parts.store;
        let Some(member) = store.get(&key::membership(&token.value.network, host)).await? else { return Ok(()) };
        let Some(owner) = store.get(&key::public_key(&member.value.public_key)).await? else { return Ok(()) };
        let shown = PublicKeyOwner { token: Some(token.value.id.clone()), ..owner.value };
        let keep = store.transaction().unchanged(&token.key, token.modified).unchanged(&owner.key, owner.modified);
        keep.put(&owner.key, &shown).commit().await.map(drop)
    }

    /// The caller's record as it is now, after somebody changed it.
    async fn again(&self, caller: Caller) -> Result<Caller, CallError> {
        match self.parts.store.get(&key::host(&caller.host.id)).await? {
            Some(host) if host.value.identity == caller.host.identity => {
                Ok(Caller { revision: host.modified, host: host.value, ..caller })
            }
            _ => Err(CallError::Denied(super::identity::removed(&caller.host.id))),
        }
    }

    async fn create_host(
        &self,
        application: &Application,
        id: &HostId,
        token: &Versioned<Token>,
    ) -> Result<Revision, StoreError> {
        let host = Host {
            id: id.clone(),
            facts: application.facts.clone(),
            injected: Default::default(),
            identity: application.identity.clone(),
            enrolled_at: self.parts.clock.now(),
        };
        let host_key = key::host(id);
        self.membership(token, &host, application.public_key).absent(&host_key).put(&host_key, &host).commit().await
    }

    async fn create_membership(
        &self,
        caller: &Caller,
        public_key: PublicKey,
        token: &Versioned<Token>,
    ) -> Result<Revision, StoreError> {
        let host_key = key::host(&caller.host.id);
        self.membership(token, &caller.host, public_key)
            .unchanged(&host_key, caller.revision)
            .put(&host_key, &caller.host)
            .commit()
            .await
    }

    /// Counts the token down, and creates the membership that it admits with the index of its key.
    fn membership(&self, token: &Versioned<Token>, host: &Host, public_key: PublicKey) -> Transaction {
        let network = &token.value.network;
        let counted = Token { uses_left: token.value.uses_left.saturating_sub(1), ..token.value.clone() };
        let membership = Membership {
            network: network.clone(),
            host: host.id.clone(),
            public_key,
            labels: token.value.labels.clone(),
            desired_state: Default::default(),
            static_address: None,
            plain: false,
            joined_at: self.parts.clock.now(),
        };
        let owner =
            PublicKeyOwner { network: network.clone(), host: host.id.clone(), token: Some(token.value.id.clone()) };
        let note = Note {
            kind: "peer.joined",
            network: Some(network),
            host: Some(&host.id),
            actor: token.value.id.as_str(),
            message: format!("{} ({}) joined network {network}", host.facts.name, host.id),
        };
        let membership_key = key::membership(network, &host.id);
        let public_key = key::public_key(&public_key);
        let transaction = self
            .parts
            .store
            .transaction()
            .unchanged(&token.key, token.modified)
            .exists(&key::network(network))
            .absent(&membership_key)
            .absent(&public_key)
            .put(&token.key, &counted)
            .put(&membership_key, &membership)
            .put(&public_key, &owner);
        self.note(transaction, note)
    }

    fn sign(&self, certificate_request: &[u8], host: &HostId) -> Result<String, CallError> {
        let now = self.parts.clock.now();
        self.parts
            .authority
            .sign_host_request(certificate_request, host, now, CERTIFICATE_LIFETIME)
            .map_err(bad_request)
    }

    fn enrolled(&self, host: HostId, certificate: String, network: NetworkId) -> EnrolResponse {
        EnrolResponse {
            host_id: host.to_string(),
            certificate,
            network_id: network.to_string(),
            epoch: self.parts.epoch.clone(),
        }
    }
}

/// Refuses a token that admits nobody any more. Its holder may know why: the secret was right.
fn usable(token: &Token, now: jiff::Timestamp) -> Result<(), CallError> {
    let refused = |why: &str| Err(CallError::Denied(format!("the join token {why}; ask for a new one")));
    match token.state(now) {
        TokenState::Usable => Ok(()),
        TokenState::Used => refused("has been used up"),
        TokenState::Expired => refused(&format!("expired at {}", token.expires_at)),
        TokenState::Revoked => refused("was revoked"),
    }
}

fn bad_request(error: cladnet_pki::Error) -> CallError {
    match error {
        cladnet_pki::Error::Request(reason) => CallError::invalid("certificate_request", reason),
        other => CallError::Internal(format!("sign a host's certificate: {other}")),
    }
}

fn key_in_use() -> CallError {
    CallError::exists("public_key", "already belongs to a membership; make a new key pair")
}

fn already_member(network: &NetworkId) -> CallError {
    CallError::exists("token", format!("is not needed: this host is a member of network {network} already"))
}

fn crowded() -> CallError {
    CallError::Conflict("too many machines use this join token at the same moment; try again".to_owned())
}

#[cfg(test)]
mod tests;
