//! What goes wrong, and when: the same for the same seed, as far as the machine lets it.

use std::{collections::HashMap, time::Duration};

use email_dispatch::{
    embedded::{MailFault, MailServer, SmsMood},
    sample::NOBODY,
    store::Guarantee,
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use sqlx::{AnyConnection, Executor};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::fleet::Fleet;
use crate::{kafka::until, world::World};

/// How often a process is killed.
pub(super) const KILLS: usize = 8;
/// For how long things go wrong, about.
const TROUBLE: Duration = Duration::from_secs(42);

pub(super) struct Chaos<'a> {
    pub(super) world: &'a World,
    pub(super) guarantee: Guarantee,
    pub(super) seed: u64,
}

/// Everything that a mail server can do wrong.
fn faults() -> Vec<MailFault> {
    const SHORT: Duration = Duration::from_millis(300);
    vec![
        MailFault::Down,
        MailFault::Greeting(421),
        MailFault::SlowGreeting(SHORT),
        MailFault::Hello(421),
        MailFault::Sender(451),
        MailFault::Recipient { code: 550, percent: 20 },
        MailFault::Recipient { code: 450, percent: 50 },
        MailFault::RecipientIf { code: 550, matches: |address| address.starts_with(NOBODY) },
        MailFault::HangAtRecipient,
        MailFault::Data(451),
        MailFault::DropMidData,
        MailFault::EndOfData(450),
        MailFault::EndOfData(451),
        MailFault::EndOfData(421),
        MailFault::SlowEndOfData(SHORT),
        MailFault::HangAfterFinalDot,
        MailFault::DropStored,
        MailFault::DropUnstored,
        MailFault::SessionLimit(2),
        MailFault::Garbage,
    ]
}

/// What a server remembers of its callers, where it shows that they have met the fault.
fn traces(server: &MailServer, fault: &MailFault) -> u64 {
    use MailFault::{DropMidData, DropStored, DropUnstored, HangAfterFinalDot};
    match fault {
        DropMidData | DropStored | DropUnstored | HangAfterFinalDot => {
            server.unanswered().into_values().map(u64::from).sum()
        }
        _ => server.connections() + server.accepted() + server.rejected().into_values().sum::<u64>(),
    }
}

impl Chaos<'_> {
    fn random(&self, stream: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed * 1_000 + stream)
    }

    /// One server has a fault, each in its turn, until it has been met. The other is well meanwhile or, for a moment, has the
    /// same one; the first is away while it is the second's turn, to which nobody would come otherwise.
    pub(super) async fn fail_mail_and_sms(&self) {
        const MOODS: [SmsMood; 4] =
            [SmsMood::Healthy, SmsMood::Failing(500), SmsMood::Forgetful, SmsMood::Slow(Duration::from_millis(100))];
        let mut random = self.random(1);
        let mut faults = faults();
        let each = TROUBLE / u32::try_from(faults.len()).unwrap();
        while !faults.is_empty() {
            let fault = faults.swap_remove(random.random_range(0..faults.len()));
            let (primary, secondary) = (&self.world.primary, &self.world.secondary);
            let (server, other, others) = match random.random_bool(0.7) {
                true => (primary, secondary, MailFault::None),
                false => (secondary, primary, MailFault::Down),
            };
            self.world.sms.turn(*MOODS.choose(&mut random).unwrap());
            let (began, before) = (Instant::now(), traces(server, &fault));
            server.set(fault.clone()).await;
            if random.random_bool(0.3) {
                other.set(fault.clone()).await;
                sleep(each / 4).await;
            }
            // Nobody leaves a trace at a closed port.
            let met = || matches!(fault, MailFault::Down) || traces(server, &fault) >= before + 3;
            until(&format!("three that meet: {fault:?}"), async || {
                // Whoever waits for the window of doubt has changed it.
                server.set(fault.clone()).await;
                other.set(others.clone()).await;
                began.elapsed() >= each / 2 && met()
            })
            .await;
            server.set(MailFault::None).await;
            other.set(MailFault::None).await;
        }
    }

    /// Once, for a few seconds.
    pub(super) async fn stop_the_broker(&self) {
        let mut random = self.random(2);
        sleep(TROUBLE.mul_f32(random.random_range(0.3..0.6))).await;
        self.world.kafka.stop();
        sleep(Duration::from_millis(random.random_range(3_000..5_000))).await;
        self.world.kafka.resume().await;
    }

    /// Three times, for as long as processes wait for a lock, or longer.
    pub(super) async fn lock_the_database(&self) {
        let mut random = self.random(3);
        let mut stranger = self.world.database.stranger().await;
        for _ in 0..3 {
            sleep(TROUBLE.mul_f32(random.random_range(0.15..0.3))).await;
            lock(&mut stranger, self.world.database.is_sqlite()).await;
            sleep(Duration::from_millis(random.random_range(500..2_000))).await;
            stranger.execute("COMMIT").await.unwrap();
        }
    }

    /// Kills one process or all, and starts others, so that there are one or two. Says how often each request was in the window of
    /// doubt just then.
    pub(super) async fn kill(&self, fleet: &Fleet<'_>) -> HashMap<Uuid, u32> {
        let mut random = self.random(4);
        let mut stranger = self.world.database.stranger().await;
        let mut in_doubt = HashMap::new();
        let pause = TROUBLE / u32::try_from(KILLS).unwrap();
        for _ in 0..KILLS {
            sleep(pause.mul_f32(random.random_range(0.4..1.1))).await;
            if random.random_bool(0.7) {
                self.wait_for_the_window(&mut stranger).await;
            }
            if random.random_bool(0.3) {
                fleet.kill_all();
            } else {
                fleet.kill_one();
            }
            // Until a server has noticed, and is done with what it had been told.
            sleep(Duration::from_millis(100)).await;
            for id in self.in_the_window(&mut stranger).await {
                *in_doubt.entry(id).or_default() += 1;
            }
            let wanted = if random.random_bool(0.8) { 2 } else { 1 };
            while fleet.len() < wanted {
                fleet.add().await;
            }
        }
        in_doubt
    }

    /// Waits, but not for long, until a server has mails that it has not answered.
    async fn wait_for_the_window(&self, stranger: &mut AnyConnection) {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(4) {
            self.world.primary.set(MailFault::SlowEndOfData(Duration::from_millis(300))).await;
            if !self.in_the_window(stranger).await.is_empty() {
                sleep(Duration::from_millis(20)).await;
                return;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// The requests that are being handed over, by any process, of which a server may have the mail already.
    async fn in_the_window(&self, stranger: &mut AnyConnection) -> Vec<Uuid> {
        let query = match self.guarantee {
            Guarantee::AtMostOnce => "SELECT id FROM emails WHERE owner IS NOT NULL AND status = 'SENT'",
            Guarantee::AtLeastOnce => "SELECT id FROM emails WHERE owner IS NOT NULL AND status = 'SENDING'",
        };
        let ids: Vec<String> = sqlx::query_scalar(query).fetch_all(stranger).await.unwrap();
        ids.iter().map(|id| id.parse().unwrap()).collect()
    }
}

async fn lock(stranger: &mut AnyConnection, is_sqlite: bool) {
    if is_sqlite {
        while stranger.execute("BEGIN IMMEDIATE").await.is_err() {
            sleep(Duration::from_millis(1)).await; // another has it
        }
    } else {
        stranger.execute("BEGIN").await.unwrap();
        stranger.execute("LOCK TABLE emails IN EXCLUSIVE MODE").await.unwrap();
    }
}
