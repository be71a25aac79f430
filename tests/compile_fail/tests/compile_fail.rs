//! What must not compile, and what the compiler says about it: read the `.stderr` files as a newcomer would.

use std::process::Command;

/// The compiler that the messages were recorded with. Others word them differently.
const RECORDED_WITH: &str = "rustc 1.95";

#[test]
fn what_must_not_compile_is_refused_in_words_that_help() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().expect("a compiler");
    if !String::from_utf8_lossy(&version.stdout).starts_with(RECORDED_WITH) {
        eprintln!("skipped: the messages were recorded with {RECORDED_WITH}");
        return;
    }
    trybuild::TestCases::new().compile_fail("cases/*.rs");
}
