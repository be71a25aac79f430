//! The policies by name, and the files that say how they are to be.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use email_dispatch::{
    delivery::{Protection, Provider},
    policies::Policies,
    smtp::{SmtpServer, SmtpSettings},
};

use resile::registry::Change;

use crate::kafka::until;

/// The server's policies as a file says of them.
fn file(failure_rate: &str) -> String {
    format!(
        "resilience4j:
  circuitbreaker.instances:
    primary-smtp: {{ failure-rate-threshold: {failure_rate}, permitted-number-of-calls-in-half-open-state: 2 }}
  ratelimiter.instances:
    primary-smtp: {{ limit-for-period: 7, limit-refresh-period: 1s }}
  timelimiter.instances:
    primary-smtp: {{ timeout-duration: 9s }}
"
    )
}

fn policies(files: &[&Path]) -> Policies {
    Policies::watched(files.iter().map(PathBuf::from).collect()).unwrap()
}

fn provider(policies: &Policies) -> Provider<SmtpServer> {
    let protection = Protection { resilience: policies.resilience.clone(), ..Protection::default() };
    let server = SmtpServer::new("primary-smtp", SmtpSettings::new("smtp://127.0.0.1:9".parse().unwrap())).unwrap();
    Provider::new("primary-smtp", server, &protection).unwrap()
}

fn failure_rate(provider: &Provider<SmtpServer>) -> f32 {
    provider.breakers().next().unwrap().config().failure_rate_threshold
}

#[test]
fn what_a_file_says_of_a_policy_wins_and_the_others_are_the_services_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policies.yml");
    fs::write(&path, file("12")).unwrap();
    let policies = policies(&[&path]);
    let provider = provider(&policies);
    let resilience = &policies.resilience;
    assert_eq!(failure_rate(&provider), 12.0);
    assert_eq!(resilience.time_limiters().get("primary-smtp").config().timeout_duration, Duration::from_secs(9));
    assert_eq!(resilience.rate_limiters().find("primary-smtp").unwrap().config().limit_for_period, 7);
    let marketing = resilience.circuit_breakers().find("primary-smtp-marketing").unwrap();
    assert_eq!(marketing.config().failure_rate_threshold, 25.0);
    assert_eq!(resilience.bulkheads().get("primary-smtp").config().max_concurrent_calls, 64);
}

#[test]
fn a_profile_is_laid_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (path, profile) = (folder.path().join("policies.yml"), folder.path().join("night.toml"));
    fs::write(&path, file("12")).unwrap();
    fs::write(&profile, "[resilience4j.circuitbreaker.instances.primary-smtp]\nfailure-rate-threshold = 34\n").unwrap();
    let policies = policies(&[&path, &profile]);
    let config = policies.resilience.circuit_breakers().get("primary-smtp").config();
    assert_eq!((config.failure_rate_threshold, config.permitted_number_of_calls_in_half_open_state), (34.0, 2));
}

#[test]
fn without_files_all_policies_are_the_services_own() {
    let policies = policies(&[]);
    let provider = provider(&policies);
    assert_eq!(failure_rate(&provider), 50.0);
    assert!(policies.resilience.rate_limiters().find("primary-smtp").is_none());
}

#[tokio::test]
async fn a_changed_file_takes_effect_at_once_and_one_that_cannot_be_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policies.yml");
    fs::write(&path, file("12")).unwrap();
    let policies = policies(&[&path]);
    let provider = provider(&policies);
    provider.breakers().next().unwrap().transition_to_forced_open().unwrap();

    let refused = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&refused);
    let _telling = policies.resilience.on_change(move |change| {
        told.fetch_or(matches!(change, Change::Refused { .. }), Ordering::Relaxed);
    });
    fs::write(&path, file("1200")).unwrap();
    until("the change is refused", async || refused.load(Ordering::Relaxed)).await;
    assert_eq!(failure_rate(&provider), 12.0);

    fs::write(&path, file("56")).unwrap();
    until("the change is in force", async || failure_rate(&provider) == 56.0).await;
    assert!(!provider.breakers().next().unwrap().is_call_permitted(), "its state is kept");
}
