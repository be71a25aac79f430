//! A sitting: the rounds measured one after another, and on what.

use std::{
    env,
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    process::{self, Command},
    thread,
};

use resile::Clock;
use serde_json::{Value, json};

/// When, where and with what the rounds were measured, and how long the library alone takes to compile.
#[derive(Debug, Default)]
pub(crate) struct Sitting {
    pub(crate) date: String,
    pub(crate) rustc: String,
    pub(crate) processor: String,
    pub(crate) cores: u64,
    pub(crate) system: String,
    /// Of a clean build in release and in debug, in seconds.
    pub(crate) builds: Option<(f64, f64)>,
    pub(crate) crates: u64,
}

impl Sitting {
    /// Measures anew.
    pub(crate) fn hold(workspace: &Path, target: &Path, rounds: u32) -> Result<Self, Box<dyn Error>> {
        let criterion = target.join("criterion");
        if criterion.is_dir() {
            forget_rounds(&criterion)?;
        }
        println!("building the benchmark");
        let bench = ["bench", "--quiet", "-p", "resile-peers", "--bench", "peers"];
        cargo(workspace, bench.into_iter().chain(["--no-run"]))?;
        for round in 1..=rounds {
            println!("round {round} of {rounds}");
            let name = format!("round-{round}");
            cargo(workspace, bench.into_iter().chain(["--", "--quiet", "--save-baseline", &name]))?;
        }
        println!("building the library alone");
        let sitting = Self {
            date: said(workspace, "date", &["-u", "+%Y-%m-%d"]),
            rustc: said(workspace, "rustc", &["--version"]),
            processor: processor(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            cores: thread::available_parallelism().map_or(0, |cores| cores.get() as u64),
            system: system(),
            builds: Some((clean_build(workspace, &["--release"])?, clean_build(workspace, &[])?)),
            crates: crates(&said(
                workspace,
                "cargo",
                &["tree", "-p", "resile", "--edges", "normal", "--prefix", "none"],
            )),
        };
        fs::write(file(target), sitting.to_json().to_string())?;
        Ok(sitting)
    }

    /// The one held last.
    pub(crate) fn last(target: &Path) -> Result<Self, Box<dyn Error>> {
        let text = fs::read_to_string(file(target)).map_err(|_| "nothing has been measured yet")?;
        Ok(Self::from_json(&serde_json::from_str(&text)?))
    }

    fn to_json(&self) -> Value {
        json!({
            "date": self.date, "rustc": self.rustc, "processor": self.processor, "cores": self.cores,
            "system": self.system, "builds": self.builds, "crates": self.crates,
        })
    }

    fn from_json(value: &Value) -> Self {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let build = |index: usize| value["builds"][index].as_f64();
        Self {
            date: text("date"),
            rustc: text("rustc"),
            processor: text("processor"),
            cores: value["cores"].as_u64().unwrap_or(0),
            system: text("system"),
            builds: build(0).zip(build(1)),
            crates: value["crates"].as_u64().unwrap_or(0),
        }
    }
}

fn file(target: &Path) -> PathBuf {
    target.join("peers.json")
}

/// Removes the rounds of an earlier sitting, of which there may have been more.
fn forget_rounds(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("round-")) {
            fs::remove_dir_all(&path)?;
        } else {
            forget_rounds(&path)?;
        }
    }
    Ok(())
}

/// Runs cargo, which is heard only where it fails.
fn cargo<'a>(workspace: &Path, arguments: impl IntoIterator<Item = &'a str>) -> Result<(), Box<dyn Error>> {
    let output = Command::new("cargo").args(arguments).current_dir(workspace).output()?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into()) }
}

/// The first thing a program says, and nothing where there is no such program.
fn said(workspace: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(workspace).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// Seconds that the library takes with its dependencies, with nothing built before.
fn clean_build(workspace: &Path, more: &[&str]) -> Result<f64, Box<dyn Error>> {
    let target = env::temp_dir().join(format!("resile-peers-{}", process::id()));
    let folder = target.to_string_lossy().into_owned();
    let clock = Clock::default();
    let began = clock.now();
    let build = ["build", "--quiet", "-p", "resile", "--lib", "--target-dir", &folder];
    let built = cargo(workspace, build.into_iter().chain(more.iter().copied()));
    let took = clock.now().saturating_duration_since(began);
    let _ = fs::remove_dir_all(&target);
    built.map(|()| took.as_secs_f64())
}

/// How many crates `cargo tree` names, each once.
fn crates(tree: &str) -> u64 {
    let mut names: Vec<_> = tree.lines().map(|line| line.split(" (").next().unwrap_or_default()).collect();
    names.sort_unstable();
    names.dedup();
    names.len() as u64
}

fn processor(cpuinfo: &str) -> String {
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    model.and_then(|model| Some(model.split_once(':')?.1.trim().to_owned())).unwrap_or_else(|| env::consts::ARCH.into())
}

fn system() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| Some(line.strip_prefix("PRETTY_NAME=")?.trim_matches('"').to_owned()));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    match name {
        Some(name) => format!("{name}, kernel {}", kernel.trim()),
        None => env::consts::OS.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Sitting, crates, processor};

    #[test]
    fn a_crate_named_twice_is_one() {
        assert_eq!(crates("resile v0.1.0 (/here)\nlibc v0.2\nonce v1\nlibc v0.2 (*)\n"), 3);
    }

    #[test]
    fn the_processor_is_named_by_its_model() {
        assert_eq!(processor("processor\t: 0\nmodel name\t: A quick one\nmodel name\t: Another\n"), "A quick one");
    }

    #[test]
    fn a_sitting_is_kept_for_later_reports() {
        let sitting = Sitting { date: "2026-01-02".into(), cores: 2, builds: Some((3.5, 1.25)), ..Sitting::default() };
        let kept = Sitting::from_json(&sitting.to_json());
        assert_eq!((kept.date, kept.cores, kept.builds), (sitting.date, 2, Some((3.5, 1.25))));
    }
}
