//! Static types, and how they unify.
//!
//! Invariant: a type that the checker keeps has at most [`LARGEST`] parts, so walking one is cheap.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Parts that a type may have; expressions that double a type at each step reach it soon.
pub(crate) const LARGEST: usize = 1_000;

/// A static type.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Type {
    /// The type of what did not check.
    Error,
    /// Checked at run time only.
    Dyn,
    /// The type of `null`.
    Null,
    /// `bool`.
    Bool,
    /// `int`, of 64 bits.
    Int,
    /// `uint`, of 64 bits.
    Uint,
    /// `double`.
    Double,
    /// `string`.
    String,
    /// `bytes`.
    Bytes,
    /// A span of time.
    Duration,
    /// A point in time.
    Timestamp,
    /// The type of types.
    Type(Option<Arc<Type>>),
    /// `list(element)`.
    List(Arc<Type>),
    /// `map(key, value)`.
    Map(Arc<Type>, Arc<Type>),
    /// `optional_type(value)`.
    Optional(Arc<Type>),
    /// A type without fields that a library brings.
    Opaque(&'static str),
    /// A type with fields, declared under this name.
    Object(Arc<str>),
    /// A type that is still to be found.
    Param(u32),
}

impl Type {
    /// A list of these.
    #[must_use]
    pub fn list(element: Type) -> Self {
        Self::List(Arc::new(element))
    }

    /// A map from these to those.
    #[must_use]
    pub fn map(key: Type, value: Type) -> Self {
        Self::Map(Arc::new(key), Arc::new(value))
    }

    pub(crate) fn optional(value: Type) -> Self {
        Self::Optional(Arc::new(value))
    }

    /// An optional's own type, and whether it was one.
    pub(crate) fn unwrapped(&self) -> (&Type, bool) {
        match self {
            Self::Optional(inner) => (inner, true),
            other => (other, false),
        }
    }

    pub(crate) fn is_dyn_or_error(&self) -> bool {
        matches!(self, Self::Dyn | Self::Error)
    }

    /// Whether values of it have one size.
    pub(crate) fn is_scalar(&self) -> bool {
        match self {
            Self::Bool
            | Self::Double
            | Self::Duration
            | Self::Int
            | Self::Timestamp
            | Self::Uint => true,
            Self::Optional(inner) => inner.is_scalar(),
            _ => false,
        }
    }

    fn params(&self) -> [Option<&Type>; 2] {
        match self {
            Self::List(inner) | Self::Optional(inner) => [Some(inner), None],
            Self::Type(Some(inner)) => [Some(inner), None],
            Self::Map(key, value) => [Some(key), Some(value)],
            _ => [None, None],
        }
    }

    /// Whether it has no more than so many parts.
    pub(crate) fn fits(&self, budget: &mut usize) -> bool {
        if *budget == 0 {
            return false;
        }
        *budget -= 1;
        self.params()
            .into_iter()
            .flatten()
            .all(|inner| inner.fits(budget))
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error => f.write_str("!error!"),
            Self::Dyn => f.write_str("dyn"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Duration => f.write_str("duration"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Type(None) => f.write_str("type"),
            Self::Type(Some(inner)) => write!(f, "type({inner})"),
            Self::List(inner) => write!(f, "list({inner})"),
            Self::Map(key, value) => write!(f, "map({key}, {value})"),
            Self::Optional(inner) => write!(f, "optional_type({inner})"),
            Self::Opaque(name) => f.write_str(name),
            Self::Object(name) => f.write_str(name),
            Self::Param(number) => write!(f, "_var{number}"),
        }
    }
}

/// What is known of type parameters. What an attempt learned can be taken back.
#[derive(Debug, Default)]
pub(crate) struct Mapping {
    known: HashMap<u32, Type>,
    trail: Vec<(u32, Option<Type>)>,
    next: u32,
}

impl Mapping {
    /// A parameter of which nothing is known.
    pub(crate) fn fresh(&mut self) -> Type {
        self.next += 1;
        Type::Param(self.next - 1)
    }

    fn set(&mut self, param: u32, ty: Type) {
        let old = self.known.insert(param, ty);
        self.trail.push((param, old));
    }

