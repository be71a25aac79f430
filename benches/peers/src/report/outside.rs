//! What other programs measured in the same sitting, where they were run.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde_json::Value;

use super::measured::Spread;

#[derive(Debug, Default)]
pub(crate) struct Outside {
    /// By the name of JMH's method.
    pub(crate) jvm: BTreeMap<String, Operation>,
    /// Nanoseconds an operation by the name of Go's function, without `Benchmark`.
    pub(crate) go: BTreeMap<String, f64>,
    /// By what is called, as they are kept: instructions, and the locked ones of them.
    pub(crate) instructions: Vec<(String, String, String)>,
}

/// What one operation on the JVM takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Operation {
    pub(crate) nanos: f64,
    /// Where they were counted.
    pub(crate) bytes: Option<f64>,
}

impl Outside {
    pub(crate) fn read(workspace: &Path, target: &Path) -> io::Result<Self> {
        let text = |path: &Path| match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            read => read,
        };
        // Cargo's folder may be elsewhere.
        let either = |name: &str| match text(&target.join(name))? {
            nothing if nothing.is_empty() => text(&workspace.join("target").join(name)),
            some => Ok(some),
        };
        Ok(Self {
            jvm: jvm(&either("jvm.json")?),
            go: go(&either("go.txt")?),
            instructions: instructions(&text(&workspace.join("benches/instructions.txt"))?),
        })
    }
}

/// JMH's results: an array of benchmarks, each by the full name of its method.
fn jvm(json: &str) -> BTreeMap<String, Operation> {
    let results: Vec<Value> = serde_json::from_str(json).unwrap_or_default();
    let operation = |result: &Value| {
        let method = result["benchmark"].as_str()?.rsplit('.').next()?.to_owned();
        let (metric, more) = (&result["primaryMetric"], result["secondaryMetrics"].as_object());
        let bytes = more.and_then(|more| more.iter().find(|(name, _)| name.ends_with("gc.alloc.rate.norm")));
        let bytes = bytes.and_then(|(_, metric)| metric["score"].as_f64());
        let nanos = metric["score"].as_f64().filter(|_| metric["scoreUnit"] == "ns/op")?;
        Some((method, Operation { nanos, bytes }))
    };
    results.iter().filter_map(operation).collect()
}

/// The lines of `go test -bench`; of a benchmark that was run several times the median.
fn go(text: &str) -> BTreeMap<String, f64> {
    let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let Some(name) = words.first().and_then(|word| word.strip_prefix("Benchmark")) else { continue };
        // The number of processors is at its end.
        let name = name.rsplit_once('-').map_or(name, |(name, _)| name);
        let unit = words.iter().position(|word| *word == "ns/op");
        if let Some(Ok(nanos)) = unit.and_then(|unit| words.get(unit.checked_sub(1)?)).map(|word| word.parse()) {
            values.entry(name.to_owned()).or_default().push(nanos);
        }
    }
    values.into_iter().filter_map(|(name, values)| Some((name, Spread::of(values)?.median))).collect()
}

/// Lines of a name and its counts. What begins with `#` is not one.
fn instructions(text: &str) -> Vec<(String, String, String)> {
    let line = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        Some((words.next().filter(|name| !name.starts_with('#'))?, words.next()?, words.next().unwrap_or_default()))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::{Operation, go, instructions, jvm};

    #[test]
    fn a_result_of_jmh_is_known_by_its_method() {
        let json = r#"[
            {"benchmark": "org.example.Layers.breakerPermitted", "primaryMetric": {"score": 71.5, "scoreUnit": "ns/op"},
             "secondaryMetrics": {"gc.alloc.rate": {"score": 9.0}, "gc.alloc.rate.norm": {"score": 24.0}}},
            {"benchmark": "org.example.Layers.bare", "primaryMetric": {"score": 1, "scoreUnit": "ns/op"}},
            {"benchmark": "org.example.Layers.inSeconds", "primaryMetric": {"score": 1, "scoreUnit": "s/op"}}
        ]"#;
        let breaker = ("breakerPermitted".to_owned(), Operation { nanos: 71.5, bytes: Some(24.0) });
        let bare = ("bare".to_owned(), Operation { nanos: 1.0, bytes: None });
        assert_eq!(jvm(json).into_iter().collect::<Vec<_>>(), [bare, breaker]);
        assert!(jvm("").is_empty());
    }

    #[test]
    fn a_benchmark_of_go_that_ran_several_times_counts_by_its_median() {
        let text = "goos: linux\nBenchmarkBare-2 \t100\t 0.5 ns/op\nBenchmarkFailsafeFourLayers-2  9  300 ns/op  16 B/op\n\
                    BenchmarkFailsafeFourLayers-2 9 100 ns/op\nBenchmarkFailsafeFourLayers-2 9 200 ns/op\nPASS\n";
        let all: Vec<_> = go(text).into_iter().collect();
        assert_eq!(all, [("Bare".to_owned(), 0.5), ("FailsafeFourLayers".to_owned(), 200.0)]);
    }

    #[test]
    fn instructions_are_a_name_and_its_counts() {
        let text = "# per call\n\nbreaker/closed 61 1.0\npipeline  180\n";
        let line = |name: &str, count: &str, locked: &str| (name.to_owned(), count.to_owned(), locked.to_owned());
        assert_eq!(instructions(text), [line("breaker/closed", "61", "1.0"), line("pipeline", "180", "")]);
    }
}
