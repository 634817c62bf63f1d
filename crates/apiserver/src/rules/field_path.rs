//! `fieldPath`: where a rule's error is reported, as `.a.b['c']`.

use serde_json::Value;

/// The path in the form of errors, when it leads somewhere in the schema.
pub(super) fn normalized(path: &str, schema: &Value) -> Option<String> {
    let mut schema = schema;
    let mut out = String::new();
    let mut rest = path;
    while !rest.is_empty() {
        let key;
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[', ']']).unwrap_or(after.len());
            key = after.get(..end)?.to_owned();
            rest = after.get(end..)?;
        } else {
            let (quoted, after) = quoted(rest.strip_prefix("['")?)?;
            key = quoted;
            rest = after.strip_prefix(']')?;
        }
        if key.is_empty() {
            return None;
        }
        if let Some(properties) = schema.get("properties") {
            schema = properties.get(&key)?;
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(&key);
        } else {
            schema = schema.get("additionalProperties")?;
            out.push_str(&format!("[{key}]"));
        }
    }
    Some(out)
}

/// What stands before the closing quote, and what after it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut key = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '\'' => return Some((key, text.get(at + 1..)?)),
            '\\' => key.push(match chars.next()?.1 {
                'a' => '\u{7}',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\u{b}',
                plain @ ('\'' | '\\') => plain,
                _ => return None,
            }),
            char => key.push(char),
        }
    }
    None
}
