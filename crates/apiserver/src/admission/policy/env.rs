//! The environment of admission's expressions, and how they are evaluated together.
//!
//! Invariant: a variable of a policy is evaluated at most once for an object, and only when it is
//! named; what it costs counts for the whole policy.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use cel::{
    Context, Decl, Env, EvalError, Fields, ListKind, PER_CALL_LIMIT, Program, Shape, Type,
    Value as Cel, Variables,
};
use serde_json::Value;

use super::CONDITIONS_BUDGET;
use super::facts::{Asker, Facts};
use crate::auth::user;
use crate::hooks::text;
use crate::pipeline::Call;

/// How deep variables may name each other.
const DEEPEST: usize = 20;
const VARIABLES: &str = "kubernetes.variables";

fn decl(shape: Shape) -> Arc<Decl> {
    Arc::new(Decl::new(shape))
}

fn strings() -> Arc<Decl> {
    decl(Shape::List(decl(Shape::String), ListKind::Atomic))
}

fn object(name: &str, fields: &[(&str, &Arc<Decl>)]) -> Arc<Decl> {
    let fields = fields.iter().map(|(name, decl)| (*name, Arc::clone(decl)));
    Arc::new(Decl::object(name, fields))
}

/// The shape of `request`.
pub(super) fn request_decl() -> &'static Arc<Decl> {
    static DECL: OnceLock<Arc<Decl>> = OnceLock::new();
    DECL.get_or_init(|| {
        let text = decl(Shape::String);
        let kind = object(
            "kubernetes.GroupVersionKind",
            &[("group", &text), ("version", &text), ("kind", &text)],
        );
        let resource = object(
            "kubernetes.GroupVersionResource",
            &[("group", &text), ("version", &text), ("resource", &text)],
        );
        object(
            "kubernetes.AdmissionRequest",
            &[
                ("kind", &kind),
                ("resource", &resource),
                ("subResource", &text),
                ("requestKind", &kind),
                ("requestResource", &resource),
                ("requestSubResource", &text),
                ("name", &text),
                ("namespace", &text),
                ("operation", &text),
                ("userInfo", user::decl()),
                ("dryRun", &decl(Shape::Bool)),
                ("options", &decl(Shape::Dyn)),
            ],
        )
    })
}

/// The shape of `namespaceObject`.
pub(super) fn namespace_decl() -> &'static Arc<Decl> {
    static DECL: OnceLock<Arc<Decl>> = OnceLock::new();
    DECL.get_or_init(|| {
        let (text, time, int) = (
            decl(Shape::String),
            decl(Shape::Timestamp),
            decl(Shape::Int),
        );
        let words = decl(Shape::Map(text.clone()));
        let condition = object(
            "kubernetes.NamespaceCondition",
            &[
                ("status", &text),
                ("type", &text),
                ("lastTransitionTime", &time),
                ("message", &text),
                ("reason", &text),
            ],
        );
        let metadata = object(
            "kubernetes.NamespaceMetadata",
            &[
                ("name", &text),
                ("generateName", &text),
                ("namespace", &text),
                ("labels", &words),
                ("annotations", &words),
                ("UID", &text),
                ("creationTimestamp", &time),
                ("deletionGracePeriodSeconds", &int),
                ("deletionTimestamp", &time),
                ("generation", &int),
                ("resourceVersion", &text),
                ("finalizers", &strings()),
            ],
        );
        let spec = object("kubernetes.NamespaceSpec", &[("finalizers", &strings())]);
        let status = object(
            "kubernetes.NamespaceStatus",
            &[
                (
                    "conditions",
                    &decl(Shape::List(condition, ListKind::Atomic)),
                ),
                ("phase", &text),
            ],
        );
        let parts = [
            ("metadata", &metadata),
            ("spec", &spec),
            ("status", &status),
        ];
        object("kubernetes.Namespace", &parts)
    })
}

/// What an expression may name besides the write itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) params: bool,
    pub(crate) authorizer: bool,
    /// `Object{}` and `JSONPatch{}`.
    pub(crate) mutation: bool,
}

/// Compiles the expressions of one policy; variables become known one after the other.
#[derive(Debug, Default)]
pub(crate) struct Compiler {
    /// The types of variables; none where there are no variables at all.
    variables: Option<BTreeMap<String, Type>>,
    /// What objects are known to be, where that is what is checked.
    types: Option<Types>,
}

