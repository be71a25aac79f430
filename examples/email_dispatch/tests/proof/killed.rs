//! Nothing is lost and nothing is doubled, while the service's processes are killed, the broker is away, the mail servers
//! fail in every way they can, and the database is locked.

mod chaos;
mod fleet;

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use email_dispatch::{
    account::{self, Account, Arrived},
    embedded::{MailFault, MailServer, SmsMood},
    sample::Samples,
    store::{Guarantee, Row, Status},
};
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use self::{chaos::Chaos, fleet::Fleet};
use crate::{
    kafka::until,
    world::{World, ids},
};

/// Names another seed than the test's own.
const SEED: &str = "EMAIL_DISPATCH_TEST_SEED";
/// How many requests there are at least. There are more where the trouble lasts for longer, so that none goes unnoticed.
const REQUESTS: usize = 10_000;
/// How many are handed in together.
const LIST: usize = 50;
/// How long there is between one list and the next, and once there are enough.
const PAUSE: Duration = Duration::from_millis(200);
const LONG_PAUSE: Duration = Duration::from_secs(1);
/// How long the rest may take once the trouble is over: a lease passes until what a killed process had in hand is seen to.
const PATIENCE: Duration = Duration::from_secs(180);

/// What came of it.
struct End {
    account: Account,
    rows: HashMap<Uuid, Row>,
    arrived: Arrived,
    /// How often a request was in the window of doubt when a process was killed.
    at_kills: HashMap<Uuid, u32>,
    /// How often a mail server has left a mail without an answer.
    unanswered: HashMap<Uuid, u32>,
}

in_each_world! {
    /// The row says SENT before the mail is handed over: a kill may lose that mail, and says so.
    async fn at_most_once_nothing_is_doubled_and_what_is_missing_is_listed(world) {
        let end = play(world, Guarantee::AtMostOnce, 11).await;
        let suspects = end.account.doubles.iter().chain(&end.account.lost);
        let stories: String = suspects.map(|id| end.story(world, *id)).collect();
        assert!(end.account.is_right(), "{}{stories}", end.account);
        let unknown: HashSet<Uuid> = end.with(Status::Unknown).collect();
        assert!(!unknown.is_empty(), "nobody was killed in the window of doubt");
        for id in &unknown {
            let explained = end.at_kills.contains_key(id) || end.unanswered.contains_key(id);
            assert!(explained, "nobody knows why this is UNKNOWN: {:?}", end.rows[id]);
        }
        let missing = unknown.iter().filter(|id| end.arrivals(**id) == 0).count();
        eprintln!("{} UNKNOWN, of which {missing} are missing", unknown.len());
        operators_see_and_decide(world, &unknown, &end).await;
    }

    /// The row says SENT after the server's answer: a kill may double that mail, and loses none.
    async fn at_least_once_nothing_is_missing_and_few_are_doubled(world) {
        let end = play(world, Guarantee::AtLeastOnce, 12).await;
        let account = Account { doubles: Vec::new(), ..end.account.clone() };
        let stories: String = account.lost.iter().map(|id| end.story(world, *id)).collect();
        assert!(account.is_right() && account.unknown == 0, "{account}{stories}");
        assert!(!end.account.doubles.is_empty(), "nobody was killed in the window of doubt");
        for id in &end.account.doubles {
            let explained = end.at_kills.get(id).unwrap_or(&0) + end.unanswered.get(id).unwrap_or(&0);
            let arrivals = end.arrivals(*id);
            assert!(arrivals <= 1 + explained, "{arrivals} arrivals, {explained} doubts: {:?}", end.rows[id]);
        }
    }
}

impl End {
    /// All that is known of a request.
    fn story(&self, world: &World, id: Uuid) -> String {
        let Arrived { primary, secondary, sms, dead_letters } = &self.arrived;
        let places = [primary, secondary, sms].map(|place| place.get(&id));
        let (kills, unanswered) = (self.at_kills.get(&id), self.unanswered.get(&id));
        format!(
            "\n{:?}\nmails at the first and the second server, and SMS: {places:?}, dead letter: {}, in the window at \
             kills: {kills:?}, unanswered: {unanswered:?}\n{}",
            self.rows.get(&id),
            dead_letters.contains(&id),
            world.told_of(id),
        )
    }

    fn with(&self, status: Status) -> impl Iterator<Item = Uuid> {
        self.rows.values().filter(move |row| row.status == status).map(|row| row.id)
    }

    fn arrivals(&self, id: Uuid) -> u32 {
        let Arrived { primary, secondary, sms, .. } = &self.arrived;
        [primary, secondary, sms].into_iter().filter_map(|place| place.get(&id)).sum()
    }
}

