//! Going to the background: this program starts itself once more, waits until the other one is ready, and ends. Whoever
//! started it finds the interface there, or reads why it is not.

use std::env;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

use nix::unistd::{chdir, dup2_stderr, dup2_stdout, setsid};

/// Tells the program that it is the one to stay.
const FLAG: &str = "--background";
/// Also if the file that it was started from is replaced meanwhile.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// What the program that stays owes to the one that waits for it.
#[derive(Debug)]
pub struct Background(());

impl Background {
    /// Starts the program that stays, with the arguments of this one, and returns what this one ends with.
    pub fn start() -> io::Result<ExitCode> {
        let mut arguments = env::args_os();
        let name = arguments.next().unwrap_or_default();
        let mut child = Command::new(THIS_PROGRAM)
            .arg0(name)
            .args(arguments)
            .arg(FLAG)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut word = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(1).read_to_end(&mut word)?;
        }
        if !word.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        // It has written why to the standard error that we share.
        let code = child.wait()?.code().and_then(|code| u8::try_from(code).ok());
        Ok(code.filter(|code| *code != 0).map_or(ExitCode::FAILURE, ExitCode::from))
    }

    /// Leaves the terminal of whoever started this.
    pub fn enter() -> io::Result<Self> {
        setsid()?;
        chdir("/")?;
        Ok(Self(()))
    }

    /// Lets the other program end, and lets go of everything that is its caller's.
    pub fn ready(self) -> io::Result<()> {
        let mut stdout = io::stdout();
        stdout.write_all(b"\n")?;
        stdout.flush()?;
        let nowhere = File::options().write(true).open("/dev/null")?;
        dup2_stdout(&nowhere)?;
        dup2_stderr(&nowhere)?;
        Ok(())
    }
}
