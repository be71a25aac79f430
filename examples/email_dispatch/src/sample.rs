//! Requests to try the service with: of all kinds and priorities, the same ones for the same seed.

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::request::{Kind, Priority};

/// Who does not exist: an embedded mail server answers 550 for addresses that begin like this.
pub const NOBODY: &str = "nobody.";

/// How samples are to be.
#[derive(Clone, Debug)]
pub struct Samples {
    /// Makes all else: the same seed makes the same requests, ids included.
    pub seed: u64,
    /// Only of that kind. Default: of all.
    pub kind: Option<Kind>,
    /// Only of that priority. Default: of all.
    pub priority: Option<Priority>,
    /// How many of a thousand are for somebody who does not exist. Default: 10.
    pub nobodies: u32,
    /// How many people there are. Default: 500.
    pub people: u32,
}

impl Default for Samples {
    fn default() -> Self {
        Self { seed: 1, kind: None, priority: None, nobodies: 10, people: 500 }
    }
}

impl Samples {
    /// The requests, without end.
    pub fn requests(&self) -> impl Iterator<Item = Value> + Send + use<> {
        let (samples, mut random) = (self.clone(), StdRng::seed_from_u64(self.seed));
        std::iter::repeat_with(move || samples.request(&mut random))
    }

    fn request(&self, random: &mut StdRng) -> Value {
        let (kind, priority) = match random.random_range(0..10) {
            0..3 => (Kind::Transactional, Priority::High),
            3 => (Kind::Transactional, Priority::Normal),
            4..7 => (Kind::Notification, Priority::Normal),
            7 => (Kind::Notification, Priority::Low),
            8 => (Kind::Marketing, Priority::Normal),
            _ => (Kind::Marketing, Priority::Low),
        };
        let kind = self.kind.unwrap_or(kind);
        let person = random.random_range(0..self.people.max(1));
        let exists = random.random_range(0..1_000) >= self.nobodies;
        let (template, variables) = match kind {
            Kind::Transactional => (
                "password-reset",
                json!({ "name": format!("Person {person}"), "link": "https://example.com/reset", "minutes": 30 }),
            ),
            Kind::Notification => {
                ("welcome", json!({ "name": format!("Person {person}"), "link": "https://example.com/sign-in" }))
            }
            Kind::Marketing => (
                "newsletter",
                json!({
                    "title": "News of the week",
                    "items": [{ "heading": "Circuits", "text": "They open, and they close again." }],
                    "unsubscribe": "https://example.com/unsubscribe",
                }),
            ),
        };
        let mut request = json!({
            "id": Uuid::from_u128(random.random()),
            "to": format!("{}person{person}@example.com", if exists { "" } else { NOBODY }),
            "kind": kind,
            "priority": self.priority.unwrap_or(priority),
            "template": template,
            "variables": variables,
        });
        if random.random_bool(0.5) {
            request["phone"] = json!(format!("+49170{:07}", person));
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{
        personal::Keys,
        request::{Intake, Limits, Origin},
        template::Templates,
    };

    #[test]
    fn samples_are_valid_and_of_all_kinds_and_priorities() {
        let intake = Intake::new(Keys::random(), Templates::embedded(), Limits::default());
        let (mut kinds, mut priorities, mut ids) = (HashSet::new(), HashSet::new(), HashSet::new());
        for request in Samples::default().requests().take(200) {
            let request = intake.parse(request.to_string().as_bytes(), Origin::Http, 0).expect("a valid request");
            kinds.insert(request.kind);
            priorities.insert(request.priority);
            ids.insert(request.id);
        }
        assert_eq!((kinds.len(), priorities.len(), ids.len()), (3, 3, 200));
    }

    #[test]
    fn the_same_seed_makes_the_same_requests() {
        let of = |seed| Samples { seed, ..Samples::default() }.requests().take(20).collect::<Vec<_>>();
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }
}
