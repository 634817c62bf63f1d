//! The evaluator, and what it may spend.
//!
//! Invariant: every step is charged before its result is used, and the budget ends every evaluation; the
//! recursion is as deep as the plan.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::ast::Literal;
use crate::charge;
use crate::equality;
use crate::error::EvalError;
use crate::extension::Authorizer;
use crate::functions::Function;
use crate::functions::regex::Patterns;
use crate::plan::{Fold, Node};
use crate::value::{Built, Entries, Evaluated, Key, List, Map, Object, Value};

/// Comparisons that one evaluation may make, besides what is charged.
const MOST_WORK: u64 = 20_000_000;
/// What a copied element counts.
const COPY: usize = 16;

/// The state of an evaluation.
pub struct Context<'a> {
    variables: Vec<Option<Value<'a>>>,
    locals: Vec<Evaluated<'a>>,
    cost: u64,
    limit: u64,
    work: u64,
    pub(crate) patterns: Patterns,
    pub(crate) authorizer: Option<&'a dyn Authorizer>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        variables: Vec<Option<Value<'a>>>,
        limit: u64,
        authorizer: Option<&'a dyn Authorizer>,
    ) -> Self {
        Self {
            variables,
            locals: Vec::new(),
            cost: 0,
            limit,
            work: 0,
            patterns: Patterns::default(),
            authorizer,
        }
    }

    /// What has been spent.
    #[must_use]
    pub fn cost(&self) -> u64 {
        self.cost
    }

    /// What is left.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.limit.saturating_sub(self.cost)
    }

    /// Adds to what is spent.
    ///
    /// # Errors
    /// It is more than there was.
    pub fn charge(&mut self, cost: u64) -> Result<(), EvalError> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit {
            return Err(EvalError::CostExceeded);
        }
        Ok(())
    }

    /// Counts elements that are copied, each as much as many comparisons.
    pub(crate) fn copies(&mut self, elements: usize) -> Result<(), EvalError> {
        self.work(elements.saturating_mul(COPY))
    }

    /// Counts work that upstream does not charge for, and that is yet not free.
    pub(crate) fn work(&mut self, elements: usize) -> Result<(), EvalError> {
        self.work = self.work.saturating_add(elements as u64);
        if self.work > MOST_WORK {
            return Err(EvalError::CostExceeded);
        }
        Ok(())
    }

    /// Leads to what a node is. It and what it leads to are on the stack once for each level of the
    /// plan, so that each of them is small.
    pub(crate) fn eval(&mut self, node: &'a Node) -> Evaluated<'a> {
        match node {
            Node::Literal(_) | Node::Type(_) | Node::Local(_) | Node::Variable(_) => {
                self.leaf(node)
            }
            Node::Select {
                operand,
                field,
                optional,
            } => {
                let operand = self.eval(operand);
                self.selected(operand, field, *optional)
            }
            Node::Has { operand, field } => {
                let operand = self.eval(operand);
                self.has(operand, field)
            }
            Node::Index {
                operand,
                index,
                optional,
            } => self.index(operand, index, *optional),
            Node::Call {
                function,
                name,
                overload,
                args,
            } => {
                let args = self.arguments(args);
                self.call(*function, name, overload, args)
            }
            Node::And(left, right) => self.logic(left, right, false),
            Node::Or(left, right) => self.logic(left, right, true),
            Node::If(condition, yes, no) => match self.eval(condition) {
                Ok(Value::Bool(true)) => self.eval(yes),
                Ok(Value::Bool(false)) => self.eval(no),
                Ok(_) => Err(EvalError::NoSuchOverload),
                error => error,
            },
            Node::NotStrictlyFalse(inner) => self.not_strictly_false(inner),
            Node::OptionalOr {
                optional,
                other,
                unwrap,
            } => self.optional_or(optional, other, *unwrap),
            Node::List(elements) => self.list(elements),
            Node::Map(entries) => self.map(entries),
            Node::Struct { name, fields } => self.structure(name, fields),
            Node::Append(slot, elements) => self.append(*slot, elements),
            Node::Insert(slot, args) => self.insert(*slot, args),
            Node::Fold(fold) => self.fold(fold),
            Node::Bind { value, result } => self.bind(value, result),
        }
    }

    /// What has nothing below it.
    fn leaf(&mut self, node: &'a Node) -> Evaluated<'a> {
        match node {
            Node::Literal(literal) => return Ok(of_literal(literal)),
            _ => self.charge(1)?,
        }
        match node {
            Node::Type(ty) => Ok(Value::Type(ty.clone())),
            Node::Local(slot) => self.locals.get(*slot).cloned().unwrap_or(Ok(Value::Null)),
            Node::Variable(slot) => {
                let found = self.variables.get(*slot).cloned().flatten();
                found.ok_or_else(|| EvalError::failed("no such attribute: a variable has no value"))
            }
            _ => Err(EvalError::NoSuchOverload),
        }
    }

    fn selected(&mut self, operand: Evaluated<'a>, field: &str, optional: bool) -> Evaluated<'a> {
        let operand = operand?;
        self.charge(1)?;
        self.select(&operand, field, optional)
    }

    fn index(&mut self, operand: &'a Node, index: &'a Node, optional: bool) -> Evaluated<'a> {
        let operand = self.eval(operand)?;
        let index = self.eval(index)?;
        self.charge(1)?;
        index_optional(&operand, &index, optional)
    }

    fn arguments(&mut self, args: &'a [Node]) -> Result<Vec<Value<'a>>, EvalError> {
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            values.push(self.eval(arg)?);
        }
        Ok(values)
    }

    fn call(
        &mut self,
        function: Function,
        name: &str,
        overload: &str,
        args: Result<Vec<Value<'a>>, EvalError>,
    ) -> Evaluated<'a> {
        let args = args?;
        let result = function(self, &args)?;
        let cost = charge::call(name, overload, &args, &result);
        self.charge(cost)?;
        Ok(result)
    }

    fn not_strictly_false(&mut self, inner: &'a Node) -> Evaluated<'a> {
        let value = self.eval(inner);
        if let Err(fatal @ EvalError::CostExceeded) = value {
            return Err(fatal);
        }
        self.charge(1)?;
        Ok(Value::Bool(!matches!(value, Ok(Value::Bool(false)))))
    }

    fn optional_or(&mut self, optional: &'a Node, other: &'a Node, unwrap: bool) -> Evaluated<'a> {
        match self.eval(optional)? {
            Value::Optional(Some(value)) if unwrap => Ok((*value).clone()),
            some @ Value::Optional(Some(_)) => Ok(some),
            Value::Optional(None) => self.eval(other),
            _ => Err(EvalError::NoSuchOverload),
        }
    }

    fn list(&mut self, elements: &'a [(Node, bool)]) -> Evaluated<'a> {
        let items = self.elements(elements)?;
        self.charge(charge::LIST)?;
        Ok(Value::built_list(items))
    }

    fn bind(&mut self, value: &'a Node, result: &'a Node) -> Evaluated<'a> {
        self.charge(charge::LIST)?;
        let value = self.eval(value);
        if let Err(fatal @ EvalError::CostExceeded) = value {
            return Err(fatal);
        }
        self.locals.push(value);
        let result = self.eval(result);
        self.locals.pop();
        result
    }

    /// `&&` and `||`: one side that decides absorbs what is wrong with the other.
    fn logic(&mut self, left: &'a Node, right: &'a Node, decisive: bool) -> Evaluated<'a> {
        let left = self.eval(left);
        match &left {
            Ok(Value::Bool(value)) if *value == decisive => return left,
            Err(error) if error.is_fatal() => return left,
            _ => {}
        }
        let right = self.eval(right);
        match (&left, &right) {
            (_, Err(error)) if error.is_fatal() => right,
            (_, Ok(Value::Bool(value))) if *value == decisive => right,
            (Err(_), _) => left,
            (_, Err(_)) => right,
            (Ok(Value::Bool(_)), Ok(Value::Bool(_))) => right,
            _ => Err(EvalError::NoSuchOverload),
        }
    }

    fn find(&mut self, operand: &Value<'a>, field: &str) -> Result<Option<Value<'a>>, EvalError> {
        match operand {
            Value::Object(object) => object.get(field).transpose(),
            Value::Map(map) => map
                .get(&Key::String(crate::value::Text::Shared(field.into())))
                .transpose(),
            Value::Lazy(fields) => Rc::clone(fields).get(self, field).transpose(),
            _ => Err(EvalError::NoSuchOverload),
        }
    }

    fn select(&mut self, operand: &Value<'a>, field: &str, optional: bool) -> Evaluated<'a> {
        match operand {
            Value::Optional(None) => Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => {
                let found = self.find(inner, field)?;
                Ok(Value::Optional(found.map(Rc::new)))
            }
            operand if optional => {
                let found = self.find(operand, field)?;
                Ok(Value::Optional(found.map(Rc::new)))
            }
            operand => self
                .find(operand, field)?
                .ok_or_else(|| EvalError::failed(format!("no such key: {field}"))),
        }
    }

    fn has(&mut self, operand: Evaluated<'a>, field: &str) -> Evaluated<'a> {
        let found = match &operand? {
            Value::Optional(None) => None,
            Value::Optional(Some(inner)) => self.find(inner, field)?,
            operand => self.find(operand, field)?,
        };
        Ok(Value::Bool(found.is_some()))
    }

    fn elements(&mut self, elements: &'a [(Node, bool)]) -> Result<Vec<Value<'a>>, EvalError> {
        let mut items = Vec::with_capacity(elements.len());
        for (element, optional) in elements {
            let value = self.eval(element)?;
            items.extend(unwrap_if(value, *optional)?);
        }
        Ok(items)
    }

    fn map(&mut self, entries: &'a [(Node, Node, bool)]) -> Evaluated<'a> {
        let mut map = Entries::new();
        for (key, value, optional) in entries {
            let key = self.eval(key)?;
            let value = self.eval(value)?;
            let Some(value) = unwrap_if(value, *optional)? else {
                continue;
            };
            let name = key
                .key()
                .ok_or_else(|| EvalError::failed(format!("unsupported key type: {}", key.ty())))?;
            if map.insert(name, (key.clone(), value)).is_some() {
                return Err(EvalError::failed(format!(
                    "Failed with repeated key {key:?}"
                )));
            }
        }
        self.charge(charge::MAP)?;
        Ok(Value::built_map(map))
    }

    fn structure(&mut self, name: &str, fields: &'a [(String, Node, bool)]) -> Evaluated<'a> {
        let mut set = BTreeMap::new();
        for (field, value, optional) in fields {
            let value = self.eval(value)?;
            if let Some(value) = unwrap_if(value, *optional)? {
                set.insert(field.clone(), value);
            }
        }
        self.charge(charge::STRUCT)?;
        Ok(Value::Object(Object::Built(Rc::new(Built {
            name: name.into(),
            fields: set,
        }))))
    }

    /// Takes what a loop has gathered out of its place; the step puts back what it becomes.
    fn take(&mut self, slot: usize) -> Evaluated<'a> {
        match self.locals.get_mut(slot) {
            Some(place) => std::mem::replace(place, Ok(Value::Null)),
            None => Ok(Value::Null),
        }
    }

    fn append(&mut self, slot: usize, elements: &'a [(Node, bool)]) -> Evaluated<'a> {
        let items = self.elements(elements)?;
        self.charge(1 + charge::LIST + 1)?;
        let Value::List(List::Built(mut list)) = self.take(slot)? else {
            return Err(EvalError::NoSuchOverload);
        };
        if Rc::get_mut(&mut list).is_none() {
            self.copies(list.len())?;
        }
        Rc::make_mut(&mut list).extend(items);
        Ok(Value::List(List::Built(list)))
    }

    fn insert(&mut self, slot: usize, args: &'a [Node]) -> Evaluated<'a> {
        let values = self.arguments(args)?;
        self.charge(2)?;
        let Value::Map(Map::Built(mut map)) = self.take(slot)? else {
            return Err(EvalError::NoSuchOverload);
        };
        if Rc::get_mut(&mut map).is_none() {
            self.copies(map.len())?;
        }
        let entries = Rc::make_mut(&mut map);
        let mut put = |key: Value<'a>, value: Value<'a>| {
            let name = key.key().ok_or(EvalError::NoSuchOverload)?;
            if entries.contains_key(&name) {
                return Err(EvalError::failed(format!(
                    "insert failed: key {key:?} already exists"
                )));
            }
            entries.insert(name, (key, value));
            Ok(())
        };
        match values.as_slice() {
            [key, value] => put(key.clone(), value.clone())?,
            [Value::Map(more)] => {
                for entry in more.iter() {
                    let (key, value) = entry?;
                    put(key, value)?;
                }
            }
            _ => return Err(EvalError::NoSuchOverload),
        }
        Ok(Value::Map(Map::Built(map)))
    }

    fn fold(&mut self, fold: &'a Fold) -> Evaluated<'a> {
        let range = self.eval(&fold.range)?;
        let init = self.eval(&fold.init)?;
        let base = self.locals.len();
        self.locals.push(Ok(init));
        let looped = self.turns(fold, base, &range);
        self.locals.truncate(base + 1);
        let result = looped.and_then(|()| self.eval(&fold.result));
        self.locals.truncate(base);
        result
    }

    fn turns(&mut self, fold: &'a Fold, base: usize, range: &Value<'a>) -> Result<(), EvalError> {
        match range {
            Value::List(list) => {
                for (index, element) in list.iter().enumerate() {
                    let position = Value::Int(i64::try_from(index).unwrap_or(i64::MAX));
                    let element = element?;
                    let vars = if fold.two {
                        (position, Some(element))
                    } else {
                        (element, None)
                    };
                    if !self.turn(fold, base, vars)? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for entry in map.iter() {
                    let (key, value) = entry?;
                    if !self.turn(fold, base, (key, fold.two.then_some(value)))? {
                        break;
                    }
                }
            }
            _ => return Err(EvalError::NoSuchOverload),
        }
        Ok(())
    }

    fn turn(
        &mut self,
        fold: &'a Fold,
        base: usize,
        vars: (Value<'a>, Option<Value<'a>>),
    ) -> Result<bool, EvalError> {
        self.locals.truncate(base + 1);
        self.locals.push(Ok(vars.0));
        self.locals.extend(vars.1.map(Ok));
        if !matches!(self.eval(&fold.condition)?, Value::Bool(true)) {
            return Ok(false);
        }
        let step = self.eval(&fold.step);
        if let Err(error) = &step
            && (error.is_fatal() || !fold.absorbs)
        {
            return Err(error.clone());
        }
        if let Some(place) = self.locals.get_mut(base) {
            *place = step;
        }
        Ok(true)
    }

    /// Whether two values are equal.
    pub(crate) fn equal(&mut self, one: &Value<'a>, other: &Value<'a>) -> Result<bool, EvalError> {
        equality::equal(self, one, other)
    }
}

fn unwrap_if(value: Value<'_>, optional: bool) -> Result<Option<Value<'_>>, EvalError> {
    match value {
        value if !optional => Ok(Some(value)),
        Value::Optional(inner) => Ok(inner.map(|inner| (*inner).clone())),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn index_optional<'a>(operand: &Value<'a>, index: &Value<'a>, optional: bool) -> Evaluated<'a> {
    let (inner, wrapped) = match operand {
        Value::Optional(None) => return Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => (&**inner, true),
        operand => (operand, optional),
    };
    let found = match inner {
        Value::List(list) => {
            let place = match index {
                Value::Int(place) => i128::from(*place),
                Value::Uint(place) => i128::from(*place),
                Value::Double(place) => crate::number::whole(*place).ok_or_else(|| {
                    EvalError::failed(format!("unsupported index value {place} in list"))
                })?,
                other => {
                    let message = format!("unsupported index type '{}' in list", other.ty());
                    return Err(EvalError::failed(message));
                }
            };
            let found = usize::try_from(place)
                .ok()
                .and_then(|place| list.get(place));
            if found.is_none() && !wrapped {
                return Err(EvalError::failed(format!("index out of bounds: {place}")));
            }
            found.transpose()?
        }
        Value::Map(map) => {
            let key = index.key().ok_or_else(|| {
                EvalError::failed(format!("unsupported key type: {}", index.ty()))
            })?;
            let found = map.get(&key);
            if found.is_none() && !wrapped {
                let key = crate::functions::convert::shown(index);
                return Err(EvalError::failed(format!("no such key: {key}")));
            }
            found.transpose()?
        }
        _ => return Err(EvalError::NoSuchOverload),
    };
    match found {
        found if wrapped => Ok(Value::Optional(found.map(Rc::new))),
        Some(found) => Ok(found),
        None => Err(EvalError::NoSuchOverload),
    }
}

fn of_literal(literal: &Literal) -> Value<'_> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Uint(value) => Value::Uint(*value),
        Literal::Double(value) => Value::Double(*value),
        Literal::String(text) => Value::text(text),
        Literal::Bytes(bytes) => Value::Bytes(bytes.as_slice().into()),
    }
}
