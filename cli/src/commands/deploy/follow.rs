//! Watching a deployment to its end: shows what changes, asks about host keys where somebody can answer, and lets go of it
//! on Ctrl-C.

use std::{
    collections::BTreeSet,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    time::Duration,
};

use cladnet_proto::cladnet::v1::{
    CancelDeploymentRequest, ConfirmHostKeyRequest, Deployment, DeploymentHost, WatchDeploymentRequest,
};
use tokio::{signal::ctrl_c, sync::mpsc, time::sleep};
use tonic::{Code, Status, Streaming};

use super::screen::Screen;
use crate::{
    api::{Api, request},
    failure::Failure,
    output::{Output, one_line},
};

/// A service that is restarted is back within this many tries.
const TRIES: usize = 30;
/// Between two of them.
const PAUSE: Duration = Duration::from_secs(1);

/// Follows the deployment until it is finished.
pub(in crate::commands) async fn follow(api: &Api, out: Output, id: &str) -> Result<Deployment, Failure> {
    let interactive = io::stdin().is_terminal() && io::stderr().is_terminal();
    let keyboard = interactive.then(Keyboard::start);
    let screen = Screen::new(out.format());
    Follower { api, id, screen, keyboard, asked: BTreeSet::new(), is_cancelled: false }.run().await
}

struct Follower<'a> {
    api: &'a Api,
    id: &'a str,
    screen: Screen,
    /// Where somebody can answer.
    keyboard: Option<Keyboard>,
    /// Machines and keys that were asked about, or told of.
    asked: BTreeSet<(String, String)>,
    is_cancelled: bool,
}

/// What happened next.
enum Next {
    Changed(Box<Deployment>),
    Broken(Option<Status>),
    Interrupted,
}

impl Follower<'_> {
    async fn run(mut self) -> Result<Deployment, Failure> {
        let mut failures = 0;
        let mut stream = None;
        loop {
            let next = match &mut stream {
                Some(open) => next(open).await,
                None => match self.watch().await {
                    Ok(opened) => {
                        stream = Some(opened);
                        continue;
                    }
                    Err(status) => Next::Broken(Some(status)),
                },
            };
            match next {
                Next::Changed(now) if now.state == "finished" => {
                    self.screen.clear()?;
                    return Ok(*now);
                }
                Next::Changed(now) => {
                    failures = 0;
                    self.screen.draw(&now)?;
                    self.ask_about_keys(&now).await?;
                }
                Next::Interrupted => self.interrupted().await?,
                Next::Broken(status) => {
                    failures += 1;
                    match status.filter(|status| failures > TRIES || !is_passing(status)) {
                        Some(status) => return Err(self.left(&Failure::from(status).to_string())),
                        None if failures > TRIES => return Err(self.left("the service keeps ending the stream")),
                        None => sleep(PAUSE).await,
                    }
                    stream = None;
                }
            }
        }
    }

    async fn watch(&self) -> Result<Streaming<Deployment>, Status> {
        let ask = WatchDeploymentRequest { deployment_id: self.id.to_owned() };
        Ok(self.api.deployments().watch_deployment(ask).await?.into_inner())
    }

    /// Every key that a machine offers is asked about once; where nobody can answer, it is said how to.
    async fn ask_about_keys(&mut self, now: &Deployment) -> Result<(), Failure> {
        for host in now.hosts.iter().filter(|host| !host.offered_fingerprint.is_empty()) {
            if !self.asked.insert((host.name.clone(), host.offered_fingerprint.clone())) {
                continue;
            }
            self.screen.clear()?;
            match self.trusts(host).await {
                Some(Answer::Yes) => self.confirm(host).await?,
                Some(Answer::Interrupted) => self.interrupted().await?,
                Some(Answer::No) | None => eprintln!(
                    "machine {} waits; to trust it: cladnet deployment confirm {} {} {}",
                    host.name, self.id, host.name, host.offered_fingerprint
                ),
            }
        }
        Ok(())
    }

    async fn trusts(&mut self, host: &DeploymentHost) -> Option<Answer> {
        let (address, fingerprint) = (one_line(&host.address), one_line(&host.offered_fingerprint));
        let place = format!("machine {} at {address}, port {}", host.name, host.port);
        eprintln!("{place}, shows a host key that nobody has vouched for:\n  {fingerprint}");
        let keyboard = self.keyboard.as_mut()?;
        Some(keyboard.ask("Is it the one that ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub prints there?").await)
    }

    async fn confirm(&self, host: &DeploymentHost) -> Result<(), Failure> {
        let ask = ConfirmHostKeyRequest {
            deployment_id: self.id.to_owned(),
            name: host.name.clone(),
            fingerprint: host.offered_fingerprint.clone(),
        };
        match self.api.deployments().confirm_host_key(request(ask)).await {
            Ok(_) => Ok(()),
            // It waits no longer, or shows another key now: the next message says which.
            Err(status) if matches!(status.code(), Code::FailedPrecondition | Code::Aborted) => {
                eprintln!("{}", Failure::from(status));
                Ok(())
            }
            Err(status) => Err(self.left(&Failure::from(status).to_string())),
        }
    }

    /// Ctrl-C: whether to cancel; a second one, or nobody to ask, lets it run.
    async fn interrupted(&mut self) -> Result<(), Failure> {
        self.screen.clear()?;
        let question = "Cancel the deployment? Machines at work end after their current step.";
        let answer = match self.keyboard.as_mut().filter(|_| !self.is_cancelled) {
            Some(keyboard) => keyboard.ask(question).await,
            None => Answer::No,
        };
        match answer {
            Answer::Yes => {
                let ask = CancelDeploymentRequest { deployment_id: self.id.to_owned() };
                self.api.deployments().cancel_deployment(request(ask)).await?;
                self.is_cancelled = true;
                Ok(())
            }
            Answer::No | Answer::Interrupted => Err(self.left("interrupted")),
        }
    }

    fn left(&self, why: &str) -> Failure {
        Failure::failed(format!("{why}; the deployment goes on: cladnet deployment show --follow {}", self.id))
    }
}

async fn next(stream: &mut Streaming<Deployment>) -> Next {
    tokio::select! {
        message = stream.message() => match message {
            Ok(Some(now)) => Next::Changed(Box::new(now)),
            Ok(None) => Next::Broken(None),
            Err(status) => Next::Broken(Some(status)),
        },
        _ = ctrl_c() => Next::Interrupted,
    }
}

/// Whether another try may go better.
fn is_passing(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Aborted | Code::Unknown | Code::Cancelled | Code::ResourceExhausted
    )
}

enum Answer {
    Yes,
    No,
    Interrupted,
}

/// Lines that somebody types; read by a thread of its own, which the end of the process does not wait for.
struct Keyboard(mpsc::UnboundedReceiver<String>);

impl Keyboard {
    fn start() -> Self {
        let (sender, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self(lines)
    }

    /// What was typed before the question is no answer to it.
    async fn ask(&mut self, question: &str) -> Answer {
        while self.0.try_recv().is_ok() {}
        eprint!("{question} [y/N] ");
        let _ = io::stderr().flush(); // the question may be lost, an answer is none then
        tokio::select! {
            line = self.0.recv() => match line.as_deref().map(str::trim) {
                Some("y" | "Y" | "yes") => Answer::Yes,
                _ => Answer::No,
            },
            _ = ctrl_c() => {
                eprintln!();
                Answer::Interrupted
            }
        }
    }
}
