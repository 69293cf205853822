//! Connections that break in the middle of the work.

use super::*;

/// What machines run instead of every program: the end of their own connection.
const HANGS_UP: &str = "kill -9 $PPID";

/// A machine there whose key is known.
fn known(machine: &str, sshd: &Sshd) -> (DeploymentHost, Zeroizing<Vec<u8>>) {
    let pin = sshd.host_key("ed25519").to_string().parse().unwrap();
    (host(machine, SshTarget { host_key: Some(pin), ..sshd.target() }), sshd.user_key("ed25519"))
}

fn logins(sshd: &Sshd) -> usize {
    sshd.log().matches("Accepted publickey").count()
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_anew_a_few_times() {
    let bench = Bench::new().await;
    let directory = tempfile::tempdir().unwrap();
    let broke = directory.path().join("broke");
    let broke = broke.display();
    let once = format!("if [ -e {broke} ]; then eval \"$SSH_ORIGINAL_COMMAND\"; else touch {broke}; {HANGS_UP}; fi");
    let (once, always) = (Sshd::that_runs(&once).await, Sshd::that_runs(HANGS_UP).await);
    let refuses = Sshd::that_runs("printf 'error=odd\\ndetail=no\\n'").await;
    let deployment =
        bench.deploy(&[known("once", &once), known("always", &always), known("refuses", &refuses)], 3).await;
    let _replica = bench.replica();

    let failure = bench.wait_for(&deployment, "once", DeploymentState::Failed).await.failure.unwrap();
    assert!(failure.detail.contains("this service is for tests"), "it was looked at: {failure:?}");
    assert_eq!(logins(&once), 2);
    let told = bench.transcript(&deployment, "once").await;
    assert!(told.as_str().contains("connecting again in 2 s: the connection was lost"), "{}", told.as_str());

    let failure = bench.wait_for(&deployment, "always", DeploymentState::Failed).await.failure.unwrap();
    assert_eq!((failure.reason, failure.during), (FailureReason::ConnectionLost, DeploymentState::Inspecting));
    assert_eq!(logins(&always), 3);

    let failure = bench.wait_for(&deployment, "refuses", DeploymentState::Failed).await.failure.unwrap();
    assert_eq!(failure.reason, FailureReason::UnsupportedSystem, "{failure:?}");
    assert_eq!(logins(&refuses), 1, "a refusal is an answer");
    bench.wait_for_end(&deployment).await;
}

#[tokio::test]
async fn of_a_machine_that_stays_away_it_is_told_that_its_connection_broke() {
    let (bench, sshd) = (Bench::new().await, Sshd::that_runs(HANGS_UP).await);
    sshd.take_only(1);
    let deployment = bench.deploy(&[known("away", &sshd)], 1).await;
    let _replica = bench.replica();
    let failure = bench.wait_for(&deployment, "away", DeploymentState::Failed).await.failure.unwrap();
    assert_eq!(failure.reason, FailureReason::ConnectionLost, "{failure:?}");
    assert_eq!(logins(&sshd), 1);
}
