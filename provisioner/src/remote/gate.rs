//! What a server may do on its own: show its key, and nothing else. A session begins with a trusted key only, and every
//! channel that the server would open is refused.

use std::sync::{Arc, OnceLock};

use cladnet_model::deployment::Fingerprint;
use russh::{
    Channel,
    client::{ChannelOpenHandle, Handler, Msg, Session},
    keys::PublicKeyOrCertificate,
};

use super::{ShownKey, Trust};

/// Decides on the key; says nothing else.
pub(super) struct Gate {
    pub(super) trust: Trust,
    pub(super) shown: Arc<OnceLock<ShownKey>>,
}

impl Handler for Gate {
    type Error = russh::Error;

    async fn check_server_key(&mut self, offered: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        // No certificates are asked for, so none is shown.
        let PublicKeyOrCertificate::PublicKey { key, .. } = offered else { return Ok(false) };
        let shown =
            ShownKey { fingerprint: Fingerprint::of(&key.to_bytes()?), algorithm: key.algorithm().as_str().to_owned() };
        let is_trusted = match self.trust {
            Trust::Pinned(ref pin) => pin.fingerprint == shown.fingerprint,
            Trust::FirstSight => true,
            Trust::Unknown => false,
        };
        // A second exchange on the same connection must show the same key.
        let first = self.shown.get_or_init(|| shown.clone());
        Ok(is_trusted && *first == shown)
    }

    // We ask for no forwarding, agent or X11, so a server has no reason for a channel; a dropped `reply` refuses it. Left
    // alone, russh accepts them all.

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }
}
