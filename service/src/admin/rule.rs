//! Rules, as `cladnet.v1` shows them.

use cladnet_model::{
    RuleId,
    rule::{Action, Protocol, RuleDraft},
};
use cladnet_proto::{
    cladnet::v1::{
        AddRuleRequest, GetRulesRequest, RemoveRuleRequest, ReplaceRulesRequest, Rules, TestAccessRequest,
        TestAccessResponse, rule_service_server::RuleService,
    },
    convert::{self, FieldError, optional, required},
};
use rand::random;
use tonic::{Request, Response, Status, async_trait};

use super::Admin;
use crate::{
    auth::Caller,
    rules::{Effect, Question, RulesChange, Shown},
};

#[async_trait]
impl RuleService for Admin {
    async fn get_rules(&self, request: Request<GetRulesRequest>) -> Result<Response<Rules>, Status> {
        let network = required("network_id", &request.into_inner().network_id)?;
        Ok(shown(self.0.rules(&network).await?))
    }

    async fn replace_rules(&self, request: Request<ReplaceRulesRequest>) -> Result<Response<Rules>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let network = required("network_id", &request.network_id)?;
        let effect = if request.validate_only { Effect::None } else { Effect::InForce };
        let expected = request.expected_generation;
        let change = RulesChange::Replace(convert::rules_draft(request));
        Ok(shown(self.0.change_rules(&network, &change, expected, effect, caller.key.as_str()).await?))
    }

    async fn add_rule(&self, request: Request<AddRuleRequest>) -> Result<Response<Rules>, Status> {
        let caller = Caller::of(&request)?;
        let AddRuleRequest { network_id, rule, before, expected_generation } = request.into_inner();
        let network = required("network_id", &network_id)?;
        let mut rule = RuleDraft::from(rule.ok_or_else(|| FieldError::new("rule", "is missing"))?);
        rule.id.get_or_insert_with(|| RuleId::generate(random()).to_string());
        let change = RulesChange::Add { rule: Box::new(rule), before: optional("before", &before)? };
        let actor = caller.key.as_str();
        Ok(shown(self.0.change_rules(&network, &change, expected_generation, Effect::InForce, actor).await?))
    }

    async fn remove_rule(&self, request: Request<RemoveRuleRequest>) -> Result<Response<Rules>, Status> {
        let caller = Caller::of(&request)?;
        let RemoveRuleRequest { network_id, rule_id, expected_generation } = request.into_inner();
        let network = required("network_id", &network_id)?;
        let change = RulesChange::Remove(required("rule_id", &rule_id)?);
        let actor = caller.key.as_str();
        Ok(shown(self.0.change_rules(&network, &change, expected_generation, Effect::InForce, actor).await?))
    }

    async fn test_access(&self, request: Request<TestAccessRequest>) -> Result<Response<TestAccessResponse>, Status> {
        let TestAccessRequest { network_id, from, to, protocol, port } = request.into_inner();
        let network = required("network_id", &network_id)?;
        let protocol = optional("protocol", &protocol)?.unwrap_or(Protocol::Tcp);
        let ask = Question { from: &from, to: &to, protocol, port: checked_port(protocol, port)? };
        let answer = self.0.test_access(&network, &ask).await?;
        Ok(Response::new(TestAccessResponse {
            allowed: answer.action == Action::Allow,
            rule_id: answer.rule.map(|rule| rule.to_string()).unwrap_or_default(),
            reason: answer.reason,
        }))
    }
}

fn shown(shown: Shown) -> Response<Rules> {
    Response::new(convert::rules(&shown.rules, &shown.warnings, shown.pending))
}

/// A port where the protocol has one, and none where it has none.
fn checked_port(protocol: Protocol, port: u32) -> Result<u16, FieldError> {
    let wrong = |reason| Err(FieldError::new("port", reason));
    match (protocol, u16::try_from(port)) {
        (Protocol::Tcp | Protocol::Udp, Ok(port)) if port > 0 => Ok(port),
        (Protocol::Tcp | Protocol::Udp, _) => wrong("is not from 1 to 65535"),
        (Protocol::Icmp, Ok(0)) => Ok(0),
        (Protocol::Icmp, _) => wrong("does not belong to icmp"),
        (Protocol::Any, _) => Err(FieldError::new("protocol", "is any; ask about tcp, udp or icmp")),
    }
}
