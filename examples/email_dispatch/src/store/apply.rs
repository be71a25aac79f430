//! The statements that make changes, each many at once.
//!
//! What comes often has its values [bound](super::many). What comes rarely is one JSON array, and so one statement however
//! many rows there are: SQLite and PostgreSQL both read fields with `->>`; only the function that makes rows of an array
//! has two names, and stands as `ROWS` here.

use std::collections::HashMap;

use serde::Serialize;
use sqlx::{AnyConnection, Row};
use uuid::Uuid;

use super::{
    change::{Change, ClaimRow, Effect, Move, NewRow, rounds},
    database::Engine,
    many::{Bound, Many},
    row::{Status, attempts_of, id_of, status_of},
};

/// Makes all changes, in the order given as far as one row is concerned. Records go to the outbox in the order given.
///
/// `now` is milliseconds since 1970. The caller has begun a transaction, and commits it or not.
///
/// # Errors
/// The database's; [`Unapplied::Fenced`], where `doubt` does not reckon with it.
pub(super) async fn apply(
    connection: &mut AnyConnection,
    engine: Engine,
    now: i64,
    changes: &[&Change],
    doubt: Doubt,
) -> Result<Vec<Effect>, Unapplied> {
    let mut work = Work { connection, engine, now, effects: changes.iter().map(|_| Effect::NotMade).collect() };
    for round in rounds(changes.iter().copied()) {
        let mut accepts = Vec::new();
        let mut claims = Vec::new();
        let mut moves = Vec::new();
        for index in round {
            match changes[index] {
                Change::Accept(row) => accepts.push((index, row.id, row)),
                Change::Claim(row) => claims.push((index, row.id, row)),
                Change::Move(row) => moves.push((index, row.id, row)),
                other => work.effects[index] = work.single(other).await?,
            }
        }
        // Two processes that lock rows in one order do not lock each other out.
        claims.sort_unstable_by_key(|(_, id, _)| *id);
        accepts.sort_unstable_by_key(|(_, id, _)| *id);
        work.claim(&claims).await?;
        work.accept(&accepts).await?;
        match doubt {
            Doubt::Nobody => work.move_all(&moves).await?,
            Doubt::Everybody => drop(work.make(&MOVE_AND_SAY, &moves).await?),
        }
    }
    let made = changes.iter().zip(&work.effects).filter(|(_, effect)| matches!(effect, Effect::Made { .. }));
    let records: Vec<_> = made.flat_map(|(change, _)| change.records()).map(String::as_str).collect();
    work.put(&records).await?;
    Ok(work.effects)
}

/// Who may have lost its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Nobody, which is nearly always so. Then the number of rows written says it all, and to have them named one by one
    /// takes longer than to write them.
    Nobody,
    /// Anybody. The database is asked of each.
    Everybody,
}

/// Why changes are not to be committed.
#[derive(Debug)]
pub(super) enum Unapplied {
    /// It was the database.
    Failed(sqlx::Error),
    /// Some owner has lost its row, which was not reckoned with. Nothing is wrong but the guess.
    Fenced,
}

impl From<sqlx::Error> for Unapplied {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error)
    }
}

/// The largest array that is put into one statement, in octets, unless a single record is larger.
const LONGEST_ARRAY: usize = 4 << 20;

struct Work<'a> {
    connection: &'a mut AnyConnection,
    engine: Engine,
    now: i64,
    effects: Vec<Effect>,
}

/// A change's place among the effects, its row, and what the statement needs of it.
type Item<'a, T> = (usize, Uuid, &'a T);

