use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Format, Settings, SettingsErrors,
    error::{Place, Report},
    layout::{Layout, Reader},
    placeholder::Environment,
    read::MAX_BYTES,
};
use crate::sync::contained;

/// Where settings come from: files and texts, each laid over those before it, and the environment for placeholders.
///
/// ```
/// use resile::settings::{Format, Sources};
///
/// let settings = Sources::new()
///     .text("resilience4j.retry.instances.mail.max-attempts: ${ATTEMPTS}", Format::Yaml, "base")
///     .text("[resilience4j.retry.instances.mail]\nwait_duration = '1s'", Format::Toml, "profile")
///     .environment(|name| (name == "ATTEMPTS").then(|| "5".to_owned()))
///     .load()?;
/// # let config = resile::retry::Config::default().max_attempts(5).wait_duration(std::time::Duration::from_secs(1));
/// # assert_eq!(format!("{:?}", settings.retry("mail")), format!("{config:?}"));
/// # Ok::<(), resile::settings::SettingsErrors>(())
/// ```
#[derive(Clone)]
pub struct Sources {
    layers: Vec<Layer>,
    environment: Environment,
}

#[derive(Debug, Clone)]
enum Layer {
    File(PathBuf, Arc<str>),
    Text(Arc<str>, Format, Arc<str>),
}

/// What a layer holds, or why that is not to be had.
pub(super) type Contents = Result<Vec<u8>, String>;

impl Sources {
    /// Nothing yet, and the environment of the process.
    pub fn new() -> Self {
        Self { layers: Vec::new(), environment: Arc::new(|name| std::env::var(name).ok()) }
    }

    /// Lays a file over what there is: a `.yaml`, `.yml`, `.toml` or `.json`, at most 1 MiB. A profile is such a file:
    ///
    /// ```no_run
    /// # use resile::settings::Sources;
    /// let profile = std::env::var("PROFILE")?;
    /// let settings = Sources::new().file("resilience.yml").file(format!("resilience-{profile}.yml")).load()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        self.layers.push(Layer::File(path.to_owned(), path.to_string_lossy().into()));
        self
    }

    /// Lays a text over what there is. `name` stands for it in errors.
    #[must_use]
    pub fn text(mut self, text: &str, format: Format, name: &str) -> Self {
        self.layers.push(Layer::Text(text.into(), format, name.into()));
        self
    }

    /// Looks placeholders up here instead of in the environment of the process. A function that panics has no such variable.
    #[must_use]
    pub fn environment(mut self, lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        self.environment = Arc::new(move |name| contained(|| lookup(name)).flatten());
        self
    }

    /// Reads everything.
    ///
    /// # Errors
    /// All that is wrong in all of the files and texts, and what cannot be read.
    pub fn load(&self) -> Result<Settings, SettingsErrors> {
        self.settings(&self.contents())
    }

    /// What all layers hold now.
    pub(super) fn contents(&self) -> Vec<Contents> {
        let contents = |layer: &Layer| match layer {
            Layer::File(path, _) => read(path).map_err(|error| format!("cannot be read: {error}")),
            Layer::Text(text, ..) => Ok(text.as_bytes().to_vec()),
        };
        self.layers.iter().map(contents).collect()
    }

    pub(super) fn settings(&self, contents: &[Contents]) -> Result<Settings, SettingsErrors> {
        let mut report = Report::default();
        let mut layout = Layout::default();
        for (layer, contents) in self.layers.iter().zip(contents) {
            if let Some(over) = self.layer(layer, contents, &mut report) {
                layout.lay(over);
            }
        }
        let files: Vec<_> = self.layers.iter().map(|layer| Arc::clone(layer.name())).collect();
        Settings::of(&layout, report, &files)
    }

    fn layer(&self, layer: &Layer, contents: &Contents, report: &mut Report) -> Option<Layout> {
        let file = layer.name();
        let place = Place::of_file(file, None);
        let format = match layer {
            Layer::File(path, _) => Format::of(path),
            Layer::Text(_, format, _) => Some(*format),
        };
        let text = contents.as_ref().map(|bytes| std::str::from_utf8(bytes));
        match (format, text) {
            (None, _) => report.error(place.error("", "must be a .yaml, .yml, .toml or .json file")),
            (_, Err(unread)) => report.error(place.error("", unread.clone())),
            (_, Ok(Err(error))) => report.error(place.error("", format!("must be UTF-8: {error}"))),
            (Some(format), Ok(Ok(text))) => match format.read(text, file) {
                Ok(root) => {
                    let reader = Reader { file: Arc::clone(file), environment: &self.environment, report };
                    return Some(reader.read(&root));
                }
                Err(errors) => errors.into_iter().for_each(|error| report.error(error)),
            },
        }
        None
    }
}

impl Layer {
    fn name(&self) -> &Arc<str> {
        let (Self::File(_, name) | Self::Text(_, _, name)) = self;
        name
    }
}

/// Reads a regular file and not more of it than is allowed: a pipe might never end.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut contents = Vec::new();
    let most = MAX_BYTES as u64 + 1;
    File::open(path)?.take(most).read_to_end(&mut contents)?;
    if contents.len() > MAX_BYTES {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(contents)
}

impl Default for Sources {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sources").field(&self.layers).finish()
    }
}
