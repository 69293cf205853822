//! A thread in a nameless network namespace, which is gone with it.

use std::future::Future;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

/// Runs `test` in a fresh namespace with a loopback that is up. Where this cannot be done it says so, and fails under
/// `CI`.
pub(crate) fn isolated<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "this test needs root");
        eprintln!("NOT RUN: this test needs root");
        return;
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ip(&["link", "set", "lo", "up"]);
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
        });
    });
}

/// Sets up what a test stands on; what is tested never calls it.
pub(crate) fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An interface with something at its other end, so that it has a carrier when it is up.
pub(crate) fn cable(name: &str) {
    let far_end = format!("{name}-far");
    ip(&["link", "add", name, "type", "veth", "peer", "name", &far_end]);
    ip(&["link", "set", &far_end, "up"]);
}

/// Polls until `holds`, or fails saying what it waited for.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