    /// Whether each of these can stand where that one is wanted; learns only if so.
    pub(crate) fn assignable(&mut self, pairs: &[(&Type, &Type)]) -> bool {
        let fits = pairs.iter().all(|(one, other)| self.unify(one, other));
        if fits {
            self.trail.clear();
        } else {
            while let Some((param, old)) = self.trail.pop() {
                match old {
                    Some(old) => self.known.insert(param, old),
                    None => self.known.remove(&param),
                };
            }
        }
        fits
    }

    fn unify(&mut self, one: &Type, other: &Type) -> bool {
        if let Type::Param(param) = other {
            let (valid, known) = self.substitution(one, *param);
            if valid || known {
                return valid;
            }
        }
        if let Type::Param(param) = one {
            return self.substitution(other, *param).0;
        }
        if one.is_dyn_or_error() || other.is_dyn_or_error() {
            return true;
        }
        match (one, other) {
            (Type::Null, other) => nullable(other),
            (one, Type::Null) => nullable(one),
            (Type::Type(_), Type::Type(_)) => true,
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => {
                self.unify(a, b)
            }
            (Type::Map(a, c), Type::Map(b, d)) => self.unify(a, b) && self.unify(c, d),
            (one, other) => one == other,
        }
    }

    /// Whether a type may stand for a parameter, and whether another does already.
    fn substitution(&mut self, ty: &Type, param: u32) -> (bool, bool) {
        if *ty == Type::Param(param) {
            return (true, true);
        }
        if let Some(known) = self.known.get(&param).cloned() {
            if *ty == known {
                return (true, true);
            }
            if self.unify(ty, &known) {
                let general = most_general(ty, &known);
                if self.absent(param, &general) {
                    self.set(param, general);
                }
                return (true, true);
            }
            return (false, true);
        }
        if self.absent(param, ty) {
            self.set(param, ty.clone());
            return (true, false);
        }
        (false, false)
    }

    fn absent(&self, param: u32, within: &Type) -> bool {
        match within {
            Type::Param(other) if *other == param => false,
            Type::Param(other) => self
                .known
                .get(other)
                .is_none_or(|ty| self.absent(param, ty)),
            ty => ty
                .params()
                .into_iter()
                .flatten()
                .all(|inner| self.absent(param, inner)),
        }
    }

    /// The type with everything in place that is known; what is not may become `dyn`.
    pub(crate) fn resolve(&self, ty: &Type, to_dyn: bool) -> Type {
        self.within(ty, to_dyn, &mut { LARGEST })
    }

    fn within(&self, ty: &Type, to_dyn: bool, budget: &mut usize) -> Type {
        if *budget == 0 {
            return Type::Dyn;
        }
        *budget -= 1;
        match ty {
            Type::Param(param) => match self.known.get(param) {
                Some(known) => self.within(known, to_dyn, budget),
                None if to_dyn => Type::Dyn,
                None => ty.clone(),
            },
            Type::List(inner) => Type::list(self.within(inner, to_dyn, budget)),
            Type::Optional(inner) => Type::optional(self.within(inner, to_dyn, budget)),
            Type::Type(Some(inner)) => {
                Type::Type(Some(Arc::new(self.within(inner, to_dyn, budget))))
            }
            Type::Map(key, value) => {
                let key = self.within(key, to_dyn, budget);
                Type::map(key, self.within(value, to_dyn, budget))
            }
            other => other.clone(),
        }
    }
}

fn nullable(ty: &Type) -> bool {
    matches!(
        ty,
        Type::Null
            | Type::Opaque(_)
            | Type::Optional(_)
            | Type::Object(_)
            | Type::Duration
            | Type::Timestamp
    )
}

/// The more general of two that unify.
pub(crate) fn most_general(one: &Type, other: &Type) -> Type {
    if less_specific(one, other) {
        one.clone()
    } else {
        other.clone()
    }
}

fn less_specific(one: &Type, other: &Type) -> bool {
    match (one, other) {
        (Type::Dyn | Type::Param(_), _) => true,
        (_, Type::Dyn | Type::Param(_)) => false,
        (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => {
            less_specific(a, b)
        }
        (Type::Map(a, c), Type::Map(b, d)) => less_specific(a, b) && less_specific(c, d),
        (Type::Type(_), Type::Type(_)) => true,
        (one, other) => one == other,
    }
}
