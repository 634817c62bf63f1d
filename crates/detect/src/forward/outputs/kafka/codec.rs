//! How Kafka writes numbers, texts and batches of records.
//!
//! Invariant: of an answer that ends too early nothing is read past its end.

use std::sync::Arc;

use crate::forward::Alert;

/// A batch of records in format 2.
pub(super) fn record_batch(alerts: &[Arc<Alert>]) -> Vec<u8> {
    let millis = |alert: &Arc<Alert>| alert.time.as_millisecond();
    let base = alerts.first().map_or(0, millis);
    let latest = alerts.iter().map(millis).max().unwrap_or(base);
    let count = i32::try_from(alerts.len()).unwrap_or(i32::MAX);
    let mut summed = Vec::new();
    // No attributes; the last record's offset, times, and no producer of transactions.
    summed.extend(0_i16.to_be_bytes());
    summed.extend((count - 1).to_be_bytes());
    summed.extend(base.to_be_bytes());
    summed.extend(latest.to_be_bytes());
    summed.extend((-1_i64).to_be_bytes());
    summed.extend((-1_i16).to_be_bytes());
    summed.extend((-1_i32).to_be_bytes());
    summed.extend(count.to_be_bytes());
    for (offset, alert) in (0..).zip(alerts) {
        let value = alert.to_json();
        let mut record = vec![0];
        varint(&mut record, millis(alert) - base);
        varint(&mut record, offset);
        // No key, a value, no headers.
        varint(&mut record, -1);
        varint(&mut record, i64::try_from(value.len()).unwrap_or(i64::MAX));
        record.extend(value);
        varint(&mut record, 0);
        varint(&mut summed, i64::try_from(record.len()).unwrap_or(i64::MAX));
        summed.extend(record);
    }
    let mut batch = 0_i64.to_be_bytes().to_vec();
    // What follows this length: leader epoch, format, checksum, and what it covers.
    let length = i32::try_from(summed.len() + 9).unwrap_or(i32::MAX);
    batch.extend(length.to_be_bytes());
    batch.extend((-1_i32).to_be_bytes());
    batch.push(2);
    batch.extend(crc32c(&summed).to_be_bytes());
    batch.extend(summed);
    batch
}

/// A number in groups of seven bits, its sign in the lowest one.
fn varint(bytes: &mut Vec<u8>, number: i64) {
    let mut left = ((number << 1) ^ (number >> 63)).cast_unsigned();
    loop {
        let group = u8::try_from(left & 0x7f).unwrap_or_default();
        left >>= 7;
        bytes.push(if left > 0 { group | 0x80 } else { group });
        if left == 0 {
            return;
        }
    }
}

/// Castagnoli's checksum, bit by bit: a batch is a few kilobytes.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg())
        })
    })
}

pub(super) fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(i16::try_from(text.len()).unwrap_or(i16::MAX).to_be_bytes());
    bytes.extend(text.as_bytes());
}

pub(super) fn bytes(to: &mut Vec<u8>, content: &[u8]) {
    to.extend(
        i32::try_from(content.len())
            .unwrap_or(i32::MAX)
            .to_be_bytes(),
    );
    to.extend(content);
}

/// Reads an answer, field by field; nothing where it ends too early.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    pub(super) fn i16(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A text that may be missing.
    pub(super) fn text(&mut self) -> Option<String> {
        match self.i16()? {
            ..0 => Some(String::new()),
            length => {
                let text = self.take(usize::try_from(length).ok()?)?;
                Some(String::from_utf8_lossy(text).into_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_and_numbers_are_kafkas() {
        // The check value of CRC-32C in the catalogue of checksums.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        let mut bytes = Vec::new();
        for number in [0, -1, 1, -64, 64, 300] {
            varint(&mut bytes, number);
        }
        assert_eq!(bytes, [0, 1, 2, 127, 0x80, 1, 0xd8, 4]);
    }

    #[test]
    fn a_batch_is_laid_out_as_the_protocol_says() {
        let alert = Arc::new(crate::forward::outputs::tests::rich());
        let batch = record_batch(&[alert.clone(), alert.clone()]);
        assert_eq!(
            batch.len(),
            12 + usize::try_from(i32::from_be_bytes([
                batch[8], batch[9], batch[10], batch[11]
            ]))
            .expect("small")
        );
        assert_eq!(batch[16], 2);
        assert_eq!(batch[17..21], crc32c(&batch[21..]).to_be_bytes());
        // Last offset, first and last time, and how many.
        assert_eq!(batch[23..27], 1_i32.to_be_bytes());
        assert_eq!(batch[27..35], 1_767_349_230_123_i64.to_be_bytes());
        assert_eq!(batch[35..43], 1_767_349_230_123_i64.to_be_bytes());
        assert_eq!(batch[43..57], [0xff; 14]);
        assert_eq!(batch[57..61], 2_i32.to_be_bytes());
        let json = alert.to_json();
        // The last record: attributes, time, offset 1, no key, the value, no headers.
        let mut tail = vec![0, 0, 2, 1];
        varint(&mut tail, i64::try_from(json.len()).expect("small"));
        tail.extend(json);
        tail.push(0);
        assert!(batch.ends_with(&tail));
    }
}
