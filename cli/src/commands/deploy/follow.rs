//! Watching a deployment to its end: shows what changes, asks about host keys where somebody can answer, and lets go of it
//! on Ctrl-C.

use std::{
    collections::BTreeSet,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    time::Duration,
};

use cladnet_pki::channel::{ConnectError, DialError};
use cladnet_proto::{
    cladnet::v1::{
        CancelDeploymentRequest, ConfirmHostKeyRequest, Deployment, DeploymentHost, GetDeploymentRequest,
        WatchDeploymentRequest,
    },
    is_passing,
};
use tokio::{
    signal::ctrl_c,
    sync::mpsc,
    time::{Instant, sleep},
};
use tonic::{Code, Status, Streaming};

use super::screen::Screen;
use crate::{
    api::{Api, request},
    failure::Failure,
    output::{Output, one_line},
};

/// A service that is restarted, or fails over, is back within this.
const PATIENCE: Duration = Duration::from_secs(60);
/// Before the first new try; each later one waits twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// How often the deployment is asked for while the service gives no stream to this API key.
const ASK_EVERY: Duration = Duration::from_secs(2);

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

impl Follower<'_> {
    async fn run(mut self) -> Result<Deployment, Failure> {
        let (mut stream, mut absence) = (None, Absence::default());
        loop {
            let next = tokio::select! {
                next = self.next(&mut stream) => next,
                _ = ctrl_c() => {
                    self.interrupted().await?;
                    continue;
                }
            };
            match next {
                Ok(now) if now.state == "finished" => {
                    self.screen.clear()?;
                    return Ok(now);
                }
                Ok(now) => {
                    absence = Absence::default();
                    self.screen.draw(&now)?;
                    self.ask_about_keys(&now).await?;
                }
                Err(status) => {
                    stream = None;
                    self.wait(&mut absence, status).await?;
                }
            }
        }
    }

    /// The deployment as it is, then after each change; where there is no stream to be had, as it is from time to time.
    async fn next(&self, stream: &mut Option<Streaming<Deployment>>) -> Result<Deployment, Status> {
        let open = match stream {
            Some(open) => open,
            None => match self.watch().await {
                Err(status) if status.code() == Code::ResourceExhausted => return self.asked().await,
                watch => stream.insert(watch?),
            },
        };
        open.message().await?.ok_or_else(|| Status::unavailable("the service ended the stream"))
    }

    async fn asked(&self) -> Result<Deployment, Status> {
        sleep(ASK_EVERY).await;
        let ask = GetDeploymentRequest { deployment_id: self.id.to_owned() };
        Ok(self.api.deployments().get_deployment(request(ask)).await?.into_inner())
    }

    /// Before the next try, if another one may go better.
    async fn wait(&mut self, absence: &mut Absence, status: Status) -> Result<(), Failure> {
        if !may_pass(&status) {
            return Err(status.into());
        }
        let why = Failure::from(status);
        let Some(pause) = absence.pause() else { return Err(self.left(&why.to_string())) };
        if pause == FIRST_PAUSE {
            self.screen.clear()?;
            eprintln!("{why}; trying again for {} s", PATIENCE.as_secs());
        }
        tokio::select! {
            () = sleep(pause) => Ok(()),
            _ = ctrl_c() => self.interrupted().await,
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

/// Since when a service has been away.
#[derive(Default)]
struct Absence {
    until: Option<Instant>,
    pause: Duration,
}

impl Absence {
    /// How long to wait now; none when it has lasted too long.
    fn pause(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if now >= *self.until.get_or_insert(now + PATIENCE) {
            return None;
        }
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        Some(self.pause)
    }
}

/// Whether another try may go better. A service that is another one than it should be stays that.
fn may_pass(status: &Status) -> bool {
    match ConnectError::find(status) {
        Some(error) => !matches!(error.reason, DialError::Certificate(_) | DialError::PinMismatch(_)),
        None => is_passing(status),
    }
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
