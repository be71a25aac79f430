//! Makes the text alternative of an HTML body.

/// What an HTML body says, for those who read text. Takes time in proportion to its length, whatever it is.
pub(super) fn text_of(html: &str) -> String {
    let text = nanohtml2text::html2text(&well_formed(html)).replace("\r\n", "\n");
    // A mail with an empty text is a mail with no text: some readers would show nothing at all.
    match text.trim() {
        "" => "This mail can only be shown as HTML.".to_owned(),
        text => text.to_owned(),
    }
}

/// Elements whose content is nothing to be read.
const UNSEEN: [&str; 5] = ["head", "script", "style", "template", "title"];
/// Elements in which markup is text. They are left out and what is in them is kept.
const RAW: [&str; 4] = ["plaintext", "pre", "textarea", "xmp"];

/// The HTML with complete tags alone. The converter looks for the end of a tag from each `<` to the end of the body, which
/// takes for ever when none of many is complete.
fn well_formed(html: &str) -> String {
    let mut made = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        made.push_str(&rest[..start]);
        rest = &rest[start + 1..];
        if let Some(comment) = rest.strip_prefix("!--") {
            rest = comment.find("-->").map_or("", |end| &comment[end + 3..]);
            continue;
        }
        if !rest.starts_with(|c: char| c.is_ascii_alphabetic() || "/!?".contains(c)) {
            made.push_str("&lt;");
            continue;
        }
        // A body that ends within a tag ends before it.
        let Some(end) = tag_end(rest) else { return made };
        let (tag, after) = (&rest[..end], &rest[end + 1..]);
        rest = after;
        let name =
            tag.trim_start_matches('/').split(|c: char| c.is_whitespace() || c == '/').next().unwrap_or_default();
        let is = |names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
        if is(&UNSEEN) {
            if !tag.starts_with('/') && !tag.ends_with('/') {
                rest = after_closing(after, name);
            }
        } else if !is(&RAW) {
            made.push('<');
            made.push_str(tag);
            made.push('>');
        }
    }
    made.push_str(rest);
    made
}

/// The place of the `>` that ends a tag, which is none within quotes that follow a `=`.
fn tag_end(tag: &str) -> Option<usize> {
    let (mut quote, mut after_equals) = (None, false);
    for (index, character) in tag.char_indices() {
        match (quote, character) {
            (Some(open), _) if character == open => (quote, after_equals) = (None, false),
            (Some(_), _) => {}
            (None, '>') => return Some(index),
            (None, '"' | '\'') if after_equals => quote = Some(character),
            (None, '=') => after_equals = true,
            (None, _) => after_equals &= character.is_whitespace(),
        }
    }
    None
}

/// What follows `</name ...>`; nothing if that is missing.
fn after_closing<'a>(html: &'a str, name: &str) -> &'a str {
    let mut rest = html;
    while let Some(start) = rest.find("</") {
        rest = &rest[start + 2..];
        let Some(after) = rest.get(..name.len()).filter(|begin| begin.eq_ignore_ascii_case(name)).map(str::len) else {
            continue;
        };
        if rest[after..].starts_with(|c: char| c == '>' || c == '/' || c.is_whitespace()) {
            return rest.find('>').map_or("", |end| &rest[end + 1..]);
        }
    }
    ""
}
