//! Join tokens and API keys: given out once, kept as hashes, taken back.

use cladnet_model::{
    ApiKey, ApiKeyText, JoinToken, KeyId, KeyTerms, NetworkId, Role, Secret, Token, TokenId, TokenTerms,
};
use cladnet_store::{StoreError, Versioned, key};
use jiff::SignedDuration;

use crate::{Service, error::CallError, events::Note, networks::TRIES};

/// How long a token that admits nobody any more is still shown.
const SHOWN_AFTER_END: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Old tokens that one call forgets at most.
const FORGOTTEN: usize = 50;

impl Service {
    /// Makes a token, of this id if there is one; the text is in this answer and nowhere else.
    pub(crate) async fn create_token(
        &self,
        network: &NetworkId,
        terms: TokenTerms,
        id: Option<TokenId>,
        actor: &str,
    ) -> Result<(Token, JoinToken), CallError> {
        let text = self.token_text(id.as_ref())?;
        if id.is_some() && self.store.get(&key::token(text.id())).await?.is_some() {
            return Err(CallError::exists("token_id", format!("{} is there already", text.id())));
        }
        let token = Token {
            id: text.id().clone(),
            network: network.clone(),
            secret_hash: text.secret_hash(),
            uses_left: terms.uses,
            expires_at: terms.expires_at,
            labels: terms.labels,
            revoked: false,
            created_at: self.clock.now(),
            created_by: actor.to_owned(),
        };
        let network_record = self.network(network).await?;
        let transaction = self.store.transaction().exists(&network_record.key).absent(&key::token(&token.id));
        let transaction = self.forget_tokens(transaction.put(&key::token(&token.id), &token)).await?;
        let uses = if token.uses_left == 1 { "one use".to_owned() } else { format!("{} uses", token.uses_left) };
        let message = format!("{} made for {uses} in network {network}", token.id);
        let note = Note { kind: "token.created", network: Some(network), host: None, actor, message };
        self.note(transaction, note).commit().await?;
        Ok((token, text))
    }

    fn token_text(&self, id: Option<&TokenId>) -> Result<JoinToken, CallError> {
        let (secret, authority) = (Secret::new(rand::random()), self.authority.spki_sha256());
        let Some(id) = id else { return Ok(JoinToken::new(rand::random(), secret, authority)) };
        JoinToken::named(id, secret, authority).ok_or_else(|| {
            CallError::invalid(
                "token_id",
                "is \"token-\" and 16 characters of [a-z2-7]; leave it out to have one drawn",
            )
        })
    }

    async fn forget_tokens(
        &self,
        transaction: cladnet_store::Transaction,
    ) -> Result<cladnet_store::Transaction, StoreError> {
        let now = self.clock.now();
        let is_old = |token: &&Versioned<Token>| {
            token.value.expires_at.saturating_add(SHOWN_AFTER_END).is_ok_and(|end| end < now)
        };
        let tokens = self.store.list(&key::tokens()).await?.items;
        Ok(tokens
            .iter()
            .filter(is_old)
            .take(FORGOTTEN)
            .fold(transaction, |transaction, token| transaction.delete(&token.key)))
    }

    /// Tokens of one network, or all; by id.
    pub(crate) async fn tokens(&self, network: Option<&NetworkId>) -> Result<Vec<Token>, CallError> {
        let tokens = self.store.list(&key::tokens()).await?.items.into_iter().map(|token| token.value);
        Ok(tokens.filter(|token| network.is_none_or(|network| token.network == *network)).collect())
    }

    /// From now on the token admits nobody; who has joined with it stays.
    pub(crate) async fn revoke_token(&self, id: &TokenId, actor: &str) -> Result<(), CallError> {
        for _ in 0..TRIES {
            let found = self.store.get(&key::token(id)).await?;
            let token = found.ok_or_else(|| CallError::NotFound(format!("there is no token {id}")))?;
            if token.value.revoked {
                return Ok(());
            }
            let revoked = Token { revoked: true, ..token.value.clone() };
            let transaction = self.store.transaction().unchanged(&token.key, token.modified).put(&token.key, &revoked);
            let message = format!("{id} revoked");
            let note = Note { kind: "token.revoked", network: Some(&revoked.network), host: None, actor, message };
            match self.note(transaction, note).commit().await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { .. }) => {} // somebody joins with it right now
                Err(error) => return Err(error.into()),
            }
        }
        Err(CallError::Conflict(format!("token {id} keeps being used at the same moment; repeat the call")))
    }

    /// Makes an API key; the text is in this answer and nowhere else.
    pub(crate) async fn create_key(&self, terms: KeyTerms, actor: &str) -> Result<(ApiKey, ApiKeyText), CallError> {
        let text = ApiKeyText::new(rand::random(), Secret::new(rand::random()));
        let record = ApiKey {
            id: text.id().clone(),
            name: terms.name,
            role: terms.role,
            secret_hash: text.secret_hash(),
            created_at: self.clock.now(),
            expires_at: terms.expires_at,
        };
        let transaction = self.store.transaction().absent(&key::api_key(&record.id));
        let message = format!("{} made for {} with role {}", record.id, record.name, record.role);
        let note = Note { kind: "key.created", network: None, host: None, actor, message };
        self.note(transaction.put(&key::api_key(&record.id), &record), note).commit().await?;
        Ok((record, text))
    }

    /// All API keys, by id.
    pub(crate) async fn api_keys(&self) -> Result<Vec<Versioned<ApiKey>>, CallError> {
        Ok(self.store.list(&key::api_keys()).await?.items)
    }

    /// From now on the key opens nothing. The last key that can make keys stays: without it nobody could come in again.
    pub(crate) async fn revoke_key(&self, id: &KeyId, actor: &str) -> Result<(), CallError> {
        for _ in 0..TRIES {
            let keys = self.api_keys().await?;
            let revoked = keys.iter().find(|record| record.value.id == *id);
            let revoked = revoked.ok_or_else(|| CallError::NotFound(format!("there is no API key {id}")))?;
            let transaction = self.store.transaction().unchanged(&revoked.key, revoked.modified);
            let mut transaction = transaction.delete(&revoked.key);
            if opens_all(&revoked.value) {
                let other = keys.iter().find(|record| record.value.id != *id && opens_all(&record.value));
                let other = other.ok_or_else(|| {
                    CallError::Precondition(format!(
                        "{id} is the last admin key that never expires; make another one first"
                    ))
                })?;
                transaction = transaction.unchanged(&other.key, other.modified);
            }
            let message = format!("{id} of {} revoked", revoked.value.name);
            let note = Note { kind: "key.revoked", network: None, host: None, actor, message };
            match self.note(transaction, note).commit().await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(CallError::Conflict("API keys keep changing at the same moment; repeat the call".to_owned()))
    }
}

/// Whether the key will always be able to make others.
fn opens_all(record: &ApiKey) -> bool {
    record.role == Role::Admin && record.expires_at.is_none()
}
