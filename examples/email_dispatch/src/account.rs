//! Where every accepted request has gone, by what the ledger says and by what the servers have: the proof that nothing
//! is lost and nothing is sent twice.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use uuid::Uuid;

use crate::store::{Ledger, Row, Status, StoreError};

/// What the outside world has, by request: how often a mail or an SMS has arrived, and which are dead letters.
#[derive(Clone, Debug, Default)]
pub struct Arrived {
    /// At the first mail server.
    pub primary: HashMap<Uuid, u32>,
    /// At the second.
    pub secondary: HashMap<Uuid, u32>,
    /// At the SMS gateway.
    pub sms: HashMap<Uuid, u32>,
    /// On the dead-letter topic.
    pub dead_letters: HashSet<Uuid>,
}

/// The sums. Each accepted request is in exactly one of the numbers from `primary` to `unknown`, or is lost or unfinished.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// How many requests there were.
    pub accepted: u64,
    /// Sent by the first mail server.
    pub primary: u64,
    /// Sent by the second.
    pub secondary: u64,
    /// Sent by SMS.
    pub sms: u64,
    /// Given up by rule: of priority LOW, and failed.
    pub given_up: u64,
    /// On the dead-letter topic.
    pub dead_lettered: u64,
    /// Listed as UNKNOWN.
    pub unknown: u64,
    /// Still to be worked on.
    pub unfinished: u64,
    /// Not there, though the ledger says that they are, or not known to the ledger. There must be none.
    pub lost: Vec<Uuid>,
    /// There more than once. There must be none.
    pub doubles: Vec<Uuid>,
}

impl Account {
    /// Adds everything up.
    #[must_use]
    pub fn of(accepted: &HashSet<Uuid>, rows: &HashMap<Uuid, Row>, arrived: &Arrived) -> Self {
        let mut account = Self { accepted: accepted.len() as u64, ..Self::default() };
        for id in accepted {
            let at = |place: &HashMap<Uuid, u32>| place.get(id).copied().unwrap_or_default();
            let (primary, secondary, sms) = (at(&arrived.primary), at(&arrived.secondary), at(&arrived.sms));
            if primary + secondary + sms > 1 {
                account.doubles.push(*id);
            }
            let Some(row) = rows.get(id) else {
                account.lost.push(*id);
                continue;
            };
            match row.status {
                Status::Sent if primary > 0 => account.primary += 1,
                Status::Sent if secondary > 0 => account.secondary += 1,
                Status::SmsSent if sms > 0 => account.sms += 1,
                Status::Sent if row.in_doubt => account.unfinished += 1,
                Status::Sent | Status::SmsSent => account.lost.push(*id),
                Status::Failed if arrived.dead_letters.contains(id) => account.dead_lettered += 1,
                Status::Failed if row.priority == "LOW" => account.given_up += 1,
                Status::Failed => account.lost.push(*id),
                Status::Unknown => account.unknown += 1,
                Status::Pending | Status::Sending => account.unfinished += 1,
            }
        }
        account
    }

    /// Whether nothing is lost, doubled, or left to do, and the sums are right.
    #[must_use]
    pub fn is_right(&self) -> bool {
        let ended = self.primary + self.secondary + self.sms + self.given_up + self.dead_lettered + self.unknown;
        self.lost.is_empty() && self.doubles.is_empty() && self.unfinished == 0 && ended == self.accepted
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |what: &str, number: u64| writeln!(f, "  {what:<26}{number:>8}");
        line("accepted", self.accepted)?;
        line("sent by primary", self.primary)?;
        line("sent by secondary", self.secondary)?;
        line("sent by SMS", self.sms)?;
        line("given up by rule", self.given_up)?;
        line("dead-lettered", self.dead_lettered)?;
        line("unknown", self.unknown)?;
        line("unfinished", self.unfinished)?;
        line("doubles", self.doubles.len() as u64)?;
        line("lost", self.lost.len() as u64)
    }
}

/// All rows of the ledger.
///
/// # Errors
/// The database's.
pub async fn rows(ledger: &Ledger) -> Result<HashMap<Uuid, Row>, StoreError> {
    let mut rows = HashMap::new();
    for status in Status::ALL {
        rows.extend(ledger.list(status, i32::MAX as u32).await?.into_iter().map(|row| (row.id, row)));
    }
    Ok(rows)
}

