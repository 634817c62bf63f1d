//! OpenAPI v2 in protobuf: the messages of gnostic's `openapi.v2`, which is what client libraries
//! read first.
//!
//! Field numbers are those of gnostic's `OpenAPIv2.proto`. Invariant: every member that the JSON has
//! and gnostic has a field for is written; what begins with `x-` goes into the extensions.

use serde_json::{Map, Value};

use crate::proto::wire::{put_bytes, put_double, put_nested, put_number};

/// The media type that upstream answers with.
pub const V2_MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// What a member is.
#[derive(Clone, Copy)]
enum Is {
    Text,
    Texts,
    Flag,
    Whole,
    Double,
    /// Any value, as YAML.
    Any,
    Anys,
    /// A message, inside as many more messages as there are numbers.
    One(&'static [u16], &'static Message),
    /// A list of messages.
    Each(&'static Message),
    /// A message with a list of named messages, at this number, each inside these numbers.
    Named(u16, &'static [u16], &'static Message),
    /// A `type`: a text, or several.
    Types,
    /// `additionalProperties`: a schema, or a boolean.
    More,
    Parameters,
    Requirements,
}

/// A message: its members by their JSON names, and the number of its extensions.
struct Message {
    members: &'static [(&'static str, u16, Is)],
    extensions: u16,
}

static DOCUMENT: Message = Message {
    members: &[
        ("swagger", 1, Is::Text),
        ("info", 2, Is::One(&[], &INFO)),
        ("host", 3, Is::Text),
        ("basePath", 4, Is::Text),
        ("schemes", 5, Is::Texts),
        ("consumes", 6, Is::Texts),
        ("produces", 7, Is::Texts),
        ("paths", 8, Is::Named(2, &[], &PATH)),
        ("definitions", 9, Is::Named(1, &[], &SCHEMA)),
        ("security", 12, Is::Requirements),
        ("securityDefinitions", 13, Is::Named(1, &[2], &API_KEY)),
    ],
    extensions: 16,
};

static INFO: Message = Message {
    members: &[
        ("title", 1, Is::Text),
        ("version", 2, Is::Text),
        ("description", 3, Is::Text),
    ],
    extensions: 7,
};

static API_KEY: Message = Message {
    members: &[
        ("type", 1, Is::Text),
        ("name", 2, Is::Text),
        ("in", 3, Is::Text),
        ("description", 4, Is::Text),
    ],
    extensions: 5,
};

static PATH: Message = Message {
    members: &[
        ("get", 2, Is::One(&[], &OPERATION)),
        ("put", 3, Is::One(&[], &OPERATION)),
        ("post", 4, Is::One(&[], &OPERATION)),
        ("delete", 5, Is::One(&[], &OPERATION)),
        ("options", 6, Is::One(&[], &OPERATION)),
        ("head", 7, Is::One(&[], &OPERATION)),
        ("patch", 8, Is::One(&[], &OPERATION)),
        ("parameters", 9, Is::Parameters),
    ],
    extensions: 10,
};

static OPERATION: Message = Message {
    members: &[
        ("tags", 1, Is::Texts),
        ("summary", 2, Is::Text),
        ("description", 3, Is::Text),
        ("operationId", 5, Is::Text),
        ("produces", 6, Is::Texts),
        ("consumes", 7, Is::Texts),
        ("parameters", 8, Is::Parameters),
        ("responses", 9, Is::Named(1, &[1], &RESPONSE)),
        ("schemes", 10, Is::Texts),
        ("deprecated", 11, Is::Flag),
        ("security", 12, Is::Requirements),
    ],
    extensions: 13,
};

static RESPONSE: Message = Message {
    members: &[
        ("description", 1, Is::Text),
        ("schema", 2, Is::One(&[1], &SCHEMA)),
    ],
    extensions: 5,
};

static BODY: Message = Message {
    members: &[
        ("description", 1, Is::Text),
        ("name", 2, Is::Text),
        ("in", 3, Is::Text),
        ("required", 4, Is::Flag),
        ("schema", 5, Is::One(&[], &SCHEMA)),
    ],
    extensions: 6,
};

