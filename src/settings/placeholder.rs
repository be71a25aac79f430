use std::sync::Arc;

/// Where placeholders are looked up.
pub(super) type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The longest value with everything filled in: a short text can name a long variable many times.
const LONGEST: usize = 1 << 16;
const DEEPEST: usize = 16;

/// Why a placeholder cannot be filled in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfilled {
    /// Neither a variable nor a default. A file laid over this one may give another value.
    Missing(String),
    Malformed(&'static str),
}

/// Fills in `${NAME}` and `${NAME:default}`, where the default may hold placeholders again. What the environment says is
/// taken as it is.
pub(super) fn fill(text: &str, environment: &Environment) -> Result<String, Unfilled> {
    let mut filled = String::new();
    fill_into(&mut filled, text, environment, 0)?;
    Ok(filled)
}

fn fill_into(filled: &mut String, text: &str, environment: &Environment, depth: usize) -> Result<(), Unfilled> {
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        append(filled, &rest[..start])?;
        let inside = &rest[start + 2..];
        let end = end(inside).ok_or(Unfilled::Malformed("a placeholder must end with }"))?;
        rest = &inside[end + 1..];
        let (name, default) = match inside[..end].split_once(':') {
            Some((name, default)) => (name, Some(default)),
            None => (&inside[..end], None),
        };
        let named = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
        if !named {
            return Err(Unfilled::Malformed("a placeholder must name a variable of letters, digits, _, - and ."));
        }
        match (environment(name), default) {
            (Some(value), _) => append(filled, &value)?,
            (None, Some(_)) if depth == DEEPEST => {
                return Err(Unfilled::Malformed("placeholders must not nest deeper than 16 levels"));
            }
            (None, Some(default)) => fill_into(filled, default, environment, depth + 1)?,
            (None, None) => return Err(Unfilled::Missing(name.to_owned())),
        }
    }
    append(filled, rest)
}

/// Where the placeholder ends that `inside` is the inside of.
fn end(inside: &str) -> Option<usize> {
    let mut open = 0_usize;
    let bytes = inside.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        match byte {
            b'$' if bytes.get(index + 1) == Some(&b'{') => open += 1,
            b'}' if open == 0 => return Some(index),
            b'}' => open -= 1,
            _ => {}
        }
    }
    None
}

fn append(filled: &mut String, part: &str) -> Result<(), Unfilled> {
    if filled.len().saturating_add(part.len()) > LONGEST {
        return Err(Unfilled::Malformed("must be at most 64 KiB with its placeholders filled in"));
    }
    filled.push_str(part);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, Unfilled> {
        let environment: Environment = Arc::new(|name| match name {
            "RATE" => Some("60".into()),
            "EMPTY" => Some(String::new()),
            "LITERAL" => Some("${RATE}".into()),
            "LONG" => Some("x".repeat(40_000)),
            _ => None,
        });
        fill(text, &environment)
    }

    #[test]
    fn a_placeholder_is_the_variable_or_its_default() {
        for (text, value) in [
            ("60", "60"),
            ("${RATE}", "60"),
            ("${RATE:50}", "60"),
            ("${UNSET:50}", "50"),
            ("${UNSET:}", ""),
            ("${EMPTY:50}", ""),
            ("${UNSET:a:b}", "a:b"),
            ("${UNSET:${RATE}s}", "60s"),
            ("${UNSET:${UNSET:7}}-${RATE}", "7-60"),
            ("${LITERAL}", "${RATE}"),
            ("$RATE {x} } $", "$RATE {x} } $"),
        ] {
            assert_eq!(filled(text).as_deref(), Ok(value), "{text}");
        }
    }

    #[test]
    fn a_placeholder_that_cannot_be_filled_in_is_an_error() {
        assert_eq!(filled("${UNSET}"), Err(Unfilled::Missing("UNSET".into())));
        let nested = format!("{}{}", "${A:".repeat(40), "}".repeat(40));
        for text in ["${RATE", "${}", "${ RATE}", "${${RATE}}", "${:5}", "${LONG}${LONG}", &nested] {
            assert!(matches!(filled(text), Err(Unfilled::Malformed(_))), "{text}");
        }
    }
}
