//! What can be set, and what is said about wrong settings.

use std::{collections::BTreeMap, ffi::OsString, fs, time::Duration};

use email_dispatch::{
    cli::{Cli, Dlt, Resolution, Stop, Task, Unknown},
    delivery::Protection,
    http::HttpSettings,
    kafka::{KafkaSettings, publisher::PublisherSettings},
    request::Limits,
    route::RetryRules,
    settings::{LogFormat, Settings, View, Weights, environment_name},
    sms::SmsSettings,
    smtp::SmtpSettings,
    store::{Guarantee, LedgerSettings, StoreSettings, Synchronous},
};
use secrecy::ExposeSecret;

use crate::log::Log;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn read(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Cli, Stop> {
    let environment: BTreeMap<&str, &str> = environment.iter().copied().collect();
    let arguments = ["email_dispatch"].iter().chain(arguments).map(OsString::from);
    Cli::read(arguments, &|name| environment.get(name).map(OsString::from))
}

/// A command that needs nothing, and refuses nothing.
const ANY: [&str; 3] = ["produce", "--url", "http://127.0.0.1:1"];

/// Without a command: with one that needs nothing.
fn settings(arguments: &[&str], environment: &[(&str, &str)]) -> Settings {
    read(&[&ANY, arguments].concat(), environment).unwrap().settings
}

/// What is said about wrong settings. Without a command: with one that needs nothing.
fn faults(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let has_command = arguments.first().is_some_and(|first| !first.starts_with("--"));
    let command: &[&str] = if has_command { &[] } else { &ANY };
    faults_of(&[command, arguments].concat(), environment)
}

/// What is said about wrong settings of exactly this command line.
fn faults_of(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    match read(arguments, environment).unwrap_err() {
        Stop::Settings(wrong) => wrong.to_string(),
        Stop::Usage(error) => error.to_string(),
    }
}

/// A file of settings, and its folder.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.toml");
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

fn faults_of_file(text: &str) -> String {
    let (_folder, path) = file(text);
    faults(&["--config", &path], &[])
}

#[test]
fn the_definition_is_consistent() {
    Cli::definition().debug_assert();
}

#[test]
fn what_is_not_set_is_as_the_parts_have_it_by_themselves() {
    let settings = settings(&[], &[]);
    let same = |one: &dyn std::fmt::Debug, other: &dyn std::fmt::Debug| {
        assert_eq!(format!("{one:?}"), format!("{other:?}"));
    };
    same(&settings.kafka.settings("broker:1").unwrap(), &KafkaSettings::embedded("broker:1".to_owned()));
    same(&settings.database.store(), &StoreSettings::default());
    same(&settings.database.ledger(), &LedgerSettings::default());
    same(&settings.smtp.protection(), &Protection::default());
    same(&settings.second_protection(), &Protection::default());
    same(&settings.again.rules(), &RetryRules::default());
    same(&settings.requests.limits(), &Limits::default());
    same(&settings.publisher.settings(), &PublisherSettings::default());
    same(&settings.http_settings(), &HttpSettings::default());
    same(&settings.smtp.idle, &SmtpSettings::new("smtp://one.test".parse().unwrap()).idle);
    same(&settings.sms.time_limit, &SmsSettings::new("http://sms.test").time_limit);
    let kafka = self::settings(&["--kafka-brokers", "broker:1"], &[]).kafka;
    same(
        &kafka.settings("embedded:1").unwrap(),
        &KafkaSettings { brokers: "broker:1".to_owned(), ..KafkaSettings::default() },
    );
}

#[test]
fn without_settings_everything_is_embedded() {
    let settings = settings(&[], &[]);
    assert!(settings.kafka.brokers.is_none() && settings.database.url.is_none());
    assert!(settings.smtp.url.is_none() && settings.second.url.is_none() && settings.sms.url.is_none());
    assert!(settings.keys.is_none());
    assert!(settings.describe().starts_with("Kafka: embedded, database: embedded, first mail server: embedded"));
}

#[test]
fn a_flag_wins_over_the_environment_that_over_the_file_and_that_over_the_default() {
    let (_folder, path) = file("publisher-batch = 11\n[smtp]\nconnections = 12\n[retry]\nattempts = 13");
    let environment = [("EMAIL_DISPATCH_SMTP_CONNECTIONS", "22"), ("EMAIL_DISPATCH_RETRY_ATTEMPTS", "23")];
    let settings = settings(&["--config", &path, "--retry-attempts", "33"], &environment);
    let default_file_environment_flag = (
        settings.publisher.breaker_window,
        settings.publisher.batch,
        settings.smtp.connections,
        settings.again.attempts,
    );
    assert_eq!(default_file_environment_flag, (100, 11, 22, 33));
}

#[test]
fn the_file_can_be_named_in_the_environment_and_a_flag_wins_over_that() {
    let (_one, of_environment) = file("[kafka]\npartitions = 3");
    let (_two, of_flag) = file("[kafka]\npartitions = 4");
    let environment = [("EMAIL_DISPATCH_CONFIG", of_environment.as_str())];
    assert_eq!(settings(&[], &environment).kafka.partitions, 3);
    assert_eq!(settings(&["--config", &of_flag], &environment).kafka.partitions, 4);
}

#[test]
fn a_setting_in_a_file_can_be_in_tables_or_in_one_word() {
    let (_folder, path) = file(
        "sms_url = \"http://sms.test\"\n[smtp]\nurl = \"smtp://one.test\"\nfinal-dot-timeout = \"7s\"\n\
         [smtp.secondary]\nurl = \"smtp://two.test\"\nbreaker.open = \"9s\"",
    );
    let settings = settings(&["--config", &path], &[]);
    assert_eq!(settings.sms.url.unwrap().expose(), "http://sms.test");
    assert_eq!(settings.smtp.url.unwrap().expose(), "smtp://one.test");
    assert_eq!(settings.second.url.unwrap().expose(), "smtp://two.test");
    assert_eq!(settings.smtp.final_dot_timeout, Duration::from_secs(7));
    assert_eq!(settings.second.breaker_open, Some(Duration::from_secs(9)));
}

#[test]
fn the_real_servers_have_the_names_in_the_environment_that_everybody_expects() {
    let settings = settings(
        &[],
        &[
            ("KAFKA_BROKERS", "kafka-1:9092,kafka-2:9092"),
            ("DATABASE_URL", "postgres://mailer:s3cret@db.test/mails"),
            ("SMTP_URL", "smtp://u:s3cret@one.test:587"),
            ("SMTP_SECONDARY_URL", "smtps://two.test"),
            ("SMS_URL", "https://sms.test/send"),
        ],
    );
    assert_eq!(
        settings.describe(),
        "Kafka: kafka-1:9092,kafka-2:9092, database: postgres://db.test, first mail server: smtp://one.test:587, \
         second: smtps://two.test, SMS gateway: https://sms.test, keys: random, templates: embedded, \
         guarantee: at_most_once"
    );
}

#[test]
fn an_empty_variable_is_none() {
    assert!(settings(&[], &[("KAFKA_BROKERS", ""), ("EMAIL_DISPATCH_KEYS", "")]).kafka.brokers.is_none());
}

#[test]
fn a_setting_may_stand_before_and_after_the_command() {
    for arguments in [["--smtp-connections=5", "status"], ["status", "--smtp-connections=5"]] {
        let cli = read(&arguments, &[("DATABASE_URL", "sqlite:mails.db")]).unwrap();
        assert_eq!((cli.task, cli.settings.smtp.connections), (Some(Task::Status), 5));
    }
}

#[test]
fn words_numbers_and_times_are_understood() {
    let settings = settings(
        &[
            "--ledger-guarantee=at_least_once",
            "--database-synchronous=full",
            "--log-format=json",
            "--view=off",
            "--consumer-weights=5:2:1",
            "--retry-delay=1h 30m",
            "--kafka-replication=-1",
            "--http-listen=127.0.0.1:0",
        ],
        &[],
    );
    assert_eq!(settings.database.guarantee, Guarantee::AtLeastOnce);
    assert_eq!(settings.database.synchronous, Synchronous::Full);
    assert_eq!(settings.log.format, LogFormat::Json);
    assert_eq!(settings.demonstration.view, View::Off);
    assert_eq!(settings.consumer.weights, Weights { high: 5, normal: 2, low: 1 });
    assert_eq!(settings.again.delay, Duration::from_secs(5_400));
    assert_eq!(settings.http.listen.port(), 0);
}

#[test]
fn the_second_mail_server_is_protected_as_the_first_but_for_what_is_its_own() {
    let settings =
        settings(&["--smtp-connections=5", "--smtp-breaker-window=9", "--smtp-secondary-connections=7"], &[]);
    let second = settings.second_protection();
    assert_eq!((settings.smtp.protection().connections, second.connections, second.window), (5, 7, 9));
}

#[test]
fn the_commands_are_understood() {
    let id = uuid::Uuid::from_u128(7);
    let text = id.to_string();
    let real = [("KAFKA_BROKERS", "k:1"), ("DATABASE_URL", "sqlite:mails.db"), ("EMAIL_DISPATCH_KEYS", KEY)];
    let task = |arguments: &[&str]| read(arguments, &real).unwrap().task.unwrap();
    assert_eq!(task(&["serve"]), Task::Serve);
    assert_eq!(read(&["scenario"], &[]).unwrap().task, Some(Task::Scenario));
    assert_eq!(task(&["dlt", "list"]), Task::Dlt(Dlt::List { limit: 100 }));
    assert_eq!(task(&["dlt", "replay", "--id", &text]), Task::Dlt(Dlt::Replay { id: vec![id], limit: None }));
    assert_eq!(task(&["replay", "--from-files"]), Task::Replay { from_files: true });
    let resolve = Unknown::Resolve { id, resolution: Resolution::Resend };
    assert_eq!(task(&["unknown", "resolve", &text, "--as", "resend"]), Task::Unknown(resolve));
    let Task::Produce(produce) = task(&["produce", "--count", "5", "--rate", "2"]) else { panic!("another command") };
    assert_eq!((produce.count, produce.rate, produce.kind), (5, Some(2), None));
}

#[test]
fn each_wrong_setting_is_named_with_its_value_and_the_rule() {
    for (name, value, rule) in [
        ("kafka-brokers", "kafka", "must be host:port"),
        ("kafka-topic-prefix", "a b", "must have letters"),
        ("kafka-group", "a/b", "must have letters"),
        ("kafka-partitions", "0", "must be from 1"),
        ("kafka-replication", "0", "must be at least 1, or -1"),
        ("kafka-session-timeout", "0s", "must be longer than no time"),
        ("kafka-message-timeout", "0s", "must be longer than no time"),
        ("kafka-commit-interval", "0s", "must be longer than no time"),
        ("kafka-fetch-wait", "0s", "must be longer than no time"),
        ("kafka-properties", "/no/such/file", "cannot be read"),
        ("publisher-batch", "0", "must be from 1"),
        ("publisher-breaker-window", "0", "must be from 1"),
        ("publisher-breaker-open", "0s", "must be longer than no time"),
        ("publisher-lease", "0s", "must be longer than no time"),
        ("publisher-breaker-slow", "0s", "must be longer than no time"),
        ("consumer-in-flight", "0", "must be from 1"),
        ("consumer-buffered", "999", "must be at least consumer-in-flight, 1000"),
        ("consumer-weights", "6:3:0", "must be three numbers from 1 to 1000"),
        ("shutdown-time-limit", "19s", "must be at least consumer-drain-time-limit, 20s"),
        ("database-url", "mysql://host", "begins with neither 'sqlite:' nor 'postgres:'"),
        ("database-readers", "0", "must be from 1"),
        ("database-busy-timeout", "0s", "must be longer than no time"),
        ("database-time-limit", "5s", "must be longer than 5s, database-busy-timeout"),
        ("ledger-lease", "1m 24s", "must be at least 1m 25s: "),
        ("smtp-url", "http://host", "must begin with smtp:// or smtps://"),
        ("smtp-secondary-url", "smtp://two.test", "must not be given without smtp-url"),
        ("smtp-hello-name", "a b", "must be a host's name"),
        ("smtp-connect-timeout", "0s", "must be longer than no time"),
        ("smtp-command-timeout", "0s", "must be longer than no time"),
        ("smtp-final-dot-timeout", "0s", "must be longer than no time"),
        ("smtp-mails-per-connection", "0", "must be from 1"),
        ("smtp-ca-file", "/no/such/file", "cannot be used"),
        ("smtp-ca-file", "/dev/null", "has no certificate in it"),
        ("smtp-idle", "9999999h", "must be at most a year"),
        ("sms-token-file", "/no/such/file", "cannot be read"),
        ("http-connections", "0", "must be from 1"),
        ("http-read-time", "0s", "must be longer than no time"),
        ("smtp-connections", "0", "must be from 1"),
        ("smtp-mails-per-second", "0", "must be from 1"),
        ("smtp-time-limit", "1m 2s", "must be longer than 1m 2s, the sum of"),
        ("smtp-queue", "5s", "must be shorter than smtp-breaker-slow, 5s"),
        ("smtp-breaker-open", "0s", "must be longer than no time"),
        ("smtp-breaker-slow", "0s", "must be longer than no time"),
        ("smtp-breaker-window", "0", "must be from 1"),
        ("smtp-secondary-connections", "0", "must be from 1"),
        ("smtp-secondary-mails-per-second", "0", "must be from 1"),
        ("smtp-secondary-time-limit", "1m 2s", "must be longer than 1m 2s, the sum of"),
        ("smtp-secondary-breaker-open", "0s", "must be longer than no time"),
        ("smtp-secondary-breaker-slow", "0s", "must be longer than no time"),
        ("smtp-secondary-breaker-window", "0", "must be from 1"),
        ("sms-url", "sms://host", "must begin with http:// or https://"),
        ("sms-time-limit", "0s", "must be longer than no time"),
        ("retry-attempts", "0", "must be from 1"),
        ("retry-delay", "0s", "must be longer than no time"),
        ("retry-hold-limit", "9999999h", "must be at most a year"),
        ("alerts-webhook", "ftp://host", "must begin with http:// or https://"),
        ("alerts-quiet", "9999999h", "must be at most a year"),
        ("templates-dir", "/no/such/folder", "/no/such/folder"),
        ("backups-dir", "/dev/null", "must be a folder"),
        ("data-dir", "/dev/null", "must be a folder"),
        ("request-size", "10", "must be from 1000"),
        ("request-subject", "0", "must be from 1"),
        ("request-attachments", "1001", "must be from 0 to 1000"),
        ("log-filter", "email_dispatch=loud", ""),
        ("demo-requests", "0", "must be from 1"),
        ("keys-file", "/no/such/file", "cannot be read"),
    ] {
        let said = faults(&[&format!("--{name}={value}")], &[]);
        assert!(said.contains(&format!("\n  --{name} is {value}: {rule}")), "{name}: {said}");
        assert_eq!(said.lines().count(), 2, "only that: {said}");
    }
}

#[test]
fn an_address_that_its_part_would_refuse_is_refused_before_anything_starts() {
    for (variable, value, shown, rule) in [
        ("SMTP_URL", "smtp://one.test/path", "smtp://one.test", "must end after host and port"),
        ("SMTP_URL", "smtp://u@one.test", "smtp://one.test", "must have a password beside the user"),
        ("SMTP_URL", "smtp://one.test?tls=maybe", "smtp://one.test", "must have tls=none"),
        ("SMTP_URL", "smtp://a_b..test", "smtp://a_b..test", "must name a host or an IP address"),
        ("SMS_URL", "http://u:s3cret@sms.test", "http://sms.test", "the SMS gateway's address must be like https://"),
    ] {
        let said = faults(&[], &[(variable, value)]);
        assert!(said.contains(&format!("\n  {variable} is {shown}: {rule}")) && !said.contains("s3cret"), "{said}");
    }
}

#[test]
fn the_demonstration_and_the_scenario_refuse_every_real_part() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [
        ("KAFKA_BROKERS", "k:1"),
        ("DATABASE_URL", "sqlite:mails.db"),
        ("EMAIL_DISPATCH_DATA_DIR", folder.path().to_str().unwrap()),
        ("SMTP_URL", "smtp://one.test"),
        ("SMTP_SECONDARY_URL", "smtp://two.test"),
        ("SMS_URL", "http://sms.test"),
    ];
    for (command, what) in [([].as_slice(), "the demonstration"), (&["scenario"], "the scenario")] {
        let said = faults_of(command, &environment);
        for (variable, _) in environment {
            let rule = format!("must not be set for {what}, which breaks what it talks to: use serve");
            assert!(said.contains(&format!("\n  {variable}: {rule}")), "{said}");
        }
        assert_eq!(said.lines().count(), 1 + environment.len(), "{said}");
        assert!(read(command, &[]).is_ok());
    }
}

