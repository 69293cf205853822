//! A server that opens channels of its own, as one does that wants something of its client.

use russh::{
    keys::{PrivateKey, decode_secret_key},
    server::{Auth, Handle, Handler, Session, run_stream},
};
use tokio::{net::TcpListener, sync::mpsc};

use super::*;

/// Lets everybody in, then opens one channel of every kind and tells which were accepted.
struct Opening(mpsc::UnboundedSender<(&'static str, bool)>);

impl Handler for Opening {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, _: &str, _: russh::server::VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        tokio::spawn(open_all(session.handle(), self.0.clone()));
        Ok(())
    }
}

async fn open_all(client: Handle, tell: mpsc::UnboundedSender<(&'static str, bool)>) {
    for (kind, opened) in [
        ("session", client.channel_open_session().await),
        ("agent", client.channel_open_agent().await),
        ("x11", client.channel_open_x11("127.0.0.1", 1).await),
        ("direct", client.channel_open_direct_tcpip("127.0.0.1", 22, "127.0.0.1", 1).await),
        ("direct socket", client.channel_open_direct_streamlocal("/run/x").await),
        ("forwarded", client.channel_open_forwarded_tcpip("127.0.0.1", 22, "127.0.0.1", 1).await),
        ("forwarded socket", client.channel_open_forwarded_streamlocal("/run/x").await),
    ] {
        // Whoever listened may have seen enough.
        let _ = tell.send((kind, opened.is_ok()));
    }
}

fn private_key() -> PrivateKey {
    let text = foreign_key();
    decode_secret_key(std::str::from_utf8(&text).unwrap(), None).unwrap()
}

#[tokio::test]
async fn a_server_opens_no_channel() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = russh::server::Config { keys: vec![private_key()], ..russh::server::Config::default() };
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        run_stream(config.into(), stream, Opening(tell)).await.unwrap().await
    });
    let (address, port) = (address.ip().to_string(), address.port());
    let target = SshTarget { address, port, user: "anybody".into(), host_key: None };
    let remote = Remote::connect(&target, Trust::FirstSight, &foreign_key(), Route::Direct, &Anywhere).await.unwrap();
    for _ in 0..7 {
        let (kind, is_open) = timeout(LIMIT, told.recv()).await.expect("an answer").expect("all kinds are tried");
        assert!(!is_open, "{kind}");
    }
    assert!(!remote.is_closed());
    server.abort();
}
