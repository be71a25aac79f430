//! `produce`: requests are made or read, and handed in.

use std::{
    fmt::Display,
    fs::File,
    io::{self, BufRead, BufReader},
    iter::Peekable,
    time::Duration,
};

use reqwest::{Client, StatusCode, Url, header::CONTENT_TYPE};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{look::store, say};
use crate::{
    cli::Produce,
    counters::Counters,
    door::Door,
    kafka::publisher::Waker,
    request::{Fault, Intake},
    sample::Samples,
    settings::{Address, Settings},
    stage::{Failure, PRIMARY},
    store::{Accepted, Store},
    wall_clock::WallClock,
    web_client,
};

/// How many are handed in together.
const TOGETHER: usize = 100;
/// How large that may be over HTTP, in bytes: a quarter of what the service takes.
const LARGEST: usize = 1 << 20;

/// Makes or reads requests, and hands them to a service, or to the outbox of its database.
///
/// # Errors
/// What cannot be read or reached, and a request that is not valid. Those before it have been handed in.
pub async fn produce(settings: &Settings, task: Produce) -> Result<(), Failure> {
    let rate = task.rate;
    let sink = match &task.url {
        Some(url) => Sink::service(url)?,
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
        let some = chunk(&mut bodies, together)?;
        let (now_new, now_known) = sink.hand_in(&some).await?;
        (new, known) = (new + now_new, known + now_known);
    }
    say(format_args!("{new} accepted, {known} known before"));
    if let Sink::Outbox(store, _) = sink {
        store.close().await;
    }
    Ok(())
}

/// A request that is to be handed in.
struct Body {
    json: Vec<u8>,
    /// Which line of the file it is.
    line: Option<usize>,
}

impl Body {
    /// What is wrong with it, and where it is.
    fn fault(&self, what: impl Display) -> Failure {
        self.line.map_or_else(|| what.to_string(), |line| format!("line {line}: {what}")).into()
    }
}

type Bodies = Box<dyn Iterator<Item = Result<Body, Failure>>>;

