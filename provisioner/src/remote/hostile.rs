//! Servers that break the SSH protocol before anybody has logged in, each in its own way; for tests.

use std::{net::SocketAddr, time::Duration};

use cladnet_model::deployment::SshTarget;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    io::{AsyncWriteExt as _, copy, sink},
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;

const GREETING: &[u8] = b"SSH-2.0-hostile\r\n";
/// Key exchange: the message's number and sixteen bytes that it begins with.
const KEXINIT: u8 = 20;
const DISCONNECT: u8 = 1;

/// What a server does with everybody who connects.
#[derive(Debug, Clone)]
pub(crate) enum Manner {
    /// Says nothing and stays.
    Mute,
    /// One character of its greeting now and then, for ever.
    Drip,
    /// These bytes; then it stays, but says no more.
    Says(Vec<u8>),
    /// These bytes, again and again.
    Repeats(Vec<u8>),
    /// These bytes, and hangs up.
    HangsUpAfter(Vec<u8>),
}

impl Manner {
    /// Every known way to be wrong.
    pub(crate) fn all() -> Vec<Self> {
        let greeted = |bytes: &[u8]| [GREETING, bytes].concat();
        let farewell = [vec![DISCONNECT, 0, 0, 0, 2], text("\u{1b}[2Jgo\u{202e} away"), text("")].concat();
        vec![
            Self::Mute,
            Self::Drip,
            Self::Says(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec()),
            Self::Says(noise(1, 4_096)),
            Self::Says(b"SSH-1.5-old\r\n".to_vec()),
            Self::Repeats(b"Welcome to this machine, of which there is much to be said.\r\n".to_vec()),
            Self::Repeats(vec![b'x'; 4_096]),
            Self::HangsUpAfter(Vec::new()),
            Self::HangsUpAfter(b"SSH-2.0-hos".to_vec()),
            Self::HangsUpAfter(greeted(&[])),
            Self::HangsUpAfter(greeted(&packet(&farewell))),
            Self::HangsUpAfter(greeted(&packet(&[KEXINIT; 9])[..12])),
            Self::Says(greeted(&u32::MAX.to_be_bytes())),
            Self::Says(greeted(&[0; 64])),
            Self::Says(greeted(&[0, 0, 0, 12, 255, KEXINIT, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
            Self::Says(greeted(&packet(&[KEXINIT]))),
            Self::Says(greeted(&packet(&key_exchange(&[u32::MAX.to_be_bytes().to_vec()])))),
            Self::Says(greeted(&packet(&key_exchange(&vec![text(""); 10])))),
            Self::Says(greeted(&packet(&key_exchange(&vec![text("none,\u{0},,"); 10])))),
        ]
    }

    /// A key exchange that is almost right, spoilt at random; equal seeds spoil alike.
    pub(crate) fn spoilt(seed: u64) -> Self {
        let ciphers =
            || [text("aes256-ctr"), text("aes256-ctr"), text("hmac-sha2-256"), text("hmac-sha2-256")].concat();
        let lists = [text("curve25519-sha256"), text("ssh-ed25519"), ciphers(), text("none"), text("none")];
        let mut bytes = packet(&key_exchange(&lists));
        bytes.extend(packet(&[&[31][..], &noise(seed, 200)].concat()));
        let mut random = StdRng::seed_from_u64(seed);
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..bytes.len());
            bytes[at] = random.random();
        }
        Self::HangsUpAfter([GREETING, &bytes].concat())
    }
}

/// See the module.
pub(crate) struct Hostile {
    address: SocketAddr,
    _server: AbortOnDropHandle<()>,
}

impl Hostile {
    pub(crate) async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let server = tokio::spawn(async move {
            let mut conversations = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                conversations.spawn(converse(client, manner.clone()));
            }
        });
        Self { address, _server: AbortOnDropHandle::new(server) }
    }

    pub(crate) fn target(&self) -> SshTarget {
        let (address, port) = (self.address.ip().to_string(), self.address.port());
        SshTarget { address, port, user: "nobody".into(), host_key: None }
    }
}

/// Until it hangs up, or the client does.
async fn converse(client: TcpStream, manner: Manner) {
    let (mut from, mut to) = client.into_split();
    let listening = async { copy(&mut from, &mut sink()).await.map(drop) };
    let speaking = async {
        match manner {
            Manner::Mute => std::future::pending().await,
            Manner::Says(bytes) => {
                to.write_all(&bytes).await?;
                std::future::pending().await
            }
            Manner::Drip => loop {
                to.write_all(b"S").await?;
                sleep(Duration::from_millis(500)).await;
            },
            Manner::Repeats(bytes) => loop {
                to.write_all(&bytes).await?;
            },
            Manner::HangsUpAfter(bytes) => to.write_all(&bytes).await,
        }
    };
    // Whoever is gone first: that is the end.
    let _: std::io::Result<()> = tokio::select! {
        end = listening => end,
        end = speaking => end,
    };
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes(), text.as_bytes()].concat()
}

fn key_exchange(lists: &[Vec<u8>]) -> Vec<u8> {
    let end = [0; 13]; // no languages, no guess, a reserved word
    [&[KEXINIT][..], &[7; 16], &lists.concat(), &end].concat()
}

/// As it goes over the wire before there are keys (RFC 4253 §6).
fn packet(payload: &[u8]) -> Vec<u8> {
    let padding = 4 + (8 - (5 + payload.len() + 4) % 8) % 8;
    let length = (1 + payload.len() + padding) as u32;
    [&length.to_be_bytes()[..], &[padding as u8], payload, &vec![0; padding]].concat()
}

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..bytes).map(|_| random.random()).collect()
}
