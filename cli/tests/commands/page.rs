//! The page: on the service's port, and in front of it on a port of its own.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use crate::harness::{Outcome, Server, cladnet};

/// `cladnet admin-web` on a free port, gone with the test.
struct Front {
    process: Child,
    url: String,
    fingerprint: String,
}

impl Front {
    fn before(server: &Server) -> Self {
        let mut command = cladnet();
        command.args([
            "admin-web",
            "--listen",
            "127.0.0.1:0",
            "--log",
            "off",
            "--service",
            &server.url,
            "--service-ca",
        ]);
        let mut process = command.arg(server.ca_file()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let page = lines.next().unwrap();
        let url = page.strip_prefix("page: ").and_then(|rest| rest.split("/,").next()).unwrap().to_owned();
        let told = lines.next().unwrap();
        let fingerprint = told.strip_prefix("certificate of this start, SHA-256: ").unwrap().to_owned();
        Self { process, url, fingerprint }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What `curl` gets, with the status in the last line. Whose certificate it is does not matter here.
fn get(url: &str) -> String {
    let output = Command::new("curl").args(["-sS", "-k", "-w", "\n%{http_code}", url]).output().unwrap();
    assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_page_on_its_own_port_says_what_it_misses() {
    let server = Server::start();
    let ca = server.ca_file();
    let check = |arguments: &[&str], words: &[&str]| {
        let mut command = cladnet();
        Outcome::of(command.arg("admin-web").args(arguments).arg("--check-config")).refused(64, words);
    };
    check(&[], &["--service URL", "CLADNET_SERVICE"]);
    check(&["--service", &server.url], &["--ca-file"]);
    check(&["--service", &server.url, "--service-ca", "/x"], &["--ca-file", "/x"]);
    let ca = ca.to_str().unwrap();
    check(&["--service", &server.url, "--service-ca", ca, "--tls-cert", "/x"], &["--tls-key"]);
    check(&["--service", &server.url, "--service-ca", ca, "--tls-name", "no name"], &["--tls-name", "no name"]);
    let right = cladnet().args(["admin-web", "--service", &server.url, "--service-ca", ca, "--check-config"]).output();
    assert!(right.unwrap().status.success());
}

#[test]
fn the_page_is_on_the_service_and_on_a_port_of_its_own() {
    let server = Server::start();
    let front = Front::before(&server);
    for url in [&server.url, &front.url] {
        // Where nobody has built the page, it says how to.
        assert!(get(&format!("{url}/")).starts_with("<!doctype html>"), "{url}");
        let nobody = get(&format!("{url}/api/v1/session"));
        assert!(nobody.contains("nobody is signed in") && nobody.ends_with("401"), "{url}: {nobody}");
    }
    assert_eq!(front.fingerprint.len(), 32 * 3 - 1, "{}", front.fingerprint);
}