#[test]
fn a_command_without_what_it_talks_to_is_refused() {
    let id = uuid::Uuid::from_u128(7).to_string();
    let [database, cluster, keys] =
        ["--database-url: must name the database", "--kafka-brokers: must name the cluster", "EMAIL_DISPATCH_KEYS: "];
    for (command, missing) in [
        (["status"].as_slice(), [database].as_slice()),
        (&["dlt", "list"], &[cluster]),
        (&["dlt", "replay"], &[database, cluster]),
        (&["replay", "--from-files"], &[database, keys]),
        (&["unknown", "list"], &[database]),
        (&["unknown", "resolve", &id, "--as", "sent"], &[database]),
        (&["unknown", "resolve", &id, "--as", "resend"], &[database, keys]),
        (&["produce"], &[database, keys]),
    ] {
        let said = faults_of(command, &[]);
        assert!(missing.iter().all(|missing| said.contains(&format!("\n  {missing}"))), "{command:?}: {said}");
        assert_eq!(said.lines().count(), 1 + missing.len(), "{command:?}: {said}");
    }
}

#[test]
fn folders_that_cannot_be_written_to_are_refused_where_they_are_needed() {
    let said = faults_of(&["--demo-svg=/no/such/folder/a.svg"], &[]);
    assert!(said.contains("--demo-svg is /no/such/folder/a.svg: must be in a folder that can be written to"), "{said}");
    for command in [["serve"].as_slice(), &["replay", "--from-files", "--data-dir=."]] {
        let arguments = [command, &["--backups-dir=/dev/null/backups"]].concat();
        let said = faults_of(&arguments, &[("EMAIL_DISPATCH_KEYS", KEY)]);
        assert!(said.contains("--backups-dir is /dev/null/backups: must be a folder that can be written to"), "{said}");
        assert_eq!(said.lines().count(), 2, "{said}");
    }
    assert!(read(&["--backups-dir=/dev/null/backups"], &[]).is_ok(), "the demonstration has one of its own");
}

