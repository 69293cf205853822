//! `cladnet peer export`: a machine with plain WireGuard becomes a peer, or one that is a peer gets its file anew.

use std::{
    io::{self, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use cladnet_proto::cladnet::v1::{
    CreatePlainPeerRequest, CreatePlainPeerResponse, GetPeerRequest, Peer, RemovePeerRequest,
};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::{must_be_new, peer::ExportArgs};
use crate::{
    api::{Api, request},
    failure::Failure,
    file::create_private,
    output::one_line,
    wg_quick::{OwnKey, Tunnel},
};

/// The controller gives addresses within milliseconds, or after the election of another one.
const ADDRESS_DEADLINE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(200);

pub(super) async fn run(api: &Api, args: ExportArgs) -> Result<(), Failure> {
    must_be_new("--file", args.file.as_deref())?;
    let (own, public_key) = match args.public_key {
        Some(key) => (OwnKey::KeptElsewhere(key.clone()), key),
        None => generate(),
    };
    let ask = CreatePlainPeerRequest {
        network_id: args.network.clone(),
        name: args.name.clone(),
        public_key,
        labels: args.label.into_iter().collect(),
        endpoint: args.endpoint,
    };
    let created = api.peers().create_plain_peer(request(ask)).await?.into_inner();
    let CreatePlainPeerResponse { peer, remotes, ipv4_address_space } = created;
    let peer = with_address(api, peer.unwrap_or_default()).await?;
    let tunnel =
        Tunnel { peer: &peer, network: &args.network, address_space: &ipv4_address_space, own, remotes: &remotes };
    let text = Zeroizing::new(tunnel.to_string());
    if let Err(failure) = hand_over(args.file.as_deref(), &text) {
        if matches!(tunnel.own, OwnKey::Made(_)) {
            // Nobody will ever hold the key of this peer.
            let remove = RemovePeerRequest { network_id: peer.network_id.clone(), host_id: peer.host_id.clone() };
            api.peers().remove_peer(request(remove)).await?;
        }
        return Err(failure);
    }
    if let Some(file) = &args.file {
        eprintln!("{} is {} in network {}; wrote {}", args.name, peer.ipv4_address, args.network, file.display());
    }
    Ok(())
}

/// Writes the file, or prints it.
fn hand_over(file: Option<&Path>, text: &str) -> Result<(), Failure> {
    match file {
        Some(file) => create_private(file, text),
        None => {
            let mut stdout = io::stdout().lock();
            let printed = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
            printed.map_err(|error| Failure::failed(format!("could not print the file: {error}")))
        }
    }
}

fn generate() -> (OwnKey, String) {
    let random = Zeroizing::new(rand::random::<[u8; 32]>());
    let secret = StaticSecret::from(*random);
    let public = BASE64_STANDARD.encode(PublicKey::from(&secret).as_bytes());
    (OwnKey::Made(Zeroizing::new(BASE64_STANDARD.encode(secret.as_bytes()))), public)
}

async fn with_address(api: &Api, mut peer: Peer) -> Result<Peer, Failure> {
    let start = Instant::now();
    while peer.ipv4_address.is_empty() {
        if start.elapsed() > ADDRESS_DEADLINE {
            return Err(Failure::failed(format!(
                "{} is a peer of {} but has no address yet; is a controller running? Remove it with: cladnet peer remove {} {}",
                one_line(&peer.host_name),
                peer.network_id,
                peer.network_id,
                peer.host_id
            )));
        }
        tokio::time::sleep(LOOK).await;
        let ask = GetPeerRequest { network_id: peer.network_id.clone(), host_id: peer.host_id.clone() };
        peer = api.peers().get_peer(request(ask)).await?.into_inner();
        if peer.state == "failed" {
            return Err(Failure::failed(one_line(&format!(
                "{} got no address: {}",
                peer.host_name, peer.state_reason
            ))));
        }
    }
    Ok(peer)
}
