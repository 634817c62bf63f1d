//! Every function that expressions can call, with the overloads that the checker chooses from.
//!
//! Invariant: the table is data; what a function does is found by its name in `functions`.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::types::Type;

/// One way to call a function.
#[derive(Debug)]
pub(crate) struct Overload {
    pub(crate) id: &'static str,
    pub(crate) member: bool,
    pub(crate) args: Vec<Type>,
    pub(crate) result: Type,
    /// How many type parameters it has.
    pub(crate) params: u32,
}

/// One line an overload: id, name, `.` where it is called on its first argument, arguments, result.
const TABLE: &str = include_str!("signatures.txt");

/// The overloads of a function, in the order in which they are tried.
pub(crate) fn overloads(name: &str) -> Option<&'static [Overload]> {
    static FUNCTIONS: OnceLock<HashMap<&'static str, Vec<Overload>>> = OnceLock::new();
    let functions = FUNCTIONS.get_or_init(|| {
        let mut functions: HashMap<&'static str, Vec<Overload>> = HashMap::new();
        for line in TABLE.lines() {
            if let Some((name, overload)) = read(line) {
                functions.entry(name).or_default().push(overload);
            }
        }
        functions
    });
    functions.get(name).map(Vec::as_slice)
}

fn read(line: &'static str) -> Option<(&'static str, Overload)> {
    let mut words = line.split_whitespace();
    let id = words.next().filter(|id| !id.starts_with('#'))?;
    let name = words.next()?;
    let member = words.next()? == ".";
    let mut params = 0;
    let mut types: Vec<Type> = words
        .filter(|word| *word != "->")
        .map(|word| {
            let mut rest = word;
            read_type(&mut rest, &mut params)
        })
        .collect();
    let result = types.pop()?;
    let overload = Overload {
        id,
        member,
        args: types,
        result,
        params,
    };
    Some((name, overload))
}

fn read_type(text: &mut &'static str, params: &mut u32) -> Type {
    let end = text.find(['(', ')', ',']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    *text = rest;
    let mut inner = || {
        *text = text.get(1..).unwrap_or_default();
        Arc::new(read_type(text, params))
    };
    let ty = match name {
        "list" => Type::List(inner()),
        "map" => {
            let key = inner();
            Type::Map(key, inner())
        }
        "optional" => Type::Optional(inner()),
        "typeof" => Type::Type(Some(inner())),
        // `(A,B)` names the second parameter B.
        "A" | "B" => {
            let number = u32::from(name == "B");
            *params = (*params).max(number + 1);
            return Type::Param(number);
        }
        "dyn" => return Type::Dyn,
        name => return named(name).unwrap_or(Type::Opaque(name)),
    };
    *text = text.get(1..).unwrap_or_default();
    ty
}

/// A type without parameters, by the name that expressions use.
pub(crate) fn named(name: &str) -> Option<Type> {
    Some(match name {
        "null" | "null_type" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "duration" | "google.protobuf.Duration" => Type::Duration,
        "timestamp" | "google.protobuf.Timestamp" => Type::Timestamp,
        "type" => Type::Type(None),
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "optional_type" => Type::optional(Type::Dyn),
        name => Type::Opaque(OPAQUE.iter().find(|known| **known == name)?),
    })
}

/// Types that libraries bring.
const OPAQUE: &[&str] = &[
    "net.IP",
    "net.CIDR",
    "kubernetes.Quantity",
    "kubernetes.URL",
    "kubernetes.Semver",
    "kubernetes.NamedFormat",
    "kubernetes.authorization.Authorizer",
    "kubernetes.authorization.PathCheck",
    "kubernetes.authorization.GroupCheck",
    "kubernetes.authorization.ResourceCheck",
    "kubernetes.authorization.Decision",
];

/// The type that an identifier names, where no variable has that name.
pub(crate) fn type_of_name(name: &str) -> Option<Type> {
    // These two are functions; as types they go by their longer names.
    if matches!(name, "null" | "duration" | "timestamp") {
        return None;
    }
    named(name)
}
