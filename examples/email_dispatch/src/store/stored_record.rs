//! A record as the outbox holds it: JSON that a person can read, and that PostgreSQL and SQLite take alike.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

use crate::record::{Headers, Record, Topic};

/// Writes a record down.
pub(super) fn encode(record: &Record) -> String {
    let stored = Stored {
        topic: record.topic.name().into(),
        key: record.key.as_deref().map(Into::into),
        headers: record.headers.0.iter().map(|(name, value)| (name.as_str().into(), Octets::from(&**value))).collect(),
        payload: Octets::from(&*record.payload),
    };
    serde_json::to_string(&stored).expect("texts and lists of texts are always JSON")
}

/// Reads what [`encode`] has written.
pub(super) fn decode(stored: &str) -> Result<Record, sqlx::Error> {
    let stored: Stored<'_> = serde_json::from_str(stored).map_err(|error| sqlx::Error::Decode(error.into()))?;
    let unknown = || sqlx::Error::Decode(format!("the outbox names an unknown topic '{}'", stored.topic).into());
    let topic = Topic::named(&stored.topic).ok_or_else(unknown)?;
    let headers = stored.headers.into_iter().map(|(name, value)| Ok((name.into_owned(), value.read()?)));
    Ok(Record {
        topic,
        key: stored.key.map(Into::into),
        headers: Headers(headers.collect::<Result<_, sqlx::Error>>()?),
        payload: stored.payload.read()?,
    })
}

type Text<'a> = std::borrow::Cow<'a, str>;

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    topic: Text<'a>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(Text<'a>, Octets<'a>)>,
    payload: Octets<'a>,
}

/// Text where it is text, which is nearly always.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Octets<'a> {
    Base64(Text<'a>),
    #[serde(untagged)]
    Text(Text<'a>),
}

impl Octets<'_> {
    fn read(self) -> Result<Vec<u8>, sqlx::Error> {
        match self {
            Self::Text(text) => Ok(text.into_owned().into_bytes()),
            Self::Base64(text) => BASE64_STANDARD.decode(&*text).map_err(|error| sqlx::Error::Decode(error.into())),
        }
    }
}

impl<'a> From<&'a [u8]> for Octets<'a> {
    fn from(octets: &'a [u8]) -> Self {
        match std::str::from_utf8(octets) {
            Ok(text) => Self::Text(text.into()),
            Err(_) => Self::Base64(BASE64_STANDARD.encode(octets).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stored_record_can_be_read_by_a_person() {
        let record = Record {
            topic: Topic::Sms,
            key: Some("k".into()),
            payload: b"{\"id\":1}".to_vec(),
            headers: Headers(vec![("a".into(), b"1".to_vec()), ("b".into(), vec![0xff])]),
        };
        let expected = r#"{"topic":"sms-requests","key":"k","headers":[["a","1"],["b",{"base64":"/w=="}]],"payload":"{\"id\":1}"}"#;
        assert_eq!(encode(&record), expected);
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(
            topic in 0..Topic::ALL.len(),
            key in proptest::option::of(".*"),
            payload in proptest::collection::vec(any::<u8>(), 0..40),
            text in ".*",
            headers in proptest::collection::vec((".*", proptest::collection::vec(any::<u8>(), 0..9)), 0..4),
        ) {
            for payload in [payload, text.into_bytes()] {
                let record = Record { topic: Topic::ALL[topic], key: key.clone(), payload, headers: Headers(headers.clone()) };
                prop_assert_eq!(decode(&encode(&record)).unwrap(), record);
            }
        }
    }
}
