//! Escapes in quoted strings.

use super::ParseError;

/// What a string means; `text` has its quotes, of which the first is given once more.
pub(crate) fn unescape(text: &[u8]) -> Result<Vec<u8>, ParseError> {
    let mut result = Vec::with_capacity(text.len());
    let (Some(&quote), Some(inner)) = (text.first(), text.get(1..text.len().saturating_sub(1)))
    else {
        return Ok(result);
    };
    let mut bytes = inner.iter().copied().enumerate();
    while let Some((_, byte)) = bytes.next() {
        if byte != b'\\' {
            result.push(byte);
            continue;
        }
        let Some((at, escaped)) = bytes.next() else {
            break;
        };
        result.push(match escaped {
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            // Upstream keeps the backslash and drops the blank, for the sake of old rules.
            b' ' | b'\\' => b'\\',
            b'/' => b'/',
            b'"' | b'\'' if escaped == quote => escaped,
            b'"' => return Err(ParseError::QuoteEscape("\\\" escape in '-quoted string")),
            b'\'' => return Err(ParseError::QuoteEscape("\\' escape in \"-quoted string")),
            b'x' => {
                let digits = inner.get(at + 1..at + 3).ok_or(ParseError::TruncatedHex)?;
                let value = std::str::from_utf8(digits)
                    .ok()
                    .filter(|_| digits.iter().all(u8::is_ascii_hexdigit))
                    .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                    .ok_or_else(|| {
                        ParseError::InvalidHex(String::from_utf8_lossy(digits).into_owned())
                    })?;
                bytes.nth(1);
                value
            }
            other => return Err(ParseError::UnsupportedEscape(char::from(other))),
        });
    }
    Ok(result)
}

/// A constant as a condition can have it: quoted if it must be, unlike upstream also where it is empty or
/// has parentheses or commas.
pub(crate) fn escape(value: &[u8]) -> String {
    let mut result = String::new();
    let mut quoted = value.is_empty();
    for chunk in value.utf8_chunks() {
        for c in chunk.valid().chars() {
            let escaped = match c {
                '\x08' => "\\b",
                '\x0c' => "\\f",
                '\n' => "\\n",
                '\r' => "\\r",
                '\t' => "\\t",
                '\\' => "\\\\",
                '"' => "\\\"",
                '\0' => "\\x00",
                ' ' | '=' | '\'' | '(' | ')' | ',' | '\x0b' => {
                    quoted = true;
                    result.push(c);
                    continue;
                }
                _ => {
                    result.push(c);
                    continue;
                }
            };
            quoted = true;
            result.push_str(escaped);
        }
        for byte in chunk.invalid() {
            quoted = true;
            result.push_str(&format!("\\x{byte:02x}"));
        }
    }
    if quoted {
        format!("\"{result}\"")
    } else {
        result
    }
}
