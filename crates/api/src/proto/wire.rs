//! The protobuf wire format: tags, varints, lengths.

use super::ProtoError;

/// One field as the wire has it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Len(&'a [u8]),
}

impl<'a> Wire<'a> {
    pub(super) fn len(self) -> Result<&'a [u8], ProtoError> {
        match self {
            Self::Len(data) => Ok(data),
            _ => Err(ProtoError::WireType),
        }
    }

    pub(super) fn varint(self) -> Result<u64, ProtoError> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => Err(ProtoError::WireType),
        }
    }

    pub(super) fn text(self) -> Result<&'a str, ProtoError> {
        std::str::from_utf8(self.len()?).map_err(|_| ProtoError::Utf8)
    }
}

/// Reads the fields of a message one after the other.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// The next field's number and value.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Wire<'a>)>, ProtoError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = self.varint()?;
                Wire::Len(self.take(usize::try_from(length).map_err(|_| ProtoError::Truncated)?)?)
            }
            5 => {
                self.array::<4>()?;
                Wire::Fixed32
            }
            _ => return Err(ProtoError::WireType),
        };
        match tag >> 3 {
            0 => Err(ProtoError::FieldZero),
            number => Ok(Some((number, wire))),
        }
    }

    pub(super) fn varint(&mut self) -> Result<u64, ProtoError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ProtoError::Varint)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtoError> {
        let (head, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(ProtoError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtoError> {
        let (head, rest) = self.0.split_first_chunk().ok_or(ProtoError::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let byte = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

pub(crate) fn put_number(out: &mut Vec<u8>, number: u16, value: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value);
}

pub(crate) fn put_double(out: &mut Vec<u8>, number: u16, value: f64) {
    put_varint(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u16, bytes: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Writes a field whose content `write` appends; its length comes before it.
pub(crate) fn put_nested<E>(
    out: &mut Vec<u8>,
    number: u16,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    put_varint(out, u64::from(number) << 3 | 2);
    // One byte for the length, as most have; the content moves when it needs more.
    out.push(0);
    let start = out.len();
    write(out)?;
    let length = out.len() - start;
    let mut prefix = Vec::new();
    put_varint(&mut prefix, length as u64);
    let more = prefix.len() - 1;
    if more > 0 {
        out.resize(start + length + more, 0);
        out.copy_within(start..start + length, start + more);
    }
    out[start - 1..start + more].copy_from_slice(&prefix);
    Ok(())
}
