//! The checker: gives every expression a type, and every call the overloads that it may be.
//!
//! Invariant: what passes fails at run time only where `dyn` hid a type.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ast::{
    Ast, Comprehension, Element, Entry, Expr, Field, Id, Kind, Literal, qualified_name,
};
use crate::decl::{Decl, Shape};
use crate::issue::Issues;
use crate::signatures::{Overload, overloads, type_of_name};
use crate::types::{LARGEST, Mapping, Type, most_general};

/// What names mean where an expression stands.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    pub(crate) variables: BTreeMap<String, Type>,
    pub(crate) objects: BTreeMap<Arc<str>, Arc<Decl>>,
    /// Objects whose fields are no JSON.
    pub(crate) computed: BTreeMap<Arc<str>, BTreeMap<String, Type>>,
    /// Whether `Object{}` and `JSONPatch{}` can be made.
    pub(crate) mutation: bool,
}

/// What a name turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reference {
    /// A variable of the environment.
    Variable(String),
    /// A variable of a loop.
    Local(String),
    /// A type as a value.
    Type(Type),
    /// The overloads that a call may be, and the function's whole name.
    Function(String, Vec<&'static str>),
}

/// The result: by expression id.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) types: Vec<Type>,
    pub(crate) references: Vec<Option<Reference>>,
}

struct Checker<'a> {
    scope: &'a Scope,
    positions: &'a [usize],
    locals: Vec<(String, Type)>,
    mapping: Mapping,
    types: Vec<Type>,
    references: Vec<Option<Reference>>,
    issues: Issues,
}

/// Checks a tree.
pub(crate) fn check(source: &str, ast: &Ast, scope: &Scope) -> Result<Checked, Issues> {
    let mut checker = Checker {
        scope,
        positions: &ast.positions,
        locals: Vec::new(),
        mapping: Mapping::default(),
        types: vec![Type::Error; ast.positions.len()],
        references: vec![None; ast.positions.len()],
        issues: Issues::new(source),
    };
    checker.check(&ast.root);
    if !checker.issues.is_empty() {
        return Err(checker.issues);
    }
    let mapping = checker.mapping;
    let types = checker.types;
    Ok(Checked {
        types: types.iter().map(|ty| mapping.resolve(ty, true)).collect(),
        references: checker.references,
    })
}

