//! Lists, put in the place of their names in the text of conditions.

use std::collections::HashSet;

use super::exceptions::quote;
use super::item::{Items, ListItem, Named};

/// The longest that a condition may become.
pub(crate) const MAX_CONDITION: usize = 4 << 20;

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

/// The condition with the list in it; nothing if it does not name it. What gets too long is cut off,
/// and will not be understood.
pub(crate) fn substitute(condition: &str, list: &List) -> Option<String> {
    if list.name.is_empty() {
        return None;
    }
    let mut text = condition.to_owned();
    let mut used = false;
    let mut from = 0;
    while let Some(at) = text.get(from..).and_then(|rest| rest.find(&list.name)) {
        let mut start = from + at;
        let mut end = start + list.name.len();
        let bytes = text.as_bytes();
        let separate = (start == 0 || delimiter(bytes[start - 1]))
            && bytes.get(end).is_none_or(|byte| delimiter(*byte));
        if !separate {
            from = next(&text, start);
            continue;
        }
        while start > 0 && blank(bytes[start - 1]) {
            start -= 1;
        }
        while bytes.get(end).copied().is_some_and(blank) {
            end += 1;
        }
        let items: Vec<_> = list.items.iter().map(|item| quote(item)).collect();
        let items = items.join(", ");
        if items.is_empty() {
            if start > 0 && bytes[start - 1] == b',' {
                start -= 1;
            } else if bytes.get(end) == Some(&b',') {
                end += 1;
            }
        }
        let mut new = String::new();
        if start > 0 {
            new.push_str(&text[..start]);
            new.push(' ');
        }
        new.push_str(&items);
        new.push(' ');
        new.push_str(&text[end..]);
        text = new;
        used = true;
        if text.len() > MAX_CONDITION {
            break;
        }
        from = next(&text, start + items.len() + 1);
    }
    used.then_some(text)
}

/// The beginning of the character behind the one at `at`.
fn next(text: &str, at: usize) -> usize {
    let mut next = at + 1;
    while next < text.len() && !text.is_char_boundary(next) {
        next += 1;
    }
    next
}
