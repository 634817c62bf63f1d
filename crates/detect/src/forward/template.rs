//! Message templates: the simple forms of Go's `text/template`.
//!
//! Understood are `{{ .Output }}` and the other members of an alert, `{{ index .OutputFields
//! "proc.name" }}`, `{{ or A B … }}`, parentheses, quoted texts, comments, and `{{-` and `-}}`,
//! which trim. Everything else (`if`, `range`, `with`, variables, pipes, other functions) is
//! refused when the configuration is read.
//!
//! Invariant: a template that was parsed cannot fail, and what it gives is as long as its texts
//! and the alert's values together.

use std::collections::BTreeMap;

use serde_json::Value;
use thiserror::Error;

use super::alert::{Alert, go_text};

/// How deep parentheses may nest.
const DEEPEST: usize = 16;

/// Why a template is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// An action has no end.
    #[error("the action at byte {at} has no `}}}}`")]
    Open {
        /// Where the action begins, in bytes.
        at: usize,
    },
    /// Go's templates can do it, this one cannot.
    #[error(
        "`{{{{ {action} }}}}` is not supported: only members (`.Output`), `index .OutputFields \
         \"name\"`, `or` and quoted texts are"
    )]
    Unsupported {
        /// The action, without its braces.
        action: String,
    },
    /// An alert has no such member.
    #[error("an alert has no member `.{name}`")]
    Member {
        /// The name without its dot.
        name: String,
    },
}

/// What `.` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Root {
    /// The alert (`messageformat`).
    Alert,
    /// Its fields (`templatedfields`).
    Fields,
}

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Value(Expr),
}

#[derive(Debug, Clone, PartialEq)]
enum Expr {
    Quoted(String),
    Member(Member),
    Field(String),
    Or(Vec<Expr>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Uuid,
    Output,
    Priority,
    Rule,
    Time,
    Source,
    Tags,
    Hostname,
    Fields,
}

impl Template {
    /// Parses a template.
    pub(crate) fn parse(text: &str, root: Root) -> Result<Template, TemplateError> {
        let mut parts = Vec::new();
        let (mut rest, mut at, mut trim) = (text, 0, false);
        while let Some(start) = rest.find("{{") {
            let mut before = &rest[..start];
            let inside = &rest[start + 2..];
            let end = inside
                .find("}}")
                .ok_or(TemplateError::Open { at: at + start })?;
            let mut action = &inside[..end];
            if trim {
                before = before.trim_start();
            }
            if let Some(trimmed) = action.strip_prefix("- ") {
                action = trimmed;
                before = before.trim_end();
            }
            trim = false;
            if let Some(trimmed) = action.strip_suffix(" -") {
                action = trimmed;
                trim = true;
            }
            if !before.is_empty() {
                parts.push(Part::Text(before.into()));
            }
            let action = action.trim();
            if !(action.starts_with("/*") && action.ends_with("*/")) {
                parts.push(Part::Value(parse_action(action, root)?));
            }
            at += start + 2 + end + 2;
            rest = &inside[end + 2..];
        }
        let rest = if trim { rest.trim_start() } else { rest };
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(Template { parts })
    }

    /// Fills the template in.
    pub(crate) fn render(&self, alert: &Alert) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Value(expr) => {
                    text.push_str(&expr.value(alert).unwrap_or_else(|| "<no value>".into()))
                }
            }
        }
        text
    }
}

impl Expr {
    fn value(&self, alert: &Alert) -> Option<String> {
        match self {
            Expr::Quoted(text) => Some(text.clone()),
            Expr::Field(name) => match alert.output_fields.get(name) {
                None | Some(Value::Null) => None,
                Some(value) => Some(go_text(value)),
            },
            Expr::Member(member) => Some(member.value(alert)),
            Expr::Or(choices) => {
                let filled = choices
                    .iter()
                    .filter_map(|choice| choice.value(alert))
                    .find(|text| !text.is_empty());
                filled.or_else(|| choices.last()?.value(alert))
            }
        }
    }
}

impl Member {
    fn parse(name: &str) -> Option<Member> {
        Some(match name {
            "UUID" => Member::Uuid,
            "Output" => Member::Output,
            "Priority" => Member::Priority,
            "Rule" => Member::Rule,
            "Time" => Member::Time,
            "Source" => Member::Source,
            "Tags" => Member::Tags,
            "Hostname" => Member::Hostname,
            "OutputFields" => Member::Fields,
            _ => return None,
        })
    }

    fn value(self, alert: &Alert) -> String {
        match self {
            Member::Uuid => alert.uuid.clone(),
            Member::Output => alert.output.clone(),
            Member::Priority => alert.priority.to_string(),
            Member::Rule => alert.rule.clone(),
            Member::Time => alert.go_time(),
            Member::Source => alert.source.clone(),
            Member::Tags => format!("[{}]", alert.tags.join(" ")),
            Member::Hostname => alert.hostname.clone(),
            Member::Fields => go_map(&alert.output_fields),
        }
    }
}

