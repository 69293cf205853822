//! The embedded engine when its process is killed, and when its disk is full. The victim is this very test binary.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use cladnet_model::{Network, Token};
use cladnet_store::{AnyRecord, Change, EmbeddedOptions, Revision, Store, StoreError, key};

use crate::support::{id, network, soon, token};

/// Set for the child: its data directory.
const DIRECTORY: &str = "CLADNET_TEST_VICTIM";

/// This binary again, to run one test; `wrapper` is what it runs under.
fn victim(wrapper: &[&str], test: &str, directory: &Path) -> Child {
    let binary = std::env::current_exe().expect("the path of this binary");
    let mut words: Vec<&std::ffi::OsStr> = wrapper.iter().map(AsRef::as_ref).collect();
    words.push(binary.as_os_str());
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).args(words);
    command.args(["--exact", test, "--nocapture"]).env(DIRECTORY, directory);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a child of this binary")
}

/// The numbers that the victim says it has written, as it says them.
fn acknowledged(child: &mut Child) -> impl Iterator<Item = u32> + use<> {
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("written ")?.parse().ok())
}

fn a() -> cladnet_store::Key<Token> {
    key::token(&"a".parse().unwrap())
}

fn leased() -> cladnet_store::Key<Token> {
    key::token(&"leased".parse().unwrap())
}

/// Not a test of its own: writes numbers until it is killed, each to two keys at once.
#[tokio::test(flavor = "multi_thread")]
async fn writes_until_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let store = Store::open_embedded(EmbeddedOptions::new(directory)).await.unwrap();
    let lease = store.grant(Duration::from_secs(3600)).await.unwrap();
    let from = store.get(&a()).await.unwrap().map_or(0, |found| found.value.uses_left);
    for count in from + 1.. {
        let mirror = Network { generation: count.into(), ..network("b", "mirror") };
        let both = store.transaction().put(&a(), &token("a", count)).put(&key::network(&mirror.id), &mirror);
        both.put_leased(&leased(), &token("leased", count), &lease).commit().await.unwrap();
        println!("written {count}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_at_any_time_loses_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut seen = Revision::ZERO;
    for _ in 0..15 {
        let mut child = victim(&[], "crash::writes_until_killed", directory.path());
        let mut numbers = acknowledged(&mut child);
        let first = numbers.next().expect("the victim to write");
        let reader = std::thread::spawn(move || numbers.last());
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..60))).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let last = reader.join().unwrap().unwrap_or(first);

        let store = Store::open_embedded(EmbeddedOptions::new(directory.path())).await.unwrap();
        let found = store.get(&a()).await.unwrap().unwrap();
        let mirror = store.get(&key::network(&id("b"))).await.unwrap().unwrap();
        assert!(found.value.uses_left >= last, "{last} was written, {} is there", found.value.uses_left);
        assert_eq!(u64::from(found.value.uses_left), mirror.value.generation, "half a transaction");
        assert_eq!(found.modified, mirror.modified);
        assert_eq!(store.get(&leased()).await.unwrap(), None, "a lease of the killed process is over");
        history_is_whole(&store, seen).await;
        seen = store.list(&key::tokens()).await.unwrap().revision;
        store.close().await.unwrap();
    }
}

/// Every number follows the one before in the log, too.
async fn history_is_whole(store: &Store, after: Revision) {
    let now = store.list(&key::tokens()).await.unwrap().revision;
    let mut watch = store.watch(&key::tokens(), after).await.unwrap();
    let mut before = None;
    loop {
        let batch = soon("history", watch.next()).await.unwrap();
        for change in &batch.changes {
            let Change::Put(put) = change else { continue };
            if put.key == a() {
                assert!(before.is_none_or(|before| before + 1 == put.value.uses_left), "after {before:?}: {put:?}");
                before = Some(put.value.uses_left);
            }
        }
        if batch.revision >= now {
            return;
        }
    }
}

/// Not a test of its own: fills a small disk, makes room, and goes on. Runs where `/mnt` is a file system of 4 MiB.
#[tokio::test(flavor = "multi_thread")]
async fn fills_its_disk() {
    if std::env::var_os(DIRECTORY).is_none() {
        return;
    }
    let store = Store::open_embedded(EmbeddedOptions::new("/mnt/data")).await.unwrap();
    std::fs::write("/mnt/ballast", vec![1; 1 << 20]).unwrap();
    let mut follow = store.follow(&key::networks());
    soon("a listing", follow.next()).await;
    let mut written = 0;
    let error = loop {
        let name = format!("net-{written}");
        let large = Network { description: "x".repeat(20_000), ..network(&name, "large") };
        match store.create(&key::network(&large.id), &large).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert_eq!(store.list(&key::networks()).await.unwrap().items.len(), written, "what is there can still be read");
    assert!(matches!(store.create(&a(), &token("a", 1)).await, Err(StoreError::Full { .. }) | Ok(_)));
    std::fs::remove_file("/mnt/ballast").unwrap();
    store.put(&a(), &token("a", 2)).await.expect("with room on the disk, writes go on");
    store.close().await.unwrap();
    let store = Store::open_embedded(EmbeddedOptions::new("/mnt/data")).await.unwrap();
    assert_eq!(store.list::<AnyRecord>(&key::everything()).await.unwrap().items.len(), written + 1);
    println!("written {written}");
}

#[test]
fn a_full_disk_is_an_error_and_passes() {
    let mount = "mount -t tmpfs -o size=4m none /mnt && exec \"$@\"";
    let mut child = victim(&["unshare", "-rm", "sh", "-c", mount, "sh"], "crash::fills_its_disk", Path::new("/mnt"));
    let written = acknowledged(&mut child).last();
    assert!(child.wait().unwrap().success(), "run it by hand: unshare -rm, with a small tmpfs on /mnt");
    assert!(written.is_some_and(|written| written > 10), "{written:?}");
}
