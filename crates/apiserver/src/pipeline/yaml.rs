//! Writes JSON values as YAML, for clients that ask for `application/yaml`.

use serde_json::Value;

/// Renders a document.
pub(crate) fn write(value: &Value) -> String {
    let mut out = String::new();
    block(&mut out, value, 0, false);
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

fn pad(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

/// `inline`: the cursor is already where the first member goes (after `- `).
fn block(out: &mut String, value: &Value, depth: usize, inline: bool) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (i, (key, member)) in map.iter().enumerate() {
                if i > 0 || !inline {
                    pad(out, depth);
                }
                out.push_str(&text(key));
                out.push(':');
                member_of(out, member, depth);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (i, item) in items.iter().enumerate() {
                if i > 0 || !inline {
                    pad(out, depth);
                }
                out.push_str("- ");
                block(out, item, depth + 1, true);
                if !out.ends_with('\n') {
                    out.push('\n');
                }
            }
        }
        Value::String(s) => out.push_str(&text(s)),
        // Numbers, booleans, null, [] and {} are the same in YAML.
        other => out.push_str(&other.to_string()),
    }
}

fn member_of(out: &mut String, member: &Value, depth: usize) {
    let nested = match member {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    if nested {
        out.push('\n');
        let depth = if member.is_array() { depth } else { depth + 1 };
        block(out, member, depth, false);
    } else {
        out.push(' ');
        block(out, member, depth, false);
        out.push('\n');
    }
}

/// A string: plain where that cannot be read as anything else, else quoted as in JSON.
fn text(s: &str) -> String {
    let plain = s.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && s.chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_'))
        && !matches!(
            s.to_ascii_lowercase().as_str(),
            "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    if plain {
        s.to_owned()
    } else {
        Value::from(s).to_string()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    #[test]
    fn what_is_written_reads_back() {
        let value = serde_json::json!({
            "a": [{"b": "true", "c": [1, [2, "x: y"]]}, [], {}], "d": {"e": {"f": null}}, "on": "a\nb",
        });
        let text = super::write(&value);
        assert_eq!(
            api::yaml::parse_documents(&text).unwrap(),
            vec![value],
            "{text}"
        );
    }
}
