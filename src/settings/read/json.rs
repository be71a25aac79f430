use std::{collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Content, Flaw, Key, Lines, MAX_DEPTH, Node};

pub(super) fn read(text: &str) -> Result<Node, Flaw> {
    let lines = Lines::of(text);
    if text.trim().is_empty() {
        return Ok(Node { line: Some(1), content: Content::Empty });
    }
    let raw: &RawValue = parse(text, 1)?;
    node(raw.get(), text, &lines, 0)
}

/// `raw` is a part of `text`, which says where it stands: the parser itself tells lines for errors only.
fn node(raw: &str, text: &str, lines: &Lines, depth: usize) -> Result<Node, Flaw> {
    let first = lines.at((raw.as_ptr() as usize).saturating_sub(text.as_ptr() as usize));
    let line = Some(first);
    if depth > MAX_DEPTH {
        return Err(Flaw::too_deep(line));
    }
    let below = |part: &RawValue| node(part.get(), text, lines, depth + 1);
    let content = match raw.as_bytes().first() {
        Some(b'{') => {
            let Pairs(pairs) = parse(raw, first)?;
            let mut keys = HashSet::new();
            let pairs = pairs.into_iter().map(|(key, value)| {
                let node = below(value)?;
                if !keys.insert(key.clone()) {
                    return Err(Flaw::twice(node.line, &key));
                }
                Ok((Key { text: key, line: node.line }, node))
            });
            Content::Map(pairs.collect::<Result<_, _>>()?)
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = parse(raw, first)?;
            Content::List(items.into_iter().map(below).collect::<Result<_, _>>()?)
        }
        Some(b'"') => Content::Text(parse(raw, first)?),
        Some(b'n') => Content::Empty,
        _ => Content::Text(raw.to_owned()),
    };
    Ok(Node { line, content })
}

/// `first` is the line that `text` begins on.
fn parse<'a, T: Deserialize<'a>>(text: &'a str, first: usize) -> Result<T, Flaw> {
    serde_json::from_str(text).map_err(|error| {
        let told = error.to_string();
        let rule = told.split(" at line ").next().unwrap_or_default();
        Flaw::new(first + error.line().saturating_sub(1), rule)
    })
}

/// An object's pairs as they stand there, the same key twice included.
struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Gather;

        impl<'de> Visitor<'de> for Gather {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Gather)
    }
}