/// Lets everything go wrong that can while the requests are handed in, then lets all be well, and adds up.
async fn play(world: &World, guarantee: Guarantee, seed: u64) -> End {
    let seed = std::env::var(SEED).map_or(seed, |seed| seed.parse().unwrap());
    let began = Instant::now();
    let mut traffic = Traffic { requests: Samples { seed, ..Samples::default() }.requests(), accepted: HashSet::new() };
    let fleet = Fleet::start(world, guarantee).await;
    traffic.hand_in_a_list(world, &fleet).await;
    until("the first mail", async || world.primary.accepted() > 0).await;
    let chaos = Chaos { world, guarantee, seed };
    let trouble_is_over = AtomicBool::new(false);
    let trouble = async {
        let ((), (), (), at_kills) = tokio::join!(
            chaos.fail_mail_and_sms(),
            chaos.stop_the_broker(),
            chaos.lock_the_database(),
            chaos.kill(&fleet),
        );
        trouble_is_over.store(true, Ordering::Relaxed);
        at_kills
    };
    let (at_kills, ()) = tokio::join!(trouble, traffic.hand_in(world, &fleet, &trouble_is_over));
    world.primary.set(MailFault::None).await;
    world.secondary.set(MailFault::None).await;
    world.sms.turn(SmsMood::Healthy);
    let calm = Instant::now();
    loop {
        let counts = world.counts().await;
        let left = counts.pending + counts.sending + counts.in_doubt;
        if left == 0 && world.store.outbox().is_empty().await.unwrap() {
            break;
        }
        assert!(calm.elapsed() < PATIENCE, "not done: {counts:?}\n{}", fleet.logs());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let ended = Instant::now();
    let rows = world.rows().await;
    let arrived = world.arrived().await;
    let account = Account::of(&traffic.accepted, &rows, &arrived);
    let mut unanswered = account::by_request(world.primary.unanswered());
    for (id, times) in account::by_request(world.secondary.unanswered()) {
        *unanswered.entry(id).or_default() += times;
    }
    let refusals = |server: &MailServer| server.rejected().into_values().sum::<u64>();
    eprintln!(
        "{guarantee:?}, seed {seed}: {:.0} s of trouble, {:.0} s until all was done, {} kills with {} requests in the window, \
         {} mails without an answer, {} refusals\n{account}",
        (calm - began).as_secs_f32(),
        (ended - calm).as_secs_f32(),
        chaos::KILLS,
        at_kills.len(),
        unanswered.len(),
        refusals(&world.primary) + refusals(&world.secondary),
    );
    assert!(!at_kills.is_empty() && !unanswered.is_empty(), "nothing went wrong that matters");
    End { account, rows, arrived, at_kills, unanswered }
}

/// What is asked for, and what of that has been accepted.
struct Traffic<I> {
    requests: I,
    accepted: HashSet<Uuid>,
}

impl<I: Iterator<Item = Value>> Traffic<I> {
    /// Hands in a list after the other, until there are enough and the trouble is over.
    async fn hand_in(&mut self, world: &World, fleet: &Fleet<'_>, trouble_is_over: &AtomicBool) {
        while self.accepted.len() < REQUESTS || !trouble_is_over.load(Ordering::Relaxed) {
            tokio::time::sleep(if self.accepted.len() < REQUESTS { PAUSE } else { LONG_PAUSE }).await;
            self.hand_in_a_list(world, fleet).await;
        }
    }

    /// Over HTTP, until somebody has accepted it.
    async fn hand_in_a_list(&mut self, world: &World, fleet: &Fleet<'_>) {
        let list: Vec<Value> = self.requests.by_ref().take(LIST).collect();
        until("a list that is accepted", async || match fleet.url() {
            Some(url) => world.post(&url, &list).await.is_ok(),
            None => false,
        })
        .await;
        let before = self.accepted.len();
        self.accepted.extend(ids(&list));
        assert_eq!(self.accepted.len(), before + LIST);
    }
}

/// `unknown list` shows them all, and each can be resolved.
async fn operators_see_and_decide(world: &World, unknown: &HashSet<Uuid>, end: &End) {
    let listed = world.run(&["unknown", "list", "--limit", "100000"]).await.well();
    let listed =
        listed.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect::<HashSet<Uuid>>();
    assert_eq!(&listed, unknown);

    let sent = unknown.iter().find(|id| end.arrivals(**id) > 0).or(unknown.iter().next()).unwrap();
    world.run(&["unknown", "resolve", &sent.to_string(), "--as", "sent"]).await.well();
    assert_eq!(world.ledger().find(*sent).await.unwrap().unwrap().status, Status::Sent);

    let Some(again) = unknown.iter().find(|id| *id != sent) else { return };
    world.run(&["unknown", "resolve", &again.to_string(), "--as", "resend"]).await.well();
    let process = world.serve().await;
    until("the mail that was to be sent again", async || {
        let row = world.ledger().find(*again).await.unwrap().unwrap();
        row.status == Status::Sent && !row.in_doubt
    })
    .await;
    let (id, primary) = (format!("{again}@example.com"), world.primary.message_ids());
    let times = primary.get(&id).copied().unwrap_or_default() + world.secondary.message_ids().get(&id).unwrap_or(&0);
    assert_eq!(times, end.arrivals(*again) + 1);
    process.kill();
}
