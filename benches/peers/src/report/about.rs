//! What was compared: the versions of the contenders, and where cargo puts what it builds.

use std::{collections::BTreeMap, error::Error, path::Path, path::PathBuf, process::Command};

use serde_json::Value;

/// The crates that are measured, in the order of the report.
const CONTENDERS: [&str; 13] = [
    "resile",
    "tower-resilience",
    "seatbelt",
    "failsafe",
    "recloser",
    "circuitbreaker-rs",
    "tower",
    "governor",
    "ratelimit",
    "backon",
    "tokio-retry",
    "tokio",
    "criterion",
];

#[derive(Debug, Default)]
pub(crate) struct About {
    pub(crate) target: PathBuf,
    pub(crate) versions: Vec<(String, String)>,
}

impl About {
    pub(crate) fn read(workspace: &Path) -> Result<Self, Box<dyn Error>> {
        let output =
            Command::new("cargo").args(["metadata", "--format-version", "1"]).current_dir(workspace).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        let metadata: Value = serde_json::from_slice(&output.stdout)?;
        let target = metadata["target_directory"].as_str().ok_or("cargo names no target directory")?;
        Ok(Self { target: target.into(), versions: versions(&metadata) })
    }
}

fn versions(metadata: &Value) -> Vec<(String, String)> {
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    let named = |package: &Value| Some((package["name"].as_str()?.to_owned(), package["version"].as_str()?.to_owned()));
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for (name, version) in packages.iter().filter_map(named) {
        all.entry(name).and_modify(|versions| *versions = format!("{versions}, {version}")).or_insert(version);
    }
    CONTENDERS.iter().filter_map(|name| Some(((*name).to_owned(), all.get(*name)?.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn the_versions_are_those_of_the_contenders_in_their_order() {
        let metadata = json!({"packages": [
            {"name": "tower", "version": "0.5.3"}, {"name": "other", "version": "1.0.0"},
            {"name": "resile", "version": "0.1.0"}, {"name": "tower", "version": "0.4.13"},
        ]});
        let versions = super::versions(&metadata);
        let versions: Vec<_> = versions.iter().map(|(name, version)| (name.as_str(), version.as_str())).collect();
        assert_eq!(versions, [("resile", "0.1.0"), ("tower", "0.5.3, 0.4.13")]);
    }
}
