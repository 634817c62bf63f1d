//! From protobuf to the value that the JSON decoder would have given.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::leaf::{double, int_or_string, is_zero, low_32, text_of, time};
use super::table::{Content, Member, OWN, Special, content, members};
use super::wire::{Fields, Wire};
use super::{MAGIC, MAX_VALUES, ProtoError};
use crate::MAX_DEPTH;
use crate::schema::{Shape, TypeRef};

/// Reads a body: the envelope, and in it the object of the kind that the envelope names. Fields
/// that the table does not know are skipped.
///
/// # Errors
/// When the bytes are no such body.
pub fn decode(bytes: &[u8]) -> Result<Value, ProtoError> {
    Decoder { left: MAX_VALUES }.envelope(bytes, 0)
}

struct Decoder {
    /// How many values may still be made.
    left: usize,
}

impl Decoder {
    fn envelope(&mut self, bytes: &[u8], depth: usize) -> Result<Value, ProtoError> {
        let bytes = bytes.strip_prefix(MAGIC).ok_or(ProtoError::Magic)?;
        let (mut api_version, mut kind, mut raw) = ("", "", &[][..]);
        let mut fields = Fields(bytes);
        while let Some((number, wire)) = fields.next()? {
            match number {
                1 => {
                    let mut words = Fields(wire.len()?);
                    while let Some((number, wire)) = words.next()? {
                        match number {
                            1 => api_version = wire.text()?,
                            2 => kind = wire.text()?,
                            _ => {}
                        }
                    }
                }
                2 => raw = wire.len()?,
                _ => {}
            }
        }
        if kind.is_empty() {
            return Err(ProtoError::NoKind);
        }
        let unknown = || ProtoError::UnknownKind {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
        };
        let mut map = Map::new();
        map.insert("apiVersion".to_owned(), api_version.into());
        map.insert("kind".to_owned(), kind.into());
        match content(api_version, kind).ok_or_else(unknown)? {
            Content::Typed(ty) => self.message(ty, members(ty), raw, &mut map, depth + 1)?,
            Content::Metadata => self.metadata(raw, &mut map, depth + 1)?,
            Content::MetadataList => self.metadata_list(raw, &mut map, depth + 1)?,
        }
        Ok(Value::Object(map))
    }

    fn metadata(
        &mut self,
        data: &[u8],
        map: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), ProtoError> {
        let Some(own) = &*OWN else { return Ok(()) };
        let mut fields = Fields(data);
        while let Some((number, wire)) = fields.next()? {
            if number == 1 {
                let found = self.object(own.object_meta, wire.len()?, None, depth + 1)?;
                map.insert("metadata".to_owned(), found);
            }
        }
        Ok(())
    }

    fn metadata_list(
        &mut self,
        data: &[u8],
        map: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), ProtoError> {
        let Some(own) = &*OWN else { return Ok(()) };
        let mut items = Vec::new();
        let mut fields = Fields(data);
        while let Some((number, wire)) = fields.next()? {
            match number {
                1 => {
                    let found = self.object(own.list_meta, wire.len()?, None, depth + 1)?;
                    map.insert("metadata".to_owned(), found);
                }
                2 => {
                    self.spend()?;
                    let mut item = Map::new();
                    self.metadata(wire.len()?, &mut item, depth + 1)?;
                    items.push(Value::Object(item));
                }
                _ => {}
            }
        }
        map.insert("items".to_owned(), items.into());
        Ok(())
    }

    fn spend(&mut self) -> Result<(), ProtoError> {
        self.left = self.left.checked_sub(1).ok_or(ProtoError::TooLarge)?;
        Ok(())
    }

