//! Records that are to be published, each written in the transaction that made it necessary.
//!
//! A request that is accepted while Kafka is down is only written down. It is published, in the order of acceptance,
//! once Kafka is back, and its row goes only after Kafka has acknowledged it.

use std::collections::HashSet;

use futures::TryStreamExt;
use sqlx::Row;
use uuid::Uuid;

use super::{
    StoreError,
    change::{Change, Effect, NewRow},
    database::Readers,
    ledger::Facts,
    row::Status,
    stored_record::{decode, encode},
    writer::Writer,
};
use crate::record::Record;

/// What is to be published.
#[derive(Clone, Debug)]
pub struct Outbox {
    readers: Readers,
    writer: Writer,
}

/// A request to be accepted.
#[derive(Clone, Debug)]
pub struct Intake {
    /// The request's own name.
    pub id: Uuid,
    /// What the ledger keeps of it.
    pub facts: Facts,
    /// How it is to be published.
    pub record: Record,
}

/// Whether a request was asked for before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It was not, and will be published.
    New,
    /// It was, nothing has been written, and this is what has become of it.
    Known(Status),
}

/// A record and its place in the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// Larger than that of all records written down before by this process.
    pub seq: i64,
    /// What to publish.
    pub record: Record,
}

/// Where [`Outbox::next`] stops before its limit, in octets: a few hundred large attachments are a lot of memory.
const ENOUGH: usize = 16 << 20;

impl Outbox {
    pub(super) fn new(readers: Readers, writer: Writer) -> Self {
        Self { readers, writer }
    }

    /// Writes requests down, each as a row of the ledger and a record to be published or not at all. Answers in the
    /// order given; of two with one id the first is new.
    ///
    /// # Errors
    /// The database's. Some of the requests may then be accepted; asked for again, they are known.
    pub async fn accept(&self, requests: Vec<Intake>) -> Result<Vec<Accepted>, StoreError> {
        let changes = requests.iter().map(|Intake { id, facts, record }| {
            let Facts { kind, priority } = *facts;
            Change::Accept(NewRow { id: *id, kind, priority, record: encode(record) })
        });
        let effects = self.writer.write_all(changes.collect()).await?;
        let accepted = effects.into_iter().map(|effect| match effect {
            Effect::Made { .. } => Accepted::New,
            Effect::Found { status, .. } => Accepted::Known(status),
            Effect::NotMade | Effect::Swept(_) => Accepted::Known(Status::Pending),
        });
        Ok(accepted.collect())
    }

    /// Writes records of no request of ours down, such as a dead letter that nobody could read: all or none.
    ///
    /// # Errors
    /// The database's.
    pub async fn put(&self, records: &[Record]) -> Result<(), StoreError> {
        if !records.is_empty() {
            self.writer.write(Change::Put(records.iter().map(encode).collect())).await?;
        }
        Ok(())
    }

    /// The records to publish next, in order, at most `limit` and fewer if they are large.
    ///
    /// # Errors
    /// The database's.
    pub async fn next(&self, limit: u32) -> Result<Vec<OutboxRow>, StoreError> {
        let query = sqlx::query("SELECT seq, record FROM outbox ORDER BY seq LIMIT $1").bind(i64::from(limit));
        self.readers
            .within(async {
                let mut found = query.fetch(self.readers.pool());
                let (mut rows, mut octets) = (Vec::new(), 0);
                while octets < ENOUGH
                    && let Some(row) = found.try_next().await?
                {
                    let record: &str = row.try_get("record")?;
                    octets += record.len();
                    rows.push(OutboxRow { seq: row.try_get("seq")?, record: decode(record)? });
                }
                Ok(rows)
            })
            .await
    }

    /// Forgets records that Kafka has acknowledged.
    ///
    /// # Errors
    /// The database's. They may then be published a second time, which the ledger's claims make harmless.
    pub async fn published(&self, seqs: &[i64]) -> Result<(), StoreError> {
        if !seqs.is_empty() {
            self.writer.write(Change::Published(seqs.to_vec())).await?;
        }
        Ok(())
    }

    /// How many requests are PENDING or SENDING without a record that waits here: theirs are in Kafka, if anywhere. Reads
    /// both tables.
    ///
    /// # Errors
    /// The database's.
    pub async fn stranded(&self) -> Result<u64, StoreError> {
        #[derive(serde::Deserialize)]
        struct Named {
            id: Uuid,
        }
        let records = sqlx::query("SELECT record FROM outbox");
        let requests = sqlx::query("SELECT id FROM emails WHERE status IN ('PENDING', 'SENDING')");
        self.readers
            .within(async {
                let (mut waiting, mut stranded) = (HashSet::new(), 0);
                let mut found = records.fetch(self.readers.pool());
                while let Some(row) = found.try_next().await? {
                    let record = decode(row.try_get("record")?)?;
                    waiting.extend(serde_json::from_slice::<Named>(&record.payload).map(|named| named.id.to_string()));
                }
                drop(found);
                let mut found = requests.fetch(self.readers.pool());
                while let Some(row) = found.try_next().await? {
                    stranded += u64::from(!waiting.contains(row.try_get::<&str, _>("id")?));
                }
                Ok(stranded)
            })
            .await
    }

    /// How many records wait.
    ///
    /// # Errors
    /// The database's.
    pub async fn len(&self) -> Result<u64, StoreError> {
        let query = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM outbox");
        let len = self.readers.within(query.fetch_one(self.readers.pool())).await?;
        Ok(u64::try_from(len).unwrap_or(0))
    }

    /// Whether none waits.
    ///
    /// # Errors
    /// The database's.
    pub async fn is_empty(&self) -> Result<bool, StoreError> {
        let query = sqlx::query("SELECT 1 FROM outbox LIMIT 1");
        Ok(self.readers.within(query.fetch_optional(self.readers.pool())).await?.is_none())
    }
}