/// What the objects of an expression are.
#[derive(Debug)]
pub(super) struct Types {
    pub(super) object: Arc<Decl>,
    /// Anything, where that is not known.
    pub(super) params: Option<Arc<Decl>>,
}

impl Compiler {
    /// One that knows `variables` as a name, with fields to come.
    pub(crate) fn composing() -> Self {
        Self {
            variables: Some(BTreeMap::new()),
            types: None,
        }
    }

    /// One that holds expressions against types; what it makes is not to be evaluated.
    pub(super) fn checking(types: Types) -> Self {
        Self {
            types: Some(types),
            ..Self::composing()
        }
    }

    /// Compiles one expression, whose value must be of one of these types (any, where none is named).
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn compile(
        &self,
        source: &str,
        names: Names,
        types: &[Type],
    ) -> Result<Program, String> {
        let dynamic = decl(Shape::Dyn);
        let object = self.types.as_ref().map_or(&dynamic, |types| &types.object);
        let params = self.types.as_ref().and_then(|types| types.params.as_ref());
        let mut env = Env::new()
            .with_data("object", object)
            .with_data("oldObject", object)
            .with_data("request", request_decl())
            .with_data("namespaceObject", namespace_decl());
        if names.params {
            env = env.with_data("params", params.unwrap_or(&dynamic));
        }
        if names.authorizer {
            env = env.with_authorizer("authorizer");
            if self.types.is_none() {
                env = env.with_resource_check("authorizer.requestResource");
            }
        }
        if names.mutation {
            env = env.with_mutation();
        }
        if let Some(variables) = &self.variables {
            env = env
                .with("variables", Type::Object(VARIABLES.into()))
                .with_object(VARIABLES, variables.clone());
        }
        let compiled = env.compile(source);
        let program = compiled.map_err(|issues| match self.types {
            None => format!("compilation failed: {issues}"),
            Some(_) => issues.to_string(),
        })?;
        if types.is_empty() || types.contains(program.ty()) {
            return Ok(program);
        }
        let wanted: Vec<String> = types.iter().map(ToString::to_string).collect();
        Err(match wanted.as_slice() {
            [one] => format!("must evaluate to {one} but got {}", program.ty()),
            many => format!(
                "must evaluate to one of [{}] but got {}",
                many.join(" "),
                program.ty()
            ),
        })
    }

    /// Compiles a variable, which all after it may name.
    pub(crate) fn variable(&mut self, name: &str, source: &str, names: Names) -> Variable {
        let program = self.compile(source, names, &[]);
        let ty = program
            .as_ref()
            .map_or(Type::Dyn, |program| program.ty().clone());
        self.variables
            .get_or_insert_default()
            .insert(name.to_owned(), ty);
        Variable {
            name: name.to_owned(),
            program,
        }
    }
}

/// A variable of a policy.
#[derive(Debug)]
pub(crate) struct Variable {
    name: String,
    pub(crate) program: Result<Program, String>,
}

/// Evaluates the expressions of a policy on one object.
pub(super) struct Evaluator<'a> {
    inner: Rc<Inner<'a>>,
    budget: u64,
}

struct Inner<'a> {
    base: Variables<'a>,
    variables: &'a [Variable],
    known: RefCell<BTreeMap<&'a str, Result<Cel<'a>, EvalError>>>,
    cost: Cell<u64>,
    depth: Cell<usize>,
}

/// `variables` in an expression.
struct Lazy<'a>(Rc<Inner<'a>>);

impl<'a> Fields<'a> for Lazy<'a> {
    fn get(&self, _: &mut Context<'a>, field: &str) -> Option<Result<Cel<'a>, EvalError>> {
        let inner = &self.0;
        let variable = inner
            .variables
            .iter()
            .find(|variable| variable.name == field)?;
        let name = variable.name.as_str();
        if let Some(known) = inner.known.borrow().get(name) {
            return Some(known.clone());
        }
        let value = inner.evaluate(variable);
        inner.known.borrow_mut().insert(name, value.clone());
        Some(value)
    }
}