    /// Reads a message into the object that has its fields.
    fn message(
        &mut self,
        ty: TypeRef,
        members: &'static [Member],
        data: &[u8],
        map: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), ProtoError> {
        if depth > MAX_DEPTH {
            return Err(ProtoError::TooDeep);
        }
        let mut fields = Fields(data);
        while let Some((number, wire)) = fields.next()? {
            let Ok(at) = members.binary_search_by_key(&number, |m| u64::from(m.number())) else {
                continue;
            };
            let (name, omitted) = match members[at] {
                Member::Inline(_, inner) => {
                    self.message(ty, inner, wire.len()?, map, depth + 1)?;
                    continue;
                }
                Member::Wrapped(_, name) => {
                    self.member(ty, name, wire, true, map, depth)?;
                    continue;
                }
                Member::Omitted(_, name) => (name, true),
                Member::Pointer(_, name) | Member::Kept(_, name) | Member::Many(_, name) => {
                    (name, false)
                }
            };
            self.member(ty, name, wire, false, map, depth)?;
            if omitted && map.get(name).is_some_and(is_zero) {
                map.remove(name);
            }
        }
        Ok(())
    }

    fn member(
        &mut self,
        ty: TypeRef,
        name: &'static str,
        wire: Wire<'_>,
        wrapped: bool,
        map: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), ProtoError> {
        let Some(field) = ty.get().field(name) else {
            return Ok(());
        };
        match field.shape {
            Shape::List(item) if wrapped => {
                let list = self.wrapped_list(item, wire, depth)?;
                map.insert(name.to_owned(), list);
            }
            Shape::List(item) => {
                if !matches!(map.get(name), Some(Value::Array(_))) {
                    map.insert(name.to_owned(), Value::Array(Vec::new()));
                }
                if let Some(Value::Array(items)) = map.get_mut(name) {
                    self.item(item, wire, items, depth)?;
                }
            }
            Shape::Map(item) => {
                if !matches!(map.get(name), Some(Value::Object(_))) {
                    map.insert(name.to_owned(), Value::Object(Map::new()));
                }
                if let Some(Value::Object(entries)) = map.get_mut(name) {
                    self.entry(item, wire, wrapped, entries, depth)?;
                }
            }
            Shape::Object(inner) => {
                // A message that comes twice is one message.
                let before = map.remove(name);
                let object = self.object(inner, wire.len()?, before, depth + 1)?;
                map.insert(name.to_owned(), object);
            }
            ref shape => match self.value(shape, wire, depth + 1)? {
                Some(value) => {
                    map.insert(name.to_owned(), value);
                }
                None => {
                    map.remove(name);
                }
            },
        }
        Ok(())
    }

    fn object(
        &mut self,
        ty: TypeRef,
        data: &[u8],
        before: Option<Value>,
        depth: usize,
    ) -> Result<Value, ProtoError> {
        self.spend()?;
        let mut map = match before {
            Some(Value::Object(map)) => map,
            _ => Map::new(),
        };
        self.message(ty, members(ty), data, &mut map, depth)?;
        Ok(Value::Object(map))
    }

    /// One occurrence of a repeated field: an item, or packed numbers.
    fn item(
        &mut self,
        shape: &Shape,
        wire: Wire<'_>,
        items: &mut Vec<Value>,
        depth: usize,
    ) -> Result<(), ProtoError> {
        if let (Shape::Int32 | Shape::Int64 | Shape::Bool, Wire::Len(packed)) = (shape, wire) {
            let mut packed = Fields(packed);
            while !packed.0.is_empty() {
                let wire = Wire::Varint(packed.varint()?);
                items.push(self.value(shape, wire, depth + 1)?.unwrap_or_default());
            }
            return Ok(());
        }
        let value = self.value(shape, wire, depth + 1)?;
        items.push(value.unwrap_or_default());
        Ok(())
    }

    fn wrapped_list(
        &mut self,
        item: &Shape,
        wire: Wire<'_>,
        depth: usize,
    ) -> Result<Value, ProtoError> {
        self.spend()?;
        let mut items = Vec::new();
        let mut fields = Fields(wire.len()?);
        while let Some((number, wire)) = fields.next()? {
            if number == 1 {
                self.item(item, wire, &mut items, depth + 1)?;
            }
        }
        Ok(Value::Array(items))
    }

