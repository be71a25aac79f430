use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Content, Flaw, Key, Lines, MAX_DEPTH, Node};

/// Reads the text as far as it can be read: every flaw is told.
pub(super) fn read(text: &str) -> Result<Node, Vec<Flaw>> {
    let lines = Lines::of(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let flaw = |error: &toml::de::Error| Flaw::new(error.span().map(|span| lines.at(span.start)), error.message());
        return Err(errors.iter().map(flaw).collect());
    }
    map(table.into_inner(), Some(1), &lines, 1).map_err(|flaw| vec![flaw])
}

fn map(table: DeTable<'_>, line: Option<usize>, lines: &Lines, depth: usize) -> Result<Node, Flaw> {
    let pairs = table.into_iter().map(|(key, value)| {
        let line = Some(lines.at(key.span().start));
        let key = Key { text: key.into_inner().into_owned(), line };
        Ok((key, node(value, lines, depth)?))
    });
    Ok(Node { line, content: Content::Map(pairs.collect::<Result<_, _>>()?) })
}

fn node(value: Spanned<DeValue<'_>>, lines: &Lines, depth: usize) -> Result<Node, Flaw> {
    let line = Some(lines.at(value.span().start));
    if depth >= MAX_DEPTH {
        return Err(Flaw::too_deep(line));
    }
    let content = match value.into_inner() {
        DeValue::String(text) => Content::Text(text.into_owned()),
        DeValue::Integer(number) => Content::Text(
            i128::from_str_radix(number.as_str(), number.radix()).map_or(number.to_string(), |value| value.to_string()),
        ),
        DeValue::Float(number) => Content::Text(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Content::Text(flag.to_string()),
        DeValue::Datetime(moment) => Content::Text(moment.to_string()),
        DeValue::Array(items) => {
            let items = items.into_iter().map(|item| node(item, lines, depth + 1));
            Content::List(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => return map(table, line, lines, depth + 1),
    };
    Ok(Node { line, content })
}
