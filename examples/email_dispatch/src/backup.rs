//! Copies of requests in files, for when the topics and the database that should keep them cannot be trusted to.
//!
//! A request of priority HIGH that failed is written to a file of its own, named after its id. [`replay`] later takes
//! up what has not gone out by then, and removes the files of what has. Addresses in a file are encrypted, as
//! everywhere; what the mail says is not, so that only the service's own user can read it.

mod replay;

use std::{
    ffi::OsStr,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::{personal::mask_text, request::EmailRequest};

pub use self::replay::{ReplayError, Replayed, replay};

/// What a finished file's name ends with.
const FINISHED: &str = "json";
/// What the name of a file that is being written begins with.
const UNFINISHED: &str = ".unfinished-";
/// From which age on an unfinished file has no writer any more.
const ABANDONED: Duration = Duration::from_secs(3_600);

/// A folder of backups. A clone is the same folder; so is that of another process.
#[derive(Clone, Debug)]
pub struct Backups {
    folder: Arc<Path>,
}

/// A backup as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// The request's own name.
    pub id: Uuid,
    /// When it was written, in milliseconds since 1970.
    pub saved_at_ms: i64,
    /// Why it was written.
    pub reason: String,
    /// Where it is.
    pub path: PathBuf,
}

/// What is in the folder.
#[derive(Debug, Default)]
pub struct Listing {
    /// Those that can be read, the oldest first.
    pub backups: Vec<Backup>,
    /// Those that cannot, and why.
    pub unreadable: Vec<BackupError>,
}

/// What went wrong with which file.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Backups cannot be written there.
    #[error("the backup folder '{}' cannot be used: {source}", path.display())]
    Folder {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be read, written or removed.
    #[error("the backup file '{}': {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds no backup.
    #[error("the backup file '{}' holds no backup: {fault}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        fault: String,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    saved_at_ms: i64,
    reason: &'a str,
    request: &'a EmailRequest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Read {
    saved_at_ms: i64,
    reason: String,
    request: EmailRequest,
}

impl Backups {
    /// Tries whether the folder can be made and written to, and removes what a process that died has left unfinished. A
    /// folder that was missing is missing again afterwards: it is made when there is something to save.
    ///
    /// # Errors
    /// [`BackupError::Folder`], which names the folder.
    pub async fn open(folder: impl Into<PathBuf>) -> Result<Self, BackupError> {
        let folder: Arc<Path> = folder.into().into();
        let path = Arc::clone(&folder);
        let opened = blocking(move || {
            let was_missing = !path.exists();
            fs::create_dir_all(&path)?;
            // Not only whether a name can be made: on a full disk it can.
            let mut trial = unfinished(&path)?;
            trial.write_all(b"can be written")?;
            trial.as_file().sync_all()?;
            trial.close()?;
            remove_abandoned(&path)?;
            if was_missing {
                // Unless another process has saved something there by now.
                let _ = fs::remove_dir(&path);
            }
            Ok(())
        });
        match opened.await {
            Ok(()) => Ok(Self { folder }),
            Err(source) => Err(BackupError::Folder { path: folder.to_path_buf(), source }),
        }
    }

    /// Writes a request down, in place of an earlier backup of it: when this returns, the file is whole and on the
    /// disk; until then, the earlier one is. Its reason is masked.
    ///
    /// # Errors
    /// [`BackupError::File`], which names the file and says why, as for a full disk. Nothing is left behind then.
    ///
    /// # Cancel safety
    /// The file may still be written after the future was dropped.
    pub async fn save(&self, request: &EmailRequest, reason: &str, now_ms: i64) -> Result<PathBuf, BackupError> {
        let path = self.folder.join(format!("{}.{FINISHED}", request.id));
        let written = Written { saved_at_ms: now_ms, reason: &mask_text(reason), request };
        let json = serde_json::to_vec(&written).map_err(|error| file(&path, error.into()))?;
        let (folder, target) = (Arc::clone(&self.folder), path.clone());
        let saved = blocking(move || {
            fs::create_dir_all(&folder)?;
            let mut unfinished = unfinished(&folder)?;
            unfinished.write_all(&json)?;
            unfinished.as_file().sync_all()?;
            unfinished.persist(&target).map_err(|refused| refused.error)?;
            sync_folder(&folder)
        });
        match saved.await {
            Ok(()) => Ok(path),
            Err(source) => Err(file(&path, source)),
        }
    }

    /// What is in the folder. Reads all of it, but keeps no request in memory.
    ///
    /// # Errors
    /// [`BackupError::Folder`] when the folder cannot be read.
    pub async fn list(&self) -> Result<Listing, BackupError> {
        let folder = Arc::clone(&self.folder);
        let listed = blocking(move || {
            let mut listing = Listing::default();
            if !folder.exists() {
                return Ok(listing);
            }
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.extension() != Some(OsStr::new(FINISHED)) {
                    continue;
                }
                match read(&path) {
                    Ok(Read { saved_at_ms, reason, request }) => {
                        listing.backups.push(Backup { id: request.id, saved_at_ms, reason, path });
                    }
                    Err(error) => listing.unreadable.push(error),
                }
            }
            listing.backups.sort_by_key(|backup| (backup.saved_at_ms, backup.id));
            Ok(listing)
        });
        listed.await.map_err(|source| BackupError::Folder { path: self.folder.to_path_buf(), source })
    }

    /// The request in a backup.
    ///
    /// # Errors
    /// [`BackupError::File`] and [`BackupError::Content`], which name the file.
    pub async fn request(&self, backup: &Backup) -> Result<EmailRequest, BackupError> {
        let path = backup.path.clone();
        let request = blocking(move || Ok(read(&path).map(|read| read.request)));
        request.await.unwrap_or_else(|source| Err(file(&backup.path, source)))
    }

    /// Removes a backup that is needed no more. One that is gone already is no error, and one that was saved again since
    /// it was listed remains.
    ///
    /// # Errors
    /// [`BackupError::File`], which names the file.
    pub async fn remove(&self, backup: &Backup) -> Result<(), BackupError> {
        let (folder, path, saved_at_ms) = (Arc::clone(&self.folder), backup.path.clone(), backup.saved_at_ms);
        let removed = blocking(move || {
            if read(&path).is_ok_and(|now| now.saved_at_ms != saved_at_ms) {
                return Ok(());
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => sync_folder(&folder),
            }
        });
        removed.await.map_err(|source| file(&backup.path, source))
    }
}

/// A file that only its owner can read, and that is removed again unless it is given its name.
fn unfinished(folder: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder)
}

/// Only those that are old: another process may be writing.
fn remove_abandoned(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_unfinished = entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes());
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if is_unfinished && age().is_some_and(|age| age >= ABANDONED) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// So that a new name survives a power failure, and not only what it names.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { fs::File::open(folder)?.sync_all() } else { Ok(()) }
}

fn read(path: &Path) -> Result<Read, BackupError> {
    let json = fs::read(path).map_err(|source| file(path, source))?;
    // Where it is wrong and not what is there, which might be personal.
    let content = |error: serde_json::Error| BackupError::Content {
        path: path.to_path_buf(),
        fault: format!("{:?} error in line {}, column {}", error.classify(), error.line(), error.column()),
    };
    serde_json::from_slice(&json).map_err(content)
}

fn file(path: &Path, source: io::Error) -> BackupError {
    BackupError::File { path: path.to_path_buf(), source }
}

/// Away from the threads that serve everybody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
