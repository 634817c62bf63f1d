//! YAML as kubectl reads it: the scalars of YAML 1.1 (`yes` is true, `0644` is octal, `1e3` is text),
//! anchors and merge keys, JSON where the text is JSON.
//!
//! Invariant: depth and the growth by aliases are bounded.

mod scalar;

use serde_json::{Map, Value};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span};

use crate::MAX_DEPTH;
use crate::schema::{MAX_PROBLEMS, Problem};

/// How many nodes aliases may add to a stream.
const MAX_ALIASED_NODES: usize = 100_000;

/// Why a YAML text cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error converting YAML to JSON: yaml: {reason}")]
pub struct YamlError {
    /// What the parser says: `line 3: mapping values are not allowed in this context`.
    pub reason: String,
}

/// One document of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its value; the last one of duplicate keys.
    pub value: Value,
    /// Keys that it holds twice.
    pub duplicates: Vec<Problem>,
}

/// The documents of a YAML (or JSON) stream; empty documents are left out.
///
/// # Errors
/// When a document is malformed.
pub fn parse_documents(text: &str) -> Result<Vec<Value>, YamlError> {
    Ok(parse_stream(text)?
        .into_iter()
        .map(|document| document.value)
        .collect())
}

/// As [`parse_documents`], with the duplicate keys of each document.
///
/// # Errors
/// When a document is malformed.
pub fn parse_stream(text: &str) -> Result<Vec<Document>, YamlError> {
    if let Some(documents) = parse_json(text) {
        return Ok(documents);
    }
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| at_line(error.marker().line(), &error.info()))?;
        builder.event(event, &span)?;
    }
    Ok(builder.documents)
}

/// The documents of a text that is a stream of JSON values, `None` when it is not.
fn parse_json(text: &str) -> Option<Vec<Document>> {
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    let mut documents = Vec::new();
    let mut start = 0;
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    while let Some(value) = stream.next() {
        let value = value.ok()?;
        let end = stream.byte_offset();
        let duplicates = crate::schema::duplicates(&text.as_bytes()[start..end]);
        documents.push(Document { value, duplicates });
        start = end;
    }
    Some(documents)
}

fn at_line(line: usize, reason: &str) -> YamlError {
    YamlError {
        reason: format!("line {line}: {reason}"),
    }
}

/// A collection that is being read.
enum Open {
    List {
        items: Vec<Value>,
        anchor: usize,
    },
    Map {
        entries: Map<String, Value>,
        merged: Vec<Value>,
        key: Option<Key>,
        anchor: usize,
    },
}

enum Key {
    Named(String),
    Merge,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    /// Values by anchor id.
    anchors: Vec<(usize, Value)>,
    aliased: usize,
    duplicates: Vec<Problem>,
    documents: Vec<Document>,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), YamlError> {
        let line = span.start.line();
        match event {
            Event::DocumentStart(..) => {
                self.anchors.clear();
                self.duplicates.clear();
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                if style == ScalarStyle::Plain && text == "<<" && self.wants_key() {
                    return self.key(Key::Merge, line);
                }
                let core = tag
                    .as_deref()
                    .map(|t| t.core_suffix().unwrap_or("str").to_owned());
                let plain = style == ScalarStyle::Plain && core.as_deref() != Some("str");
                let value = if plain || core.is_some_and(|c| c != "str") {
                    scalar::resolve(&text)
                } else {
                    Value::String(text.into_owned())
                };
                self.node(value, anchor, line)
            }
            Event::Alias(id) => {
                let found = self.anchors.iter().rev().find(|(anchor, _)| *anchor == id);
                let Some(value) = found.map(|(_, value)| value.clone()) else {
                    return Err(at_line(line, "unknown anchor referenced"));
                };
                self.aliased += nodes(&value);
                if self.aliased > MAX_ALIASED_NODES {
                    return Err(YamlError {
                        reason: "document contains excessive aliasing".to_owned(),
                    });
                }
                self.node(value, 0, line)
            }
            Event::SequenceStart(_, anchor, _) => self.push(
                Open::List {
                    items: Vec::new(),
                    anchor,
                },
                line,
            ),
            Event::MappingStart(_, anchor, _) => self.push(
                Open::Map {
                    entries: Map::new(),
                    merged: Vec::new(),
                    key: None,
                    anchor,
                },
                line,
            ),
            Event::SequenceEnd | Event::MappingEnd => self.close(line),
            _ => Ok(()),
        }
    }

    fn push(&mut self, open: Open, line: usize) -> Result<(), YamlError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(at_line(line, "exceeded max depth"));
        }
        if self.wants_key() {
            return Err(at_line(line, "invalid map key"));
        }
        self.open.push(open);
        Ok(())
    }

    fn close(&mut self, line: usize) -> Result<(), YamlError> {
        match self.open.pop() {
            Some(Open::List { items, anchor }) => self.node(Value::Array(items), anchor, line),
            Some(Open::Map {
                mut entries,
                merged,
                anchor,
                ..
            }) => {
                for source in merged {
                    merge(&mut entries, source, line)?;
                }
                self.node(Value::Object(entries), anchor, line)
            }
            None => Ok(()),
        }
    }

    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Open::Map { key: None, .. }))
    }

    fn key(&mut self, new: Key, line: usize) -> Result<(), YamlError> {
        let Some(Open::Map { entries, key, .. }) = self.open.last_mut() else {
            return Err(at_line(line, "a key outside of a map"));
        };
        if let Key::Named(name) = &new
            && entries.contains_key(name)
            && self.duplicates.len() < MAX_PROBLEMS
        {
            let key = name.clone();
            self.duplicates.push(Problem::Repeated { key, line });
        }
        *key = Some(new);
        Ok(())
    }

    /// A finished value: a key, an item, an entry, or the document itself.
    fn node(&mut self, value: Value, anchor: usize, line: usize) -> Result<(), YamlError> {
        if anchor != 0 {
            self.anchors.push((anchor, value.clone()));
            self.aliased += nodes(&value);
            if self.aliased > MAX_ALIASED_NODES {
                return Err(YamlError {
                    reason: "document contains excessive aliasing".to_owned(),
                });
            }
        }
        if self.wants_key() {
            return match value {
                Value::String(name) => self.key(Key::Named(name), line),
                Value::Number(_) | Value::Bool(_) => self.key(Key::Named(value.to_string()), line),
                _ => Err(at_line(line, "invalid map key")),
            };
        }
        match self.open.last_mut() {
            Some(Open::List { items, .. }) => items.push(value),
            Some(Open::Map {
                entries,
                merged,
                key,
                ..
            }) => match key.take() {
                Some(Key::Named(name)) => {
                    entries.insert(name, value);
                }
                Some(Key::Merge) => merged.push(value),
                None => {}
            },
            None if value.is_null() => {}
            None => {
                if crate::patch::deeper_than(&value, MAX_DEPTH) {
                    return Err(at_line(line, "exceeded max depth"));
                }
                self.documents.push(Document {
                    value,
                    duplicates: std::mem::take(&mut self.duplicates),
                });
            }
        }
        Ok(())
    }
}

