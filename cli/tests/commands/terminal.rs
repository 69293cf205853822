//! A pseudo-terminal with a command on it (`script` of util-linux), for what only people see: questions, tables that are
//! drawn anew, Ctrl-C.

use std::{
    io::{Read as _, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use crate::harness::eventually;

/// What the terminal sends for Ctrl-C.
pub(crate) const CTRL_C: &str = "\x03";

/// See the module; the command ends with it.
pub(crate) struct Terminal {
    process: Child,
    keyboard: ChildStdin,
    shown: Arc<Mutex<String>>,
}

impl Terminal {
    /// Runs the command on a screen of 80 by 24 characters.
    pub(crate) fn run(command: &Command) -> Self {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        let line = format!("stty rows 24 cols 80; exec {}", words.join(" "));
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        let started = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = started.expect("script is installed (package bsdutils)");
        let (keyboard, mut screen) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let shown = Arc::new(Mutex::new(String::new()));
        let seen = shown.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut buffer) {
                seen.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        });
        Self { process, keyboard, shown }
    }

    /// Everything that was shown, what controls the screen included.
    pub(crate) fn shown(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    /// Waits until this is shown for the `times`th time.
    pub(crate) fn wait_for(&self, text: &str, times: usize) {
        eventually(&format!("{text:?} in {:?}", self.shown()), || self.shown().matches(text).count() >= times);
    }

    pub(crate) fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    /// Waits for the end of the command; its exit code.
    pub(crate) fn ends(&mut self) -> i32 {
        let mut code = None;
        eventually("the command to end", || {
            code = self.process.try_wait().unwrap();
            code.is_some()
        });
        code.unwrap().code().unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the terminal showed:\n{:?}", self.shown());
        }
        // It may have ended already; who loses the terminal ends, too.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
