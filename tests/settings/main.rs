//! Settings files: what they may say, what it comes to, and how they are told what is wrong.

mod layout;
mod refusals;
mod reload;
mod robustness;

use std::{fmt::Debug, time::Duration};

use resile::settings::{Format, Settings, SettingsErrors, Sources};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// YAML with no environment.
fn yaml(text: &str) -> Result<Settings, SettingsErrors> {
    Sources::new().text(text, Format::Yaml, "a.yml").environment(|_| None).load()
}

/// Each error as a line.
fn errors(text: &str) -> Vec<String> {
    let errors = yaml(text).expect_err(text);
    errors.iter().map(ToString::to_string).collect()
}

fn warnings(text: &str) -> Vec<String> {
    yaml(text).expect(text).warnings().iter().map(ToString::to_string).collect()
}

/// Configs hold functions and clocks, so they are compared by what they show.
#[track_caller]
fn assert_same(found: &impl Debug, expected: &impl Debug) {
    assert_eq!(format!("{found:#?}"), format!("{expected:#?}"));
}
