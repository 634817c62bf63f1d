//! What a quoted literal stands for.

/// The bytes that a string literal (with prefix `r` and quotes) stands for. In a literal of bytes, `\x` and
/// octal escapes are single bytes; in a string they are code points.
pub(crate) fn unescape(literal: &str, bytes: bool) -> Result<Vec<u8>, &'static str> {
    let broken = "unable to unescape string";
    let (raw, quoted) = match literal.strip_prefix(['r', 'R']) {
        Some(rest) => (true, rest),
        None => (false, literal),
    };
    let width = if quoted.len() >= 6 && (quoted.starts_with("\"\"\"") || quoted.starts_with("'''"))
    {
        3
    } else {
        1
    };
    let inner = quoted
        .get(width..quoted.len().saturating_sub(width))
        .ok_or(broken)?;
    let inner = inner.replace("\r\n", "\n").replace('\r', "\n");
    if raw || !inner.contains('\\') {
        return Ok(inner.into_bytes());
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            push(&mut out, char);
            continue;
        }
        let escape = chars
            .next()
            .ok_or("unable to unescape string, found '\\' as last character")?;
        let plain = match escape {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '\\' | '\'' | '"' | '`' | '?' => escape,
            'x' | 'X' => {
                code(&mut out, digits(&mut chars, 2, 16, 0).ok_or(broken)?, bytes)?;
                continue;
            }
            'u' | 'U' if bytes => return Err(broken),
            'u' => unicode(digits(&mut chars, 4, 16, 0).ok_or(broken)?)?,
            'U' => unicode(digits(&mut chars, 8, 16, 0).ok_or(broken)?)?,
            '0'..='3' => {
                let first = escape.to_digit(8).ok_or(broken)?;
                let number = digits(&mut chars, 2, 8, first)
                    .ok_or("unable to unescape octal sequence in string")?;
                code(&mut out, number, bytes)?;
                continue;
            }
            _ => return Err(broken),
        };
        push(&mut out, plain);
    }
    Ok(out)
}

fn push(out: &mut Vec<u8>, char: char) {
    out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
}

fn digits(chars: &mut std::str::Chars<'_>, count: usize, radix: u32, first: u32) -> Option<u32> {
    let mut number = first;
    for _ in 0..count {
        let digit = chars.next()?.to_digit(radix)?;
        number = number.checked_mul(radix)?.checked_add(digit)?;
    }
    Some(number)
}

fn unicode(number: u32) -> Result<char, &'static str> {
    char::from_u32(number).ok_or("invalid unicode code point")
}

fn code(out: &mut Vec<u8>, number: u32, bytes: bool) -> Result<(), &'static str> {
    if bytes {
        out.push(u8::try_from(number).map_err(|_| "unable to unescape string")?);
    } else {
        push(out, unicode(number)?);
    }
    Ok(())
}
