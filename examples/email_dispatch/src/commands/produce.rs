//! `produce`: requests are made or read, and handed in.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    time::Duration,
};

use serde_json::Value;

use super::{look::store, say};
use crate::{
    cli::Produce,
    counters::Counters,
    door::Door,
    kafka::publisher::Waker,
    request::Intake,
    sample::Samples,
    settings::Settings,
    stage::{Failure, PRIMARY},
    store::{Accepted, Store},
    wall_clock::WallClock,
};

/// How many are handed in together.
const TOGETHER: usize = 100;

/// Makes or reads requests, and hands them to a service, or to the outbox of its database.
///
/// # Errors
/// What cannot be read or reached, and a request that is not valid. Those before it have been handed in.
pub async fn produce(settings: &Settings, task: Produce) -> Result<(), Failure> {
    let rate = task.rate;
    let sink = match &task.url {
        Some(url) => Sink::Service(format!("{}/emails", url.expose().trim_end_matches('/')), client()?),
        None => Sink::outbox(settings).await?,
    };
    let mut bodies = bodies(&task)?.peekable();
    let (mut new, mut known) = (0_u64, 0_u64);
    let together = rate.map_or(TOGETHER, |rate| (rate as usize / 10).clamp(1, TOGETHER));
    let mut ticks = rate.map(|rate| tokio::time::interval(Duration::from_secs_f64(together as f64 / f64::from(rate))));
    while bodies.peek().is_some() {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        let some = bodies.by_ref().take(together).collect::<Result<Vec<_>, _>>()?;
        let (now_new, now_known) = sink.hand_in(&some).await?;
        (new, known) = (new + now_new, known + now_known);
    }
    say(format_args!("{new} accepted, {known} known before"));
    if let Sink::Outbox(store, _) = sink {
        store.close().await;
    }
    Ok(())
}

type Bodies = Box<dyn Iterator<Item = Result<Vec<u8>, Failure>>>;

fn bodies(task: &Produce) -> Result<Bodies, Failure> {
    let Some(file) = &task.file else {
        let samples = Samples {
            seed: rand::random(),
            kind: task.kind,
            priority: task.priority,
            nobodies: 0,
            ..Samples::default()
        };
        let count = task.count as usize;
        return Ok(Box::new(samples.requests().take(count).map(|body| Ok(body.to_string().into_bytes()))));
    };
    let lines: Box<dyn BufRead> = if file.as_os_str() == "-" {
        Box::new(BufReader::new(io::stdin()))
    } else {
        Box::new(BufReader::new(File::open(file).map_err(|error| format!("{}: {error}", file.display()))?))
    };
    let lines = lines.split(b'\n').map(|line| line.map_err(Failure::from));
    Ok(Box::new(lines.filter(|line| !line.as_ref().is_ok_and(|line| line.trim_ascii().is_empty()))))
}

enum Sink {
    Service(String, reqwest::Client),
    Outbox(Store, Door),
}

impl Sink {
    async fn outbox(settings: &Settings) -> Result<Self, Failure> {
        let store = store(settings).await?;
        let keys = settings.keys_or_random();
        let intake = Intake::new(keys.clone(), settings.templates()?, settings.requests.limits());
        let door =
            Door::new(intake, keys, store.outbox(), WallClock::system(), Waker::default(), Counters::new(PRIMARY));
        Ok(Self::Outbox(store, door))
    }

    /// How many were new, and how many were known before.
    async fn hand_in(&self, bodies: &[Vec<u8>]) -> Result<(u64, u64), Failure> {
        match self {
            Self::Outbox(_, door) => {
                let passed = bodies.iter().map(|body| door.read(body)).collect::<Result<Vec<_>, _>>()?;
                let accepted = door.accept(passed).await?;
                let new = accepted.iter().filter(|accepted| **accepted == Accepted::New).count() as u64;
                Ok((new, accepted.len() as u64 - new))
            }
            Self::Service(url, client) => {
                let list = [&b"["[..], &bodies.join(&b","[..]), b"]"].concat();
                let answer = client.post(url).header("content-type", "application/json").body(list).send().await?;
                let status = answer.status();
                let text = answer.text().await?;
                if !status.is_success() {
                    return Err(format!("{status}: {text}").into());
                }
                let answers: Vec<Value> = serde_json::from_str(&text)?;
                let new = answers.iter().filter(|answer| answer["status"] == "ACCEPTED").count() as u64;
                Ok((new, answers.len() as u64 - new))
            }
        }
    }
}

fn client() -> Result<reqwest::Client, Failure> {
    let _ = rustls::crypto::ring::default_provider().install_default(); // or it is there already
    Ok(reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?)
}
