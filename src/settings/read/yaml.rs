use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::{Content, Flaw, Key, MAX_DEPTH, MAX_WEIGHT, Node};

/// Reads the one document of the text. An empty text is an empty map.
pub(super) fn read(text: &str) -> Result<Node, Flaw> {
    let mut tree = Tree::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| Flaw::new(error.marker().line(), error.info()))?;
        tree.take(event, span.start.line())?;
    }
    Ok(tree.root.unwrap_or(Node { line: Some(1), content: Content::Empty }))
}

/// Grows by one event after the other, without recursion.
#[derive(Default)]
struct Tree {
    root: Option<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    weight: usize,
}

/// A list or map whose end has not come yet.
struct Open {
    anchor: usize,
    node: Node,
    /// Of a map: its key that has no value yet, and the keys it has.
    key: Option<Key>,
    keys: HashSet<String>,
    /// What `<<` brings in, once the map's own keys are known.
    merged: Vec<(Key, Node)>,
}

const MERGE: &str = "<<";

impl Tree {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), Flaw> {
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                return Err(Flaw::new(line, "must be one document: profiles are further files, laid over the first"));
            }
            Event::Scalar(text, style, anchor, _) => {
                let empty = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let content =
                    if empty && !self.wants_key() { Content::Empty } else { Content::Text(text.into_owned()) };
                self.complete(Node { line: Some(line), content }, anchor)?;
            }
            Event::SequenceStart(anchor, _) => self.open(anchor, line, Content::List(Vec::new()))?,
            Event::MappingStart(anchor, _) => self.open(anchor, line, Content::Map(Vec::new()))?,
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Open { anchor, mut node, keys, merged, .. }) = self.open.pop() {
                    if let Content::Map(pairs) = &mut node.content {
                        let mut known = keys;
                        pairs.extend(merged.into_iter().filter(|(key, _)| known.insert(key.text.clone())));
                    }
                    self.complete(node, anchor)?;
                }
            }
            Event::Alias(anchor) => {
                let unknown = || Flaw::new(line, "an alias must follow its anchor, and stand outside of it");
                let node = self.anchors.get(&anchor).ok_or_else(unknown)?;
                if self.open.len() + node.depth() > MAX_DEPTH {
                    return Err(Flaw::too_deep(Some(line)));
                }
                self.weight = weighed(self.weight, node, line)?;
                self.put(node.clone())?;
            }
            _ => {}
        }
        Ok(())
    }

    fn wants_key(&self) -> bool {
        let wants = |open: &Open| matches!(open.node.content, Content::Map(_)) && open.key.is_none();
        self.open.last().is_some_and(wants)
    }

    fn open(&mut self, anchor: usize, line: usize, content: Content) -> Result<(), Flaw> {
        if self.open.len() >= MAX_DEPTH {
            return Err(Flaw::too_deep(Some(line)));
        }
        let node = Node { line: Some(line), content };
        self.open.push(Open { anchor, node, key: None, keys: HashSet::new(), merged: Vec::new() });
        Ok(())
    }

    fn complete(&mut self, node: Node, anchor: usize) -> Result<(), Flaw> {
        if anchor > 0 {
            self.weight = weighed(self.weight, &node, node.line.unwrap_or(1))?;
            self.anchors.insert(anchor, node.clone());
        }
        self.put(node)
    }

    /// Puts a whole node where it belongs: as the root, into a list, or as key or value of a map.
    fn put(&mut self, node: Node) -> Result<(), Flaw> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        let line = node.line;
        match &mut open.node.content {
            Content::List(items) => items.push(node),
            Content::Map(pairs) => match open.key.take() {
                Some(key) if key.text == MERGE => open.merged.extend(merge(node)?),
                Some(key) => pairs.push((key, node)),
                None => {
                    let Content::Text(text) = node.content else {
                        return Err(Flaw::new(line, "a key must be text"));
                    };
                    if !open.keys.insert(text.clone()) {
                        return Err(Flaw::twice(line, &text));
                    }
                    open.key = Some(Key { text, line });
                }
            },
            Content::Empty | Content::Text(_) => {}
        }
        Ok(())
    }
}

/// The weight with one more copy of `node`, unless that is too much.
fn weighed(weight: usize, node: &Node, line: usize) -> Result<usize, Flaw> {
    let weight = weight.saturating_add(node.weight());
    if weight > MAX_WEIGHT { Err(Flaw::new(line, "its aliases stand for too much")) } else { Ok(weight) }
}

/// The pairs that `<<: *anchor` or `<<: [*one, *another]` brings in, what has precedence first.
fn merge(node: Node) -> Result<Vec<(Key, Node)>, Flaw> {
    let line = node.line;
    let maps = match node.content {
        Content::List(items) => items,
        content => vec![Node { line, content }],
    };
    let pairs = maps.into_iter().map(|node| match node.content {
        Content::Map(pairs) => Ok(pairs),
        _ => Err(Flaw::new(node.line, "<< takes a map, or a list of maps")),
    });
    Ok(pairs.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

impl Node {
    fn depth(&self) -> usize {
        match &self.content {
            Content::Empty | Content::Text(_) => 0,
            Content::List(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Content::Map(pairs) => 1 + pairs.iter().map(|(_, node)| node.depth()).max().unwrap_or(0),
        }
    }

    /// About what it takes in bytes, without what every node takes alike.
    fn weight(&self) -> usize {
        16 + match &self.content {
            Content::Empty => 0,
            Content::Text(text) => text.len(),
            Content::List(items) => items.iter().map(Self::weight).sum(),
            Content::Map(pairs) => pairs.iter().map(|(key, node)| key.text.len() + node.weight()).sum(),
        }
    }
}
