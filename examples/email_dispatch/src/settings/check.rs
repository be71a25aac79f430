//! The rules that settings keep, alone and together.

use std::{fmt::Display, path::Path, time::Duration};

use tracing_subscriber::EnvFilter;

use super::{
    Settings,
    value::{Address, shown},
};
use crate::{
    kafka::KafkaSettings,
    sms,
    smtp::{self, SmtpAddress},
    store::{Store, StoreError},
};

/// By how much the clocks of processes may differ.
const CLOCKS: Duration = Duration::from_secs(10);
/// After which silence a consumer is put out of its group: librdkafka's `max.poll.interval.ms`.
const LONGEST_SILENCE: Duration = Duration::from_secs(300);
/// A time that is as good as for ever, and can be added to any other.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// A setting by its name, its value unless that may be secret, and the rule it breaks.
pub(crate) type Broken = (&'static str, Option<String>, String);

impl Settings {
    /// Everything that is wrong, in the order of the settings.
    pub(crate) fn check(&self) -> Vec<Broken> {
        let mut broken = Vec::new();
        self.check_kafka(&mut broken);
        self.check_database(&mut broken);
        self.check_mail(&mut broken);
        self.check_the_rest(&mut broken);
        broken
    }

    fn check_kafka(&self, broken: &mut Vec<Broken>) {
        let kafka = &self.kafka;
        if let Some(brokers) = &kafka.brokers {
            let is_right = brokers.split(',').all(|broker| is_host_and_port(broker.trim()));
            let shown = (!brokers.contains('@')).then(|| brokers.clone());
            require(broken, is_right, "kafka-brokers", shown, || {
                "must be host:port, several with commas between".into()
            });
        }
        let is_name = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        for (name, text) in [("kafka-topic-prefix", &kafka.topic_prefix), ("kafka-group", &kafka.group)] {
            let fits = is_name(text) && text.len() <= 200 && (name == "kafka-topic-prefix" || !text.is_empty());
            let rule = "must have letters, digits, '.', '_' and '-' alone, and at most 200 of them";
            require(broken, fits, name, Some(text.clone()), || rule.into());
        }
        within(broken, "kafka-partitions", kafka.partitions, 1, 10_000);
        let fits = kafka.replication == -1 || kafka.replication >= 1;
        let rule = "must be at least 1, or -1 for what the cluster does by itself";
        require(broken, fits, "kafka-replication", Some(kafka.replication.to_string()), || rule.into());
        let times = [
            ("kafka-session-timeout", kafka.session_timeout),
            ("kafka-message-timeout", kafka.message_timeout),
            ("kafka-commit-interval", kafka.commit_interval),
            ("kafka-fetch-wait", kafka.fetch_wait),
        ];
        for (name, time) in times {
            time.into_iter().for_each(|time| lasts(broken, name, time));
        }
        let before = broken.len();
        match kafka.settings("127.0.0.1:1") {
            Err(rule) => broken.push(("kafka-properties", kafka.properties.as_deref().map(display), rule)),
            // It would trip over what has been named already.
            Ok(settings) if before == 0 => self.check_librdkafka(&settings, broken),
            Ok(_) => {}
        }

        let publisher = &self.publisher;
        within(broken, "publisher-batch", publisher.batch, 1, 100_000);
        lasts(broken, "publisher-lease", publisher.lease);
        within(broken, "publisher-breaker-window", publisher.breaker_window, 1, 100_000);
        lasts(broken, "publisher-breaker-open", publisher.breaker_open);
        lasts(broken, "publisher-breaker-slow", publisher.breaker_slow);

        let consumer = &self.consumer;
        within(broken, "consumer-in-flight", consumer.in_flight, 1, 1_000_000);
        let fits = consumer.buffered >= consumer.in_flight;
        require(broken, fits, "consumer-buffered", Some(consumer.buffered.to_string()), || {
            format!("must be at least consumer-in-flight, {}, since those in flight are among them", consumer.in_flight)
        });
        let shares = [consumer.weights.high, consumer.weights.normal, consumer.weights.low];
        let fits = shares.iter().all(|share| (1..=1_000).contains(share));
        require(broken, fits, "consumer-weights", Some(consumer.weights.to_string()), || {
            "must be three numbers from 1 to 1000: with a share of 0 a priority would starve".into()
        });
        let drain = consumer.drain_time_limit;
        require(broken, drain < LONGEST_SILENCE, "consumer-drain-time-limit", Some(shown(drain)), || {
            format!("must be less than {}, after which Kafka takes the process for dead", shown(LONGEST_SILENCE))
        });
    }

    /// What only librdkafka knows.
    fn check_librdkafka(&self, settings: &KafkaSettings, broken: &mut Vec<Broken>) {
        let ours = [
            ("session.timeout.ms", "kafka-session-timeout"),
            ("heartbeat.interval.ms", "kafka-session-timeout"),
            ("fetch.wait.max.ms", "kafka-fetch-wait"),
        ];
        for mut rule in settings.faults() {
            if rule.contains("OpenSSL") && rule.contains("not available at build time") {
                rule += "; the program must be built with --features kafka-tls";
            }
            let (name, value) = match &self.kafka.properties {
                Some(file) => ("kafka-properties", Some(display(file))),
                None => {
                    let named = ours.iter().find(|(property, _)| rule.contains(property));
                    (named.map_or("kafka-brokers", |(_, name)| name), None)
                }
            };
            broken.push((name, value, rule));
        }
    }

    fn check_database(&self, broken: &mut Vec<Broken>) {
        let database = &self.database;
        within(broken, "database-readers", database.readers, 1, 1_000);
        lasts(broken, "database-busy-timeout", database.busy_timeout);
        longer(
            broken,
            ("database-time-limit", database.time_limit),
            database.busy_timeout,
            "database-busy-timeout, after which a lock is given up",
        );
        if let Some(url) = &database.url
            && let Err(error) = Store::check_address(url.expose(), &database.store())
        {
            let rule = match error {
                StoreError::Address(rule) => rule,
                other => other.to_string(),
            };
            broken.push(("database-url", Some(url.to_string()), rule));
        }
        let limit = self.smtp.time_limit.max(self.second_protection().time_limit);
        let least = limit.saturating_add(CLOCKS);
        let lease = database.lease;
        require(broken, lease >= least, "ledger-lease", Some(shown(lease)), || {
            format!(
                "must be at least {}: the longest smtp-time-limit, and {} by which clocks differ, or else a mail that is \
                 being sent could be taken over",
                shown(least),
                shown(CLOCKS),
            )
        });
        no_longer_than_a_year(broken, "ledger-lease", lease);
    }

    fn check_mail(&self, broken: &mut Vec<Broken>) {
        let smtp = &self.smtp;
        for (name, url) in [("smtp-url", &smtp.url), ("smtp-secondary-url", &self.second.url)] {
            let Some(url) = url else { continue };
            let checked = url
                .with_scheme(&["smtp", "smtps"])
                .and_then(|_| url.expose().parse::<SmtpAddress>().map_err(|error| error.to_string()));
            if let Err(rule) = checked {
                broken.push((name, Some(url.to_string()), rule));
            }
        }
        if smtp.url.is_none()
            && let Some(url) = &self.second.url
        {
            let rule = "must not be given without smtp-url, the server that is asked first";
            broken.push(("smtp-secondary-url", Some(url.to_string()), rule.into()));
        }
        let hello = &smtp.hello_name;
        let fits = !hello.is_empty() && hello.chars().all(|c| c.is_ascii_alphanumeric() || ".-[]:".contains(c));
        require(broken, fits, "smtp-hello-name", Some(hello.clone()), || "must be a host's name".into());
        let steps = [
            ("smtp-connect-timeout", smtp.connect_timeout),
            ("smtp-command-timeout", smtp.command_timeout),
            ("smtp-final-dot-timeout", smtp.final_dot_timeout),
        ];
        for (name, time) in steps {
            lasts(broken, name, time);
        }
        within(broken, "smtp-mails-per-connection", smtp.mails_per_connection, 1, 1_000_000);
        if let Some(file) = &smtp.ca_file
            && let Err(rule) = smtp::check_authorities(file)
        {
            broken.push(("smtp-ca-file", Some(display(file)), rule));
        }
        no_longer_than_a_year(broken, "smtp-idle", smtp.idle);
        let times = [smtp.command_timeout.saturating_mul(5), smtp.final_dot_timeout.saturating_mul(2), smtp.queue];
        let steps = times.into_iter().fold(smtp.connect_timeout, Duration::saturating_add);
        let all = "the sum of smtp-queue, smtp-connect-timeout, five times smtp-command-timeout and twice \
                   smtp-final-dot-timeout, which say more";
        let (first, second) = (smtp, &self.second);
        for (name, number) in [
            ("smtp-connections", Some(first.connections)),
            ("smtp-secondary-connections", second.connections),
            ("smtp-mails-per-second", first.mails_per_second),
            ("smtp-secondary-mails-per-second", second.mails_per_second),
        ] {
            number.into_iter().for_each(|number| within(broken, name, number, 1, 1_000_000));
        }
        for (name, limit) in
            [("smtp-time-limit", Some(first.time_limit)), ("smtp-secondary-time-limit", second.time_limit)]
        {
            limit.into_iter().for_each(|limit| longer(broken, (name, limit), steps, all));
        }
        let slow = second.breaker_slow.map_or(first.breaker_slow, |slow| slow.min(first.breaker_slow));
        // A breaker that calls everything slow is named below.
        let fits = smtp.queue < slow || slow.is_zero();
        require(broken, fits, "smtp-queue", Some(shown(smtp.queue)), || {
            format!(
                "must be shorter than smtp-breaker-slow, {}, or else waiting would look like a slow server",
                shown(slow)
            )
        });
        for (name, time) in [
            ("smtp-breaker-open", Some(first.breaker_open)),
            ("smtp-secondary-breaker-open", second.breaker_open),
            ("smtp-breaker-slow", Some(first.breaker_slow)),
            ("smtp-secondary-breaker-slow", second.breaker_slow),
        ] {
            time.into_iter().for_each(|time| lasts(broken, name, time));
        }
        for (name, window) in [
            ("smtp-breaker-window", Some(first.breaker_window)),
            ("smtp-secondary-breaker-window", second.breaker_window),
        ] {
            window.into_iter().for_each(|window| within(broken, name, window, 1, 100_000));
        }
        if let Some(url) = &self.sms.url
            && let Err(rule) = url
                .with_scheme(&["http", "https"])
                .and_then(|_| sms::check_address(url.expose()).map_err(|error| error.to_string()))
        {
            broken.push(("sms-url", Some(url.to_string()), rule));
        }
        lasts(broken, "sms-time-limit", self.sms.time_limit);
        within(broken, "retry-attempts", self.again.attempts, 1, 1_000);
        lasts(broken, "retry-delay", self.again.delay);
        lasts(broken, "retry-hold-limit", self.again.hold_limit);
    }

    fn check_the_rest(&self, broken: &mut Vec<Broken>) {
        if let Err(error) = self.templates() {
            let folder = self.files.templates.as_ref().map(|folder| folder.display().to_string());
            broken.push(("templates-dir", folder, error.to_string()));
        }
        for (name, folder) in [("backups-dir", Some(&self.files.backups)), ("data-dir", self.files.data.as_ref())] {
            let Some(folder) = folder else { continue };
            let is_right = folder.is_dir() || !folder.exists();
            require(broken, is_right, name, Some(folder.display().to_string()), || "must be a folder".into());
        }
        let operating = &self.operating;
        require(broken, operating.file.is_some() || operating.profile.is_none(), "policies-profile", None, || {
            "is laid over policies-file, which must be set too".into()
        });
        if operating.file.is_some()
            && let Err(errors) = resile::settings::Settings::load(operating.files())
        {
            broken.push(("policies-file", operating.file.as_deref().map(display), errors.to_string()));
        }
        within(broken, "request-size", self.requests.size, 1_000, 100_000_000);
        within(broken, "request-subject", self.requests.subject, 1, 900);
        within(broken, "request-attachments", self.requests.attachments, 0, 1_000);
        within(broken, "http-connections", self.http.connections, 1, 1_000_000);
        lasts(broken, "http-read-time", self.http.read_time);
        address(broken, "alerts-webhook", self.alerts.webhook.as_ref(), &["http", "https"]);
        no_longer_than_a_year(broken, "alerts-quiet", self.alerts.quiet);
        if let Some(filter) = &self.log.filter
            && let Err(error) = EnvFilter::try_new(filter)
        {
            broken.push(("log-filter", Some(filter.clone()), error.to_string()));
        }
        let (limit, drain) = (self.shutdown.time_limit, self.consumer.drain_time_limit);
        require(broken, limit >= drain, "shutdown-time-limit", Some(shown(limit)), || {
            format!("must be at least consumer-drain-time-limit, {}, which is part of it", shown(drain))
        });
        no_longer_than_a_year(broken, "shutdown-time-limit", limit);
        within(broken, "demo-requests", self.demonstration.requests, 1, 1_000_000);
    }
}

fn require(
    broken: &mut Vec<Broken>,
    is_right: bool,
    name: &'static str,
    value: Option<String>,
    rule: impl FnOnce() -> String,
) {
    if !is_right {
        broken.push((name, value, rule()));
    }
}

fn within<T: PartialOrd + Display + Copy>(broken: &mut Vec<Broken>, name: &'static str, value: T, least: T, most: T) {
    let is_right = least <= value && value <= most;
    require(broken, is_right, name, Some(value.to_string()), || format!("must be from {least} to {most}"));
}

fn lasts(broken: &mut Vec<Broken>, name: &'static str, time: Duration) {
    let rule = || "must be longer than no time".to_owned();
    require(broken, !time.is_zero(), name, Some(shown(time)), rule);
    no_longer_than_a_year(broken, name, time);
}

fn no_longer_than_a_year(broken: &mut Vec<Broken>, name: &'static str, time: Duration) {
    require(broken, time <= LONGEST, name, Some(shown(time)), || "must be at most a year".to_owned());
}

fn longer(broken: &mut Vec<Broken>, (name, time): (&'static str, Duration), than: Duration, what: &str) {
    let rule = || format!("must be longer than {}, {what}", shown(than));
    require(broken, time > than, name, Some(shown(time)), rule);
    no_longer_than_a_year(broken, name, time);
}

fn address(broken: &mut Vec<Broken>, name: &'static str, address: Option<&Address>, schemes: &[&str]) {
    if let Some(address) = address
        && let Err(rule) = address.with_scheme(schemes)
    {
        broken.push((name, Some(address.to_string()), rule));
    }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}

fn is_host_and_port(broker: &str) -> bool {
    broker.rsplit_once(':').is_some_and(|(host, port)| {
        let is_host = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_[]:".contains(c));
        is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}
