//! What criterion measured, by round, and what follows from it.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde_json::Value;

/// Nanoseconds a call by benchmark and round.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    rounds: BTreeMap<String, BTreeMap<u32, f64>>,
    /// The benchmarks measured once: those outside this package.
    pub(crate) once: BTreeMap<String, f64>,
}

/// A median, and between what it lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let half = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) };
        Some(Self { median, least, most })
    }
}

impl Measured {
    /// Reads criterion's folder: the baselines `round-…` of this package's rows, and the newest values of the rest.
    pub(crate) fn read(criterion: &Path) -> io::Result<Self> {
        let mut measured = Self::default();
        if criterion.is_dir() {
            measured.walk(criterion)?;
        }
        Ok(measured)
    }

    fn walk(&mut self, folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if !path.is_dir() {
                continue;
            }
            let files =
                (fs::read_to_string(path.join("benchmark.json")), fs::read_to_string(path.join("estimates.json")));
            match files {
                (Ok(benchmark), Ok(estimates)) => {
                    let baseline = path.file_name().unwrap_or_default().to_string_lossy();
                    self.take(&baseline, &benchmark, &estimates);
                }
                _ => self.walk(&path)?,
            }
        }
        Ok(())
    }

    fn take(&mut self, baseline: &str, benchmark: &str, estimates: &str) -> Option<()> {
        let benchmark: Value = serde_json::from_str(benchmark).ok()?;
        let estimates: Value = serde_json::from_str(estimates).ok()?;
        let id = benchmark["full_id"].as_str()?.to_owned();
        let nanos = estimates["median"]["point_estimate"].as_f64()?;
        match baseline.strip_prefix("round-").map(str::parse) {
            Some(Ok(round)) => self.insert(&id, round, nanos),
            _ if baseline == "new" => drop(self.once.insert(id, nanos)),
            _ => {}
        }
        Some(())
    }

    pub(crate) fn insert(&mut self, id: &str, round: u32, nanos: f64) {
        self.rounds.entry(id.to_owned()).or_default().insert(round, nanos);
    }

    fn of(&self, row: &str, who: &str) -> Option<&BTreeMap<u32, f64>> {
        self.rounds.get(&format!("{row}/{who}"))
    }

    /// Nanoseconds a call, over the rounds.
    pub(crate) fn nanos(&self, row: &str, who: &str) -> Option<Spread> {
        Spread::of(self.of(row, who)?.values().copied())
    }

    /// Millions of calls a second, over the rounds.
    pub(crate) fn throughput(&self, row: &str, who: &str) -> Option<Spread> {
        Spread::of(self.of(row, who)?.values().map(|nanos| 1e3 / nanos))
    }

    /// The time of one over that of the other in the same round.
    pub(crate) fn ratio(&self, one: (&str, &str), other: (&str, &str)) -> Option<Spread> {
        self.pairs(one, other, |one, other| one / other)
    }

    /// How much longer one takes than the other in the same round.
    pub(crate) fn difference(&self, one: (&str, &str), other: (&str, &str)) -> Option<Spread> {
        self.pairs(one, other, |one, other| one - other)
    }

    fn pairs(&self, one: (&str, &str), other: (&str, &str), of: impl Fn(f64, f64) -> f64) -> Option<Spread> {
        let (one, other) = (self.of(one.0, one.1)?, self.of(other.0, other.1)?);
        Spread::of(one.iter().filter_map(|(round, nanos)| Some(of(*nanos, *other.get(round)?))))
    }

    /// Who was measured in a row, in the order in which that is done; those who are no longer come last.
    pub(crate) fn contenders(&self, row: &str) -> Vec<&str> {
        let all = self.rounds.keys().filter_map(|id| id.strip_prefix(row)?.strip_prefix('/'));
        let mut all: Vec<_> = all.collect();
        let rows = resile_peers::rows();
        let order = rows.iter().find(|known| known.id == row).map_or(&[][..], |row| &row.contenders);
        all.sort_by_key(|who| order.iter().position(|known| known.name == *who).unwrap_or(usize::MAX));
        all
    }

    /// How many rounds there are of the row that has most.
    pub(crate) fn rounds(&self) -> usize {
        self.rounds.values().map(BTreeMap::len).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Measured, Spread};

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(Spread::of([4.0, 1.0, 3.0, 2.0]), Some(Spread { median: 2.5, least: 1.0, most: 4.0 }));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_ratio_is_taken_within_a_round() {
        let mut measured = Measured::default();
        for (round, ours, theirs) in [(1, 10.0, 20.0), (2, 30.0, 60.0), (3, 10.0, 40.0)] {
            measured.insert("closed/resile", round, ours);
            measured.insert("closed/peer", round, theirs);
        }
        // A round that the other has not.
        measured.insert("closed/resile", 4, 1.0);
        let ratio = measured.ratio(("closed", "resile"), ("closed", "peer")).unwrap();
        assert_eq!(ratio, Spread { median: 0.5, least: 0.25, most: 0.5 });
        assert_eq!(measured.rounds(), 4);
        assert_eq!(measured.ratio(("closed", "resile"), ("closed", "nobody")), None);
    }

    #[test]
    fn a_baseline_of_a_round_is_a_round_and_the_newest_value_is_apart() {
        let mut measured = Measured::default();
        let estimates = r#"{"mean":{"point_estimate":9.0},"median":{"point_estimate":8.0}}"#;
        measured.take("round-2", r#"{"full_id":"closed/a, b"}"#, estimates).unwrap();
        measured.take("new", r#"{"full_id":"scaling/breaker/4"}"#, estimates).unwrap();
        measured.take("base", r#"{"full_id":"other/thing"}"#, estimates).unwrap();
        assert_eq!(measured.nanos("closed", "a, b").unwrap().median, 8.0);
        assert_eq!(measured.throughput("closed", "a, b").unwrap().median, 125.0);
        assert_eq!(measured.once.keys().collect::<Vec<_>>(), ["scaling/breaker/4"]);
    }
}
