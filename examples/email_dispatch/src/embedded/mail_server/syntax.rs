//! What a mail server reads out of commands and messages.

use base64::Engine;

use crate::personal::BASE64;

/// What `Message-ID` says, without angle brackets.
pub(super) fn message_id(message: &[u8]) -> Option<String> {
    const NAME: &[u8] = b"message-id:";
    let mut lines = message.split(|&byte| byte == b'\n').take_while(|line| !matches!(line, [] | [b'\r']));
    let line = lines.find(|line| line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME))?;
    let value = String::from_utf8_lossy(&line[NAME.len()..]);
    Some(value.trim().trim_start_matches('<').trim_end_matches('>').to_owned())
}

/// Takes one dot from the beginning of each line that has one.
pub(super) fn undoubled(message: Vec<u8>) -> Vec<u8> {
    if !message.starts_with(b".") && !message.windows(2).any(|bytes| bytes == b"\n.") {
        return message;
    }
    let lines = message.split_inclusive(|&byte| byte == b'\n');
    lines.flat_map(|line| line.strip_prefix(b".").unwrap_or(line)).copied().collect()
}

/// The address of `FROM:<address>` or `TO:<address>`, whatever follows.
pub(super) fn path<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let text = text.trim_start();
    let head = text.get(..prefix.len())?;
    let rest = text[prefix.len()..].trim_start().strip_prefix('<')?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)?.split_once('>').map(|(address, _)| address)
}

pub(super) fn decoded(base64: &str) -> Option<String> {
    String::from_utf8(BASE64.decode(base64).ok()?).ok()
}

/// User and password of `\0user\0password`.
pub(super) fn plain(answer: &str) -> Option<(String, String)> {
    let text = decoded(answer)?;
    let mut parts = text.split('\0').skip(1);
    Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
}

/// A number for an address, the same each time (FNV-1a).
pub(super) fn scattered(address: &str) -> u64 {
    address.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