fn go_map(fields: &BTreeMap<String, Value>) -> String {
    let pairs: Vec<String> = fields
        .iter()
        .map(|(key, value)| format!("{key}:{}", go_text(value)))
        .collect();
    format!("map[{}]", pairs.join(" "))
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Open,
    Close,
    Word(String),
    Quoted(String),
}

fn parse_action(action: &str, root: Root) -> Result<Expr, TemplateError> {
    let unsupported = || TemplateError::Unsupported {
        action: action.into(),
    };
    let tokens = tokens(action).ok_or_else(unsupported)?;
    let mut parser = Parser {
        tokens: &tokens,
        root,
        action,
    };
    let expr = parser.call(0)?;
    if parser.tokens.is_empty() {
        Ok(expr)
    } else {
        Err(unsupported())
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    root: Root,
    action: &'a str,
}

impl Parser<'_> {
    fn unsupported(&self) -> TemplateError {
        TemplateError::Unsupported {
            action: self.action.into(),
        }
    }

    /// A function and its operands, or one operand.
    fn call(&mut self, depth: usize) -> Result<Expr, TemplateError> {
        match self.tokens {
            [Token::Word(word), rest @ ..] if word == "index" => {
                self.tokens = rest;
                self.index()
            }
            [Token::Word(word), rest @ ..] if word == "or" => {
                self.tokens = rest;
                let mut choices = Vec::new();
                while !matches!(self.tokens, [] | [Token::Close, ..]) {
                    choices.push(self.operand(depth)?);
                }
                if choices.is_empty() {
                    return Err(self.unsupported());
                }
                Ok(Expr::Or(choices))
            }
            _ => self.operand(depth),
        }
    }

    fn index(&mut self) -> Result<Expr, TemplateError> {
        let map = match self.root {
            Root::Alert => ".OutputFields",
            Root::Fields => ".",
        };
        match self.tokens {
            [Token::Word(word), Token::Quoted(name), rest @ ..] if word == map => {
                self.tokens = rest;
                Ok(Expr::Field(name.clone()))
            }
            _ => Err(self.unsupported()),
        }
    }

    fn operand(&mut self, depth: usize) -> Result<Expr, TemplateError> {
        match self.tokens {
            [Token::Quoted(text), rest @ ..] => {
                self.tokens = rest;
                Ok(Expr::Quoted(text.clone()))
            }
            [Token::Open, rest @ ..] if depth < DEEPEST => {
                self.tokens = rest;
                let expr = self.call(depth + 1)?;
                match self.tokens {
                    [Token::Close, rest @ ..] => {
                        self.tokens = rest;
                        Ok(expr)
                    }
                    _ => Err(self.unsupported()),
                }
            }
            [Token::Word(word), rest @ ..] => {
                self.tokens = rest;
                let name = word.strip_prefix('.').ok_or_else(|| self.unsupported())?;
                self.member(name)
            }
            _ => Err(self.unsupported()),
        }
    }

    fn member(&self, name: &str) -> Result<Expr, TemplateError> {
        if self.root == Root::Fields {
            return if name.is_empty() {
                Ok(Expr::Member(Member::Fields))
            } else if name.contains('.') {
                Err(self.unsupported())
            } else {
                Ok(Expr::Field(name.into()))
            };
        }
        match Member::parse(name) {
            Some(member) => Ok(Expr::Member(member)),
            None if name.is_empty() || name.contains('.') => Err(self.unsupported()),
            None => Err(TemplateError::Member { name: name.into() }),
        }
    }
}

/// The words of an action; none if there is anything that is no word, quote or parenthesis.
fn tokens(action: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = action.trim_start();
    while let Some(first) = rest.chars().next() {
        let used = match first {
            '(' => {
                tokens.push(Token::Open);
                1
            }
            ')' => {
                tokens.push(Token::Close);
                1
            }
            '`' => {
                let end = rest[1..].find('`')?;
                tokens.push(Token::Quoted(rest[1..=end].into()));
                end + 2
            }
            '"' => {
                // Go's quoted texts are JSON's, but for escapes that nobody has in a field's name.
                let mut texts = serde_json::Deserializer::from_str(rest).into_iter::<String>();
                tokens.push(Token::Quoted(texts.next()?.ok()?));
                texts.byte_offset()
            }
            c if c == '.' || c == '_' || c.is_ascii_alphanumeric() => {
                let end = rest
                    .find(|c: char| !(c == '.' || c == '_' || c.is_ascii_alphanumeric()))
                    .unwrap_or(rest.len());
                tokens.push(Token::Word(rest[..end].into()));
                end
            }
            _ => return None,
        };
        rest = rest[used..].trim_start();
    }
    Some(tokens)
}
