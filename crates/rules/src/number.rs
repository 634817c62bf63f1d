//! Numbers as `sscanf` reads them, which is what Falco's libraries parse constants with.

/// A signed number: blanks, a sign, decimal digits, and nothing behind them.
pub(crate) fn signed(text: &str) -> Option<i64> {
    let (negative, digits) = split(text)?;
    // Out of range, `sscanf` gives the nearest.
    let magnitude = digits.parse::<i128>().unwrap_or(i128::MAX);
    let value = if negative { -magnitude } else { magnitude };
    let clamped = value.clamp(i64::MIN.into(), i64::MAX.into());
    i64::try_from(clamped).ok()
}

/// An unsigned number; a negative one wraps around.
pub(crate) fn unsigned(text: &str) -> Option<u64> {
    let (negative, digits) = split(text)?;
    let magnitude = digits.parse::<u64>().unwrap_or(u64::MAX);
    Some(if negative && magnitude != u64::MAX {
        magnitude.wrapping_neg()
    } else {
        magnitude
    })
}

fn split(text: &str) -> Option<(bool, &str)> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then_some((negative, digits))
}