#[test]
fn properties_that_librdkafka_does_not_take_are_named_all_at_once_without_their_values() {
    let (_folder, path) = file("sasl.pasword=hunter2secret\nacks=hunter2secret\nlinger.ms=5");
    let said = faults(&["--kafka-properties", &path], &[]);
    for name in ["sasl.pasword", "acks"] {
        assert!(said.contains(&format!("--kafka-properties is {path}: property {name}: ")), "{said}");
    }
    assert_eq!(said.lines().count(), 3, "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn settings_of_kafka_that_do_not_go_together_are_refused() {
    for (name, value) in [("kafka-session-timeout", "10m"), ("kafka-fetch-wait", "10m")] {
        let said = faults(&[&format!("--{name}={value}")], &[]);
        assert!(said.contains(&format!("\n  --{name}: ")), "{said}");
    }
}

#[cfg(not(feature = "kafka-tls"))]
#[test]
fn tls_to_kafka_is_refused_with_the_feature_that_it_takes() {
    let (_folder, path) = file("security.protocol=ssl");
    let said = faults(&["--kafka-properties", &path], &[]);
    assert!(said.contains("property security.protocol: ") && said.contains("--features kafka-tls"), "{said}");
}

#[test]
fn the_sms_token_comes_from_the_environment_or_a_file_and_is_never_printed() {
    let (_folder, path) = file("t0ken\n");
    for settings in
        [settings(&["--sms-token-file", &path], &[]), settings(&[], &[("EMAIL_DISPATCH_SMS_TOKEN", "t0ken")])]
    {
        assert_eq!(settings.sms.token.as_ref().unwrap().expose_secret(), "t0ken");
        assert!(!format!("{settings:?}").contains("t0ken"));
    }
    let said = faults(&["--sms-token-file", &path], &[("EMAIL_DISPATCH_SMS_TOKEN", "t0ken")]);
    assert!(said.contains("must not be given together with EMAIL_DISPATCH_SMS_TOKEN"), "{said}");
    let said = faults(&[], &[("EMAIL_DISPATCH_SMS_TOKEN", "t0 ken")]);
    assert!(said.contains("EMAIL_DISPATCH_SMS_TOKEN: must hold the token alone") && !said.contains("t0"), "{said}");
    assert!(matches!(read(&["--sms-token", "t0ken"], &[]), Err(Stop::Usage(_))));
}

#[test]
fn work_on_a_lost_partition_ends_before_kafka_takes_the_process_for_dead() {
    let said = faults(&["--consumer-drain-time-limit=5m", "--shutdown-time-limit=6m"], &[]);
    assert!(said.contains("\n  --consumer-drain-time-limit is 5m: must be less than 5m"), "{said}");
}

#[test]
fn a_claim_outlasts_a_mail_at_the_slower_server_too() {
    let said = faults(&["--smtp-secondary-time-limit=3m"], &[]);
    assert!(said.contains("\n  --ledger-lease is 2m: must be at least 3m 10s"), "{said}");
}

#[test]
fn a_value_that_is_not_even_of_its_kind_is_named_wherever_it_is_given() {
    for (name, value, rule) in [
        ("kafka-partitions", "many", "must be a whole number"),
        ("smtp-connections", "-1", "-1 is not in 0..=4294967295"),
        ("retry-delay", "10", "must be a time with its unit, such as 500ms, 10s or 2m"),
        ("retry-delay", "-10s", "must be a time with its unit"),
        ("consumer-weights", "6:3", "must be three numbers with colons between"),
        ("http-listen", "localhost", "invalid socket address"),
        ("ledger-guarantee", "exactly_once", "must be one of at_most_once, at_least_once"),
    ] {
        let variable = environment_name(name);
        let said = faults(&[], &[(&variable, value)]);
        assert!(said.contains(&format!("\n  {variable} is {value}: {rule}")), "{said}");
        let said = faults_of_file(&format!("{name} = \"{value}\""));
        assert!(said.contains(&format!("\n  {name} in ")) && said.contains(&format!(" is {value}: {rule}")), "{said}");
        let said = faults(&[&format!("--{name}={value}")], &[]);
        assert!(said.contains(&format!("'{value}' for '--{name}")), "{said}");
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once_under_the_names_it_was_given() {
    let (_folder, path) = file("[kafka]\npartitions = 0\ntyop = 1\n[retry]\ndelay = 5");
    let environment = [("EMAIL_DISPATCH_SMTP_CONNECTIONS", "0"), ("EMAIL_DISPATCH_KEYS", "short")];
    let said = faults(&["--publisher-batch", "0", "--config", &path], &environment);
    for part in [
        "kafka.partitions in ",
        "kafka.tyop in ",
        "retry.delay in ",
        "EMAIL_DISPATCH_SMTP_CONNECTIONS is 0",
        "EMAIL_DISPATCH_KEYS: key 1 ",
        "--publisher-batch is 0",
    ] {
        assert!(said.contains(&format!("\n  {part}")), "{part}: {said}");
    }
    assert_eq!(said.lines().count(), 7, "{said}");
}

#[test]
fn an_unknown_setting_in_a_file_is_an_error_that_names_the_nearest() {
    let said = faults_of_file("[kafka]\nbroker = \"kafka:9092\"");
    assert!(said.contains("kafka.broker in ") && said.contains("is not a setting; there is kafka-brokers"), "{said}");
    assert!(!said.contains("kafka:9092"), "a value that nobody knows may be secret: {said}");
    assert!(faults_of_file("config = \"other.toml\"").contains("config in "), "one file is enough");
}

#[test]
fn a_setting_given_twice_in_a_file_is_an_error() {
    let said = faults_of_file("kafka-partitions = 3\n[kafka]\npartitions = 4");
    assert!(said.contains("is given twice"), "{said}");
}

#[test]
fn a_list_where_one_value_belongs_is_an_error() {
    let said = faults_of_file("[smtp]\nurl = [\"smtp://one\", \"smtp://two\"]");
    assert!(said.contains("smtp.url in ") && said.contains("must be one value"), "{said}");
}

#[test]
fn a_file_that_is_not_toml_is_named_with_the_line_and_without_what_it_says() {
    let said = faults_of_file("[smtp]\nurl = \"smtp://u:s3cret@host\" oops");
    assert!(said.contains("settings.toml, line 2: "), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let said = faults(&["--config", "/no/such/settings.toml"], &[]);
    assert!(said.contains("/no/such/settings.toml: cannot be read: No such file"), "{said}");
}

#[test]
fn no_secret_is_printed() {
    let secret = "s3cret";
    let environment = [
        ("DATABASE_URL", "postgres://u:s3cret@db.test/mails?password=s3cret"),
        ("SMTP_URL", "smtp://s3cret:s3cret@one.test"),
        ("SMTP_SECONDARY_URL", "smtp://u:s3cret@two.test"),
        ("SMS_URL", "http://sms.test/s3cret?token=s3cret"),
        ("EMAIL_DISPATCH_ALERTS_WEBHOOK", "http://hooks.test/s3cret"),
        ("EMAIL_DISPATCH_KEYS", KEY),
    ];
    let cli = read(&["serve"], &environment).unwrap();
    for printed in [format!("{cli:?}"), format!("{cli:#?}"), cli.settings.describe()] {
        assert!(printed.contains("one.test"), "{printed}");
        assert!(!printed.contains(secret) && !printed.contains(&KEY[..20]), "{printed}");
    }
}

#[test]
fn no_error_repeats_a_secret() {
    for (name, value) in [
        ("DATABASE_URL", "mysql://u:s3cret@db.test/mails"),
        ("DATABASE_URL", "postgres://u:s3cret@[::/mails"),
        ("SMTP_URL", "http://u:s3cret@host"),
        ("SMTP_URL", "smtp://u:1/s3cret@host"),
        ("SMTP_URL", "smtp://u:s3cret@"),
        ("SMTP_URL", "s3cret"),
        ("SMS_URL", "ftp://u:s3cret@host"),
        ("KAFKA_BROKERS", "u:s3cret@host:9092"),
        ("EMAIL_DISPATCH_KEYS", "s3cret"),
    ] {
        let said = faults(&[], &[(name, value)]);
        assert!(said.contains(name) && !said.contains("s3cret"), "{said}");
    }
    let (_folder, path) = file("sasl.username=me\ns3cret");
    let said = faults(&["--kafka-properties", &path], &[]);
    assert!(said.contains("line 2 must be of the form name=value") && !said.contains("s3cret"), "{said}");
}

#[test]
fn properties_of_librdkafka_come_from_a_file() {
    let (_folder, path) = file("# Log in\n\nsasl.username = me\nsasl.password=a=b\n");
    let kafka = settings(&["--kafka-properties", &path], &[]).kafka.settings("broker:1").unwrap();
    let properties: Vec<_> = kafka.properties.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(properties, [("sasl.password", "a=b"), ("sasl.username", "me")]);
}

#[test]
fn keys_come_from_the_environment_or_a_file_but_not_from_both() {
    let (_folder, path) = file(KEY);
    let of_file = settings(&["--keys-file", &path], &[]).keys.unwrap();
    let of_environment = settings(&[], &[("EMAIL_DISPATCH_KEYS", KEY)]).keys.unwrap();
    assert_eq!(of_file.pseudonym("a"), of_environment.pseudonym("a"));
    let said = faults(&["--keys-file", &path], &[("EMAIL_DISPATCH_KEYS", KEY)]);
    assert!(said.contains("must not be given together with EMAIL_DISPATCH_KEYS"), "{said}");
}

#[test]
fn a_key_cannot_be_given_on_the_command_line_nor_among_the_settings() {
    assert!(matches!(read(&["--keys", KEY], &[]), Err(Stop::Usage(_))));
    let said = faults_of_file(&format!("keys = \"{KEY}\""));
    assert!(said.contains("keys in ") && said.contains("is not a setting"), "{said}");
}

#[test]
fn a_wrong_key_is_an_error_that_does_not_show_it() {
    let (_folder, path) = file("c2hvcnQ=");
    let said = faults(&["--keys-file", &path], &[]);
    assert!(said.contains("key 1 has 5 bytes, and AES-256 wants 32") && !said.contains("c2hvcnQ"), "{said}");
}

#[test]
fn a_service_whose_requests_outlive_it_must_have_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let database = format!("sqlite:{data}/mails.db");
    for (name, value) in
        [("KAFKA_BROKERS", "k:1"), ("DATABASE_URL", database.as_str()), ("EMAIL_DISPATCH_DATA_DIR", data)]
    {
        let said = faults(&["serve"], &[(name, value)]);
        assert!(said.contains("EMAIL_DISPATCH_KEYS: ") && said.contains("openssl rand -base64 32"), "{said}");
        assert!(read(&["serve"], &[(name, value), ("EMAIL_DISPATCH_KEYS", KEY)]).is_ok());
    }
    assert!(read(&["serve"], &[]).is_ok(), "nothing of it outlives the process");
}

#[test]
fn a_key_is_needed_where_something_is_encrypted_or_read_and_nowhere_else() {
    let database = [("DATABASE_URL", "sqlite:mails.db")];
    let said = faults_of(&["produce"], &database);
    assert!(said.contains("EMAIL_DISPATCH_KEYS: ") && said.lines().count() == 2, "{said}");
    assert!(read(&["produce", "--url", "http://127.0.0.1:8080"], &[]).is_ok(), "the service encrypts");
    assert!(read(&["status"], &database).is_ok(), "it reads no address");
}

#[test]
fn requests_are_handed_to_a_service_over_http_alone() {
    let said = faults(&["produce", "--url", "ftp://u:s3cret@host"], &[("EMAIL_DISPATCH_KEYS", KEY)]);
    assert!(said.contains("--url is ftp://host: must begin with http://") && !said.contains("s3cret"), "{said}");
}

#[test]
fn help_names_every_setting_its_variable_and_no_value_of_a_file() {
    let (_folder, path) = file("[publisher]\nbatch = 4711");
    for arguments in [["--help", "--config", &path].as_slice(), &["serve", "--help", "--config", &path]] {
        let Err(Stop::Usage(help)) = read(arguments, &[]) else { panic!("no help") };
        let help = help.to_string();
        for arg in Cli::definition().get_arguments() {
            let name = arg.get_id().as_str();
            assert!(help.contains(&format!("--{name} <")), "{name}");
            assert!(help.contains(&format!("[env: {}]", environment_name(name))), "{name}");
        }
        assert!(!help.contains("4711"));
    }
}

#[test]
fn an_embedded_mail_server_has_its_end_of_each_conversation_here() {
    let files = |arguments: &[&str]| settings(arguments, &[]).open_files();
    let embedded = files(&["--smtp-connections=8000", "--smtp-secondary-connections=100"]);
    let real = ["--smtp-url=smtp://one.test", "--smtp-connections=8000", "--smtp-secondary-connections=100"];
    assert_eq!(embedded - files(&real), 8_200);
    assert_eq!(files(&["--http-connections=513"]) - files(&[]), 1);
    assert_eq!(files(&[&real[..], &["--smtp-secondary-url=smtp://two.test"]].concat()) - files(&real), 100);
}

#[test]
fn the_log_is_text_or_json_and_filtered() {
    for (format, begins) in [(LogFormat::Json, "{"), (LogFormat::Text, "2")] {
        let log = Log::default();
        let listening = log.listen(format, "warn");
        tracing::info!("not this");
        tracing::warn!(breaker = "primary-smtp", "opened");
        drop(listening);
        let text = log.text();
        assert!(text.starts_with(begins) && text.contains("opened") && text.contains("primary-smtp"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.contains("not this") && !text.contains('\u{1b}'), "{text}");
    }
}

#[test]
fn what_is_wrong_with_the_files_of_the_policies_is_told_with_its_line_and_keeps_everything_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policies.yml");
    fs::write(&path, "resilience4j:\n  retry.instances:\n    primary-smtp: { max-atempts: 3 }\n").unwrap();
    let shown = path.to_str().unwrap();
    let said = faults(&["--policies-file", shown], &[]);
    for part in ["--policies-file", ":3:", "max-atempts", "did you mean 'max-attempts'"] {
        assert!(said.contains(part), "{said}");
    }
    let said = faults(&["--policies-profile", shown], &[]);
    assert!(said.contains("--policies-profile: is laid over policies-file, which must be set too"), "{said}");
    assert!(!said.contains("--policies-file"), "{said}");
    let said = faults(&["--policies-file", "/no/such/policies.yml"], &[]);
    assert!(said.contains("--policies-file is /no/such/policies.yml"), "{said}");
}

#[test]
fn a_token_of_operators_that_is_too_short_keeps_everything_from_starting_and_is_not_shown() {
    let said = faults(&[], &[("EMAIL_DISPATCH_OPERATOR_TOKEN", "too-short")]);
    assert!(said.contains("EMAIL_DISPATCH_OPERATOR_TOKEN: must hold a token of at least 16 characters"), "{said}");
    assert!(!said.contains("too-short"), "{said}");
    let settings = settings(&[], &[("EMAIL_DISPATCH_OPERATOR_TOKEN", "0123456789abcdef")]);
    assert_eq!(settings.operating.token.unwrap().expose_secret(), "0123456789abcdef");
}
