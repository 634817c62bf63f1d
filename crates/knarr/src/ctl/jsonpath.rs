//! The part of kubectl's JSONPath that scripts use: text, `{.a.b}`, `[0]`, `[*]`, `['k']`.

use anyhow::{Result, anyhow, bail};
use serde_json::Value;

enum Step {
    Key(String),
    Index(usize),
    All,
}

/// Evaluates a template such as `{.spec.clusterIP}` or `ip={.status.podIP}`; several matches
/// are joined by a space, as kubectl does.
pub(crate) fn evaluate(template: &str, value: &Value) -> Result<String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        let close = rest[open..]
            .find('}')
            .ok_or_else(|| anyhow!("error parsing jsonpath {template}, unclosed action"))?;
        let expression = &rest[open + 1..open + close];
        let found: Vec<String> = select(&parse(expression)?, value)
            .into_iter()
            .map(print)
            .collect();
        out.push_str(&found.join(" "));
        rest = &rest[open + close + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn parse(expression: &str) -> Result<Vec<Step>> {
    let fail = || anyhow!("error parsing jsonpath {{{expression}}}");
    let mut steps = Vec::new();
    let mut rest = expression.trim().trim_start_matches('$');
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            if end > 0 {
                let key = &after[..end];
                steps.push(if key == "*" {
                    Step::All
                } else {
                    Step::Key(key.replace('\\', ""))
                });
            }
            rest = &after[end..];
        } else if let Some(after) = rest.strip_prefix('[') {
            let end = after.find(']').ok_or_else(fail)?;
            let inside = after[..end].trim();
            steps.push(match inside {
                "*" => Step::All,
                _ if inside.starts_with(['\'', '"']) => {
                    Step::Key(inside.trim_matches(['\'', '"']).to_owned())
                }
                _ => Step::Index(inside.parse().map_err(|_| fail())?),
            });
            rest = &after[end + 1..];
        } else {
            bail!(fail());
        }
    }
    Ok(steps)
}

fn select<'a>(steps: &[Step], value: &'a Value) -> Vec<&'a Value> {
    let mut current = vec![value];
    for step in steps {
        current = current
            .into_iter()
            .flat_map(|value| -> Vec<&Value> {
                match step {
                    Step::Key(key) => value.get(key).into_iter().collect(),
                    Step::Index(index) => value.get(index).into_iter().collect(),
                    Step::All => match value {
                        Value::Array(items) => items.iter().collect(),
                        Value::Object(map) => map.values().collect(),
                        _ => Vec::new(),
                    },
                }
            })
            .collect();
    }
    current
}

fn print(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::evaluate;

    #[test]
    fn paths() {
        let value = json!({"a": {"b": "x"}, "l": [{"n": 1}, {"n": 2}], "k": {"d.e": true}});
        let at = |template| evaluate(template, &value).unwrap_or_else(|e| e.to_string());
        assert_eq!(at("{.a.b}"), "x");
        assert_eq!(at("b={.a.b}!"), "b=x!");
        assert_eq!(at("{.l[1].n}"), "2");
        assert_eq!(at("{.l[*].n}"), "1 2");
        assert_eq!(at("{.k['d.e']}"), "true");
        assert_eq!(at("{.missing}"), "");
        assert_eq!(at("{.a"), "error parsing jsonpath {.a, unclosed action");
        assert_eq!(at("{nonsense}"), "error parsing jsonpath {nonsense}");
    }
}
