//! What the gateway's answers mean.

use std::time::Duration;

use reqwest::{Response, header};

use super::SmsError;
use crate::{
    personal::{Phone, mask_text},
    web_client,
};

/// How much of an answer is read.
const READ: usize = 2_000;
/// How much of it is kept, in characters.
const KEPT: usize = 200;

/// What an answer other than a success means.
///
/// A redirect, 401 and 403 are about us and not about the message, which may go once somebody has changed something. 409
/// is said of a key whose first request is still under way.
pub(super) async fn failure(mut answer: Response, to: &Phone, sms: &str) -> SmsError {
    let status = answer.status().as_u16();
    let retry_after = seconds(&answer);
    let mut body = Vec::new();
    while body.len() < READ
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    body.truncate(READ);
    let text = without_personal(&String::from_utf8_lossy(&body), to, sms);
    match status {
        401 | 403 | 408 | 409 | 425 | 429 => SmsError::Transient { status: Some(status), text, retry_after },
        400..500 => SmsError::Permanent { status, text },
        _ => SmsError::Transient { status: Some(status), text, retry_after },
    }
}

/// No answer: the message may or may not have been taken.
pub(super) fn silence(error: reqwest::Error) -> SmsError {
    SmsError::Transient { status: None, text: web_client::explain(error), retry_after: None }
}

/// The header `Retry-After`, unless it names a date.
fn seconds(answer: &Response) -> Option<Duration> {
    let said = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    said.trim().parse().ok().map(Duration::from_secs)
}

/// What the gateway says, without what it was told.
fn without_personal(said: &str, to: &Phone, sms: &str) -> String {
    let line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.replace(to.expose(), &to.to_string()).replace(to.expose().trim_start_matches('+'), "*****");
    let line = if sms.is_empty() { line } else { line.replace(sms, "…") };
    let visible: String = mask_text(&line).chars().filter(|c| !c.is_control()).collect();
    match visible.char_indices().nth(KEPT) {
        Some((end, _)) => format!("{}…", &visible[..end]),
        None => visible,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_gateway_repeats_is_masked() {
        let to = Phone::parse("+4930123").unwrap();
        let said = "{ \"error\": \"4930123 (+4930123) of a@b.example is bad\", \n\"text\": \"your code is 42\" }";
        let kept = without_personal(said, &to, "your code is 42");
        assert_eq!(kept, "{ \"error\": \"***** (+49*****23) of a***@b***.example is bad\", \"text\": \"…\" }");
    }

    #[test]
    fn what_the_gateway_says_is_kept_short() {
        let to = Phone::parse("+491701234567").unwrap();
        assert_eq!(without_personal(&"no ".repeat(1_000), &to, "").chars().count(), KEPT + 1);
    }
}
