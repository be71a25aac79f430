//! How many files and sockets the process may have open.

use std::fmt;

/// Raises the limit on open files to `wanted`, as far as the system lets this process.
///
/// # Errors
/// When fewer fit, with what to do about it.
pub fn raise_open_files(wanted: u64) -> Result<OpenFiles, TooFew> {
    decide(wanted, rlimit::increase_nofile_limit(wanted).ok())
}

/// How many files may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles(pub u64);

/// Fewer files may be open than are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooFew {
    /// How many are wanted.
    pub wanted: u64,
    /// How many may be open, if the system says so.
    pub fit: Option<u64>,
}

impl fmt::Display for TooFew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wanted = self.wanted;
        write!(f, "the connections need {wanted} open files and sockets, ")?;
        match self.fit {
            Some(fit) => write!(f, "and the system lets this process have {fit}")?,
            None => f.write_str("and the system does not let this process raise its limit")?,
        }
        write!(f, ": raise the limit (ulimit -n {wanted}), or lower smtp-connections or http-connections")
    }
}

impl std::error::Error for TooFew {}

/// `limit` is what the system lets this process have, if it answers.
fn decide(wanted: u64, limit: Option<u64>) -> Result<OpenFiles, TooFew> {
    match limit {
        Some(limit) if limit >= wanted => Ok(OpenFiles(limit)),
        fit => Err(TooFew { wanted, fit }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_high_enough_is_no_trouble() {
        assert_eq!(decide(1_000, Some(1_000)), Ok(OpenFiles(1_000)));
        assert_eq!(decide(1_000, Some(20_000)), Ok(OpenFiles(20_000)));
    }

    #[test]
    fn connections_that_do_not_fit_are_said_with_what_to_do() {
        let error = decide(16_300, Some(4_096)).unwrap_err();
        assert_eq!(error.fit, Some(4_096));
        let message = error.to_string();
        for part in ["16300", "4096", "ulimit -n 16300", "smtp-connections"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_system_that_refuses_is_said_too() {
        let error = decide(16_300, None).unwrap_err();
        assert_eq!(error, TooFew { wanted: 16_300, fit: None });
        assert!(error.to_string().contains("ulimit -n 16300"));
    }
}
