//! The services of a VM: started, watched, started again, stopped. The state of things only; [`super::init`] has the loop.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

use super::protocol::{Refusal, ServiceSpec, ServiceState, ServiceStatus};

/// As systemd's default `RestartSec=`.
const RESTART_AFTER: Duration = Duration::from_millis(100);

/// How long a service may take to end when asked, before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// All services of this VM, by name.
#[derive(Default)]
pub(super) struct Services(BTreeMap<String, Service>);

struct Service {
    spec: ServiceSpec,
    phase: Phase,
    restarts: u32,
    last_end: Option<String>,
}

#[derive(Clone, Copy)]
enum Phase {
    Running(Pid),
    RestartAt(Instant),
    Stopping { pid: Pid, kill_at: Instant },
    Stopped,
}

impl Services {
    /// Adds and starts a service; an error says why it cannot even be started.
    pub(super) fn add(&mut self, spec: ServiceSpec) -> Result<(), Refusal> {
        if self.contains(&spec.name) {
            return Err(format!("service {:?} exists already", spec.name).into());
        }
        self.insert(spec)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Starts a service in the place of one that does not run; if it cannot be started, that one stays.
    pub(super) fn insert(&mut self, spec: ServiceSpec) -> Result<(), Refusal> {
        if spec.name.is_empty() || spec.name.contains(['/', '\0']) || spec.name.starts_with('.') {
            return Err(format!("{:?} cannot be the name of a service: it names its log file", spec.name).into());
        }
        if spec.command.is_empty() {
            return Err("a service needs a command".to_owned().into());
        }
        File::create(log_path(&spec.name)).map_err(|error| format!("{}: {error}", log_path(&spec.name)))?;
        let pid = launch(&spec).map_err(|error| format!("{}: {error}", spec.command[0]))?;
        let name = spec.name.clone();
        self.0.insert(name, Service { spec, phase: Phase::Running(pid), restarts: 0, last_end: None });
        Ok(())
    }

    pub(super) fn start(&mut self, name: &str) -> Result<(), Refusal> {
        let service = self.find(name)?;
        if let Phase::Stopped | Phase::RestartAt(_) = service.phase {
            let pid = launch(&service.spec).map_err(|error| format!("{}: {error}", service.spec.command[0]))?;
            service.phase = Phase::Running(pid);
        }
        Ok(())
    }

    /// Asks a service to end; it has when [`Services::is_stopped`].
    pub(super) fn stop(&mut self, name: &str) -> Result<(), Refusal> {
        let service = self.find(name)?;
        match service.phase {
            Phase::Running(pid) => {
                signal_group(pid, Signal::SIGTERM);
                service.phase = Phase::Stopping { pid, kill_at: Instant::now() + STOP_TIMEOUT };
            }
            Phase::RestartAt(_) => service.phase = Phase::Stopped,
            Phase::Stopping { .. } | Phase::Stopped => {}
        }
        Ok(())
    }

    pub(super) fn is_stopped(&self, name: &str) -> bool {
        self.0.get(name).is_none_or(|service| matches!(service.phase, Phase::Stopped))
    }

    pub(super) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Signals the main process of a service, as `systemctl kill --kill-whom=main` does.
    pub(super) fn kill(&mut self, name: &str, signal: i32) -> Result<(), Refusal> {
        let signal = Signal::try_from(signal).map_err(|_| format!("{signal} is not a signal"))?;
        match self.find(name)?.phase {
            Phase::Running(pid) | Phase::Stopping { pid, .. } => {
                Ok(nix::sys::signal::kill(pid, signal).map_err(|errno| format!("{name}: {errno}"))?)
            }
            Phase::RestartAt(_) | Phase::Stopped => Err(format!("service {name:?} does not run").into()),
        }
    }

    /// Takes note of a process that ended; those that are no service's are nobody's business.
    pub(super) fn ended(&mut self, status: WaitStatus) {
        let (pid, how) = match status {
            WaitStatus::Exited(pid, code) => (pid, format!("exit {code}")),
            WaitStatus::Signaled(pid, signal, _) => (pid, format!("signal {signal}")),
            _ => return,
        };
        for service in self.0.values_mut() {
            service.phase = match service.phase {
                Phase::Running(main) if main == pid => Phase::RestartAt(Instant::now() + RESTART_AFTER),
                Phase::Stopping { pid: main, .. } if main == pid => Phase::Stopped,
                _ => continue,
            };
            service.last_end = Some(how.clone());
            // Nothing of a run outlives it.
            signal_group(pid, Signal::SIGKILL);
        }
    }

    /// Starts and kills what is due; returns when to be called next.
    pub(super) fn advance(&mut self) -> Option<Instant> {
        let now = Instant::now();
        for service in self.0.values_mut() {
            match service.phase {
                Phase::RestartAt(at) if at <= now => {
                    service.restarts += 1;
                    service.phase = match launch(&service.spec) {
                        Ok(pid) => Phase::Running(pid),
                        Err(error) => {
                            service.last_end = Some(format!("could not be started: {error}"));
                            Phase::RestartAt(now + RESTART_AFTER)
                        }
                    };
                }
                Phase::Stopping { pid, kill_at } if kill_at <= now => {
                    signal_group(pid, Signal::SIGKILL);
                    service.phase = Phase::Stopping { pid, kill_at: now + STOP_TIMEOUT };
                }
                _ => {}
            }
        }
        let due = self.0.values().filter_map(|service| match service.phase {
            Phase::RestartAt(at) | Phase::Stopping { kill_at: at, .. } => Some(at),
            Phase::Running(_) | Phase::Stopped => None,
        });
        due.min()
    }

    /// After everything was killed: every service that should run is started.
    pub(super) fn start_over(&mut self) {
        for service in self.0.values_mut() {
            service.phase = match service.phase {
                Phase::Running(_) | Phase::RestartAt(_) => Phase::RestartAt(Instant::now()),
                Phase::Stopping { .. } | Phase::Stopped => Phase::Stopped,
            };
        }
    }

    pub(super) fn status(&self) -> Vec<ServiceStatus> {
        self.0.values().map(Service::status).collect()
    }

    fn find(&mut self, name: &str) -> Result<&mut Service, Refusal> {
        self.0.get_mut(name).ok_or_else(|| Refusal::NoService(name.to_owned()))
    }
}

impl Service {
    fn status(&self) -> ServiceStatus {
        let state = match self.phase {
            Phase::Running(pid) => ServiceState::Running { pid: pid.as_raw() },
            Phase::RestartAt(_) => ServiceState::Restarting,
            Phase::Stopping { pid, .. } => ServiceState::Stopping { pid: pid.as_raw() },
            Phase::Stopped => ServiceState::Stopped,
        };
        let ServiceSpec { name, command, .. } = self.spec.clone();
        ServiceStatus { name, command, state, restarts: self.restarts, last_end: self.last_end.clone() }
    }
}

/// Starts a process that is collected by whoever waits for all children, not through its handle.
fn launch(spec: &ServiceSpec) -> io::Result<Pid> {
    let log = File::options().create(true).append(true).open(log_path(&spec.name))?;
    let mut command = Command::new(&spec.command[0]);
    command.args(&spec.command[1..]).env_clear().env("PATH", SEARCH_PATH).env("HOME", "/root").envs(&spec.environment);
    command.current_dir("/").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
    let child = command.spawn()?;
    Ok(Pid::from_raw(child.id().cast_signed()))
}

fn log_path(service: &str) -> String {
    format!("/var/log/{service}.log")
}

fn signal_group(leader: Pid, signal: Signal) {
    // The group may be empty already.
    let _ = killpg(leader, signal);
}
