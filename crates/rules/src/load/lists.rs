//! Lists, put in the place of their names in the text of conditions.

use std::collections::HashSet;

use super::exceptions::quote;
use super::item::{Items, ListItem, Named};

/// The longest that a condition may become.
pub(crate) const MAX_CONDITION: usize = 1 << 20;

/// A list with the lists that it names put in, one level deep.
#[derive(Clone, Debug)]
pub(crate) struct List {
    pub(crate) name: String,
    pub(crate) items: Vec<String>,
    pub(crate) used: bool,
}

impl Named for List {
    fn name(&self) -> &str {
        &self.name
    }
}

/// Resolves lists in lists.
pub(crate) fn resolve(defined: &Items<ListItem>) -> Items<List> {
    let mut lists = Items::default();
    let mut used = HashSet::new();
    for list in defined.iter() {
        let mut items = Vec::new();
        for item in &list.items {
            match defined.get(item) {
                Some(other) if other.order.index < list.order.visibility => {
                    used.insert(other.name.clone());
                    items.extend(other.items.iter().cloned());
                }
                _ => items.push(item.clone()),
            }
        }
        lists.put(List {
            name: list.name.clone(),
            items,
            used: false,
        });
    }
    for name in used {
        if let Some(list) = lists.get_mut(&name) {
            list.used = true;
        }
    }
    lists
}

fn blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn delimiter(byte: u8) -> bool {
    blank(byte) || matches!(byte, b'(' | b')' | b',' | b'=')
}

/// The condition with the list in it; nothing if it does not name it. What gets too long is left as it
/// is, for the caller to refuse.
pub(crate) fn substitute(condition: &str, list: &List) -> Option<String> {
    if list.name.is_empty() {
        return None;
    }
    let items: Vec<_> = list.items.iter().map(|item| quote(item)).collect();
    let items = items.join(", ");
    let mut out = String::new();
    let mut used = false;
    // What is left, and from where on the name is looked for.
    let mut rest = condition;
    let mut from = 0;
    while let Some(at) = rest.get(from..).and_then(|text| text.find(&list.name)) {
        let start = from + at;
        let end = start + list.name.len();
        let bytes = rest.as_bytes();
        let before = match start {
            0 => out.bytes().last(),
            _ => Some(bytes[start - 1]),
        };
        let separate = before.is_none_or(delimiter) && bytes.get(end).is_none_or(|b| delimiter(*b));
        if !separate {
            from = next(rest, start);
            continue;
        }
        out.push_str(&rest[..start]);
        while out.bytes().last().is_some_and(blank) {
            out.pop();
        }
        rest = rest[end..].trim_start_matches([' ', '\t', '\n', '\r']);
        from = 0;
        if items.is_empty() {
            if out.ends_with(',') {
                out.pop();
            } else if let Some(behind) = rest.strip_prefix(',') {
                rest = behind;
            }
        }
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(&items);
        out.push(' ');
        used = true;
        if out.len() > MAX_CONDITION {
            break;
        }
    }
    out.push_str(rest);
    used.then_some(out)
}

/// The beginning of the character behind the one at `at`.
fn next(text: &str, at: usize) -> usize {
    let mut next = at + 1;
    while next < text.len() && !text.is_char_boundary(next) {
        next += 1;
    }
    next
}
