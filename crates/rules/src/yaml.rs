//! YAML as trees of nodes that know where they were written.
//!
//! Invariant: bounded in depth and size, however often an alias is used.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle};

/// How many nodes a file may have, those of aliases counted wherever they are used.
const MAX_NODES: usize = 2_000_000;

/// A place in a file; lines and columns count from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) offset: usize,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) content: Content,
    size: usize,
}

#[derive(Debug)]
pub(crate) enum Content {
    Null,
    Scalar(String),
    Sequence(Vec<Arc<Node>>),
    Mapping(Vec<(Arc<Node>, Arc<Node>)>),
}

impl Node {
    pub(crate) fn is_null(&self) -> bool {
        matches!(self.content, Content::Null)
    }

    pub(crate) fn scalar(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn sequence(&self) -> Option<&[Arc<Node>]> {
        match &self.content {
            Content::Sequence(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn mapping(&self) -> Option<&[(Arc<Node>, Arc<Node>)]> {
        match &self.content {
            Content::Mapping(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value of a key; the first, where there are several.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.mapping()?
            .iter()
            .find(|(name, _)| name.scalar() == Some(key))
            .map(|(_, value)| &**value)
    }
}

/// Why a file is not YAML.
#[derive(Debug)]
pub(crate) struct YamlError {
    pub(crate) message: String,
    pub(crate) mark: Option<Mark>,
}

enum Open {
    Sequence(Vec<Arc<Node>>),
    Mapping(Vec<(Arc<Node>, Arc<Node>)>, Option<Arc<Node>>),
}

struct Frame {
    open: Open,
    mark: Mark,
    anchor: usize,
    size: usize,
}

fn mark_of(marker: granit_parser::Marker) -> Mark {
    Mark {
        offset: marker.byte_offset().unwrap_or(marker.index()),
        line: marker.line().saturating_sub(1),
        column: marker.col(),
    }
}

/// The documents of a file.
pub(crate) fn parse(text: &str) -> Result<Vec<Arc<Node>>, YamlError> {
    let mut documents = Vec::new();
    let mut frames: Vec<Frame> = Vec::new();
    let mut anchors: HashMap<usize, Arc<Node>> = HashMap::new();
    for next in Parser::new_from_str(text) {
        let (event, span) = next.map_err(|error| YamlError {
            message: error.info(),
            mark: Some(mark_of(*error.marker())),
        })?;
        let mark = mark_of(span.start);
        let node = match event {
            Event::Scalar(value, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let null = plain && matches!(&*value, "" | "~" | "null" | "Null" | "NULL");
                let content = if null {
                    Content::Null
                } else {
                    Content::Scalar(value.into_owned())
                };
                let mark = if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
                    indicator(text, mark)
                } else {
                    mark
                };
                finish(&mut anchors, anchor, content, mark, 1)
            }
            Event::SequenceStart(_, anchor, _) => {
                frames.push(Frame {
                    open: Open::Sequence(Vec::new()),
                    mark,
                    anchor,
                    size: 1,
                });
                continue;
            }
            Event::MappingStart(_, anchor, _) => {
                frames.push(Frame {
                    open: Open::Mapping(Vec::new(), None),
                    mark,
                    anchor,
                    size: 1,
                });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(frame) = frames.pop() else { continue };
                let content = match frame.open {
                    Open::Sequence(items) => Content::Sequence(items),
                    Open::Mapping(entries, _) => Content::Mapping(entries),
                };
                finish(&mut anchors, frame.anchor, content, frame.mark, frame.size)
            }
            Event::Alias(anchor) => match anchors.get(&anchor) {
                Some(node) => node.clone(),
                None => {
                    return Err(YamlError {
                        message: "the referenced anchor is not defined".into(),
                        mark: Some(mark),
                    });
                }
            },
            _ => continue,
        };
        let Some(frame) = frames.last_mut() else {
            documents.push(node);
            continue;
        };
        frame.size += node.size;
        if frame.size > MAX_NODES {
            return Err(YamlError {
                message: format!("more than {MAX_NODES} nodes"),
                mark: Some(mark),
            });
        }
        match &mut frame.open {
            Open::Sequence(items) => items.push(node),
            Open::Mapping(entries, key) => match key.take() {
                None => *key = Some(node),
                Some(key) => entries.push((key, node)),
            },
        }
    }
    Ok(documents)
}

fn finish(
    anchors: &mut HashMap<usize, Arc<Node>>,
    anchor: usize,
    content: Content,
    mark: Mark,
    size: usize,
) -> Arc<Node> {
    let node = Arc::new(Node {
        mark,
        content,
        size,
    });
    if anchor > 0 {
        anchors.insert(anchor, node.clone());
    }
    node
}

/// A block scalar is where its indicator is.
fn indicator(text: &str, mark: Mark) -> Mark {
    let bytes = text.as_bytes();
    if matches!(bytes.get(mark.offset), Some(b'|' | b'>')) {
        return mark;
    }
    let before = &bytes[..mark.offset.min(bytes.len())];
    let Some(at) = before.iter().rposition(|b| matches!(b, b'|' | b'>')) else {
        return mark;
    };
    let begin = before[..at]
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |newline| newline + 1);
    Mark {
        offset: at,
        line: bytes[..at].iter().filter(|b| **b == b'\n').count(),
        column: at - begin,
    }
}
