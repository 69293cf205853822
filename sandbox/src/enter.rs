//! Runs a program inside a VM, with the caller's standard streams, and returns how it ended.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};

use crate::error::{Doing, Error, Result};
use crate::freezer::Freezer;
use crate::process::ProcessId;
use crate::syscall;

/// What to run.
pub(crate) struct Program {
    pub(crate) command: Vec<OsString>,
    pub(crate) environment: Vec<(String, String)>,
}

/// Runs a program in the namespaces of `init` and returns its exit code, 128 + signal if a signal ended it.
pub(crate) fn run(init: &ProcessId, freezer: &Freezer, program: &Program) -> Result<u8> {
    let single_thread = syscall::SingleThread::assert();
    let entrance = freezer.entrance()?;
    // All are opened before the first is entered: afterwards there is another /proc.
    let kinds = ["uts", "ipc", "net", "pid", "mnt"];
    let namespaces: Vec<File> = kinds.iter().map(|kind| init.namespace(kind)).collect::<Result<_>>()?;
    for namespace in &namespaces {
        setns(namespace, CloneFlags::empty()).doing(|| "enter the VM".into())?;
    }
    // Only a child is in the PID namespace.
    match syscall::fork(single_thread).doing(|| "fork".into())? {
        ForkResult::Child => Err(become_program(entrance, program)),
        ForkResult::Parent { child } => wait_for(child),
    }
}

/// Waits for a program that has the terminal: what is typed there is for it alone.
fn wait_for(program: Pid) -> Result<u8> {
    let mut typed = SigSet::empty();
    typed.add(Signal::SIGINT);
    typed.add(Signal::SIGQUIT);
    typed.thread_block().doing(|| "leave the terminal's signals to the program".into())?;
    loop {
        match waitpid(program, None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(code as u8),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as u8),
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(errno).doing(|| "wait for the program".into()),
        }
    }
}

fn become_program(entrance: Option<File>, program: &Program) -> Error {
    // Who kills the waiting parent means the program.
    if let Err(errno) = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL) {
        return Error::Io { doing: "tie the program to its caller".into(), source: errno.into() };
    }
    if let Some(mut entrance) = entrance
        && let Err(source) = entrance.write_all(b"0")
    {
        return Error::Io { doing: "enter the VM's cgroup".into(), source };
    }
    let Some((name, arguments)) = program.command.split_first() else {
        return Error::invalid("command", "needs a program to run");
    };
    let mut command = Command::new(name);
    command.args(arguments).env_clear();
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("HOME", "/root").env("USER", "root").env("LANG", "C.UTF-8");
    command.envs(std::env::var_os("TERM").map(|terminal| ("TERM", terminal)));
    command.envs(program.environment.iter().map(|(name, value)| (name, value)));
    let source = command.exec();
    Error::Io { doing: format!("run {}", name.display()), source }
}
