//! Label selectors: `a=b,c in (d,e),!f`, and the `LabelSelector` object.

use std::fmt;

use serde_json::{Map, Value};

use crate::selector::SelectorError;
use crate::validate::names;

/// Operator of a requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// The value is the one given (`=`, `==`).
    Equals,
    /// The value is not the one given, or the label is absent (`!=`).
    NotEquals,
    /// The value is one of the set.
    In,
    /// The value is none of the set, or the label is absent.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
    /// The label is an integer greater than the value.
    Gt,
    /// The label is an integer less than the value.
    Lt,
}

/// One term of a selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Label key.
    pub key: String,
    /// Operator.
    pub operator: Operator,
    /// Values, sorted.
    pub values: Vec<String>,
}

impl Requirement {
    /// A requirement whose key and values have the form of labels.
    ///
    /// # Errors
    /// Upstream's words for what is wrong with the key, a value or their number.
    pub fn new(
        key: &str,
        operator: Operator,
        mut values: Vec<String>,
    ) -> Result<Self, SelectorError> {
        let invalid = |field: &str, value: &str, why: Vec<String>| {
            SelectorError::new(format!(
                "{field}: Invalid value: {value:?}: {}",
                why.join("; ")
            ))
        };
        let wrong = names::qualified_name(key);
        if !wrong.is_empty() {
            return Err(invalid("key", key, wrong));
        }
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                let words = "for 'in', 'notin' operators, values set can't be empty";
                return Err(SelectorError::new(format!(
                    "values: Invalid value: []: {words}"
                )));
            }
            Operator::Gt | Operator::Lt if !values.iter().all(|v| v.parse::<i64>().is_ok()) => {
                let words = "for 'Gt', 'Lt' operators, the value must be an integer";
                return Err(SelectorError::new(format!(
                    "values[0]: Invalid value: {:?}: {words}",
                    values.join(",")
                )));
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                let words = "values set must be empty for exists and does not exist";
                return Err(SelectorError::new(format!(
                    "values: Invalid value: {values:?}: {words}"
                )));
            }
            _ => {}
        }
        for (index, value) in values.iter().enumerate() {
            let wrong = names::label_value(value);
            if !wrong.is_empty() {
                return Err(invalid(&format!("values[{index}][{key}]"), value, wrong));
            }
        }
        values.sort();
        values.dedup();
        Ok(Self {
            key: key.to_owned(),
            operator,
            values,
        })
    }

    fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        let value = labels
            .and_then(|l| l.get(&self.key))
            .map(|v| v.as_str().unwrap_or_default());
        let held = |v: &str| self.values.iter().any(|own| own == v);
        let bound = || self.values.first().and_then(|v| v.parse::<i64>().ok());
        match self.operator {
            Operator::Equals | Operator::In => value.is_some_and(held),
            Operator::NotEquals | Operator::NotIn => !value.is_some_and(held),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt | Operator::Lt => {
                let number = value.and_then(|v| v.parse::<i64>().ok());
                match (number, bound()) {
                    (Some(n), Some(b)) if self.operator == Operator::Gt => n > b,
                    (Some(n), Some(b)) => n < b,
                    _ => false,
                }
            }
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::Gt => write!(f, "{key}>{values}"),
            Operator::Lt => write!(f, "{key}<{values}"),
        }
    }
}

/// A conjunction of requirements. The empty one matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector {
    /// The terms, sorted by key.
    pub requirements: Vec<Requirement>,
    nothing: bool,
}

