//! What an SMS says.

/// How many characters an SMS of ours has at most: two of those that phones send as one.
const LONGEST: usize = 300;

/// Subject and text as one line of at most 300 characters, cut after a word.
#[must_use]
pub fn text_of(subject: &str, text: &str) -> String {
    let mut sms = String::new();
    let mut length = 0;
    let subject = words(subject).map(|word| (word, false));
    for (word, begins_text) in subject.chain(words(text).enumerate().map(|(index, word)| (word, index == 0))) {
        let separator = match (sms.is_empty(), begins_text) {
            (true, _) => "",
            (false, false) => " ",
            // Not "Hello!:".
            (false, true) if sms.ends_with(|c: char| c.is_ascii_punctuation()) => " ",
            (false, true) => ": ",
        };
        let more = separator.len() + word.chars().count();
        // One character is kept for the ellipsis.
        if length + more > LONGEST - 1 {
            if sms.is_empty() {
                sms.extend(word.chars().take(LONGEST - 1));
            }
            sms.push('…');
            break;
        }
        sms.push_str(separator);
        sms.push_str(&word);
        length += more;
    }
    sms
}

fn words(text: &str) -> impl Iterator<Item = String> {
    let visible = |word: &str| word.chars().filter(|c| !c.is_control()).collect::<String>();
    text.split_whitespace().map(visible).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subject_and_text_are_one_line() {
        assert_eq!(text_of("Your code", "It is\r\n  42.\t"), "Your code: It is 42.");
        assert_eq!(text_of("Hello!", "Ada"), "Hello! Ada");
        assert_eq!(text_of("", "only\u{0} text\u{1b}"), "only text");
        assert_eq!(text_of("only a subject", ""), "only a subject");
        assert_eq!(text_of("", " "), "");
    }

    #[test]
    fn a_long_text_ends_after_a_word() {
        let sms = text_of("Subject", &"wörter ".repeat(10_000));
        assert!(sms.ends_with("wörter…"), "{sms}");
        let length = sms.chars().count();
        assert!((LONGEST - 7..=LONGEST).contains(&length), "{length}");
    }

    #[test]
    fn a_word_that_is_too_long_is_cut() {
        let sms = text_of("", &"ä".repeat(1_000));
        assert_eq!(sms.chars().count(), LONGEST);
        assert!(sms.ends_with("ä…"));
    }
}