impl Checker<'_> {
    fn fault(&mut self, id: Id, message: String) {
        self.issues.add(self.positions.get(id).copied(), message);
    }

    fn set(&mut self, id: Id, ty: Type) {
        let ty = if ty.fits(&mut { LARGEST }) {
            ty
        } else {
            self.fault(id, "the type of the expression is too large".into());
            Type::Error
        };
        if let Some(slot) = self.types.get_mut(id) {
            *slot = ty;
        }
    }

    fn refer(&mut self, id: Id, reference: Reference) {
        if let Some(slot) = self.references.get_mut(id) {
            *slot = Some(reference);
        }
    }

    fn ty(&self, expr: &Expr) -> Type {
        self.types.get(expr.id).cloned().unwrap_or(Type::Error)
    }

    fn check(&mut self, expr: &Expr) {
        let ty = match &expr.kind {
            Kind::Literal(literal) => of_literal(literal),
            Kind::Ident(name) => self.ident(expr.id, name),
            Kind::Select {
                operand,
                field,
                test,
            } => self.select(expr, operand, field, *test),
            Kind::Call {
                function,
                target,
                args,
            } => self.call(expr, function, target.as_deref(), args),
            Kind::List(elements) => self.list(elements),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct { name, fields } => self.structure(expr.id, name, fields),
            Kind::Comprehension(comprehension) => self.comprehension(comprehension),
        };
        self.set(expr.id, ty);
    }

    fn lookup(&self, name: &str) -> Option<(Type, Reference)> {
        if let Some((_, ty)) = self.locals.iter().rev().find(|(local, _)| local == name) {
            return Some((ty.clone(), Reference::Local(name.to_owned())));
        }
        if let Some(ty) = self.scope.variables.get(name) {
            return Some((ty.clone(), Reference::Variable(name.to_owned())));
        }
        let ty = type_of_name(name)
            .or_else(|| self.scope.objects.get(name).map(|decl| decl.ty()))
            .or_else(|| self.constructed(name))?;
        Some((Type::Type(Some(Arc::new(ty.clone()))), Reference::Type(ty)))
    }

    fn constructed(&self, name: &str) -> Option<Type> {
        let known = name == "JSONPatch" || name == "Object" || name.starts_with("Object.");
        (self.scope.mutation && known).then(|| Type::Object(name.into()))
    }

    fn undeclared(&mut self, id: Id, name: &str) {
        self.fault(
            id,
            format!("undeclared reference to '{name}' (in container '')"),
        );
    }

    fn ident(&mut self, id: Id, name: &str) -> Type {
        match self.lookup(name) {
            Some((ty, reference)) => {
                self.refer(id, reference);
                ty
            }
            None => {
                self.undeclared(id, name);
                Type::Error
            }
        }
    }

    fn select(&mut self, expr: &Expr, operand: &Expr, field: &str, test: bool) -> Type {
        let known = qualified_name(expr).and_then(|name| self.lookup(&name));
        if let Some((ty, reference)) = known {
            self.refer(expr.id, reference);
            return ty;
        }
        let ty = self.select_field(expr.id, operand, field, false);
        if test {
            Type::Bool
        } else {
            self.mapping.resolve(&ty, false)
        }
    }

    fn select_field(&mut self, id: Id, operand: &Expr, field: &str, optional: bool) -> Type {
        self.check(operand);
        let operand_type = self.mapping.resolve(&self.ty(operand), false);
        let (target, was_optional) = operand_type.unwrapped();
        let found = match target {
            Type::Map(_, value) => (**value).clone(),
            Type::Object(name) => self.field_type(id, name, field),
            Type::Param(_) => {
                self.mapping.assignable(&[(&Type::Dyn, target)]);
                Type::Dyn
            }
            Type::Dyn | Type::Error => Type::Dyn,
            other => {
                self.fault(
                    id,
                    format!("type '{other}' does not support field selection"),
                );
                Type::Dyn
            }
        };
        if optional || was_optional {
            Type::optional(found)
        } else {
            found
        }
    }

    fn field_type(&mut self, id: Id, object: &str, field: &str) -> Type {
        if self.scope.mutation {
            match (object, field) {
                ("JSONPatch", "op" | "path" | "from") => return Type::String,
                ("JSONPatch", "value") => return Type::Dyn,
                ("JSONPatch", _) => {}
                _ if object == "Object" || object.starts_with("Object.") => return Type::Dyn,
                _ => {}
            }
        }
        let found = self
            .scope
            .objects
            .get(object)
            .and_then(|decl| match &decl.shape {
                Shape::Object(_, fields) => fields.get(field).map(|field| field.decl.ty()),
                _ => None,
            });
        let computed = || self.scope.computed.get(object)?.get(field).cloned();
        found.or_else(computed).unwrap_or_else(|| {
            self.fault(id, format!("undefined field '{field}'"));
            Type::Error
        })
    }

    fn call(&mut self, expr: &Expr, function: &str, target: Option<&Expr>, args: &[Expr]) -> Type {
        if function == "_?._"
            && let [operand, field] = args
            && let Kind::Literal(Literal::String(name)) = &field.kind
        {
            let ty = self.select_field(expr.id, operand, name, true);
            self.set(field.id, Type::String);
            let reference = Reference::Function(function.to_owned(), vec!["select_optional_field"]);
            self.refer(expr.id, reference);
            return self.mapping.resolve(&ty, false);
        }
        for arg in args {
            self.check(arg);
        }
        if let Some(target) = target {
            let qualified = qualified_name(target).map(|name| format!("{name}.{function}"));
            if let Some(name) = qualified
                && let Some(all) = overloads(&name)
            {
                return self.resolve(expr, &name, all, None, args);
            }
            self.check(target);
        }
        match overloads(function) {
            Some(all) => self.resolve(expr, function, all, target, args),
            None => {
                self.undeclared(expr.id, function);
                Type::Error
            }
        }
    }

    fn resolve(
        &mut self,
        expr: &Expr,
        function: &str,
        all: &'static [Overload],
        target: Option<&Expr>,
        args: &[Expr],
    ) -> Type {
        let given: Vec<Type> = target
            .into_iter()
            .chain(args)
            .map(|arg| self.ty(arg))
            .collect();
        if matches!(function, "_&&_" | "_||_") {
            return self.logic(expr, function, all, args, &given);
        }
        let mut ids = Vec::new();
        let mut result: Option<Type> = None;
        for overload in all
            .iter()
            .filter(|overload| overload.member == target.is_some())
        {
            if overload.args.len() != given.len() {
                continue;
            }
            let params: Vec<Type> = (0..overload.params).map(|_| self.mapping.fresh()).collect();
            let wanted: Vec<Type> = overload
                .args
                .iter()
                .map(|arg| instantiate(arg, &params))
                .collect();
            let pairs: Vec<_> = given.iter().zip(&wanted).collect();
            if !self.mapping.assignable(&pairs) {
                continue;
            }
            ids.push(overload.id);
            let returned = instantiate(&overload.result, &params);
            let returned = self.mapping.resolve(&returned, false);
            result = Some(match result {
                None => returned,
                Some(Type::Dyn) => Type::Dyn,
                Some(first) if first == returned => first,
                Some(_) => Type::Dyn,
            });
        }
        let Some(result) = result else {
            let message = self.no_overload(function, &given, target.is_some());
            self.fault(expr.id, message);
            return Type::Error;
        };
        self.refer(expr.id, Reference::Function(function.to_owned(), ids));
        result
    }

    fn no_overload(&self, function: &str, given: &[Type], member: bool) -> String {
        let shown: Vec<String> = given
            .iter()
            .map(|ty| self.mapping.resolve(ty, true).to_string())
            .collect();
        let signature = match shown.split_first() {
            Some((target, args)) if member => format!("{target}.({})", args.join(", ")),
            _ => format!("({})", shown.join(", ")),
        };
        format!("found no matching overload for '{function}' applied to '{signature}'")
    }

    fn logic(
        &mut self,
        expr: &Expr,
        function: &str,
        all: &'static [Overload],
        args: &[Expr],
        given: &[Type],
    ) -> Type {
        let mut right = true;
        for (arg, ty) in args.iter().zip(given) {
            right &= self.expect(arg.id, &Type::Bool, ty);
        }
        if !right {
            return Type::Error;
        }
        let ids = all.iter().map(|overload| overload.id).collect();
        self.refer(expr.id, Reference::Function(function.to_owned(), ids));
        Type::Bool
    }

    fn expect(&mut self, id: Id, wanted: &Type, found: &Type) -> bool {
        let fits = self.mapping.assignable(&[(wanted, found)]);
        if !fits {
            self.fault(id, format!("expected type '{wanted}' but found '{found}'"));
        }
        fits
    }

    fn join(&mut self, id: Id, previous: Option<Type>, current: Type) -> Option<Type> {
        let Some(previous) = previous else {
            return Some(current);
        };
        if self.mapping.assignable(&[(&previous, &current)]) {
            return Some(most_general(&previous, &current));
        }
        self.fault(
            id,
            format!("expected type '{previous}' but found '{current}'"),
        );
        Some(Type::Error)
    }

    /// The type of a value that may be written `?value`.
    fn maybe(&mut self, value: &Expr, optional: bool) -> Type {
        let ty = self.ty(value);
        if !optional {
            return ty;
        }
        let (inner, was) = ty.unwrapped();
        if !was && *inner != Type::Dyn {
            let message = format!("expected type 'optional_type({inner})' but found '{inner}'");
            self.fault(value.id, message);
        }
        inner.clone()
    }

    fn list(&mut self, elements: &[Element]) -> Type {
        let mut joined = None;
        for element in elements {
            self.check(&element.value);
            let ty = self.maybe(&element.value, element.optional);
            joined = self.join(element.value.id, joined, ty);
        }
        let element = joined.unwrap_or_else(|| self.mapping.fresh());
        Type::list(element)
    }

    fn map(&mut self, entries: &[Entry]) -> Type {
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            self.check(&entry.key);
            let ty = self.ty(&entry.key);
            keys = self.join(entry.key.id, keys, ty);
            self.check(&entry.value);
            let ty = self.maybe(&entry.value, entry.optional);
            values = self.join(entry.value.id, values, ty);
        }
        let key = keys.unwrap_or_else(|| self.mapping.fresh());
        let value = values.unwrap_or_else(|| self.mapping.fresh());
        Type::map(key, value)
    }

    fn structure(&mut self, id: Id, name: &str, fields: &[Field]) -> Type {
        let ty = match self.lookup(name) {
            Some((_, Reference::Type(ty @ Type::Object(_))))
                if self.constructed(name).is_some() =>
            {
                ty
            }
            Some((_, Reference::Type(_))) => {
                self.fault(id, format!("'{name}' is not a message type"));
                Type::Error
            }
            Some(_) => {
                self.fault(id, format!("'{name}' is not a type"));
                Type::Error
            }
            None => {
                self.undeclared(id, name);
                return Type::Error;
            }
        };
        for field in fields {
            self.check(&field.value);
            let wanted = match &ty {
                Type::Object(name) => self.field_type(field.id, &name.clone(), &field.name),
                _ => Type::Error,
            };
            let given = self.maybe(&field.value, field.optional);
            if !self.mapping.assignable(&[(&wanted, &given)]) {
                let message = format!(
                    "expected type of field '{}' is '{wanted}' but provided type is '{given}'",
                    field.name
                );
                self.fault(field.id, message);
            }
        }
        ty
    }

    fn comprehension(&mut self, loops: &Comprehension) -> Type {
        self.check(&loops.range);
        self.check(&loops.init);
        let range = self.mapping.resolve(&self.ty(&loops.range), false);
        let accu = self.ty(&loops.init);
        let (var, var2) = match &range {
            Type::List(element) => match loops.var2 {
                Some(_) => (Type::Int, (**element).clone()),
                None => ((**element).clone(), Type::Dyn),
            },
            Type::Map(key, value) => ((**key).clone(), (**value).clone()),
            Type::Dyn | Type::Error | Type::Param(_) => {
                self.mapping.assignable(&[(&Type::Dyn, &range)]);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.fault(loops.range.id, message);
                (Type::Error, Type::Error)
            }
        };
        let outside = self.locals.len();
        self.locals.push((loops.accu.clone(), accu.clone()));
        self.locals.push((loops.var.clone(), var));
        if let Some(name) = &loops.var2 {
            self.locals.push((name.clone(), var2));
        }
        self.check(&loops.condition);
        let ty = self.ty(&loops.condition);
        self.expect(loops.condition.id, &Type::Bool, &ty);
        self.check(&loops.step);
        let ty = self.ty(&loops.step);
        self.expect(loops.step.id, &accu, &ty);
        self.locals.truncate(outside + 1);
        self.check(&loops.result);
        self.locals.truncate(outside);
        self.mapping.resolve(&self.ty(&loops.result), false)
    }
}

fn of_literal(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}

fn instantiate(ty: &Type, params: &[Type]) -> Type {
    let inner = |ty: &Type| Arc::new(instantiate(ty, params));
    match ty {
        Type::Param(number) => usize::try_from(*number)
            .ok()
            .and_then(|number| params.get(number))
            .cloned()
            .unwrap_or(Type::Dyn),
        Type::List(element) => Type::List(inner(element)),
        Type::Map(key, value) => Type::Map(inner(key), inner(value)),
        Type::Optional(value) => Type::Optional(inner(value)),
        Type::Type(Some(named)) => Type::Type(Some(inner(named))),
        other => other.clone(),
    }
}