fn bodies(task: &Produce) -> Result<Bodies, Failure> {
    let Some(file) = &task.file else {
        let samples = Samples {
            seed: rand::random(),
            kind: task.kind,
            priority: task.priority,
            nobodies: 0,
            ..Samples::default()
        };
        let made = samples.requests().take(task.count as usize);
        return Ok(Box::new(made.map(|body| Ok(Body { json: body.to_string().into_bytes(), line: None }))));
    };
    if file.as_os_str() == "-" {
        return Ok(Box::new(lines(BufReader::new(io::stdin()))));
    }
    let file = File::open(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(Box::new(lines(BufReader::new(file))))
}

/// The lines that are not empty.
fn lines(text: impl BufRead) -> impl Iterator<Item = Result<Body, Failure>> {
    let numbered = text.split(b'\n').enumerate();
    let bodies = numbered.map(|(index, line)| Ok(Body { json: line?, line: Some(index + 1) }));
    bodies.filter(|body: &Result<Body, Failure>| !body.as_ref().is_ok_and(|body| body.json.trim_ascii().is_empty()))
}

/// The next few, at least one if there is one: no more than `most`, and no larger than a service takes.
fn chunk(
    bodies: &mut Peekable<impl Iterator<Item = Result<Body, Failure>>>,
    most: usize,
) -> Result<Vec<Body>, Failure> {
    let (mut chunk, mut size) = (Vec::new(), 0);
    while chunk.len() < most {
        let fits = |body: &Result<Body, Failure>| {
            size == 0 || body.as_ref().map_or(true, |body| size + body.json.len() < LARGEST)
        };
        let Some(body) = bodies.next_if(fits) else { break };
        let body = body?;
        size += body.json.len() + 1;
        chunk.push(body);
    }
    Ok(chunk)
}

enum Sink {
    Service(Url, Client),
    Outbox(Store, Door),
}

impl Sink {
    fn service(url: &Address) -> Result<Self, Failure> {
        let url: Url = format!("{}/emails", url.expose().trim_end_matches('/')).parse()?;
        let client = web_client::for_url(&url).timeout(Duration::from_secs(30)).build();
        Ok(Self::Service(url, client.map_err(web_client::explain)?))
    }

    async fn outbox(settings: &Settings) -> Result<Self, Failure> {
        let store = store(settings).await?;
        let keys = settings.keys_or_random();
        let intake = Intake::new(keys.clone(), settings.templates()?, settings.requests.limits());
        let door =
            Door::new(intake, keys, store.outbox(), WallClock::system(), Waker::default(), Counters::new(PRIMARY));
        Ok(Self::Outbox(store, door))
    }

    /// How many were new, and how many were known before.
    async fn hand_in(&self, bodies: &[Body]) -> Result<(u64, u64), Failure> {
        match self {
            Self::Outbox(_, door) => {
                let read = |body: &Body| door.read(&body.json).map_err(|faults| body.fault(faults));
                let accepted = door.accept(bodies.iter().map(read).collect::<Result<_, _>>()?).await?;
                let new = accepted.iter().filter(|accepted| **accepted == Accepted::New).count() as u64;
                Ok((new, accepted.len() as u64 - new))
            }
            Self::Service(url, client) => {
                let list = list(bodies)?;
                let post = client.post(url.clone()).header(CONTENT_TYPE, "application/json").body(list);
                let answer = post.send().await.map_err(web_client::explain)?;
                let status = answer.status();
                let text = answer.text().await.map_err(web_client::explain)?;
                if status == StatusCode::BAD_REQUEST
                    && let Some(fault) = first_fault(bodies, &text)
                {
                    return Err(fault);
                }
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

/// All of them as one JSON list, which a line that is no JSON would spoil for the others.
fn list(bodies: &[Body]) -> Result<Vec<u8>, Failure> {
    let read = |body: &Body| {
        serde_json::from_slice::<Box<RawValue>>(&body.json)
            .map_err(|error| body.fault(format_args!("must be JSON: {error}")))
    };
    let bodies = bodies.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(serde_json::to_vec(&bodies)?)
}

/// What the service found wrong with the first request that it refuses.
fn first_fault(bodies: &[Body], answer: &str) -> Option<Failure> {
    #[derive(Deserialize)]
    struct Answer {
        faults: Vec<Found>,
    }
    #[derive(Deserialize)]
    struct Found {
        index: usize,
        #[serde(flatten)]
        fault: Fault,
    }
    let Answer { faults } = serde_json::from_str(answer).ok()?;
    let first = faults.first()?.index;
    let of_first: Vec<_> = faults.iter().filter(|found| found.index == first).map(|it| it.fault.to_string()).collect();
    Some(bodies.get(first)?.fault(of_first.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(chunk: &[Body]) -> Vec<usize> {
        chunk.iter().map(|body| body.json.len()).collect()
    }

    #[test]
    fn a_chunk_ends_at_its_number_and_before_it_is_too_large_but_has_one_at_least() {
        let half = LARGEST / 2;
        let sizes = [1, 1, 1, half, half, half, 2 * LARGEST, 1];
        let mut bodies = sizes.map(|size| Ok(Body { json: vec![b'1'; size], line: None })).into_iter().peekable();
        let mut chunks = Vec::new();
        while bodies.peek().is_some() {
            chunks.push(texts(&chunk(&mut bodies, 2).unwrap()));
        }
        assert_eq!(chunks, [vec![1, 1], vec![1, half], vec![half], vec![half], vec![2 * LARGEST], vec![1]]);
    }

    #[test]
    fn lines_are_numbered_as_an_editor_does_and_empty_ones_are_skipped() {
        let found: Vec<_> = lines(&b"{}\n\n  \n{}"[..]).map(|body| body.unwrap().line).collect();
        assert_eq!(found, [Some(1), Some(4)]);
    }

    #[test]
    fn a_line_that_is_no_json_is_named() {
        let bodies: Vec<_> = lines(&b"{}\n\n{\"to\""[..]).map(Result::unwrap).collect();
        assert!(list(&bodies).unwrap_err().to_string().starts_with("line 3: must be JSON: "));
        assert_eq!(list(&bodies[..1]).unwrap(), b"[{}]");
    }

    #[test]
    fn what_the_service_refuses_is_named_by_its_line() {
        let bodies: Vec<_> = lines(&b"{}\n\n{}\n{}"[..]).map(Result::unwrap).collect();
        let answer = r#"{"faults": [{"index": 1, "field": "to", "rule": "must be given, or phone"},
            {"index": 1, "field": "kind", "value": "5", "rule": "must be a word"}, {"index": 2, "field": "id", "rule": "x"}]}"#;
        let fault = first_fault(&bodies, answer).unwrap().to_string();
        assert_eq!(fault, "line 3: to must be given, or phone; kind must be a word (found: 5)");
        assert!(first_fault(&bodies, "no").is_none());
    }
}
