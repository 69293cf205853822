//! Health, commands and tests.

use std::time::Duration;

use cladnet_model::{DesiredState, EncryptionPolicy, NetworkId, NetworkUpdate};
use cladnet_proto::{
    cbnet::v1::{
        CommandType, ControlRequest, ControlResponse, TestRequest, TestResponse, TestType,
        system_management_service_server::SystemManagementService,
    },
    convert::{FieldError, required},
};
use tonic::{Request, Response, Status, async_trait};

use super::{
    Cbnet,
    test::{outcome, trials},
};
use crate::{
    auth::Caller,
    connectivity::TestTerms,
    control::{Outcome, PeerOutcome},
    error::CallError,
};

/// How long a command waits for agents; callers of this interface cannot say.
const WAIT: Duration = Duration::from_secs(10);

#[async_trait]
impl SystemManagementService for Cbnet {
    /// Readiness, by the name that this interface has for it.
    async fn health(&self, _request: Request<()>) -> Result<Response<String>, Status> {
        self.0.ready()?;
        Ok(Response::new("healthy".to_owned()))
    }

    async fn control_cloud_adaptive_network(
        &self,
        request: Request<ControlRequest>,
    ) -> Result<Response<ControlResponse>, Status> {
        let caller = Caller::of(&request)?;
        let ControlRequest { cladnet_id, command_type } = request.into_inner();
        let network = required("cladnet_id", &cladnet_id)?;
        let command = CommandType::try_from(command_type).map_err(|_| {
            let reason =
                format!("is {command_type}; use UP (0), DOWN (1), ENABLE_ENCRYPTION (3) or DISABLE_ENCRYPTION (4)");
            FieldError::new("command_type", reason)
        })?;
        let actor = caller.key.as_str();
        let answer = match command {
            CommandType::Up => self.steer(&network, DesiredState::Up, actor).await,
            CommandType::Down => self.steer(&network, DesiredState::Down, actor).await,
            CommandType::EnableEncryption => self.encrypt(&network, EncryptionPolicy::Always, actor).await,
            CommandType::DisableEncryption => self.encrypt(&network, EncryptionPolicy::Public, actor).await,
        };
        Ok(Response::new(answer?))
    }

    async fn test_cloud_adaptive_network(
        &self,
        request: Request<TestRequest>,
    ) -> Result<Response<TestResponse>, Status> {
        let TestRequest { cladnet_id, test_type, test_spec } = request.into_inner();
        let network = required("cladnet_id", &cladnet_id)?;
        if TestType::try_from(test_type).is_err() {
            return Err(FieldError::new("test_type", format!("is {test_type}; use CONNECTIVITY (0)")).into());
        }
        let terms = TestTerms::check(trials(&test_spec)?, None, None)?;
        let peers = self.0.peers(&network).await?.rows;
        let test = self.0.test_connectivity(&network, &[], terms).await?;
        Ok(Response::new(outcome(&test, &peers)))
    }
}

impl Cbnet {
    async fn steer(
        &self,
        network: &NetworkId,
        desired: DesiredState,
        actor: &str,
    ) -> Result<ControlResponse, CallError> {
        let mut peers = self.0.peers(network).await?;
        peers.rows.retain(|peer| !peer.membership.plain);
        let unreadable = peers.unreadable_outcomes();
        if peers.rows.is_empty() && unreadable.is_empty() {
            return Err(CallError::NotFound(format!("network {network} has no peer to steer")));
        }
        let mut outcomes = self.0.control(network, peers.rows, desired, WAIT, actor).await?;
        outcomes.extend(unreadable);
        let is_succeeded = outcomes.iter().all(|peer| matches!(peer.outcome, Outcome::Acknowledged | Outcome::Offline));
        Ok(ControlResponse { is_succeeded, message: summary(desired, &outcomes) })
    }

    async fn encrypt(
        &self,
        network: &NetworkId,
        policy: EncryptionPolicy,
        actor: &str,
    ) -> Result<ControlResponse, CallError> {
        let update = NetworkUpdate { encryption_policy: Some(policy.as_str()), ..NetworkUpdate::default() };
        self.0.update_network(network, &update, None, actor).await?;
        let message = match policy {
            EncryptionPolicy::Always => format!("network {network}: every packet is encrypted (policy always)"),
            EncryptionPolicy::Public => format!(
                "network {network}: policy public is stored; between VMs of one VPC packets travel in clear as soon as both \
                 agents know, and encrypted everywhere else; whoever can forge addresses inside that VPC can inject packets"
            ),
        };
        Ok(ControlResponse { is_succeeded: true, message })
    }
}

/// "2 of 3 peers are up; offline, carried out when it returns: vm-3".
fn summary(desired: DesiredState, outcomes: &[PeerOutcome]) -> String {
    let of = |outcome: Outcome| outcomes.iter().filter(move |peer| peer.outcome == outcome);
    let done = of(Outcome::Acknowledged).count();
    let mut summary = format!("{done} of {} peers are {desired}", outcomes.len());
    let named = [
        (Outcome::Offline, "offline, carried out when they return"),
        (Outcome::TimedOut, "not confirmed in time"),
        (Outcome::Failed, "failed"),
    ];
    for (outcome, words) in named {
        let names: Vec<String> = of(outcome)
            .map(|peer| match outcome {
                Outcome::Failed => format!("{} ({})", peer.name, peer.detail),
                _ => peer.name.clone(),
            })
            .collect();
        if !names.is_empty() {
            summary.push_str(&format!("; {words}: {}", names.join(", ")));
        }
    }
    summary
}