    /// An entry of a map: key and value.
    fn entry(
        &mut self,
        shape: &Shape,
        wire: Wire<'_>,
        wrapped: bool,
        entries: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), ProtoError> {
        let (mut key, mut value) = ("", None);
        let mut fields = Fields(wire.len()?);
        while let Some((number, wire)) = fields.next()? {
            match (number, shape) {
                (1, _) => key = wire.text()?,
                (2, Shape::List(item)) if wrapped => {
                    value = Some(self.wrapped_list(item, wire, depth + 1)?);
                }
                (2, shape) => value = self.value(shape, wire, depth + 1)?,
                _ => {}
            }
        }
        let zero = || match shape {
            Shape::String | Shape::Bytes => "".into(),
            Shape::Quantity => "0".into(),
            Shape::Bool => false.into(),
            Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString => 0.into(),
            Shape::List(_) => Value::Array(Vec::new()),
            Shape::Object(_) | Shape::Map(_) => Value::Object(Map::new()),
            Shape::Time | Shape::MicroTime | Shape::Any(_) => Value::Null,
        };
        let value = value.unwrap_or_else(zero);
        entries.insert(key.to_owned(), value);
        Ok(())
    }

    /// A single value; nothing for what JSON would show as `null`.
    fn value(
        &mut self,
        shape: &Shape,
        wire: Wire<'_>,
        depth: usize,
    ) -> Result<Option<Value>, ProtoError> {
        self.spend()?;
        Ok(Some(match shape {
            Shape::String => wire.text()?.into(),
            Shape::Bytes => STANDARD.encode(wire.len()?).into(),
            Shape::Bool => (wire.varint()? != 0).into(),
            Shape::Int32 => low_32(wire.varint()?).into(),
            Shape::Int64 => wire.varint()?.cast_signed().into(),
            Shape::Double => match wire {
                Wire::Fixed64(bits) => return Ok(double(f64::from_bits(bits))),
                _ => return Err(ProtoError::WireType),
            },
            Shape::Time => return time(wire.len()?, false),
            Shape::MicroTime => return time(wire.len()?, true),
            Shape::Quantity => match text_of(wire.len()?)? {
                "" => "0".into(),
                text => text.into(),
            },
            Shape::IntOrString => int_or_string(wire.len()?)?,
            Shape::Any(ty) => return self.special(Special::of(*ty), wire.len()?, depth),
            Shape::Object(ty) => self.object(*ty, wire.len()?, None, depth)?,
            // No type of the API has a list of lists or of maps.
            Shape::List(_) | Shape::Map(_) => return Err(ProtoError::WireType),
        }))
    }

    fn special(
        &mut self,
        special: Special,
        data: &[u8],
        depth: usize,
    ) -> Result<Option<Value>, ProtoError> {
        if depth > MAX_DEPTH {
            return Err(ProtoError::TooDeep);
        }
        let mut fields = Fields(data);
        let (mut schema, mut many, mut allows) = (None, Vec::new(), false);
        while let Some((number, wire)) = fields.next()? {
            match (special, number) {
                (Special::Raw, 1) => schema = self.raw(wire.len()?, depth)?,
                (Special::SchemaOrArray | Special::SchemaOrStrings, 1)
                | (Special::SchemaOrBool, 2) => {
                    schema = Some(self.schema(wire.len()?, depth + 1)?);
                }
                (Special::SchemaOrBool, 1) => allows = wire.varint()? != 0,
                (Special::SchemaOrArray, 2) => many.push(self.schema(wire.len()?, depth + 1)?),
                (Special::SchemaOrStrings, 2) => {
                    self.spend()?;
                    many.push(wire.text()?.into());
                }
                _ => {}
            }
        }
        Ok(match (special, schema) {
            _ if !many.is_empty() => Some(many.into()),
            (Special::SchemaOrBool, None) => Some(allows.into()),
            (_, schema) => schema,
        })
    }

    fn schema(&mut self, data: &[u8], depth: usize) -> Result<Value, ProtoError> {
        match &*OWN {
            Some(own) => self.object(own.json_schema, data, None, depth),
            None => Ok(Value::Null),
        }
    }

    /// Embedded JSON, or another envelope.
    fn raw(&mut self, raw: &[u8], depth: usize) -> Result<Option<Value>, ProtoError> {
        if raw.starts_with(MAGIC) {
            return self.envelope(raw, depth).map(Some);
        }
        if raw.is_empty() {
            return Ok(None);
        }
        let value: Value =
            serde_json::from_slice(raw).map_err(|error| ProtoError::Json(error.to_string()))?;
        Ok((!value.is_null()).then_some(value))
    }
}
