//! Duplicate fields of a JSON document, which a map cannot show any more.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::schema::{MAX_PROBLEMS, Problem};

/// The fields that the JSON text holds more than once, as [`Problem::Duplicate`]; empty when it is no JSON.
#[must_use]
pub fn duplicates(json: &[u8]) -> Vec<Problem> {
    let mut scan = Scan {
        path: String::new(),
        found: Vec::new(),
    };
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    // Malformed JSON is reported by whoever parses it for its value.
    let _ = Node(&mut scan).deserialize(&mut deserializer);
    scan.found
}

struct Scan {
    path: String,
    found: Vec<Problem>,
}

struct Node<'a>(&'a mut Scan);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let length = self.0.path.len();
        for index in 0_usize.. {
            self.0.path.push_str(&format!("[{index}]"));
            let more = items.next_element_seed(Node(&mut *self.0))?.is_some();
            self.0.path.truncate(length);
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let length = self.0.path.len();
        let mut seen = HashSet::new();
        while let Some(Key(key)) = entries.next_key()? {
            if length > 0 {
                self.0.path.push('.');
            }
            self.0.path.push_str(&key);
            if !seen.insert(key) && self.0.found.len() < MAX_PROBLEMS {
                let problem = Problem::Duplicate(self.0.path.clone());
                if !self.0.found.contains(&problem) {
                    self.0.found.push(problem);
                }
            }
            entries.next_value_seed(Node(&mut *self.0))?;
            self.0.path.truncate(length);
        }
        Ok(())
    }
}

struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_them_with_their_paths() {
        let found = duplicates(br#"{"a":1,"spec":{"x":[{"y":1,"y":2}],"p":1,"p":2,"p":3},"a":2}"#);
        let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                r#"duplicate field "spec.x[0].y""#,
                r#"duplicate field "spec.p""#,
                r#"duplicate field "a""#
            ]
        );
        assert!(duplicates(b"{\"a\":").is_empty());
        assert!(duplicates("[".repeat(100_000).as_bytes()).is_empty());
    }
}
