//! The program itself: what it says, and its exit codes.
#![allow(clippy::unwrap_used)]

use std::{path::PathBuf, process::Command};

/// The program that `cargo test` has built beside the tests; with a line that says so, `None` where only some of the
/// targets were built.
fn program() -> Option<PathBuf> {
    let test = std::env::current_exe().unwrap();
    let program =
        test.parent()?.parent()?.join("examples/email_dispatch").with_extension(std::env::consts::EXE_EXTENSION);
    if !program.exists() {
        eprintln!("skipped: {} was not built; cargo test -p email-dispatch builds it", program.display());
        return None;
    }
    Some(program)
}

/// Exit code, standard output and standard error.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Option<(i32, String, String)> {
    let output =
        Command::new(program()?).args(arguments).env_clear().envs(environment.iter().copied()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Some((output.status.code().unwrap(), text(output.stdout), text(output.stderr)))
}

#[test]
fn help_of_every_command_is_on_standard_output_and_no_failure() {
    for command in [
        [].as_slice(),
        &["serve"],
        &["produce"],
        &["scenario"],
        &["dlt"],
        &["dlt", "list"],
        &["dlt", "replay"],
        &["replay"],
        &["unknown"],
        &["unknown", "list"],
        &["unknown", "resolve"],
        &["status"],
    ] {
        for help in ["--help", "-h"] {
            let Some((code, output, errors)) = run(&[command, &[help]].concat(), &[]) else { return };
            assert_eq!((code, errors.as_str()), (0, ""), "{command:?}");
            assert!(output.contains("Usage: email_dispatch") && output.contains("--kafka-brokers"), "{output}");
        }
    }
}

#[test]
fn the_short_help_fits_on_two_screens() {
    let Some((_, output, _)) = run(&["-h"], &[]) else { return };
    assert!(output.lines().count() < 50, "{output}");
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    for arguments in [["--no-such-flag"].as_slice(), &["no-such-command"], &["replay"], &["unknown", "resolve"]] {
        let Some((code, output, errors)) = run(arguments, &[]) else { return };
        assert_eq!((code, output.as_str()), (2, ""), "{arguments:?}");
        assert!(errors.contains("error: "), "{errors}");
    }
}

#[test]
fn wrong_settings_are_exit_code_2_and_all_of_them_are_said_before_anything_starts() {
    let environment =
        [("SMTP_URL", "http://u:s3cret@host"), ("EMAIL_DISPATCH_KAFKA_PARTITIONS", "0"), ("RUST_LOG", "trace")];
    let Some((code, output, errors)) = run(&["serve", "--templates-dir", "/no/such/folder"], &environment) else {
        return;
    };
    assert_eq!((code, output.as_str()), (2, ""));
    assert!(errors.starts_with("error: nothing was started"), "{errors}");
    for name in ["SMTP_URL", "EMAIL_DISPATCH_KAFKA_PARTITIONS", "--templates-dir"] {
        assert!(errors.contains(name), "{errors}");
    }
    assert!(!errors.contains("s3cret"), "{errors}");
}

#[test]
fn the_demonstration_does_not_touch_real_servers_that_the_environment_names() {
    for arguments in [[].as_slice(), &["scenario"]] {
        let Some((code, output, errors)) = run(arguments, &[("DATABASE_URL", "postgres://u:s3cret@127.0.0.1:1/mails")])
        else {
            return;
        };
        assert_eq!((code, output.as_str()), (2, ""), "{arguments:?}");
        assert!(errors.contains("DATABASE_URL") && errors.contains("must not be set"), "{errors}");
        assert!(!errors.contains("s3cret"), "{errors}");
    }
}

#[cfg(target_os = "linux")]
mod signals {
    use std::{
        io::{BufRead, BufReader, Read, Write},
        net::TcpStream,
        path::Path,
        process::{Child, Stdio},
        time::Duration,
    };

    use super::*;

