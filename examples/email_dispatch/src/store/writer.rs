//! The one that writes: collects what callers want written, and commits many of them at once.
//!
//! Nobody gets an answer before the commit that makes it true. A transaction that fails has done nothing, and everybody
//! in it is told so.

use std::mem;

use sqlx::{AnyConnection, Connection};
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    StoreError,
    apply::{Doubt, Unapplied, apply},
    change::{Change, ClaimRow, Effect, Move},
    database::{self, Database},
    error::{is_conflict, is_disconnect},
    row::Status,
};
use crate::wall_clock::WallClock;

/// The most changes in one transaction. More gain little and make those who came first wait.
const MOST_AT_ONCE: usize = 1_024;

/// How many changes may wait before those who want more have to wait themselves.
const QUEUE: usize = 4 * MOST_AT_ONCE;

/// How often a transaction is attempted that is known not to have been committed.
const ATTEMPTS: u32 = 3;

/// Hands changes over to the task that writes them. The task ends when the last handle is gone.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Box<Request>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Writer {
    pub(super) fn start(database: Database, connection: AnyConnection, clock: WallClock) -> Self {
        let (queue, requests) = mpsc::channel(QUEUE);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let task = Task { database, clock, connection: Some(connection) };
        tasks.spawn(task.run(requests, stop.clone()));
        tasks.close();
        Self { queue, stop, tasks }
    }

    /// Makes a change, and says what became of it once it is committed.
    ///
    /// # Cancel safety
    /// A change may still be made after the future was dropped. A claim that nobody waits for any more is given back.
    pub(super) fn write(&self, change: Change) -> impl Future<Output = Result<Effect, StoreError>> {
        // In a box from here on: every future around this one would keep a place for all of it, and there are as many of
        // them as there are mails under way.
        let (request, answered) = Request::of(change);
        async {
            self.queue.send(request).await.map_err(|_| closed())?;
            answered.await.map_err(|_| closed())?
        }
    }

    /// Like [`Self::write`], for several, which may be committed in more than one transaction.
    pub(super) async fn write_all(&self, changes: Vec<Change>) -> Result<Vec<Effect>, StoreError> {
        let mut answers = Vec::with_capacity(changes.len());
        for change in changes {
            let (request, answered) = Request::of(change);
            self.queue.send(request).await.map_err(|_| closed())?;
            answers.push(answered);
        }
        let mut effects = Vec::with_capacity(answers.len());
        for answered in answers {
            effects.push(answered.await.map_err(|_| closed())??);
        }
        Ok(effects)
    }

    /// Writes what is waiting, then no more.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("it has been closed".to_owned())
}

#[derive(Debug)]
struct Request {
    change: Change,
    answer: oneshot::Sender<Result<Effect, StoreError>>,
}

impl Request {
    fn of(change: Change) -> (Box<Self>, oneshot::Receiver<Result<Effect, StoreError>>) {
        let (answer, answered) = oneshot::channel();
        (Box::new(Self { change, answer }), answered)
    }
}

struct Task {
    database: Database,
    clock: WallClock,
    connection: Option<AnyConnection>,
}

impl Task {
    async fn run(mut self, mut requests: mpsc::Receiver<Box<Request>>, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(MOST_AT_ONCE);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled(), if !requests.is_closed() => requests.close(),
                received = requests.recv_many(&mut batch, MOST_AT_ONCE) => match received {
                    0 => break,
                    _ => self.serve(mem::take(&mut batch)).await,
                },
            }
        }
        if let Some(connection) = self.connection.take() {
            database::close(connection).await;
        }
    }

    #[allow(clippy::vec_box)] // as they come from the queue, whose places would else be as large as a request each
    async fn serve(&mut self, batch: Vec<Box<Request>>) {
        let changes: Vec<_> = batch.iter().map(|request| &request.change).collect();
        let unclaimed = match self.write(&changes).await {
            Ok(effects) => answer(batch, effects),
            Err(error) => {
                for request in batch {
                    let _ = request.answer.send(Err(error.clone())); // who does not wait does not care
                }
                return;
            }
        };
        let changes: Vec<_> = unclaimed.iter().collect();
        if !changes.is_empty()
            && let Err(error) = self.write(&changes).await
        {
            tracing::warn!(%error, claims = changes.len(), "claims that nobody uses last until their lease ends");
        }
    }

    async fn write(&mut self, changes: &[&Change]) -> Result<Vec<Effect>, StoreError> {
        let time_limit = self.database.time_limit();
        let mut attempt = 1;
        let mut doubt = Doubt::Nobody;
        loop {
            let failure = match tokio::time::timeout(time_limit, self.transaction(changes, doubt)).await {
                Ok(Ok(effects)) => return Ok(effects),
                Ok(Err(failure)) => failure,
                Err(_) => return Err(StoreError::Unavailable(format!("no answer within {time_limit:?}"))),
            };
            match failure {
                Failure::Fenced => doubt = Doubt::Everybody,
                Failure::Undone(error) if attempt < ATTEMPTS && (is_conflict(&error) || is_disconnect(&error)) => {
                    tracing::debug!(%error, attempt, "a transaction is done again");
                    attempt += 1;
                }
                Failure::Undone(error) | Failure::Commit(error) => return Err(error.into()),
                Failure::Connect(error) => return Err(error),
            }
        }
    }

    /// One transaction. The connection is kept only if all went well: with it goes whatever was begun.
    async fn transaction(&mut self, changes: &[&Change], doubt: Doubt) -> Result<Vec<Effect>, Failure> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.database.connect().await.map_err(Failure::Connect)?,
        };
        let engine = self.database.engine();
        let mut transaction = connection.begin_with(engine.begin()).await.map_err(Failure::Undone)?;
        // Only now: the lock may have taken its time.
        let now = self.clock.now_ms();
        let applied = match apply(&mut transaction, engine, now, changes, doubt).await {
            Ok(effects) => {
                transaction.commit().await.map_err(Failure::Commit)?;
                Ok(effects)
            }
            Err(Unapplied::Fenced) => {
                transaction.rollback().await.map_err(Failure::Undone)?;
                Err(Failure::Fenced)
            }
            Err(Unapplied::Failed(error)) => return Err(Failure::Undone(error)),
        };
        self.connection = Some(connection);
        applied
    }
}

enum Failure {
    /// Nothing was begun.
    Connect(StoreError),
    /// What was begun is undone, to be done again in [doubt](Doubt::Everybody).
    Fenced,
    /// What was begun is undone.
    Undone(sqlx::Error),
    /// Nobody knows: a lost answer to a commit says nothing about the commit.
    Commit(sqlx::Error),
}

/// Tells each caller, and returns what gives those claims back that nobody waited for.
#[allow(clippy::vec_box)] // as they come from the queue
fn answer(batch: Vec<Box<Request>>, effects: Vec<Effect>) -> Vec<Change> {
    let mut unclaimed = Vec::new();
    for (request, effect) in batch.into_iter().zip(effects) {
        let Request { change, answer } = *request;
        if let Err(Ok(Effect::Made { .. })) = answer.send(Ok(effect))
            && let Change::Claim(ClaimRow { id, owner, .. }) = change
        {
            unclaimed.push(Change::Move(Move {
                from: Some(Status::Sending),
                uncount: Some(1),
                ..Move::to(Status::Pending, id, owner)
            }));
        }
    }
    unclaimed
}