impl Work<'_> {
    async fn accept(&mut self, items: &[Item<'_, NewRow>]) -> Result<(), sqlx::Error> {
        let known = self.make(&ACCEPT, items).await?;
        self.find(&known).await
    }

    async fn claim(&mut self, items: &[Item<'_, ClaimRow>]) -> Result<(), sqlx::Error> {
        let refused = self.make(&CLAIM, items).await?;
        self.find(&refused).await?;

        // Whoever was about to hand this mail over is gone, and with it the knowledge whether it did.
        let now = self.now;
        let stale = |effect: &Effect| matches!(effect, Effect::Found { in_doubt: true, until, .. } if *until <= now);
        let stale: Vec<_> = refused.into_iter().filter(|(index, _)| stale(&self.effects[*index])).collect();
        if stale.is_empty() {
            return Ok(());
        }
        let query = sqlx::query(DOUBT.on(self.engine)).bind(ids(&stale)?).bind(now);
        query.execute(&mut *self.connection).await?;
        self.find(&stale).await
    }

    /// What owners do with their rows, all of which are still theirs.
    async fn move_all(&mut self, items: &[Item<'_, Move>]) -> Result<(), Unapplied> {
        let rows = items.iter().map(|(_, _, row)| *row);
        if MOVE.execute(self.connection, self.engine, self.now, rows).await? != items.len() as u64 {
            return Err(Unapplied::Fenced);
        }
        for (index, _, _) in items {
            self.effects[*index] = Effect::Made { attempts: 0 };
        }
        Ok(())
    }

    /// Runs a statement that returns the rows it has written, and returns the others.
    async fn make<T: Bound>(
        &mut self,
        statement: &'static Many,
        items: &[Item<'_, T>],
    ) -> Result<Vec<(usize, Uuid)>, sqlx::Error> {
        let mut made = HashMap::with_capacity(items.len());
        for row in statement.fetch(self.connection, self.engine, self.now, items.iter().map(|(_, _, row)| *row)).await?
        {
            made.insert(id_of(&row)?, attempts_of(&row)?);
        }
        let mut others = Vec::new();
        for (index, id, _) in items {
            match made.get(id) {
                Some(attempts) => self.effects[*index] = Effect::Made { attempts: *attempts },
                None => others.push((*index, *id)),
            }
        }
        Ok(others)
    }

    /// Says of rows that were not written how they are.
    async fn find(&mut self, items: &[(usize, Uuid)]) -> Result<(), sqlx::Error> {
        if items.is_empty() {
            return Ok(());
        }
        let indices: HashMap<_, _> = items.iter().map(|(index, id)| (*id, *index)).collect();
        let sql = FIND.on(self.engine);
        for row in sqlx::query(sql).bind(ids(items)?).fetch_all(&mut *self.connection).await? {
            let status = status_of(&row)?;
            let in_doubt = status == Status::Sent && row.try_get::<Option<String>, _>("owner")?.is_some();
            if let Some(index) = indices.get(&id_of(&row)?) {
                let (until, attempts) = (row.try_get("held_until")?, attempts_of(&row)?);
                self.effects[*index] = Effect::Found { status, in_doubt, until, attempts };
            }
        }
        Ok(())
    }

    async fn put(&mut self, records: &[&str]) -> Result<(), sqlx::Error> {
        let mut rest = records;
        while !rest.is_empty() {
            let mut octets = 0;
            let fitting = rest.iter().take_while(|record| {
                octets += record.len();
                octets <= LONGEST_ARRAY
            });
            let (now, later) = rest.split_at(fitting.count().max(1));
            let array = format!("[{}]", now.join(","));
            sqlx::query(PUT.on(self.engine)).bind(array).execute(&mut *self.connection).await?;
            rest = later;
        }
        Ok(())
    }

    /// The changes that come too rarely to be made many at once.
    async fn single(&mut self, change: &Change) -> Result<Effect, sqlx::Error> {
        let query = match change {
            Change::Put(_) => return Ok(Effect::Made { attempts: 0 }), // with all other records, at the end
            Change::Sweep => {
                let rows = sqlx::query(SWEEP).bind(self.now).fetch_all(&mut *self.connection).await?;
                return Ok(Effect::Swept(rows.iter().map(id_of).collect::<Result<_, _>>()?));
            }
            Change::Published(numbers) => {
                let array: Vec<_> = numbers.iter().map(|seq| BySeq { seq: *seq }).collect();
                sqlx::query(PUBLISHED.on(self.engine)).bind(to_json(&array)?)
            }
            Change::Resolve { id, to, .. } => sqlx::query(RESOLVE).bind(id.to_string()).bind(to.name()).bind(self.now),
            Change::KeepRequest { id, request } => sqlx::query(KEEP_REQUEST).bind(id.to_string()).bind(&**request),
            Change::Hold { name, owner, until } => {
                sqlx::query(HOLD).bind(&**name).bind(&**owner).bind(*until).bind(self.now)
            }
            Change::LetGo { name, owner } => sqlx::query(LET_GO).bind(&**name).bind(&**owner),
            Change::Accept(_) | Change::Claim(_) | Change::Move(_) => return Ok(Effect::NotMade), // never come here
        };
        let written = query.execute(&mut *self.connection).await?.rows_affected();
        Ok(if written > 0 { Effect::Made { attempts: 0 } } else { Effect::NotMade })
    }
}

/// A statement in the words of each engine.
struct Statement {
    sqlite: &'static str,
    postgres: &'static str,
}

impl Statement {
    fn on(&self, engine: Engine) -> &'static str {
        match engine {
            Engine::Sqlite => self.sqlite,
            Engine::Postgres => self.postgres,
        }
    }
}

macro_rules! statement {
    ($before:literal ROWS $after:literal) => {
        Statement {
            sqlite: concat!($before, "json_each($1)", $after),
            postgres: concat!($before, "json_array_elements(CAST($1 AS json))", $after),
        }
    };
}

static ACCEPT: Many = Many::new(
    "INSERT INTO emails (id, kind, priority, status, changed_at)
     SELECT c.id, c.kind, c.priority, 'PENDING', NOW
     FROM c WHERE c.id IS NOT NULL
     ON CONFLICT (id) DO NOTHING
     RETURNING id, attempts",
);

// The consumer need not have seen the request accepted: on a topic there may be requests of others. A row whose attempt
// has failed waits for the record of the next one, and the record of a former one, read again, must not take it.
static CLAIM: Many = Many::new(
    "INSERT INTO emails (id, kind, priority, status, owner, held_until, attempts, changed_at)
     SELECT c.id, c.kind, c.priority, 'SENDING', c.owner, c.until, c.attempt, NOW
     FROM c WHERE c.id IS NOT NULL
     ON CONFLICT (id) DO UPDATE
     SET status = 'SENDING', owner = excluded.owner, held_until = excluded.held_until,
         attempts = excluded.attempts, changed_at = excluded.changed_at
     WHERE (emails.status = 'PENDING' AND emails.attempts < excluded.attempts)
        OR (emails.status = 'SENDING' AND emails.attempts <= excluded.attempts
            AND emails.held_until <= excluded.changed_at)
     RETURNING id, attempts",
);

const FIND: Statement = statement!(
    "SELECT id, status, owner, held_until, attempts FROM emails WHERE id IN (SELECT c.value->>'id' FROM " ROWS " AS c)"
);

// The owner's name stays, so that the owner's own answer, should it come after all, is still believed.
const DOUBT: Statement = statement!(
    "UPDATE emails SET status = 'UNKNOWN', reason = 'the process that was sending it has gone', changed_at = $2
     WHERE id IN (SELECT c.value->>'id' FROM " ROWS " AS c)
       AND status = 'SENT' AND owner IS NOT NULL AND held_until <= $2
     RETURNING id"
);

const SWEEP: &str = "UPDATE emails
     SET status = 'UNKNOWN', reason = 'the process that was sending it has gone', changed_at = $1
     WHERE status = 'SENT' AND owner IS NOT NULL AND held_until <= $1
     RETURNING id";

macro_rules! moves {
    ($returning:literal) => {
        Many::new(concat!(
            "UPDATE emails
     SET status = c.new,
         owner = CASE WHEN c.until IS NULL THEN NULL ELSE emails.owner END,
         held_until = COALESCE(c.until, 0),
         attempts = emails.attempts - COALESCE(c.uncount, 0),
         provider = COALESCE(c.provider, emails.provider),
         reason = c.reason, request = c.request, changed_at = NOW
     FROM c
     WHERE emails.id = c.id AND emails.owner = c.owner AND (c.old IS NULL OR emails.status = c.old)",
            $returning
        ))
    };
}

static MOVE: Many = moves!("");
static MOVE_AND_SAY: Many = moves!(" RETURNING emails.id, emails.attempts");

// What an operator says was sent can only be what was in doubt. What is to be tried again may also have failed.
const RESOLVE: &str = "UPDATE emails
     SET status = $2, owner = NULL, held_until = 0, attempts = 0, reason = NULL, request = NULL, changed_at = $3
     WHERE id = $1 AND (status = 'UNKNOWN' OR (status = 'FAILED' AND $2 = 'PENDING'))";

const KEEP_REQUEST: &str = "UPDATE emails SET request = $2 WHERE id = $1 AND status = 'UNKNOWN' AND request IS NULL";

const PUT: Statement = statement!("INSERT INTO outbox (record) SELECT CAST(c.value AS TEXT) FROM " ROWS " AS c");

const PUBLISHED: Statement = statement!(
    "DELETE FROM outbox WHERE seq IN (SELECT CAST(c.value->>'seq' AS BIGINT) FROM " ROWS " AS c)"
);

const HOLD: &str = "INSERT INTO leases (name, owner, held_until) VALUES ($1, $2, $3)
     ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, held_until = excluded.held_until
     WHERE leases.owner = excluded.owner OR leases.held_until <= $4";

const LET_GO: &str = "DELETE FROM leases WHERE name = $1 AND owner = $2";

#[derive(Serialize)]
struct ById {
    id: Uuid,
}

#[derive(Serialize)]
struct BySeq {
    seq: i64,
}

fn ids(items: &[(usize, Uuid)]) -> Result<String, sqlx::Error> {
    to_json(&items.iter().map(|(_, id)| ById { id: *id }).collect::<Vec<_>>())
}

fn to_json(array: &impl Serialize) -> Result<String, sqlx::Error> {
    serde_json::to_string(array).map_err(|error| sqlx::Error::Encode(error.into()))
}