/// `<<`: entries that the map itself does not have.
fn merge(entries: &mut Map<String, Value>, source: Value, line: usize) -> Result<(), YamlError> {
    match source {
        Value::Object(map) => {
            for (key, value) in map {
                entries.entry(key).or_insert(value);
            }
            Ok(())
        }
        Value::Array(items) => items
            .into_iter()
            .try_for_each(|item| merge(entries, item, line)),
        _ => Err(at_line(
            line,
            "map merge requires map or sequence of maps as the value",
        )),
    }
}

fn nodes(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(nodes).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(nodes).sum::<usize>(),
        Value::String(text) => 1 + text.len() / 64,
        _ => 1,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn documents() {
        let text = "# comment\na: 1\nb: [x, 'y', \"z\"]\n---\n---\n{c: yes, d: ~}\n...\n---\ne: |\n  two\n  lines\n";
        assert_eq!(
            parse_documents(text).unwrap(),
            [
                json!({"a": 1, "b": ["x", "y", "z"]}),
                json!({"c": true, "d": null}),
                json!({"e": "two\nlines\n"})
            ]
        );
        assert_eq!(
            parse_documents("{\"a\":\t1}\n{\"b\":2}").unwrap(),
            [json!({"a": 1}), json!({"b": 2})]
        );
        assert!(parse_documents("").unwrap().is_empty());
    }

    #[test]
    fn anchors_and_merge_keys() {
        let text = "base: &b {x: 1, z: 2}\nown:\n  <<: *b\n  z: 3\nlist: [*b]\n";
        let wanted =
            json!({"base": {"x": 1, "z": 2}, "own": {"x": 1, "z": 3}, "list": [{"x": 1, "z": 2}]});
        assert_eq!(parse_documents(text).unwrap(), [wanted]);
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..12 {
            bomb += &format!(
                "a{i}: &a{i} [{}]\n",
                vec![format!("*a{}", i - 1); 10].join(", ")
            );
        }
        assert!(
            parse_documents(&bomb)
                .unwrap_err()
                .reason
                .contains("excessive aliasing")
        );
    }

    #[test]
    fn mistakes() {
        let duplicates = parse_stream("spec:\n  a: [{b: 1, b: 2}]\n  a: 3\n")
            .unwrap()
            .remove(0)
            .duplicates;
        let texts: Vec<String> = duplicates.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "yaml: unmarshal errors:\n  line 2: key \"b\" already set in map",
                "yaml: unmarshal errors:\n  line 3: key \"a\" already set in map"
            ]
        );
        let error = parse_documents("a: b: c\n").unwrap_err().to_string();
        assert!(
            error.starts_with("error converting YAML to JSON: yaml: line 1: "),
            "{error}"
        );
        assert!(parse_documents(&"[".repeat(100_000)).is_err());
        assert!(parse_documents("{[a]: b}").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(text in "[-a-c:{}\\[\\]&*<|>#!\"' \n0-9~.]{0,60}") {
            let _ = parse_documents(&text);
        }

        #[test]
        fn reads_json_as_json(n in any::<i64>(), s in "\\PC{0,12}", b in any::<bool>()) {
            let value = json!({"n": n, "s": s, "b": b, "l": [null, {}]});
            let text = format!("---\n{value}\n");
            prop_assert_eq!(parse_documents(&text).unwrap(), vec![value]);
        }
    }
}