    fn start(arguments: &[&str], folder: &Path, temporary: &Path) -> Option<Child> {
        let mut command = Command::new(program()?);
        command.args(arguments).current_dir(folder).env_clear().env("TMPDIR", temporary);
        Some(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn signal(child: &Child, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", child.id())]).status().unwrap();
        assert!(sent.success());
    }

    /// The exit code, within a minute.
    fn end_of(child: &mut Child) -> Option<i32> {
        for _ in 0..3_000 {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill().unwrap();
        panic!("it does not end");
    }

    /// Reads what it says until a line has that in it.
    fn line_with(lines: &mut impl BufRead, word: &str) -> String {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            assert_ne!(lines.read_line(&mut line).unwrap(), 0, "it ended without {word}");
        }
        line
    }

    fn is_empty(folder: &Path) -> bool {
        std::fs::read_dir(folder).unwrap().next().is_none()
    }

    #[test]
    fn the_demonstration_ends_at_once_and_leaves_nothing_behind() {
        for name in ["INT", "TERM"] {
            let (folder, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let Some(mut child) = start(&[], folder.path(), temporary.path()) else { return };
            let mut lines = BufReader::new(child.stderr.take().unwrap());
            line_with(&mut lines, "while it runs");
            line_with(&mut lines, "done");
            signal(&child, name);
            assert_eq!(end_of(&mut child), Some(130), "{name}");
            assert!(is_empty(folder.path()) && is_empty(temporary.path()), "{name}");
        }
    }

    #[test]
    fn a_service_without_its_broker_accepts_requests_says_so_and_ends_when_told_to() {
        let (folder, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let arguments = [
            "serve",
            "--kafka-brokers=127.0.0.1:1",
            "--keys-file=keys",
            "--data-dir=data",
            "--http-listen=127.0.0.1:0",
            "--shutdown-notice=30s",
        ];
        std::fs::write(folder.path().join("keys"), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        let Some(mut child) = start(&arguments, folder.path(), temporary.path()) else { return };
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        line_with(&mut lines, "the SMS gateway is in this process");
        let line = line_with(&mut lines, "accepting requests at http://");
        let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
        // So that the pipe is never full.
        let reader = std::thread::spawn(move || lines.lines().map_while(Result::ok).collect::<Vec<_>>().join("\n"));
        let ask = |head: &str, body: &str| {
            let mut stream = TcpStream::connect(&address).unwrap();
            let length = body.len();
            write!(stream, "{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
                .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        let request =
            r#"{"id":"65eaf7a1-4fd3-46b9-addb-ff7b9b8c4c60","to":"ada@example.com","subject":"Hello","content":"Hi"}"#;

        let accepted = ask("POST /emails", request);
        assert!(accepted.starts_with("HTTP/1.1 202"), "{accepted}");
        let health = ask("GET /actuator/health", "");
        assert!(health.contains(r#""kafka":{"details":{"error":"no broker has answered yet"#), "{health}");
        let ready = ask("GET /actuator/health/readiness", "");
        assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");

        signal(&child, "TERM");
        let mut ready = ready;
        for _ in 0..1_000 {
            if ready.contains("OUT_OF_SERVICE") {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
            ready = ask("GET /actuator/health/readiness", "");
        }
        assert!(ready.starts_with("HTTP/1.1 503"), "still listening, and not to be used: {ready}");

        signal(&child, "INT");
        assert_eq!(end_of(&mut child), Some(1));
        let said = reader.join().unwrap();
        assert!(said.contains("stopped at once"), "{said}");
        assert!(is_empty(temporary.path()));
    }
}

/// What `produce` says under a limit on open files.
fn errors_under(limit: &str, connections: u32) -> Option<(i32, String)> {
    let output = Command::new("sh")
        .arg("-c")
        .arg(format!("ulimit {limit} && exec \"$0\" produce --url http://127.0.0.1:1 --smtp-connections={connections}"))
        .arg(program()?)
        .env_clear()
        .output()
        .unwrap();
    Some((output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap()))
}

#[test]
fn connections_for_which_the_system_has_no_room_are_exit_code_2() {
    let Some((code, errors)) = errors_under("-n 256", 1_000) else { return };
    assert_eq!(code, 2, "{errors}");
    assert!(errors.contains("this process have 256") && errors.contains("ulimit -n 4816"), "{errors}");
}

#[test]
fn a_limit_on_open_files_that_may_be_raised_is_raised() {
    let Some((code, errors)) = errors_under("-S -n 256", 100) else { return };
    assert!(code != 2 && !errors.contains("ulimit"), "{errors}");
}
