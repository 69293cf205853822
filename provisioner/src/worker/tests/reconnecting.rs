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

#[tokio::test]
async fn a_bastion_that_is_away_for_a_moment_is_asked_again_for_whoever_is_behind_it() {
    let (bench, bastion) = (Bench::new().await, Sshd::start(&["ed25519"]).await);
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().display();
    let once = format!(
        "if [ -e {at}/begun ]; then eval \"$SSH_ORIGINAL_COMMAND\"; \
         else touch {at}/begun; while [ -e {at} ]; do sleep 0.1; done; fi"
    );
    let inner = Sshd::that_runs(&once).await;
    let (inner_host, inner_key) = known("inner", &inner);
    let inner_host = DeploymentHost { bastion: Some(name("bastion")), ..inner_host };
    let (bastion_host, bastion_key) = known("bastion", &bastion);
    let deployment = bench.deploy(&[(inner_host, inner_key)], 1).await;
    bench.store.put(&key::deployment_host(&deployment.id, &bastion_host.name), &bastion_host).await.unwrap();
    let credential = key::deployment_credential(&deployment.id, &bastion_host.name);
    bench.store.create_sealed(&credential, &bastion_key).await.unwrap();
    let _replica = bench.replica();

    let begun = directory.path().join("begun");
    eventually("the machine to be looked at", async || begun.exists().then_some(()).ok_or_else(String::new)).await;
    bastion.take_only(0);
    bastion.hang_up();
    eventually("a new attempt to fail", async || match bastion.turned_away() {
        0 => Err(String::new()),
        _ => Ok(()),
    })
    .await;
    bastion.take_only(u64::MAX);
    let failure = bench.wait_for(&deployment, "inner", DeploymentState::Failed).await.failure.unwrap();
    let told = bench.transcript(&deployment, "inner").await;
    assert!(failure.detail.contains("this service is for tests"), "{failure:?}\n{}", told.as_str());
}
