//! Functions of strings.

use super::{Table, affordable, fail, int, lists, no_overload};
use crate::eval::Context;
use crate::functions::format::format;
use crate::value::{Evaluated, Value};

pub(crate) const TABLE: Table = &[
    ("contains", contains),
    ("startsWith", starts_with),
    ("endsWith", ends_with),
    ("charAt", char_at),
    ("indexOf", index_of),
    ("lastIndexOf", last_index_of),
    ("lowerAscii", lower_ascii),
    ("upperAscii", upper_ascii),
    ("replace", replace),
    ("split", split),
    ("substring", substring),
    ("trim", trim),
    ("join", join),
    ("format", format),
    ("strings.quote", quote),
    ("jsonpatch.escapeKey", escape_key),
];

fn contains<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::String(text), Value::String(part)] => Ok(Value::Bool(text.contains(&**part))),
        _ => no_overload(),
    }
}

fn starts_with<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::String(text), Value::String(part)] => Ok(Value::Bool(text.starts_with(&**part))),
        _ => no_overload(),
    }
}

fn ends_with<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::String(text), Value::String(part)] => Ok(Value::Bool(text.ends_with(&**part))),
        _ => no_overload(),
    }
}

/// The byte at which a character begins; the end for the one after the last.
fn byte_of(text: &str, char: i64) -> Option<usize> {
    let char = usize::try_from(char).ok()?;
    let ends = std::iter::once(text.len());
    text.char_indices()
        .map(|(byte, _)| byte)
        .chain(ends)
        .nth(char)
}

fn char_at<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let [Value::String(text), Value::Int(index)] = args else {
        return no_overload();
    };
    let Some(byte) = byte_of(text, *index) else {
        return fail(format!("index out of range: {index}"));
    };
    let found = text.get(byte..).and_then(|rest| rest.chars().next());
    Ok(Value::made(found.map(String::from).unwrap_or_default()))
}

fn index_of<'a>(context: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let (text, part, from) = match args {
        [Value::List(list), wanted] => return lists::position(context, list, wanted, false),
        [Value::String(text), Value::String(part)] => (text, part, 0),
        [Value::String(text), Value::String(part), Value::Int(from)] => (text, part, *from),
        _ => return no_overload(),
    };
    if part.is_empty() {
        return Ok(Value::Int(from));
    }
    if from < 0 {
        return fail(format!("index out of range: {from}"));
    }
    let found = byte_of(text, from).and_then(|start| {
        let byte = start + text.get(start..)?.find(&**part)?;
        Some(text.get(..byte)?.chars().count())
    });
    Ok(found.map_or(Value::Int(-1), int))
}

fn last_index_of<'a>(context: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let (text, part, from) = match args {
        [Value::List(list), wanted] => return lists::position(context, list, wanted, true),
        [Value::String(text), Value::String(part)] => {
            if part.is_empty() {
                return Ok(int(text.chars().count()));
            }
            (text, part, None)
        }
        [Value::String(text), Value::String(part), Value::Int(from)] => {
            if part.is_empty() {
                return Ok(Value::Int(*from));
            }
            (text, part, Some(*from))
        }
        _ => return no_overload(),
    };
    let end = match from {
        None => text.len(),
        Some(from) if from < 0 => return fail(format!("index out of range: {from}")),
        Some(from) => match byte_of(text, from).filter(|byte| *byte < text.len()) {
            None => return Ok(Value::Int(-1)),
            Some(byte) => (byte + part.len()).min(text.len()),
        },
    };
    // The end may fall into a character when what is searched for is wider than what is there.
    let mut end = end;
    while !text.is_char_boundary(end) {
        end += 1;
    }
    let found = text.get(..end).and_then(|head| head.rfind(&**part));
    let found = found.and_then(|byte| Some(text.get(..byte)?.chars().count()));
    let found = found.filter(|found| {
        from.is_none_or(|from| i64::try_from(*found).is_ok_and(|found| found <= from))
    });
    Ok(found.map_or(Value::Int(-1), int))
}

fn lower_ascii<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::String(text)] => Ok(Value::made(text.to_ascii_lowercase())),
        _ => no_overload(),
    }
}

fn upper_ascii<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::String(text)] => Ok(Value::made(text.to_ascii_uppercase())),
        _ => no_overload(),
    }
}

fn replace<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let (text, old, new, most) = match args {
        [Value::String(text), Value::String(old), Value::String(new)] => (text, old, new, -1),
        [
            Value::String(text),
            Value::String(old),
            Value::String(new),
            Value::Int(most),
        ] => (text, old, new, *most),
        _ => return no_overload(),
    };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let found = text.matches(&**old).take(most).count();
    affordable(text.len().saturating_add(found.saturating_mul(new.len())))?;
    Ok(Value::made(text.replacen(&**old, new, most)))
}

fn split<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let (text, separator, most) = match args {
        [Value::String(text), Value::String(separator)] => (text, separator, -1),
        [
            Value::String(text),
            Value::String(separator),
            Value::Int(most),
        ] => (text, separator, *most),
        _ => return no_overload(),
    };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut parts: Vec<Value<'a>> = Vec::new();
    if most == 0 {
        return Ok(Value::built_list(parts));
    }
    let mut rest: &str = text;
    if separator.is_empty() {
        while parts.len() + 1 < most {
            let Some(char) = rest.chars().next() else {
                break;
            };
            let (one, after) = rest.split_at(char.len_utf8());
            if after.is_empty() {
                break;
            }
            parts.push(Value::made(one));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Value::made(rest));
        }
        return Ok(Value::built_list(parts));
    }
    parts.extend(rest.splitn(most, &**separator).map(Value::made));
    Ok(Value::built_list(parts))
}

fn substring<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let (text, start, end) = match args {
        [Value::String(text), Value::Int(start)] => (text, *start, None),
        [Value::String(text), Value::Int(start), Value::Int(end)] => (text, *start, Some(*end)),
        _ => return no_overload(),
    };
    if let Some(end) = end.filter(|end| start > *end) {
        return fail(format!(
            "invalid substring range. start: {start}, end: {end}"
        ));
    }
    let Some(first) = byte_of(text, start) else {
        return fail(format!("index out of range: {start}"));
    };
    let last = match end {
        None => text.len(),
        Some(end) => match byte_of(text, end) {
            Some(byte) => byte,
            None => return fail(format!("index out of range: {end}")),
        },
    };
    Ok(Value::made(text.get(first..last).unwrap_or_default()))
}

fn trim<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::String(text)] => Ok(Value::made(text.trim())),
        _ => no_overload(),
    }
}

fn join<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let (list, separator) = match args {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(separator)] => (list, &**separator),
        _ => return no_overload(),
    };
    let mut joined = String::new();
    for (index, item) in list.iter().enumerate() {
        if index > 0 {
            joined.push_str(separator);
        }
        match item? {
            Value::String(text) => joined.push_str(&text),
            other => return fail(format!("join: invalid input: {other:?}")),
        }
        affordable(joined.len())?;
    }
    Ok(Value::made(joined))
}

fn quote<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let [Value::String(text)] = args else {
        return no_overload();
    };
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for char in text.chars() {
        match char {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    Ok(Value::made(quoted))
}

fn escape_key<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::String(text)] => Ok(Value::made(text.replace('~', "~0").replace('/', "~1"))),
        _ => no_overload(),
    }
}
