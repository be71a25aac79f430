//! Where secrets come from that are no part of an address: the environment or a file, and never the command line, which
//! everybody on the machine can read.

use std::{ffi::OsString, fs, path::Path};

use secrecy::{SecretString, zeroize::Zeroizing};

use super::Fault;
use crate::personal::Keys;

/// The variable that holds the keys themselves.
const KEYS: &str = "EMAIL_DISPATCH_KEYS";
/// The variable that holds the SMS gateway's token itself.
pub(crate) const SMS_TOKEN: &str = "EMAIL_DISPATCH_SMS_TOKEN";
/// The variable that holds the operators' token itself.
pub(crate) const OPERATOR_TOKEN: &str = "EMAIL_DISPATCH_OPERATOR_TOKEN";

type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Reads the keys, if there are any. `origin` is what the file's setting is called where it was given.
pub(crate) fn read_keys(
    file: Option<&Path>,
    origin: &str,
    environment: Environment<'_>,
) -> Result<Option<Keys>, Fault> {
    read(KEYS, file, origin, environment, |text| Keys::parse(text).map_err(|error| error.to_string()))
}

/// Reads a token of so many characters at least, likewise, if it is not in that variable.
pub(crate) fn read_token(
    variable: &str,
    least: usize,
    file: Option<&Path>,
    origin: &str,
    environment: Environment<'_>,
) -> Result<Option<SecretString>, Fault> {
    read(variable, file, origin, environment, |text| {
        let token = text.trim();
        if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
            return Err("must hold the token alone, in visible ASCII".to_owned());
        }
        if token.len() < least {
            return Err(format!("must hold a token of at least {least} characters"));
        }
        Ok(SecretString::from(token))
    })
}

fn read<T>(
    variable: &str,
    file: Option<&Path>,
    origin: &str,
    environment: Environment<'_>,
    parse: impl Fn(&Zeroizing<String>) -> Result<T, String>,
) -> Result<Option<T>, Fault> {
    let fault = |setting: &str, value: Option<&Path>, rule: String| Fault {
        setting: setting.to_owned(),
        value: value.map(|file| file.display().to_string()),
        rule,
    };
    match (environment(variable).filter(|value| !value.is_empty()), file) {
        (None, None) => Ok(None),
        (Some(_), Some(file)) => {
            Err(fault(origin, Some(file), format!("must not be given together with {variable}, which holds it too")))
        }
        (Some(secret), None) => {
            let secret = secret.into_string().map_err(|_| fault(variable, None, "must be UTF-8".to_owned()))?;
            parse(&Zeroizing::new(secret)).map(Some).map_err(|rule| fault(variable, None, rule))
        }
        (None, Some(file)) => {
            let secret = fs::read_to_string(file)
                .map_err(|error| fault(origin, Some(file), format!("cannot be read: {error}")))?;
            parse(&Zeroizing::new(secret)).map(Some).map_err(|rule| fault(origin, Some(file), rule))
        }
    }
}

/// What is wrong when there have to be keys and are none.
pub(crate) fn no_keys(why: &str) -> Fault {
    let rule =
        format!("must hold a key, or keys-file name a file with one: {why}; one is made by: openssl rand -base64 32");
    Fault { setting: KEYS.to_owned(), value: None, rule }
}
