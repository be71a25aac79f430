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
fn what_breaks_what_it_talks_to_is_not_let_near_real_parts() {
    for command in [[].as_slice(), &["scenario"]] {
        let Some((code, output, errors)) = run(command, &[("SMTP_URL", "smtp://u:s3cret@127.0.0.1:1")]) else { return };
        assert_eq!((code, output.as_str()), (2, ""));
        assert!(errors.contains("SMTP_URL: must not be set for the ") && !errors.contains("s3cret"), "{errors}");
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
