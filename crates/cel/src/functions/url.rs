//! URLs as requests carry them: absolute, or a path from the root.

use std::collections::BTreeMap;

use super::{Table, fail, no_overload};
use crate::eval::Context;
use crate::extension::Extension;
use crate::value::{Entries, Evaluated, Key, Text, Value};

pub(crate) const TABLE: Table = &[
    ("url", url),
    ("isURL", is_url),
    ("getScheme", scheme),
    ("getHost", host),
    ("getHostname", hostname),
    ("getPort", port),
    ("getEscapedPath", escaped_path),
    ("getQuery", query),
];

/// A URL in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    host: String,
    path: String,
    query: String,
}

impl Url {
    /// Parses what may stand in a request.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("empty url");
        }
        if text.chars().any(|char| char.is_ascii_control()) {
            return Err("net/url: invalid control character in URL");
        }
        let (scheme, rest) = scheme_of(text)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if scheme.is_empty() && !rest.starts_with('/') {
            return Err("invalid URI for request");
        }
        let (host, path) = match rest.strip_prefix("//") {
            Some(after) if !scheme.is_empty() => {
                let end = after.find('/').unwrap_or(after.len());
                after.split_at(end)
            }
            _ => ("", rest),
        };
        if !scheme.is_empty() && host.is_empty() && !path.starts_with('/') && !path.is_empty() {
            // An opaque URL, as `mailto:someone`, is none of a request.
            return Err("invalid URI for request");
        }
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        check_host(host)?;
        if !escapes_are_whole(path) {
            return Err("invalid URL escape");
        }
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            host: host.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
        })
    }

    fn split_host(&self) -> (&str, &str) {
        let after_bracket = self.host.find(']').map_or(0, |end| end + 1);
        let (name, port) = match self
            .host
            .get(after_bracket..)
            .and_then(|rest| rest.rfind(':'))
        {
            Some(colon) => self.host.split_at(after_bracket + colon),
            None => (self.host.as_str(), ""),
        };
        let name = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'))
            .unwrap_or(name);
        (name, port.strip_prefix(':').unwrap_or(port))
    }
}

fn scheme_of(text: &str) -> Result<(&str, &str), &'static str> {
    for (index, char) in text.char_indices() {
        match char {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if index > 0 => {}
            ':' if index == 0 => return Err("missing protocol scheme"),
            ':' => return Ok((&text[..index], &text[index + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

fn check_host(host: &str) -> Result<(), &'static str> {
    let after = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((_, after)) => after,
            None => return Err("missing ']' in host"),
        },
        None => host.rfind(':').map_or("", |colon| &host[colon..]),
    };
    let port = after.strip_prefix(':').unwrap_or(after);
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("invalid port after host");
    }
    if host.contains([' ', '<', '>', '"', '\\', '^', '`', '{', '|', '}']) {
        return Err("invalid character in host name");
    }
    Ok(())
}

fn escapes_are_whole(text: &str) -> bool {
    text.split('%')
        .skip(1)
        .all(|part| part.len() >= 2 && part.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()))
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The path with what may not stand in it escaped.
fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@%!'()*[]".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn url<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let [Value::String(text)] = args else {
        return no_overload();
    };
    match Url::parse(text) {
        Ok(url) => Ok(Value::extension(Extension::Url(url))),
        Err(why) => {
            let text = &**text;
            fail(format!(
                "URL parse error during conversion from string: parse {text:?}: {why}"
            ))
        }
    }
}

fn is_url<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::String(text)] => Ok(Value::Bool(Url::parse(text).is_ok())),
        _ => no_overload(),
    }
}

fn part<'a>(args: &[Value<'a>], part: fn(&Url) -> String) -> Evaluated<'a> {
    match args {
        [Value::Extension(extension)] => match &**extension {
            Extension::Url(url) => Ok(Value::made(part(url))),
            _ => no_overload(),
        },
        _ => no_overload(),
    }
}

fn scheme<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    part(args, |url| url.scheme.clone())
}

fn host<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    part(args, |url| url.host.clone())
}

fn hostname<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    part(args, |url| url.split_host().0.to_owned())
}

fn port<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    part(args, |url| url.split_host().1.to_owned())
}

fn escaped_path<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    part(args, |url| escaped(&url.path))
}

fn query<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let [Value::Extension(extension)] = args else {
        return no_overload();
    };
    let Extension::Url(url) = &**extension else {
        return no_overload();
    };
    let mut values: BTreeMap<String, Vec<Value<'a>>> = BTreeMap::new();
    for pair in url
        .query
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.contains(';'))
    {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let (Some(key), Some(value)) = (unescaped(key), unescaped(value)) {
            values.entry(key).or_default().push(Value::made(value));
        }
    }
    let mut entries = Entries::new();
    for (key, values) in values {
        let key = Text::Shared(key.into());
        let value = (Value::String(key.clone()), Value::built_list(values));
        entries.insert(Key::String(key), value);
    }
    Ok(Value::built_map(entries))
}
