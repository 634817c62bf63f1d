//! Expressions over the claims of a token, and over the user that they make.
//! Facts: `apiserver/pkg/authentication/cel` of 1.36.
//!
//! Invariant: an expression is compiled when the configuration is read, never for a token, and what it
//! may spend on one is bounded.

use std::sync::{Arc, OnceLock};

use cel::{Decl, Env, Program, Shape, Type, Value as Cel, Variables, escape};
use serde_json::{Map, Value, json};

use crate::auth::user::{User, decl};

/// What an expression is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// `claims`.
    Claims,
    /// `user`.
    User,
}

impl About {
    fn name(self) -> &'static str {
        match self {
            Self::Claims => "claims",
            Self::User => "user",
        }
    }

    fn decl(self) -> &'static Arc<Decl> {
        static CLAIMS: OnceLock<Arc<Decl>> = OnceLock::new();
        match self {
            Self::Claims => CLAIMS.get_or_init(|| {
                let any = Arc::new(Decl::new(Shape::Dyn));
                Arc::new(Decl::new(Shape::Map(any)))
            }),
            Self::User => decl(),
        }
    }
}

/// A compiled expression; the same as another of the same source.
#[derive(Debug, Clone)]
pub struct Expression {
    source: String,
    about: About,
    program: Arc<Program>,
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source && self.about == other.about
    }
}

impl Eq for Expression {}

/// What a value must be, and what is said when it is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub(super) expression: Expression,
    pub(super) message: String,
}

/// All expressions of an issuer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expressions {
    /// The user's name.
    pub username: Option<Expression>,
    /// The user's groups.
    pub groups: Option<Expression>,
    /// The user's UID.
    pub uid: Option<Expression>,
    /// Further attributes, by key.
    pub extra: Vec<(String, Expression)>,
    /// What claims must be.
    pub claims: Vec<Rule>,
    /// What the user must be.
    pub user: Vec<Rule>,
}

impl Expression {
    /// Compiles a source; one that is to hold or not must be known to be a boolean.
    ///
    /// # Errors
    /// What is wrong with it, in upstream's words.
    pub(super) fn compile(source: &str, about: About, decides: bool) -> Result<Self, String> {
        let env = Env::new().with_data(about.name(), about.decl());
        let program = env
            .compile(source)
            .map_err(|issues| format!("compilation failed: {issues}"))?;
        if decides && *program.ty() != Type::Bool {
            return Err("must evaluate to bool".to_owned());
        }
        Ok(Self {
            source: source.to_owned(),
            about,
            program: Arc::new(program),
        })
    }

    /// Whether it looks at a claim.
    pub(super) fn uses(&self, claim: &str) -> bool {
        self.program.selects(About::Claims.name(), claim)
    }

    /// The JSON of its value, over what it is about.
    fn eval(&self, data: &Value) -> Result<Value, String> {
        let failed = |error: cel::EvalError| {
            let source = &self.source;
            format!("expression '{source}' resulted in error: {error}")
        };
        let mut variables = Variables::new();
        let decl = self.about.decl();
        variables.set(self.about.name(), Cel::wrap(data, decl).map_err(failed)?);
        let outcome = self.program.eval(&variables, cel::RUNTIME_COST_BUDGET);
        outcome
            .value
            .and_then(|value| value.to_json())
            .map_err(failed)
    }

    /// Its value where it must be a text; `what` says for what.
    pub(super) fn text(&self, data: &Value, what: &str) -> Result<String, String> {
        match self.eval(data)? {
            Value::String(text) => Ok(text),
            _ => Err(format!("{what} claim expression must return a string")),
        }
    }

    /// Its value where it may be a text, several, or nothing; what is empty is left out.
    pub(super) fn texts(&self, data: &Value) -> Result<Vec<String>, String> {
        let words = || "expression must return a string or a list of strings".to_owned();
        let all = match self.eval(data)? {
            Value::Null => Vec::new(),
            Value::String(text) => vec![text],
            Value::Array(items) => {
                let text = |item: Value| match item {
                    Value::String(text) => Ok(text),
                    _ => Err(words()),
                };
                items.into_iter().map(text).collect::<Result<_, _>>()?
            }
            _ => return Err(words()),
        };
        Ok(all.into_iter().filter(|text| !text.is_empty()).collect())
    }
}

/// Whether all rules hold.
///
/// # Errors
/// The first that does not, or cannot be evaluated.
pub(super) fn hold(rules: &[Rule], data: &Value) -> Result<(), String> {
    for Rule {
        expression,
        message,
    } in rules
    {
        if expression.eval(data)? != true {
            let source = &expression.source;
            return Err(format!(
                "validation expression '{source}' failed: {message}"
            ));
        }
    }
    Ok(())
}

/// Claims as expressions see them: what cannot be written as a field is there by its escaped name, too.
pub(super) fn claims(claims: &Map<String, Value>) -> Value {
    fn reachable(value: &Value, depth: usize) -> Value {
        if depth > api::MAX_DEPTH {
            return Value::Null;
        }
        match value {
            Value::Object(members) => {
                let mut seen = Map::new();
                for (name, member) in members {
                    let member = reachable(member, depth + 1);
                    if let Some(escaped) = escape(name).filter(|escaped| escaped != name) {
                        seen.entry(escaped).or_insert_with(|| member.clone());
                    }
                    seen.insert(name.clone(), member);
                }
                Value::Object(seen)
            }
            Value::Array(items) => items.iter().map(|i| reachable(i, depth + 1)).collect(),
            other => other.clone(),
        }
    }
    reachable(&Value::Object(claims.clone()), 0)
}

/// A user as expressions see it.
pub(super) fn user(user: &User) -> Value {
    json!({"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra})
}
