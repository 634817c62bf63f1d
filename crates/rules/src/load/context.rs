//! Where something was found: the file, the item in it, the value in the item, the place in a condition.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::condition::Pos;
use crate::yaml::{Mark, Node};

/// How wide a snippet may be.
const SNIPPET_WIDTH: usize = 160;

/// What sort of thing is at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    ValueFor,
    Exceptions,
    Exception,
    ExceptionValues,
    ExceptionValue,
    RulesContent,
    InContent,
    RequiredEngineVersion,
    RequiredPluginVersions,
    RequiredPluginVersionsEntry,
    RequiredPluginVersionsAlternative,
    List,
    InList,
    Macro,
    MacroCondition,
    Rule,
    RuleCondition,
    ConditionExpression,
    RuleOutput,
    RulePriority,
    Overrides,
}

impl Item {
    fn text(self) -> &'static str {
        match self {
            Self::ValueFor => "value for",
            Self::Exceptions => "exceptions",
            Self::Exception => "exception",
            Self::ExceptionValues => "exception values",
            Self::ExceptionValue => "exception value",
            Self::RulesContent => "rules content",
            Self::InContent => "rules content item",
            Self::RequiredEngineVersion => "required_engine_version",
            Self::RequiredPluginVersions => "required plugin versions",
            Self::RequiredPluginVersionsEntry => "required plugin versions entry",
            Self::RequiredPluginVersionsAlternative => "required plugin versions alternative",
            Self::List => "list",
            Self::InList => "list item",
            Self::Macro => "macro",
            Self::MacroCondition => "macro condition",
            Self::Rule => "rule",
            Self::RuleCondition => "rule condition",
            Self::ConditionExpression => "condition expression",
            Self::RuleOutput => "rule output",
            Self::RulePriority => "rule priority",
            Self::Overrides => "overrides",
        }
    }
}

#[derive(Clone, Debug)]
struct Location {
    name: Arc<str>,
    mark: Mark,
    item: Item,
    item_name: String,
}

/// A place, with all that it is in.
#[derive(Clone, Debug)]
pub struct Context {
    locations: Vec<Location>,
    /// The condition that the place is in, and the offset in it.
    condition: Option<(Arc<str>, usize)>,
}

impl Context {
    /// A file.
    pub(crate) fn file(name: &str) -> Self {
        Self {
            locations: vec![Location {
                name: name.into(),
                mark: Mark::default(),
                item: Item::RulesContent,
                item_name: String::new(),
            }],
            condition: None,
        }
    }

    fn add(&self, name: Arc<str>, mark: Mark, item: Item, item_name: &str) -> Self {
        let mut locations = self.locations.clone();
        locations.push(Location {
            name,
            mark,
            item,
            item_name: item_name.to_owned(),
        });
        Self {
            locations,
            condition: None,
        }
    }

    /// A node of the file.
    pub(crate) fn node(&self, node: &Node, item: Item, item_name: &str) -> Self {
        self.mark(node.mark, item, item_name)
    }

    /// A place in the file.
    pub(crate) fn mark(&self, mark: Mark, item: Item, item_name: &str) -> Self {
        self.add(self.name(), mark, item, item_name)
    }

    /// A place in a condition.
    pub(crate) fn expression(&self, pos: Pos, condition: &str) -> Self {
        let short: String = if condition.len() > 20 {
            let mut end = 17;
            while !condition.is_char_boundary(end) {
                end -= 1;
            }
            format!("\"{}...\"", &condition[..end])
        } else {
            format!("\"{condition}\"")
        };
        let name = short.replace(['\n', '\r'], " ");
        let last = self.last().mark;
        let mark = Mark {
            offset: pos.offset + last.offset,
            line: pos.line + last.line,
            column: pos.column + last.column,
        };
        let mut context = self.add(name.into(), mark, Item::ConditionExpression, "");
        context.condition = Some((condition.into(), pos.offset));
        context
    }

    fn name(&self) -> Arc<str> {
        self.locations[0].name.clone()
    }

    fn last(&self) -> &Location {
        &self.locations[self.locations.len() - 1]
    }

    /// The name of the file.
    pub(crate) fn file_name(&self) -> &str {
        &self.locations[0].name
    }

    /// The line of the innermost place, from 0, and its column.
    pub fn line_and_column(&self) -> (usize, usize) {
        let mark = self.last().mark;
        (mark.line, mark.column)
    }

    /// One line for each place, outermost first.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (at, location) in self.locations.iter().enumerate() {
            out.push_str(if at == 0 { "In " } else { "    " });
            out.push_str(location.item.text());
            if !location.item_name.is_empty() {
                let _infallible = write!(out, " '{}'", location.item_name);
            }
            let Mark { line, column, .. } = location.mark;
            let _infallible = writeln!(out, ": ({}:{line}:{column})", location.name);
        }
        out
    }

    /// As JSON, with a snippet of `content`.
    pub fn json(&self, content: &str) -> Value {
        let locations: Vec<_> = self
            .locations
            .iter()
            .map(|location| {
                json!({
                    "item_type": location.item.text(),
                    "item_name": location.item_name,
                    "position": {
                        "name": &*location.name,
                        "line": location.mark.line,
                        "column": location.mark.column,
                        "offset": location.mark.offset,
                    },
                })
            })
            .collect();
        json!({"locations": locations, "snippet": self.snippet(content)})
    }

    /// The line that the place is in, and a mark below it.
    pub fn snippet(&self, content: &str) -> String {
        let (content, mut pos) = match &self.condition {
            Some((condition, offset)) => (condition.as_bytes(), *offset),
            None => (content.as_bytes(), self.last().mark.offset),
        };
        if content.is_empty() {
            return "<No context available>\n".into();
        }
        let half = SNIPPET_WIDTH / 2;
        while pos > 0 && content.get(pos).is_none_or(|b| *b == b'\n') {
            // What is far behind the end is as good as at the end.
            pos = (pos - 1).min(content.len());
        }
        let mut from = pos;
        while from > 0 && content[from] != b'\n' && pos - from < half {
            from -= 1;
        }
        let mut to = pos;
        while to < content.len() - 1 && content[to] != b'\n' && to - pos < half {
            to += 1;
        }
        let (cut_before, cut_behind) = (pos - from >= half, to - pos >= half);
        if content[from] == b'\n' {
            from += 1;
        }
        if content[to] == b'\n' {
            to = to.saturating_sub(1);
        }
        let line = content.get(from..=to).unwrap_or_default();
        if line.is_empty() {
            return "<No context available>\n".into();
        }
        let mut line = line.to_vec();
        if cut_before && line.len() >= 3 {
            line[..3].copy_from_slice(b"...");
        }
        if cut_behind && line.len() >= 3 {
            let end = line.len() - 3;
            line[end..].copy_from_slice(b"...");
        }
        let mut out = String::from_utf8_lossy(&line).into_owned();
        out.push('\n');
        if pos >= from && pos - from < out.len() {
            out.push_str(&" ".repeat(pos - from));
            out.push_str("^\n");
        }
        out
    }
}
