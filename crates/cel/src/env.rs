//! The door: an environment compiles sources to programs, and programs are evaluated.
//!
//! Invariant: a program is immutable and shared; all that an evaluation changes is its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::ast::selects;
use crate::check::{Checked, Scope, check};
use crate::decl::Decl;
use crate::error::EvalError;
use crate::estimate::{Span, estimate};
use crate::eval::Context;
use crate::extension::{Authorizer, Extension};
use crate::issue::Issues;
use crate::parser::parse;
use crate::plan::{Node, Planner};
use crate::types::Type;
use crate::validate;
use crate::value::Value;

/// What expressions can name.
#[derive(Debug, Default)]
pub struct Env {
    names: Vec<String>,
    scope: Scope,
}

/// A compiled expression.
#[derive(Debug)]
pub struct Program {
    root: Node,
    ty: Type,
    names: Arc<[String]>,
    used: BTreeSet<String>,
    ast: crate::ast::Ast,
    checked: Checked,
}

/// Values for the variables of an environment.
#[derive(Default)]
pub struct Variables<'a> {
    values: BTreeMap<String, Value<'a>>,
    authorizer: Option<&'a dyn Authorizer>,
}

/// What came of an evaluation, and what was spent on it.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// The value, or why there is none.
    pub value: Result<Value<'a>, EvalError>,
    /// The cost.
    pub cost: u64,
}

impl Env {
    /// With the standard functions and Kubernetes', and no variable.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a variable whose values are JSON of this shape.
    #[must_use]
    pub fn with_data(mut self, name: &str, decl: &Arc<Decl>) -> Self {
        decl.objects(&mut self.scope.objects);
        let ty = decl.ty();
        self.with(name, ty)
    }

    /// Adds a variable.
    #[must_use]
    pub fn with(mut self, name: &str, ty: Type) -> Self {
        if self.scope.variables.insert(name.to_owned(), ty).is_none() {
            self.names.push(name.to_owned());
        }
        self
    }

    /// Adds the variable `authorizer`, or another of its type.
    #[must_use]
    pub fn with_authorizer(self, name: &str) -> Self {
        self.with(name, Type::Opaque("kubernetes.authorization.Authorizer"))
    }

    /// Adds a question that is already about one resource, as `authorizer.requestResource`.
    #[must_use]
    pub fn with_resource_check(self, name: &str) -> Self {
        self.with(name, Type::Opaque("kubernetes.authorization.ResourceCheck"))
    }

    /// Adds an object type by name whose fields have types that no JSON has.
    #[must_use]
    pub fn with_object(mut self, name: &str, fields: BTreeMap<String, Type>) -> Self {
        self.scope.computed.insert(name.into(), fields);
        self
    }

    /// Lets expressions make `Object{...}` and `JSONPatch{...}`.
    #[must_use]
    pub fn with_mutation(mut self) -> Self {
        self.scope.mutation = true;
        self
    }

    /// Parses, checks and prepares a source.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn compile(&self, source: &str) -> Result<Program, Issues> {
        let ast = parse(source)?;
        let checked = check(source, &ast, &self.scope)?;
        validate::literals(source, &ast, &checked)?;
        let mut planner = Planner::new(&checked, &self.names);
        let root = planner.plan(&ast.root).map_err(|unknown| {
            let message = format!("undeclared reference to '{}' (in container '')", unknown.0);
            Issues::one(source, Some(0), message)
        })?;
        Ok(Program {
            root,
            ty: checked.types.get(ast.root.id).cloned().unwrap_or(Type::Dyn),
            names: self.names.as_slice().into(),
            used: planner.used,
            ast,
            checked,
        })
    }
}

impl Program {
    /// The static type of its value.
    #[must_use]
    pub fn ty(&self) -> &Type {
        &self.ty
    }

    /// Whether it names this variable.
    #[must_use]
    pub fn uses(&self, variable: &str) -> bool {
        self.used.contains(variable)
    }

    /// Whether it looks at this field of this variable anywhere, by its name.
    #[must_use]
    pub fn selects(&self, variable: &str, field: &str) -> bool {
        selects(&self.ast.root, variable, field)
    }

    /// What it can cost, when its variables have the shape of `root`.
    #[must_use]
    pub fn estimate(&self, root: Option<&Decl>) -> Span {
        estimate(&self.ast.root, &self.checked, root)
    }

    /// Evaluates it; costs beyond `limit` end it.
    #[must_use]
    pub fn eval<'a>(&'a self, variables: &Variables<'a>, limit: u64) -> Outcome<'a> {
        let values = self
            .names
            .iter()
            .map(|name| variables.values.get(name).cloned())
            .collect();
        let mut context = Context::new(values, limit, variables.authorizer);
        let value = context.eval(&self.root);
        Outcome {
            value,
            cost: context.cost(),
        }
    }
}

impl<'a> Variables<'a> {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a variable its value.
    pub fn set(&mut self, name: &str, value: Value<'a>) {
        self.values.insert(name.to_owned(), value);
    }

    /// Makes `name` the authorizer that is asked for this user.
    pub fn set_authorizer(&mut self, name: &str, authorizer: &'a dyn Authorizer) {
        self.authorizer = Some(authorizer);
        self.set(name, Value::extension(Extension::Authorizer(None)));
    }

    /// Makes `name` a question about one resource.
    pub fn set_resource_check(&mut self, name: &str, question: crate::extension::Question) {
        self.set(name, Value::extension(Extension::ResourceCheck(question)));
    }
}

impl Clone for Variables<'_> {
    fn clone(&self) -> Self {
        Self {
            values: self.values.clone(),
            authorizer: self.authorizer,
        }
    }
}
