//! Against a real `sshd`.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use cladnet_model::deployment::FailureReason;

use tokio::task::JoinSet;

use super::{
    hostile::{Hostile, Manner},
    testing::{Anywhere, Sshd, foreign_key, user},
    *,
};

mod hostile_channels;

const LIMIT: Duration = Duration::from_secs(20);

async fn connect(sshd: &Sshd, trust: Trust) -> Result<Remote, RemoteError> {
    Remote::connect(&sshd.target(), trust, &sshd.user_key("ed25519"), Route::Direct, &Anywhere).await
}

async fn connected(sshd: &Sshd) -> Remote {
    connect(sshd, Trust::Pinned(sshd.host_key("ed25519").into())).await.expect("a connection")
}

fn failed<T>(result: Result<T, RemoteError>) -> RemoteError {
    match result {
        Ok(_) => panic!("it worked"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_script_gets_its_arguments_as_they_are() {
    let sshd = Sshd::start(&["ed25519"]).await;
    let remote = connected(&sshd).await;
    let script = r#"for item; do printf '<%s>' "$item"; done; echo oops >&2"#;
    let output = remote.run(script, &["a b", "$(id)", "", "'\n\""], As::User, LIMIT).await.unwrap();
    assert_eq!(output.stdout, "<a b><$(id)><><'\n\">");
    // Before it come the server's own words: it is told to say much.
    assert!(output.stderr.ends_with("oops\n"), "{}", output.stderr);
    assert_eq!(output.status, Some(0));
    let output = remote.run("exit 7", &[], As::User, LIMIT).await.unwrap();
    assert_ne!(output.status, Some(0));
}

#[tokio::test]
async fn an_rsa_key_in_pem_opens_a_server_that_takes_sha_2_only() {
    let sshd = Sshd::start(&["rsa"]).await;
    let trust = Trust::Pinned(sshd.host_key("rsa").into());
    Remote::connect(&sshd.target(), trust, &sshd.user_key("rsa"), Route::Direct, &Anywhere).await.unwrap();
    assert!(!sshd.log().contains("ssh-rsa key"), "{}", sshd.log());
}

#[tokio::test]
async fn nothing_is_sent_to_a_machine_whose_key_is_another_one() {
    let (sshd, other) = (Sshd::start(&["ed25519", "ecdsa"]).await, Sshd::start(&["ed25519"]).await);
    let error = failed(connect(&sshd, Trust::Pinned(other.host_key("ed25519").into())).await);
    assert_eq!(error.reason(), FailureReason::HostKeyChanged, "{error}");
    assert!(error.to_string().contains(&sshd.host_key("ed25519").to_string()), "{error}");
    assert!(!sshd.log().contains("userauth"), "{}", sshd.log());
}

#[tokio::test]
async fn an_unknown_key_is_offered_and_nothing_is_sent() {
    let sshd = Sshd::start(&["ed25519"]).await;
    match failed(connect(&sshd, Trust::Unknown).await) {
        RemoteError::UnknownKey(shown) => {
            assert_eq!(shown.fingerprint, sshd.host_key("ed25519"));
            assert_eq!(shown.algorithm, "ssh-ed25519");
        }
        other => panic!("{other}"),
    }
    assert!(!sshd.log().contains("userauth"), "{}", sshd.log());
    let remote = connect(&sshd, Trust::FirstSight).await.unwrap();
    assert_eq!(remote.shown_key().fingerprint, sshd.host_key("ed25519"));
}

#[tokio::test]
async fn a_pin_of_another_kind_than_the_preferred_key_is_found() {
    let sshd = Sshd::start(&["ed25519", "ecdsa", "rsa"]).await;
    for kind in ["rsa", "ecdsa"] {
        let remote = connect(&sshd, Trust::Pinned(sshd.host_key(kind).into())).await.unwrap();
        assert_eq!(remote.shown_key().fingerprint, sshd.host_key(kind));
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_is_not_called_another_one() {
    let sshd = Sshd::start(&["ed25519", "rsa"]).await;
    let pin = Pin::from(sshd.host_key("rsa"));
    sshd.take_only(1);
    let error = failed(connect(&sshd, Trust::Pinned(pin.clone())).await);
    assert_eq!(error.reason(), FailureReason::Unreachable, "{error}");

    sshd.take_only(1);
    let known = Pin { algorithm: Some("ssh-rsa".to_owned()), ..pin };
    let remote = connect(&sshd, Trust::Pinned(known)).await.expect("the key that is known is asked for first");
    assert_eq!(remote.shown_key().fingerprint, sshd.host_key("rsa"));
}

#[tokio::test]
async fn a_wrong_key_is_told_apart_from_no_key() {
    let sshd = Sshd::start(&["ed25519"]).await;
    let trust = Trust::Pinned(sshd.host_key("ed25519").into());
    let target = sshd.target();
    let error = failed(Remote::connect(&target, trust.clone(), &foreign_key(), Route::Direct, &Anywhere).await);
    assert_eq!(error.reason(), FailureReason::AuthenticationFailed);
    assert!(error.to_string().contains(&user()), "{error}");
    let nonsense = Zeroizing::new(b"-----BEGIN OPENSSH PRIVATE KEY-----\nhello".to_vec());
    let error = failed(Remote::connect(&target, trust, &nonsense, Route::Direct, &Anywhere).await);
    assert_eq!(error.reason(), FailureReason::NoCredential);
    assert!(!error.to_string().contains("hello"), "{error}");
}

#[tokio::test]
async fn the_policy_judges_what_a_name_resolves_to() {
    let sshd = Sshd::start(&["ed25519"]).await;
    let policy = AddressPolicy::default();
    for address in ["localhost", "127.0.0.1", "::ffff:127.0.0.1"] {
        let target = SshTarget { address: address.to_owned(), ..sshd.target() };
        let key = sshd.user_key("ed25519");
        let error = failed(Remote::connect(&target, Trust::FirstSight, &key, Route::Direct, &policy).await);
        assert_eq!(error.reason(), FailureReason::AddressRefused, "{address}: {error}");
    }
    assert_eq!(sshd.log(), "", "nobody was connected to");
}

#[tokio::test]
async fn a_refused_port_and_a_name_of_nothing_are_unreachable() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (address, port) in [("127.0.0.1", free.port()), ("no-such-machine.invalid", 22)] {
        let target = SshTarget { address: address.into(), port, user: "nobody".into(), host_key: None };
        let key = foreign_key();
        let error = failed(Remote::connect(&target, Trust::FirstSight, &key, Route::Direct, &Anywhere).await);
        assert_eq!(error.reason(), FailureReason::Unreachable, "{error}");
    }
}

#[tokio::test]
async fn a_machine_is_reached_through_a_bastion() {
    let (bastion, inner) = (Sshd::start(&["ed25519"]).await, Sshd::start(&["ed25519"]).await);
    let outer = connected(&bastion).await;
    let through = Route::Through(&outer);
    let (trust, key) = (Trust::Pinned(inner.host_key("ed25519").into()), inner.user_key("ed25519"));
    let remote = Remote::connect(&inner.target(), trust.clone(), &key, through, &Anywhere).await.unwrap();
    let output = remote.run("echo inside", &[], As::User, LIMIT).await.unwrap();
    assert_eq!(output.stdout, "inside\n");

    let changed = Trust::Pinned(bastion.host_key("ed25519").into());
    let error = failed(Remote::connect(&inner.target(), changed, &key, through, &Anywhere).await);
    assert_eq!(error.reason(), FailureReason::HostKeyChanged);
    let named = SshTarget { address: "localhost".into(), ..inner.target() };
    let error = failed(Remote::connect(&named, trust.clone(), &key, through, &Anywhere).await);
    assert_eq!(error.reason(), FailureReason::AddressRefused, "{error}");
    let metadata = SshTarget { address: "169.254.169.254".into(), ..inner.target() };
    let error = failed(Remote::connect(&metadata, trust.clone(), &key, through, &AddressPolicy::default()).await);
    assert_eq!(error.reason(), FailureReason::AddressRefused, "{error}");
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nobody = SshTarget { port: closed.port(), ..inner.target() };
    let error = failed(Remote::connect(&nobody, trust, &key, through, &Anywhere).await);
    assert_eq!(error.reason(), FailureReason::BastionFailed, "{error}");
}

#[tokio::test]
async fn an_upload_arrives_whole_and_private() {
    let sshd = Sshd::start(&["ed25519"]).await;
    let remote = connected(&sshd).await;
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    fs::write(sshd.path("local"), &content).unwrap();
    let to = sshd.path("remote");
    for _ in 0..2 {
        remote.upload_file(&sshd.path("local"), to.to_str().unwrap(), LIMIT).await.unwrap();
        assert!(fs::read(&to).unwrap() == content, "arrived otherwise");
    }
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!sshd.path("remote.part").exists());
    let error = failed(remote.upload_text("x", "/proc/nowhere/file", LIMIT).await);
    assert!(matches!(error, RemoteError::Write { .. }), "{error}");
    // Not even root may make files there.
    let error = failed(remote.upload_text("x", "/sys/nowhere", LIMIT).await);
    assert_eq!(error.reason(), FailureReason::NoPrivilege, "{error}");
}

#[tokio::test]
async fn a_connection_that_falls_silent_in_an_upload_is_noticed_soon() {
    let sshd = Sshd::start(&["ed25519"]).await;
    let remote = connected(&sshd).await;
    fs::write(sshd.path("local"), vec![7; 4_000_000]).unwrap();
    sshd.cut_after(1_000_000);
    let error = failed(remote.upload_file(&sshd.path("local"), sshd.path("remote").to_str().unwrap(), 6 * LIMIT).await);
    assert_eq!(error.reason(), FailureReason::ConnectionLost, "{error}");
    assert!(!sshd.path("remote").exists(), "half a file under its name");
}

#[tokio::test]
async fn endless_output_and_an_endless_script_are_ended() {
    let sshd = Sshd::start(&["ed25519"]).await;
    let remote = connected(&sshd).await;
    let error = failed(remote.run("yes", &[], As::User, LIMIT).await);
    assert!(matches!(error, RemoteError::Chatty { .. }), "{error}");
    let error = failed(remote.run("sleep 60", &[], As::User, Duration::from_millis(300)).await);
    assert!(matches!(error, RemoteError::Slow { .. }), "{error}");
    assert!(!remote.is_closed(), "other scripts may run");
}

#[tokio::test]
async fn a_server_that_breaks_the_protocol_is_told_apart_from_none_and_harms_nobody() {
    let (spoilt, key) = ((0..200).map(Manner::spoilt), foreign_key());
    let mut attempts = JoinSet::new();
    for manner in Manner::all().into_iter().chain(spoilt) {
        let key = key.clone();
        attempts.spawn(async move {
            let server = Hostile::start(manner.clone()).await;
            let told = Remote::connect(&server.target(), Trust::FirstSight, &key, Route::Direct, &Anywhere).await;
            (manner, failed(told))
        });
    }
    while let Some(attempt) = attempts.join_next().await {
        let (manner, error) = attempt.expect("no attempt panics");
        assert_eq!(error.reason(), FailureReason::Unreachable, "{manner:?}: {error}");
        assert!(error.to_string().contains("does not speak SSH"), "{manner:?}: {error}");
    }
}

#[tokio::test]
async fn a_machine_that_hangs_up_in_the_middle_is_a_lost_connection() {
    let sshd = Sshd::that_runs("/bin/sh -c 'kill -9 $PPID'").await;
    let error = failed(connected(&sshd).await.run("echo", &[], As::User, LIMIT).await);
    assert_eq!(error.reason(), FailureReason::ConnectionLost, "{error}");
}

#[tokio::test]
async fn sftp_that_is_none_is_refused() {
    for command in ["/bin/echo hello", "/usr/bin/head -c 1000000 /dev/urandom", "/bin/true"] {
        let sshd = Sshd::that_runs(command).await;
        let error = failed(connected(&sshd).await.upload_text("x", "/tmp/never", LIMIT).await);
        assert_eq!(error.reason(), FailureReason::UnsupportedSystem, "{command}: {error}");
    }
}