/// Counts by request what is counted by `Message-ID` or by id.
pub fn by_request<N: AsRef<str>>(counts: impl IntoIterator<Item = (N, u32)>) -> HashMap<Uuid, u32> {
    let id = |name: &str| Uuid::parse_str(name.trim_start_matches('<').split('@').next()?).ok();
    counts.into_iter().filter_map(|(name, count)| Some((id(name.as_ref())?, count))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: Uuid, status: Status, priority: &str) -> (Uuid, Row) {
        let row = Row {
            id,
            kind: "NOTIFICATION".to_owned(),
            priority: priority.to_owned(),
            status,
            in_doubt: false,
            attempts: 1,
            provider: None,
            reason: None,
            request: None,
            changed_at_ms: 0,
        };
        (id, row)
    }

    /// One request in each place, and what the world has of it.
    fn all_right() -> (HashSet<Uuid>, HashMap<Uuid, Row>, Arrived) {
        let id = Uuid::from_u128;
        let rows = [
            row(id(1), Status::Sent, "HIGH"),
            row(id(2), Status::Sent, "HIGH"),
            row(id(3), Status::SmsSent, "HIGH"),
            row(id(4), Status::Failed, "LOW"),
            row(id(5), Status::Failed, "NORMAL"),
            row(id(6), Status::Unknown, "NORMAL"),
        ];
        let arrived = Arrived {
            primary: HashMap::from([(id(1), 1)]),
            secondary: HashMap::from([(id(2), 1)]),
            sms: HashMap::from([(id(3), 1)]),
            dead_letters: HashSet::from([id(5)]),
        };
        ((1..=6).map(id).collect(), HashMap::from(rows), arrived)
    }

    #[test]
    fn each_request_is_counted_once_where_it_is() {
        let (accepted, rows, arrived) = all_right();
        let account = Account::of(&accepted, &rows, &arrived);
        let expected = Account {
            accepted: 6,
            primary: 1,
            secondary: 1,
            sms: 1,
            given_up: 1,
            dead_lettered: 1,
            unknown: 1,
            ..Account::default()
        };
        assert_eq!(account, expected);
        assert!(account.is_right());
    }

    #[test]
    fn a_message_id_names_the_request() {
        let id = Uuid::from_u128(7);
        let counts = [(format!("<{id}@example.com>"), 2), ("<else@example.com>".to_owned(), 1)];
        assert_eq!(by_request(counts), HashMap::from([(id, 2)]));
    }

    #[test]
    fn a_mail_at_both_servers_is_a_double() {
        let (accepted, rows, mut arrived) = all_right();
        arrived.secondary.insert(Uuid::from_u128(1), 1);
        let account = Account::of(&accepted, &rows, &arrived);
        assert_eq!(account.doubles, [Uuid::from_u128(1)]);
        assert!(!account.is_right());
    }

    #[test]
    fn what_the_ledger_says_is_sent_and_no_server_has_is_lost() {
        let (accepted, rows, mut arrived) = all_right();
        arrived.primary.clear();
        assert_eq!(Account::of(&accepted, &rows, &arrived).lost, [Uuid::from_u128(1)]);
    }

    #[test]
    fn what_was_accepted_and_the_ledger_does_not_know_is_lost() {
        let (mut accepted, rows, arrived) = all_right();
        accepted.insert(Uuid::from_u128(7));
        assert_eq!(Account::of(&accepted, &rows, &arrived).lost, [Uuid::from_u128(7)]);
    }

    #[test]
    fn what_failed_without_a_dead_letter_is_lost_unless_it_was_low() {
        let (accepted, rows, mut arrived) = all_right();
        arrived.dead_letters.clear();
        assert_eq!(Account::of(&accepted, &rows, &arrived).lost, [Uuid::from_u128(5)]);
    }

    #[test]
    fn what_still_waits_is_not_right_yet() {
        let (accepted, mut rows, arrived) = all_right();
        rows.extend([row(Uuid::from_u128(1), Status::Pending, "HIGH")]);
        let account = Account::of(&accepted, &rows, &arrived);
        assert_eq!(account.unfinished, 1);
        assert!(!account.is_right());
    }
}
