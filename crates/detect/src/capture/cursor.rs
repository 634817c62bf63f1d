//! Reading numbers and texts from a block's bytes, and writing them.

use super::CaptureError;

/// A place in a block. Whatever is not there is an error, never a panic.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    pub(super) left: &'a [u8],
    pub(super) kind: u32,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(kind: u32, bytes: &'a [u8]) -> Self {
        Self { left: bytes, kind }
    }

    pub(super) fn corrupt(&self, what: &'static str) -> CaptureError {
        CaptureError::Corrupt {
            kind: self.kind,
            what,
        }
    }

    pub(super) fn take(&mut self, bytes: usize) -> Result<&'a [u8], CaptureError> {
        let (taken, left) = self
            .left
            .split_at_checked(bytes)
            .ok_or_else(|| self.corrupt("it ends too early"))?;
        self.left = left;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CaptureError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, CaptureError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, CaptureError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, CaptureError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, CaptureError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, CaptureError> {
        self.array().map(i64::from_le_bytes)
    }

    /// Text behind its length in 16 bits.
    pub(super) fn text(&mut self) -> Result<&'a [u8], CaptureError> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// An entry behind its length, which counts itself, where the list has lengths; the rest of the
    /// block where it has none.
    pub(super) fn entry(&mut self, sized: bool) -> Result<Option<Self>, CaptureError> {
        if self.left.len() < 4 {
            return Ok(None);
        }
        if !sized {
            return Ok(Some(*self));
        }
        let length = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        let length = length
            .checked_sub(4)
            .ok_or_else(|| self.corrupt("an entry is shorter than its length"))?;
        Ok(Some(Self::new(self.kind, self.take(length)?)))
    }
}

/// Text behind its length in 16 bits, cut to `most` bytes.
pub(super) fn put_text(out: &mut Vec<u8>, text: &[u8], most: usize) {
    let text = text.get(..most).unwrap_or(text);
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend(length.to_le_bytes());
    out.extend(text.iter().take(usize::from(length)));
}

/// An entry behind its length, which counts itself.
pub(super) fn put_entry(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0; 4]);
    fill(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}
