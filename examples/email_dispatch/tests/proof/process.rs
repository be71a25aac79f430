//! The program as a process of its own.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use crate::kafka::until;

/// The program that `cargo test` has built beside the tests; with a line that says so, `None` where only some of the
/// targets were built.
pub(crate) fn program() -> Option<PathBuf> {
    let test = std::env::current_exe().unwrap();
    let program = test.parent()?.parent()?.join("examples/email_dispatch");
    if !program.exists() {
        eprintln!("skipped: {} was not built; cargo test -p email-dispatch builds it", program.display());
        return None;
    }
    Some(program)
}

/// `serve`, which is killed when this is dropped, and also when the process of the test ends without dropping it.
pub(crate) struct Process {
    child: Child,
    /// A shell that kills the child unless it is told that this is done.
    guard: Child,
    log: PathBuf,
    url: String,
}

impl Process {
    /// Starts it, with its log in that file, and returns when it accepts requests.
    pub(crate) async fn serve(program: &Path, environment: &[(String, String)], log: PathBuf) -> Self {
        let mut command = Command::new(program);
        command.arg("serve").env_clear().envs(environment.iter().cloned());
        let child = command.stdin(Stdio::null()).stderr(File::create(&log).unwrap()).spawn().unwrap();
        let guard = Command::new("sh")
            .args(["-c", r#"read -r word; [ "$word" = over ] || kill -9 "$1""#, "sh", &child.id().to_string()])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut process = Self { child, guard, log, url: String::new() };
        until("a service that accepts requests", async || {
            let log = process.log();
            let ended = process.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended with {ended:?}:\n{log}");
            let address = log.split_once("accepting requests at ").and_then(|(_, rest)| rest.split_once("/emails"));
            process.url = address.map(|(url, _)| url.to_owned()).unwrap_or_default();
            !process.url.is_empty()
        })
        .await;
        process
    }

    /// Where it accepts requests, without a path.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// SIGKILL. It is dead when this returns.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        assert_eq!(self.child.wait().unwrap().signal(), Some(9), "it had ended before:\n{}", self.log());
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        assert!(Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Waits for its end, for so long at most.
    pub(crate) async fn end(mut self, within: Duration) -> ExitStatus {
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        match tokio::time::timeout(within, ended).await {
            Ok(status) => status,
            Err(_) => panic!("it did not end within {within:?}:\n{}", self.log()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill(); // or it has ended
        let _ = self.child.wait();
        let _ = self.guard.stdin.take().unwrap().write_all(b"over\n");
        let _ = self.guard.wait();
    }
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) output: String,
    pub(crate) errors: String,
}

impl Said {
    /// Its output, if it went well.
    pub(crate) fn well(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.output
    }
}

/// Runs a command to its end.
pub(crate) async fn run(program: &Path, arguments: &[&str], environment: &[(String, String)], place: &Path) -> Said {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).env_clear().envs(environment.iter().cloned()).current_dir(place).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(120), command.output());
    let output = output.await.unwrap_or_else(|_| panic!("{arguments:?} did not end")).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap(), output: text(output.stdout), errors: text(output.stderr) }
}