impl<'a> Inner<'a> {
    fn evaluate(self: &Rc<Self>, variable: &'a Variable) -> Result<Cel<'a>, EvalError> {
        let name = &variable.name;
        let program = variable.program.as_ref().map_err(|fault| {
            EvalError::Failed(format!(
                "composited variable {name:?} fails to compile: {fault}"
            ))
        })?;
        if self.depth.get() >= DEEPEST {
            let why = format!("composited variable {name:?} depends on too many others in a row");
            return Err(EvalError::Failed(why));
        }
        self.depth.set(self.depth.get() + 1);
        let outcome = program.eval(&self.all(), PER_CALL_LIMIT);
        self.depth.set(self.depth.get() - 1);
        self.cost.set(self.cost.get().saturating_add(outcome.cost));
        outcome.value.map_err(|error| match error {
            EvalError::CostExceeded => EvalError::CostExceeded,
            error => {
                let why = format!("composited variable {name:?} fails to evaluate: {error}");
                EvalError::Failed(why)
            }
        })
    }

    fn all(self: &Rc<Self>) -> Variables<'a> {
        let mut all = self.base.clone();
        all.set("variables", Cel::Lazy(Rc::new(Lazy(self.clone()))));
        all
    }
}

/// The budget is spent: nothing more is evaluated.
#[derive(Debug, thiserror::Error)]
#[error(
    "validation failed due to running out of cost budget, no further validation rules will be run"
)]
pub(super) struct OutOfBudget;

impl<'a> Evaluator<'a> {
    /// With a policy's variables.
    pub(super) fn new(
        facts: &'a Facts,
        asker: &'a Asker<'a>,
        variables: &'a [Variable],
        budget: u64,
    ) -> Result<Self, EvalError> {
        let inner = Inner {
            base: facts.variables(asker)?,
            variables,
            known: RefCell::default(),
            cost: Cell::default(),
            depth: Cell::default(),
        };
        let inner = Rc::new(inner);
        Ok(Self { inner, budget })
    }

    /// Evaluates one expression; what is wrong with it is told in words.
    pub(super) fn eval(
        &mut self,
        source: &str,
        program: &'a Result<Program, String>,
    ) -> Result<Result<Cel<'a>, String>, OutOfBudget> {
        let program = match program {
            Ok(program) => program,
            Err(fault) => return Ok(Err(format!("compilation error: {fault}"))),
        };
        let outcome = program.eval(&self.inner.all(), PER_CALL_LIMIT);
        let cost = outcome.cost.saturating_add(self.inner.cost.take());
        self.budget = self.budget.checked_sub(cost).ok_or(OutOfBudget)?;
        Ok(outcome
            .value
            .map_err(|error| format!("expression '{source}' resulted in error: {error}")))
    }
}

/// The conditions under which somebody has to do with a write.
#[derive(Debug, Default)]
pub(crate) struct Conditions(Vec<(String, Result<Program, String>)>);

impl Conditions {
    /// Compiles the `matchConditions` of an object; a policy's may name its params.
    pub(crate) fn compile(object: &Value, params: bool) -> Self {
        let names = Names {
            params,
            authorizer: true,
            mutation: false,
        };
        let list = object.get("matchConditions").and_then(Value::as_array);
        let compiler = Compiler::default();
        let compile = |condition: &Value| {
            let source = text(condition, "/expression").to_owned();
            let program = compiler.compile(&source, names, &[Type::Bool]);
            (source, program)
        };
        Self(list.into_iter().flatten().map(compile).collect())
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold. One that is false decides, whatever else is wrong.
    ///
    /// # Errors
    /// What is wrong, unless failures are let pass: then they do not hold.
    pub(crate) fn hold(&self, facts: &Facts, call: &Call, fail_open: bool) -> Result<bool, String> {
        if self.is_empty() {
            return Ok(true);
        }
        let asker = Asker(call);
        let faults = match Evaluator::new(facts, &asker, &[], CONDITIONS_BUDGET) {
            Ok(mut evaluator) => match self.faults(&mut evaluator) {
                None => return Ok(false),
                Some(faults) => faults,
            },
            Err(error) => vec![error.to_string()],
        };
        match faults.as_slice() {
            [] => Ok(true),
            _ if fail_open => Ok(false),
            [one] => Err(one.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }

    /// What is wrong; nothing when one of them is false.
    fn faults<'a>(&'a self, evaluator: &mut Evaluator<'a>) -> Option<Vec<String>> {
        let mut faults = Vec::new();
        for (source, program) in &self.0 {
            match evaluator.eval(source, program) {
                Ok(Ok(Cel::Bool(true))) => {}
                Ok(Ok(_)) => return None,
                Ok(Err(fault)) => faults.push(fault),
                Err(spent) => {
                    faults = vec![spent.to_string()];
                    break;
                }
            }
        }
        Some(faults)
    }
}