static QUERY: Message = Message {
    members: &[
        ("required", 1, Is::Flag),
        ("in", 2, Is::Text),
        ("description", 3, Is::Text),
        ("name", 4, Is::Text),
        ("type", 6, Is::Text),
        ("format", 7, Is::Text),
        ("uniqueItems", 20, Is::Flag),
    ],
    extensions: 23,
};

static IN_PATH: Message = Message {
    members: &[
        ("required", 1, Is::Flag),
        ("in", 2, Is::Text),
        ("description", 3, Is::Text),
        ("name", 4, Is::Text),
        ("type", 5, Is::Text),
        ("format", 6, Is::Text),
        ("uniqueItems", 19, Is::Flag),
    ],
    extensions: 22,
};

static SCHEMA: Message = Message {
    members: &[
        ("$ref", 1, Is::Text),
        ("format", 2, Is::Text),
        ("title", 3, Is::Text),
        ("description", 4, Is::Text),
        ("default", 5, Is::Any),
        ("multipleOf", 6, Is::Double),
        ("maximum", 7, Is::Double),
        ("exclusiveMaximum", 8, Is::Flag),
        ("minimum", 9, Is::Double),
        ("exclusiveMinimum", 10, Is::Flag),
        ("maxLength", 11, Is::Whole),
        ("minLength", 12, Is::Whole),
        ("pattern", 13, Is::Text),
        ("maxItems", 14, Is::Whole),
        ("minItems", 15, Is::Whole),
        ("uniqueItems", 16, Is::Flag),
        ("maxProperties", 17, Is::Whole),
        ("minProperties", 18, Is::Whole),
        ("required", 19, Is::Texts),
        ("enum", 20, Is::Anys),
        ("additionalProperties", 21, Is::More),
        ("type", 22, Is::Types),
        ("items", 23, Is::One(&[1], &SCHEMA)),
        ("allOf", 24, Is::Each(&SCHEMA)),
        ("properties", 25, Is::Named(1, &[], &SCHEMA)),
        ("discriminator", 26, Is::Text),
        ("readOnly", 27, Is::Flag),
        ("example", 30, Is::Any),
    ],
    extensions: 31,
};

/// A document of OpenAPI v2, as protobuf.
#[must_use]
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    message(&mut out, &DOCUMENT, document);
    out
}

/// Writes a field of a message; what is written inside cannot fail.
fn nested(out: &mut Vec<u8>, number: u16, write: impl FnOnce(&mut Vec<u8>)) {
    let written: Result<(), std::convert::Infallible> = put_nested(out, number, |out| {
        write(out);
        Ok(())
    });
    match written {
        Ok(()) => {}
        Err(never) => match never {},
    }
}

fn message(out: &mut Vec<u8>, message: &Message, value: &Value) {
    let Some(map) = value.as_object() else { return };
    for (name, number, is) in message.members {
        if let Some(value) = map.get(*name) {
            member(out, *number, *is, value);
        }
    }
    extensions(out, message.extensions, map);
}

fn extensions(out: &mut Vec<u8>, number: u16, map: &Map<String, Value>) {
    for (name, value) in map.iter().filter(|(name, _)| name.starts_with("x-")) {
        nested(out, number, |out| {
            put_bytes(out, 1, name.as_bytes());
            nested(out, 2, |out| any(out, value));
        });
    }
}

/// JSON is YAML.
fn any(out: &mut Vec<u8>, value: &Value) {
    put_bytes(out, 2, value.to_string().as_bytes());
}

fn inside(out: &mut Vec<u8>, numbers: &[u16], write: impl FnOnce(&mut Vec<u8>)) {
    // Built inside out: the numbers are two at most.
    let mut content = Vec::new();
    write(&mut content);
    for number in numbers.iter().rev() {
        let mut outer = Vec::with_capacity(content.len() + 8);
        put_bytes(&mut outer, *number, &content);
        content = outer;
    }
    out.extend_from_slice(&content);
}

fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(out: &mut Vec<u8>, number: u16, value: &Value) {
    if let Some(text) = value.as_str() {
        put_bytes(out, number, text.as_bytes());
    }
}

fn member(out: &mut Vec<u8>, number: u16, is: Is, value: &Value) {
    match is {
        Is::Text => text(out, number, value),
        Is::Texts => each(value).for_each(|value| text(out, number, value)),
        Is::Flag if value == true => put_number(out, number, 1),
        Is::Flag => {}
        Is::Whole => {
            if let Some(whole) = value.as_u64() {
                put_number(out, number, whole);
            }
        }
        Is::Double => {
            if let Some(double) = value.as_f64() {
                put_double(out, number, double);
            }
        }
        Is::Any => nested(out, number, |out| any(out, value)),
        Is::Anys => each(value).for_each(|value| nested(out, number, |out| any(out, value))),
        Is::One(numbers, of) => nested(out, number, |out| {
            inside(out, numbers, |out| message(out, of, value));
        }),
        Is::Each(of) => {
            each(value).for_each(|value| nested(out, number, |out| message(out, of, value)));
        }
        Is::Named(at, numbers, of) => nested(out, number, |out| named(out, at, numbers, of, value)),
        Is::Types => nested(out, number, |out| match value {
            Value::Array(_) => each(value).for_each(|value| text(out, 1, value)),
            _ => text(out, 1, value),
        }),
        Is::More => nested(out, number, |out| match value {
            Value::Bool(more) => put_number(out, 2, u64::from(*more)),
            _ => nested(out, 1, |out| message(out, &SCHEMA, value)),
        }),
        Is::Parameters => {
            each(value).for_each(|value| nested(out, number, |out| parameter(out, value)));
        }
        Is::Requirements => {
            each(value).for_each(|value| nested(out, number, |out| requirement(out, value)));
        }
    }
}

fn named(out: &mut Vec<u8>, at: u16, numbers: &[u16], of: &Message, value: &Value) {
    for (name, value) in value.as_object().into_iter().flatten() {
        nested(out, at, |out| {
            put_bytes(out, 1, name.as_bytes());
            nested(out, 2, |out| {
                inside(out, numbers, |out| message(out, of, value));
            });
        });
    }
}

/// `ParametersItem`: the body, or one of the places where a parameter may be.
fn parameter(out: &mut Vec<u8>, value: &Value) {
    let (numbers, of): (&[u16], &Message) = match value["in"].as_str() {
        Some("body") => (&[1, 1], &BODY),
        Some("path") => (&[1, 2, 4], &IN_PATH),
        _ => (&[1, 2, 3], &QUERY),
    };
    inside(out, numbers, |out| message(out, of, value));
}

/// `SecurityRequirement`: names with the scopes that each needs.
fn requirement(out: &mut Vec<u8>, value: &Value) {
    for (name, scopes) in value.as_object().into_iter().flatten() {
        nested(out, 1, |out| {
            put_bytes(out, 1, name.as_bytes());
            nested(out, 2, |out| {
                each(scopes).for_each(|scope| text(out, 1, scope));
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::encode;

    /// Bytes as gnostic's generated code writes them, worked out by hand from its field numbers.
    #[test]
    fn a_small_document() {
        let document = json!({
            "swagger": "2.0",
            "info": {"title": "K", "version": "v1"},
            "definitions": {"A": {
                "type": "object",
                "properties": {"b": {"type": "array", "items": {"$ref": "#/definitions/B"}}},
                "x-kubernetes-map-type": "atomic",
            }},
        });
        let bytes = encode(&document);
        assert!(bytes.starts_with(b"\x0a\x032.0\x12\x07\x0a\x01K\x12\x02v1\x4a"));
        let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        assert!(holds(b"\xb2\x01\x08\x0a\x06object"));
        assert!(holds(b"\xba\x01\x13\x0a\x11\x0a\x0f#/definitions/B"));
        assert!(holds(
            b"\xfa\x01\x23\x0a\x15x-kubernetes-map-type\x12\x0a\x12\x08\"atomic\""
        ));
    }
}