impl LabelSelector {
    /// Matches everything.
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }

    /// Matches nothing.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    /// Of requirements that are already checked.
    #[must_use]
    pub fn new(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self {
            requirements,
            nothing: false,
        }
    }

    /// Parses the `labelSelector` query parameter.
    ///
    /// # Errors
    /// When the text is no selector.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parser = Parser { rest: text };
        let mut requirements = Vec::new();
        if parser.peek() == Token::End {
            return Ok(Self::everything());
        }
        loop {
            let requirement = parser.requirement();
            requirements
                .push(requirement.map_err(|e| {
                    SelectorError::new(format!("unable to parse requirement: {e}"))
                })?);
            match parser.next() {
                Token::End => return Ok(Self::new(requirements)),
                Token::Symbol(",") => match parser.peek() {
                    Token::Word(_) | Token::Symbol("!") => {}
                    other => {
                        let words = format!("found '{other}', expected: identifier after ','");
                        return Err(SelectorError::new(words));
                    }
                },
                other => {
                    return Err(SelectorError::new(format!(
                        "found '{other}', expected: ',' or 'end of string'"
                    )));
                }
            }
        }
    }

    /// From a `metav1.LabelSelector` object. `null` matches nothing, `{}` everything.
    ///
    /// # Errors
    /// When an operator or a value is not valid.
    pub fn from_object(object: &Value) -> Result<Self, SelectorError> {
        let Some(object) = object.as_object() else {
            return Ok(Self::nothing());
        };
        let mut requirements = Vec::new();
        for (key, value) in object
            .get("matchLabels")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let value = value.as_str().unwrap_or_default().to_owned();
            requirements.push(Requirement::new(key, Operator::Equals, vec![value])?);
        }
        for expression in object
            .get("matchExpressions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let text = |field: &str| {
                expression
                    .get(field)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            let operator = match text("operator") {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(SelectorError::new(format!(
                        "{other:?} is not a valid label selector operator"
                    )));
                }
            };
            let values = expression
                .get("values")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            let values = values
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect();
            requirements.push(Requirement::new(text("key"), operator, values)?);
        }
        Ok(Self::new(requirements))
    }

    /// From a plain map of labels (`spec.selector` of a Service or ReplicationController); the values
    /// are taken as they are.
    #[must_use]
    pub fn from_map(labels: &Map<String, Value>) -> Self {
        let requirement = |(key, value): (&String, &Value)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: vec![value.as_str().unwrap_or_default().to_owned()],
        };
        Self::new(labels.iter().map(requirement).collect())
    }

    /// Whether it matches everything.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// Whether the labels match; `None` is the empty map.
    #[must_use]
    pub fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(labels))
    }

    /// Whether the object's `metadata.labels` match.
    #[must_use]
    pub fn matches_object(&self, object: &Value) -> bool {
        self.matches(crate::meta::labels(object))
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms: Vec<String> = self.requirements.iter().map(ToString::to_string).collect();
        f.write_str(&terms.join(","))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Symbol(&'static str),
    End,
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(text) => f.write_str(text),
            Self::Symbol(text) => f.write_str(text),
            Self::End => Ok(()),
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        Parser { rest: self.rest }.next()
    }

    fn next(&mut self) -> Token<'a> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        for symbol in ["==", "!=", "=", "!", "(", ")", ",", "<", ">"] {
            if let Some(rest) = self.rest.strip_prefix(symbol) {
                self.rest = rest;
                return Token::Symbol(symbol);
            }
        }
        let end = self
            .rest
            .find([' ', '\t', '\r', '\n', '=', '!', '(', ')', ',', '<', '>']);
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        if word.is_empty() {
            Token::End
        } else {
            Token::Word(word)
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let absent = self.peek() == Token::Symbol("!");
        if absent {
            self.next();
        }
        let key = match self.next() {
            Token::Word(word) => word,
            other => {
                return Err(SelectorError::new(format!(
                    "found '{other}', expected: identifier"
                )));
            }
        };
        if absent {
            return Requirement::new(key, Operator::DoesNotExist, Vec::new());
        }
        match self.peek() {
            Token::End | Token::Symbol(",") => {
                return Requirement::new(key, Operator::Exists, Vec::new());
            }
            _ => {}
        }
        let operator = match self.next() {
            Token::Symbol("=" | "==") => Operator::Equals,
            Token::Symbol("!=") => Operator::NotEquals,
            Token::Symbol(">") => Operator::Gt,
            Token::Symbol("<") => Operator::Lt,
            Token::Word("in") => Operator::In,
            Token::Word("notin") => Operator::NotIn,
            other => {
                let words = format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt");
                return Err(SelectorError::new(words));
            }
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.set()?,
            _ => vec![self.single()?],
        };
        Requirement::new(key, operator, values)
    }

    fn single(&mut self) -> Result<String, SelectorError> {
        match self.peek() {
            Token::End | Token::Symbol(",") => Ok(String::new()),
            Token::Word(word) => {
                self.next();
                Ok(word.to_owned())
            }
            Token::Symbol(other) => Err(SelectorError::new(format!(
                "found '{other}', expected: identifier"
            ))),
        }
    }

    fn set(&mut self) -> Result<Vec<String>, SelectorError> {
        match self.next() {
            Token::Symbol("(") => {}
            other => return Err(SelectorError::new(format!("found '{other}' expected: '('"))),
        }
        let mut values = Vec::new();
        let mut open = true;
        loop {
            match self.next() {
                Token::Word(word) if open => {
                    values.push(word.to_owned());
                    open = false;
                }
                Token::Symbol(",") => {
                    if open {
                        values.push(String::new());
                    }
                    open = true;
                }
                Token::Symbol(")") => {
                    if open {
                        values.push(String::new());
                    }
                    return Ok(values);
                }
                other => {
                    return Err(SelectorError::new(format!(
                        "found '{other}', expected: ',', or ')'"
                    )));
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use expect_test::expect;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn parses_and_matches() {
        let labels = json!({"app": "web", "tier": "front", "n": "5", "empty": ""});
        let labels = labels.as_object();
        for (text, shown, matched) in [
            ("", "", true),
            ("app=web", "app=web", true),
            ("app == web , tier!=back", "app=web,tier!=back", true),
            ("app in (web, db),!gone", "app in (db,web),!gone", true),
            ("app notin (web)", "app notin (web)", false),
            ("gone notin (web)", "gone notin (web)", true),
            ("app", "app", true),
            ("n>4", "n>4", true),
            ("n<4", "n<4", false),
            ("empty=", "empty=", true),
            ("gone=", "gone=", false),
            ("x in (,a)", "x in (,a)", false),
        ] {
            let selector = LabelSelector::parse(text).unwrap();
            assert_eq!(selector.to_string(), shown);
            assert_eq!(selector.matches(labels), matched, "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let mut out = String::new();
        for text in [
            "a=b,", "a in b", "a in (b", "a b", "=", "-a=b", "a=b c", "a>x", "a in ()x",
        ] {
            out += &format!("{text}: {}\n", LabelSelector::parse(text).unwrap_err());
        }
        expect![[r#"
            a=b,: found '', expected: identifier after ','
            a in b: unable to parse requirement: found 'b' expected: '('
            a in (b: unable to parse requirement: found '', expected: ',', or ')'
            a b: unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt
            =: unable to parse requirement: found '=', expected: identifier
            -a=b: unable to parse requirement: key: Invalid value: "-a": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            a=b c: found 'c', expected: ',' or 'end of string'
            a>x: unable to parse requirement: values[0]: Invalid value: "x": for 'Gt', 'Lt' operators, the value must be an integer
            a in ()x: found 'x', expected: ',' or 'end of string'
        "#]].assert_eq(&out);
    }

    #[test]
    fn objects() {
        let from = |v| LabelSelector::from_object(&v).unwrap();
        assert!(!from(json!(null)).matches(None));
        assert!(from(json!({})).matches(None));
        let selector = from(json!({"matchLabels": {"b": "c"}, "matchExpressions": [
            {"key": "a", "operator": "Exists"}, {"key": "z", "operator": "In", "values": ["2", "1"]}]}));
        assert_eq!(selector.to_string(), "a,b=c,z in (1,2)");
        let wrong = LabelSelector::from_object(
            &json!({"matchExpressions": [{"key": "a", "operator": "Has"}]}),
        );
        assert_eq!(
            wrong.unwrap_err().to_string(),
            r#""Has" is not a valid label selector operator"#
        );
    }

    proptest! {
        #[test]
        fn any_text_parses_or_errs_and_what_parses_reads_back(text in "[a-c!=,() <>/.-]{0,24}|[ a-z]{1,3} (in|notin) \\([a-c, ]{0,5}\\)") {
            if let Ok(selector) = LabelSelector::parse(&text) {
                prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
            }
        }
    }
}
