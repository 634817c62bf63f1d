//! What calls of Kubernetes' libraries can cost.

use crate::ast::{Kind, Literal};
use crate::charge::{AUTHORIZE, LIST, REGEX_FACTOR, STRING_FACTOR};
use crate::estimate::{CallEstimate, Estimator, Part, Span};
use crate::types::Type;

/// The longest pattern of a named format.
const LONGEST_FORMAT_REGEX: f64 = 128.0;

fn cost(span: Span) -> Option<CallEstimate> {
    Some(CallEstimate {
        cost: span,
        size: None,
    })
}

fn sized(span: Span, size: Span) -> Option<CallEstimate> {
    Some(CallEstimate {
        cost: span,
        size: Some(size),
    })
}

/// The estimate of a call, its arguments' costs aside; none where the language's own applies.
pub(crate) fn call_estimate(
    estimator: &mut Estimator<'_>,
    function: &str,
    overload: &str,
    target: Option<&Part<'_>>,
    args: &[Part<'_>],
) -> Option<CallEstimate> {
    let size = |index: usize| {
        args.get(index)
            .map_or(Span::UNKNOWN, |arg| size_of(estimator, arg))
    };
    let one = Span::fixed(1);
    match function {
        "check" => cost(Span::fixed(AUTHORIZE)),
        "serviceAccount"
        | "path"
        | "group"
        | "resource"
        | "subresource"
        | "namespace"
        | "name"
        | "allowed"
        | "reason"
        | "error"
        | "errored"
        | "masked"
        | "prefixLength"
        | "family"
        | "isUnspecified"
        | "isLoopback"
        | "isLinkLocalMulticast"
        | "isLinkLocalUnicast"
        | "isGlobalUnicast"
        | "format.named"
        | "sign"
        | "asInteger"
        | "isInteger"
        | "asApproximateFloat"
        | "isGreaterThan"
        | "isLessThan"
        | "compareTo"
        | "add"
        | "sub"
        | "major"
        | "minor"
        | "patch"
        | "getScheme"
        | "getHostname"
        | "getHost"
        | "getPort"
        | "getEscapedPath"
        | "getQuery" => cost(one),
        "fieldSelector" | "labelSelector" if args.len() == 1 => {
            let length = size(0);
            let requirements = length.by(0.5).by(50.0);
            cost(
                Span::fixed(LIST)
                    .plus(length.by(STRING_FACTOR))
                    .plus(requirements),
            )
        }
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => {
            let target = target?;
            let length = size_of(estimator, target);
            let Some(element) = element(target) else {
                return cost(length.by(STRING_FACTOR));
            };
            let mut each = one;
            if matches!(element.ty, Type::String | Type::Bytes) {
                each = each.plus(size_of(estimator, &element).by(STRING_FACTOR));
            }
            cost(length.times(each))
        }
        "url" | "jsonpatch.escapeKey" if args.len() == 1 => {
            sized(size(0).by(STRING_FACTOR), size(0))
        }
        "lowerAscii" | "upperAscii" | "substring" | "trim" => {
            let length = size_of(estimator, target?);
            sized(length.by(STRING_FACTOR), length)
        }
        "replace" if args.len() >= 2 => {
            let length = size_of(estimator, target?);
            let made = replaced(length, size(0), size(1));
            sized(length.by(2.0 * STRING_FACTOR), made)
        }
        "split" => {
            let length = size_of(estimator, target?);
            let limit = args
                .get(1)
                .and_then(|arg| arg.expr)
                .and_then(|expr| match &expr.kind {
                    Kind::Literal(Literal::Int(limit)) => Some(limit.cast_unsigned()),
                    _ => None,
                });
            let max = limit.unwrap_or(length.max);
            sized(length.by(2.0 * STRING_FACTOR), Span { min: 0, max })
        }
        "join" => {
            let target = target?;
            let length = size_of(estimator, target);
            let mut made = element(target).map_or(Span::fixed(0), |element| {
                length.times(size_of(estimator, &element))
            });
            if !args.is_empty() {
                let separators = Span {
                    min: length.min.saturating_sub(1),
                    max: length.max.saturating_sub(1),
                };
                made = made.plus(size(0).times(separators));
            }
            sized(made.by(STRING_FACTOR), made)
        }
        "find" | "findAll" if !args.is_empty() => {
            let length = size_of(estimator, target?);
            let text = length.plus(one).by(STRING_FACTOR);
            let max = length.max;
            sized(text.times(size(0).by(REGEX_FACTOR)), Span { min: 0, max })
        }
        "ip" if overload == "cidr_ip" => cost(one),
        "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver"
            if !args.is_empty() =>
        {
            cost(size(0).by(STRING_FACTOR))
        }
        "ip.isCanonical" => cost(size(0).by(2.0 * STRING_FACTOR)),
        "containsIP" | "containsCIDR" if !args.is_empty() => {
            let address = Span { min: 4, max: 16 };
            let mut sum = address.plus(address).by(STRING_FACTOR);
            if function == "containsCIDR" {
                sum = sum.plus(address.by(STRING_FACTOR)).plus(one);
            }
            if overload.ends_with("_string") {
                sum = sum.plus(size(0).by(STRING_FACTOR));
            }
            cost(sum)
        }
        "validate" if !args.is_empty() => cost(
            size(0)
                .by(STRING_FACTOR)
                .by(LONGEST_FORMAT_REGEX * REGEX_FACTOR),
        ),
        "_==_" => equality(args),
        _ => listing(
            overload,
            target.map(|target| size_of(estimator, target)),
            args,
            &size,
        ),
    }
}

fn equality(args: &[Part<'_>]) -> Option<CallEstimate> {
    let [left, right] = args else {
        return None;
    };
    let Type::Opaque(name) = &left.ty else {
        return None;
    };
    if left.ty != right.ty {
        return None;
    }
    match *name {
        "kubernetes.NamedFormat" => cost(Span { min: 1, max: 64 }.by(STRING_FACTOR)),
        "kubernetes.URL" => {
            let max = right.size.map_or(1, |size| size.max);
            cost(Span { min: 1, max }.by(STRING_FACTOR))
        }
        _ => cost(Span::fixed(1)),
    }
}

/// Functions that make lists.
fn listing(
    overload: &str,
    target: Option<Span>,
    args: &[Part<'_>],
    size: &dyn Fn(usize) -> Span,
) -> Option<CallEstimate> {
    let literal = |index: usize, other: u64| match args
        .get(index)
        .and_then(|arg| arg.expr)
        .map(|expr| &expr.kind)
    {
        Some(Kind::Literal(Literal::Int(value))) => u64::try_from(*value).unwrap_or(0),
        _ => other,
    };
    let made = |factor: f64, size: Span| sized(size.by(factor).plus(Span::fixed(1 + LIST)), size);
    let comparing = |size: Span, text: bool| {
        let factor = if text { 2.0 + STRING_FACTOR } else { 2.0 };
        made(factor, size.times(size))
    };
    match overload {
        "list_slice" => {
            let end = literal(1, target?.max);
            made(1.0, Span::fixed(end.saturating_sub(literal(0, 0))))
        }
        "lists_range" => made(1.0, Span::fixed(literal(0, u64::MAX))),
        "list_reverse" | "list_flatten" => made(1.0, target?),
        "list_flatten_int" => made(literal(0, u64::MAX) as f64, target?),
        "list_distinct" => made(2.0, target?.times(target?)),
        sort if sort.ends_with("_sort") => comparing(target?, is_text(sort)),
        sort if sort.ends_with("_sortByAssociatedKeys") => comparing(size(0), is_text(sort)),
        _ => None,
    }
}

fn is_text(overload: &str) -> bool {
    overload.starts_with("list_string") || overload.starts_with("list_bytes")
}

fn size_of(estimator: &Estimator<'_>, part: &Part<'_>) -> Span {
    part.size
        .or_else(|| estimator.at(&part.path))
        .unwrap_or(Span::UNKNOWN)
}

/// What a list holds, with its path where the list has one.
fn element(list: &Part<'_>) -> Option<Part<'static>> {
    let ty = match &list.ty {
        Type::List(inner) | Type::Optional(inner) | Type::Map(inner, _) => (**inner).clone(),
        _ => return None,
    };
    let mut path = list.path.clone();
    if !path.is_empty() {
        path.push("@items".to_owned());
    }
    Some(Part {
        expr: None,
        ty,
        path,
        size: None,
    })
}

/// The size of a text after something in it was replaced.
fn replaced(text: Span, old: Span, new: Span) -> Span {
    let mut count = Span::fixed(0);
    let mut kept = Span::fixed(0);
    if old.min == 0 {
        // Nothing is found around every character.
        count.max = text.max.saturating_add(1);
        kept.max = text.max;
    } else if new.max <= old.min {
        kept.max = text.max;
    } else {
        count.max = text.max.div_ceil(old.min);
    }
    if old.max == 0 {
        count.min = text.min.saturating_add(1);
        kept.min = text.min;
    } else if old.max <= new.min {
        kept.min = text.min;
    } else {
        count.min = text.min.div_ceil(old.max);
    }
    count.times(new).plus(kept)
}
