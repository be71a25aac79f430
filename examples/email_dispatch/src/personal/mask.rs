//! Makes addresses and phone numbers unreadable in text.

/// Masks everything in a text that is like a mail address or a phone number: for what servers and libraries say.
///
/// A phone number is `+` and at least 7 digits, in groups or not, or 10 to 15 digits that stand alone.
#[must_use]
pub fn mask_text(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        let (local, domain) = (local_part(before), domain_part(after));
        if local.is_empty() || domain.is_empty() {
            phones(&rest[..=at], &mut masked);
            rest = after;
        } else {
            phones(&before[..before.len() - local.len()], &mut masked);
            masked.push_str(&address(local, domain));
            rest = &after[domain.len()..];
            // Where one @ follows upon another nobody can say which of the parts is a domain.
            while let Some(further) = rest.strip_prefix('@').map(domain_part).filter(|part| !part.is_empty()) {
                masked.push_str("@***");
                rest = &rest[1 + further.len()..];
            }
        }
    }
    phones(rest, &mut masked);
    masked
}

/// `j***@e***.com`.
pub(super) fn address(local: &str, domain: &str) -> String {
    let first = |part: &str| part.chars().find(|c| c.is_alphanumeric()).map(String::from).unwrap_or_default();
    match domain.rsplit_once('.') {
        Some((name, top)) if top.chars().all(char::is_alphabetic) => {
            format!("{}***@{}***.{top}", first(local), first(name))
        }
        // An address literal such as [192.0.2.1], or a name without a dot.
        _ => format!("{}***@***", first(local)),
    }
}

/// `+49*****89`, with five stars for however many digits.
pub(super) fn phone(digits: &str) -> String {
    let (head, tail) = (digits.get(..3).unwrap_or_default(), digits.get(digits.len().saturating_sub(2)..));
    format!("{head}*****{}", tail.unwrap_or_default())
}

/// What of the end of this text can stand before an `@`.
fn local_part(before: &str) -> &str {
    if let Some(open) = before.strip_suffix('"').and_then(|quoted| quoted.rfind('"')) {
        return &before[open..];
    }
    &before[before.trim_end_matches(|c: char| c.is_alphanumeric() || "!#$%&'*+/=?^_`{|}~.-".contains(c)).len()..]
}

/// What of the beginning of this text can stand after an `@`, without the full stop of a sentence. Stars can, so that
/// what is masked already stays as it is.
fn domain_part(after: &str) -> &str {
    if after.starts_with('[') {
        // The longest address literal, an IPv6 one, has 47 characters.
        let close = after.bytes().take(64).position(|byte| byte == b']');
        return &after[..close.map_or(0, |close| close + 1)];
    }
    let end = after.find(|c: char| !(c.is_alphanumeric() || "-.*".contains(c))).unwrap_or(after.len());
    after[..end].trim_end_matches(['.', '-'])
}

/// Copies a text without addresses, with phone numbers masked.
fn phones(text: &str, masked: &mut String) {
    let mut previous = None;
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let length = match next {
            '+' => international(rest),
            '0'..='9' if !previous.is_some_and(joins) => standing_alone(rest),
            _ => None,
        };
        if let Some(length) = length {
            let number: String = rest[..length].chars().filter(|c| c.is_ascii_digit() || *c == '+').collect();
            masked.push_str(&phone(&number));
            previous = Some('*');
            rest = &rest[length..];
        } else {
            // A number that is none is copied whole, lest its end be taken for one.
            let length = match rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()) {
                0 => next.len_utf8(),
                digits => digits,
            };
            masked.push_str(&rest[..length]);
            previous = rest[..length].chars().next_back();
            rest = &rest[length..];
        }
    }
}

/// The length of `+` and at least 7 digits in groups.
fn international(text: &str) -> Option<usize> {
    let (mut digits, mut end) = (0, 0);
    for (index, character) in text.char_indices().skip(1) {
        match character {
            '0'..='9' => (digits, end) = (digits + 1, index + 1),
            ' ' | '-' | '.' | '/' | '(' | ')' if index - end <= 1 => {}
            _ => break,
        }
    }
    (digits >= 7).then_some(end)
}

/// The length of 10 to 15 digits with nothing joined to them, so that no part of an identifier is taken for one.
fn standing_alone(text: &str) -> Option<usize> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let mut after = text[end..].chars();
    let joined = match after.next() {
        Some('.') => after.next().is_some_and(char::is_alphanumeric),
        next => next.is_some_and(joins),
    };
    ((10..=15).contains(&end) && !joined).then_some(end)
}

fn joins(character: char) -> bool {
    character.is_alphanumeric() || "-._".contains(character)
}
