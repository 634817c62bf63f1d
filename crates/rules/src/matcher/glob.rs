//! Globs as `fnmatch(3)` has them, without its flags: `*` and `?` match slashes and dots too.
//!
//! Invariant: matching takes at most the product of both lengths.

/// A pattern.
#[derive(Clone, Debug)]
pub(crate) struct Glob {
    tokens: Vec<Token>,
    fold: bool,
}

#[derive(Clone, Debug)]
enum Token {
    Byte(u8),
    Any,
    Star,
    Set([u64; 4]),
}

fn set(bits: &mut [u64; 4], byte: u8) {
    bits[usize::from(byte >> 6)] |= 1 << (byte & 63);
}

fn has(bits: &[u64; 4], byte: u8) -> bool {
    bits[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1
}

/// What a class in brackets, such as `[:digit:]`, holds.
fn class(name: &[u8]) -> Option<fn(&u8) -> bool> {
    Some(match name {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |b| matches!(b, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |b| b.is_ascii_graphic() || *b == b' ',
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |b| matches!(b, b' ' | 9..=13),
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    })
}

impl Glob {
    pub(crate) fn new(pattern: &[u8], fold: bool) -> Self {
        let mut tokens = Vec::new();
        let mut at = 0;
        while let Some(&byte) = pattern.get(at) {
            at += 1;
            let token = match byte {
                b'*' if matches!(tokens.last(), Some(Token::Star)) => continue,
                b'*' => Token::Star,
                b'?' => Token::Any,
                b'\\' if at < pattern.len() => {
                    at += 1;
                    Token::Byte(pattern[at - 1])
                }
                b'[' => match brackets(&pattern[at..], fold) {
                    Some((bits, length)) => {
                        at += length;
                        Token::Set(bits)
                    }
                    None => Token::Byte(b'['),
                },
                byte => Token::Byte(byte),
            };
            tokens.push(match token {
                Token::Byte(byte) if fold => Token::Byte(byte.to_ascii_lowercase()),
                token => token,
            });
        }
        Self { tokens, fold }
    }

    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        let (mut token, mut at) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        loop {
            let step = match (self.tokens.get(token), text.get(at)) {
                (None, None) => return true,
                (Some(Token::Star), _) => {
                    star = Some((token + 1, at));
                    token += 1;
                    continue;
                }
                (Some(wanted), Some(&byte)) => {
                    let byte = if self.fold {
                        byte.to_ascii_lowercase()
                    } else {
                        byte
                    };
                    match wanted {
                        Token::Byte(wanted) => *wanted == byte,
                        Token::Any => true,
                        Token::Set(bits) => has(bits, byte),
                        Token::Star => false,
                    }
                }
                _ => false,
            };
            if step {
                token += 1;
                at += 1;
                continue;
            }
            match star {
                Some((behind, from)) if from < text.len() => {
                    star = Some((behind, from + 1));
                    token = behind;
                    at = from + 1;
                }
                _ => return false,
            }
        }
    }
}

/// What follows an opening bracket: the bytes that it matches, and the length of its text.
fn brackets(text: &[u8], fold: bool) -> Option<([u64; 4], usize)> {
    let mut bits = [0; 4];
    let negated = matches!(text.first(), Some(b'!' | b'^'));
    let mut at = usize::from(negated);
    let begin = at;
    loop {
        let mut byte = *text.get(at)?;
        at += 1;
        if byte == b']' && at > begin + 1 {
            break;
        }
        if byte == b'[' && text.get(at) == Some(&b':') {
            let rest = &text[at + 1..];
            if let Some(end) = memchr::memmem::find(rest, b":]") {
                let members = class(&rest[..end])?;
                (0..=255)
                    .filter(|byte: &u8| members(byte))
                    .for_each(|byte| set(&mut bits, byte));
                at += 1 + end + 2;
                continue;
            }
        }
        if byte == b'\\' {
            byte = *text.get(at)?;
            at += 1;
        }
        let mut last = byte;
        if text.get(at) == Some(&b'-') && text.get(at + 1).is_some_and(|b| *b != b']') {
            last = text[at + 1];
            at += 2;
            if last == b'\\' {
                last = *text.get(at)?;
                at += 1;
            }
        }
        (byte..=last).for_each(|byte| set(&mut bits, byte));
    }
    if fold {
        for byte in b'A'..=b'Z' {
            if has(&bits, byte) {
                set(&mut bits, byte.to_ascii_lowercase());
            }
        }
    }
    if negated {
        bits = bits.map(|word| !word);
    }
    Some((bits, at))
}
