//! What can be written, as values: the writer collects them, and applies many in one transaction.

use std::collections::HashMap;

use sqlx::{Arguments, any::AnyArguments, error::BoxDynError};
use uuid::Uuid;

use super::{
    many::{Bound, Type},
    row::Status,
};
use crate::request::{Kind, Priority};

/// One thing to write. Records for the outbox are in the form in which they are stored.
#[derive(Debug)]
pub(super) enum Change {
    /// A new request, with its record for the outbox.
    Accept(NewRow),
    /// A row is to be this owner's.
    Claim(ClaimRow),
    /// What an owner does with its row.
    Move(Move),
    /// What an operator does with a row that nobody works on.
    Resolve { id: Uuid, to: Status, records: Vec<String> },
    /// A row in doubt is to remember what was asked for.
    KeepRequest { id: Uuid, request: String },
    /// What has been in doubt for longer than its lease will remain so.
    Sweep,
    /// Records for the outbox, of no row.
    Put(Vec<String>),
    /// Rows of the outbox that have been published.
    Published(Vec<i64>),
    /// A lease is to be held, or held for longer.
    Hold { name: String, owner: String, until: i64 },
    /// A lease is to be free.
    LetGo { name: String, owner: String },
}

#[derive(Debug)]
pub(super) struct NewRow {
    pub(super) id: Uuid,
    pub(super) kind: Kind,
    pub(super) priority: Priority,
    pub(super) record: String,
}

#[derive(Debug)]
pub(super) struct ClaimRow {
    pub(super) id: Uuid,
    pub(super) kind: Kind,
    pub(super) priority: Priority,
    pub(super) owner: String,
    /// The end of the lease.
    pub(super) until: i64,
    /// For which attempt: the first is 1.
    pub(super) attempt: i64,
}

/// Written only if the row is still this owner's: each write that takes a row from an owner also changes or removes
/// its name. That is the whole of the fence.
#[derive(Debug)]
pub(super) struct Move {
    pub(super) id: Uuid,
    pub(super) owner: String,
    /// Only from this status.
    pub(super) from: Option<Status>,
    pub(super) to: Status,
    /// The end of a new lease. Without one the row has no owner any more.
    pub(super) until: Option<i64>,
    pub(super) provider: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) request: Option<String>,
    /// Whether the last claim is not to count.
    pub(super) uncount: Option<u32>,
    /// For the outbox, in the same transaction, and only if the row is written.
    pub(super) records: Vec<String>,
}

const ID: (&str, Type) = ("id", Type::Text);
const KIND: (&str, Type) = ("kind", Type::Text);
const PRIORITY: (&str, Type) = ("priority", Type::Text);
const OWNER: (&str, Type) = ("owner", Type::Text);

impl Bound for NewRow {
    const COLUMNS: &'static [(&'static str, Type)] = &[ID, KIND, PRIORITY];

    fn bind(&self, to: &mut AnyArguments) -> Result<(), BoxDynError> {
        to.add(self.id.to_string())?;
        to.add(self.kind.name())?;
        to.add(self.priority.name())
    }
}

impl Bound for ClaimRow {
    const COLUMNS: &'static [(&'static str, Type)] =
        &[ID, KIND, PRIORITY, OWNER, ("until", Type::Number), ("attempt", Type::Number)];

    fn bind(&self, to: &mut AnyArguments) -> Result<(), BoxDynError> {
        to.add(self.id.to_string())?;
        to.add(self.kind.name())?;
        to.add(self.priority.name())?;
        to.add(&*self.owner)?;
        to.add(self.until)?;
        to.add(self.attempt)
    }
}

impl Bound for Move {
    const COLUMNS: &'static [(&'static str, Type)] = &[
        ID,
        OWNER,
        ("old", Type::Text),
        ("new", Type::Text),
        ("until", Type::Number),
        ("provider", Type::Text),
        ("reason", Type::Text),
        ("request", Type::Text),
        ("uncount", Type::Number),
    ];

    fn bind(&self, to: &mut AnyArguments) -> Result<(), BoxDynError> {
        to.add(self.id.to_string())?;
        to.add(&*self.owner)?;
        to.add(self.from.map(Status::name))?;
        to.add(self.to.name())?;
        to.add(self.until)?;
        to.add(self.provider.as_deref())?;
        to.add(self.reason.as_deref())?;
        to.add(self.request.as_deref())?;
        to.add(self.uncount.map(i64::from))
    }
}

impl Move {
    /// To that status, without an owner, and nothing else.
    pub(super) fn to(to: Status, id: Uuid, owner: String) -> Self {
        Self {
            id,
            owner,
            from: None,
            to,
            until: None,
            provider: None,
            reason: None,
            request: None,
            uncount: None,
            records: Vec::new(),
        }
    }
}

/// What became of a change.
#[derive(Debug, PartialEq)]
pub(super) enum Effect {
    /// It was made. The row has now had this many attempts.
    Made { attempts: u32 },
    /// It was not made.
    NotMade,
    /// It was not made, since the row was found like this.
    Found { status: Status, in_doubt: bool, until: i64, attempts: u32 },
    /// These rows will not be known.
    Swept(Vec<Uuid>),
}

impl Change {
    /// The row it is about, if it is about one.
    fn row(&self) -> Option<Uuid> {
        match self {
            Self::Accept(NewRow { id, .. })
            | Self::Claim(ClaimRow { id, .. })
            | Self::Move(Move { id, .. })
            | Self::Resolve { id, .. }
            | Self::KeepRequest { id, .. } => Some(*id),
            Self::Sweep | Self::Put(_) | Self::Published(_) | Self::Hold { .. } | Self::LetGo { .. } => None,
        }
    }

    /// What it puts into the outbox once it is made.
    pub(super) fn records(&self) -> &[String] {
        match self {
            Self::Accept(new) => std::slice::from_ref(&new.record),
            Self::Move(Move { records, .. }) | Self::Resolve { records, .. } | Self::Put(records) => records,
            Self::Claim(_)
            | Self::KeepRequest { .. }
            | Self::Sweep
            | Self::Published(_)
            | Self::Hold { .. }
            | Self::LetGo { .. } => &[],
        }
    }
}

/// Deals changes out to rounds, by their indices: the n-th change of a row to the n-th round. A round has no two of one
/// row, so a statement can make many of its changes at once, with the same result as one after another.
pub(super) fn rounds<'a>(changes: impl IntoIterator<Item = &'a Change>) -> Vec<Vec<usize>> {
    let mut seen = HashMap::<Uuid, usize>::new();
    let mut rounds = Vec::<Vec<usize>>::new();
    for (index, change) in changes.into_iter().enumerate() {
        let round = change.row().map_or(0, |row| {
            let times = seen.entry(row).or_default();
            *times += 1;
            *times - 1
        });
        if rounds.len() == round {
            rounds.push(Vec::new());
        }
        rounds[round].push(index);
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_one_row_are_in_rounds_of_their_own_and_in_order() {
        let keep = |id| Change::KeepRequest { id: Uuid::from_u128(id), request: String::new() };
        let changes = [keep(1), keep(2), keep(1), Change::Sweep, keep(1), keep(2)];
        assert_eq!(rounds(&changes), [vec![0, 1, 3], vec![2, 5], vec![4]]);
    }

    #[test]
    fn nothing_to_do_needs_no_round() {
        assert!(rounds(&[]).is_empty());
    }
}
