//! Where the keys come from: the environment or a file, and never the command line, which everybody on the machine can
//! read.

use std::{ffi::OsString, fs, path::Path};

use secrecy::zeroize::Zeroizing;

use super::Fault;
use crate::personal::Keys;

/// The variable that holds the keys themselves.
const VARIABLE: &str = "EMAIL_DISPATCH_KEYS";

/// Reads the keys, if there are any. `origin` is what the file's setting is called where it was given.
pub(crate) fn read_keys(
    file: Option<&Path>,
    origin: &str,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<Keys>, Fault> {
    let variable = environment(VARIABLE).filter(|value| !value.is_empty());
    let fault = |setting: &str, value: Option<&Path>, rule: String| Fault {
        setting: setting.to_owned(),
        value: value.map(|file| file.display().to_string()),
        rule,
    };
    match (variable, file) {
        (None, None) => Ok(None),
        (Some(_), Some(file)) => {
            Err(fault(origin, Some(file), format!("must not be given together with {VARIABLE}, which holds keys too")))
        }
        (Some(keys), None) => {
            let keys = keys.into_string().map_err(|_| fault(VARIABLE, None, "must be UTF-8".to_owned()))?;
            Keys::parse(&Zeroizing::new(keys)).map(Some).map_err(|error| fault(VARIABLE, None, error.to_string()))
        }
        (None, Some(file)) => {
            let keys = fs::read_to_string(file)
                .map_err(|error| fault(origin, Some(file), format!("cannot be read: {error}")))?;
            let keys = Keys::parse(&Zeroizing::new(keys));
            keys.map(Some).map_err(|error| fault(origin, Some(file), error.to_string()))
        }
    }
}

/// What is wrong when there have to be keys and are none.
pub(crate) fn no_keys() -> Fault {
    let rule = "must hold a key, or keys-file name a file with one: a random key would leave requests that nobody can \
                read after this process; one is made by: openssl rand -base64 32";
    Fault { setting: VARIABLE.to_owned(), value: None, rule: rule.to_owned() }
}
