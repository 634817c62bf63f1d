//! Formats of texts that a schema can ask for.
//!
//! Fact: the formats that upstream checks; a text of any other format is taken as it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use base64::Engine as _;
use regex::Regex;

use crate::validate::names;

/// Formats that a pattern says, by their names without dashes.
const PATTERNS: &[(&str, &str)] = &[
    ("bsonobjectid", "^[0-9a-fA-F]{24}$"),
    (
        "creditcard",
        r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11})$",
    ),
    (
        "duration",
        r"(?i)^\s*-?[+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*[a-zµμ]+.*$",
    ),
    ("hexcolor", "^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"),
    (
        "hostname",
        r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9\-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$",
    ),
    (
        "mac",
        r"^(([0-9a-fA-F]{2}:){5}([0-9a-fA-F]{2}:){0,14}[0-9a-fA-F]{2}|([0-9a-fA-F]{2}-){5}([0-9a-fA-F]{2}-){0,14}[0-9a-fA-F]{2}|([0-9a-fA-F]{4}\.){2}([0-9a-fA-F]{4}\.){0,7}[0-9a-fA-F]{4})$",
    ),
    (
        "rgbcolor",
        r"^rgb\(\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*\)$",
    ),
    ("ssn", r"^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$"),
    (
        "uuid",
        "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$",
    ),
    (
        "uuid3",
        "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$",
    ),
    (
        "uuid4",
        "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$",
    ),
    (
        "uuid5",
        "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$",
    ),
];

static COMPILED: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
    let each = PATTERNS.iter();
    each.filter_map(|(name, pattern)| Some((*name, Regex::new(pattern).ok()?)))
        .collect()
});

/// Whether a text has a format.
pub(super) fn has_format(format: &str, value: &str) -> bool {
    let format = format.replace('-', "");
    match format.as_str() {
        "datetime" => value.parse::<jiff::Timestamp>().is_ok(),
        "date" => value.len() == 10 && value.parse::<jiff::civil::Date>().is_ok(),
        "ipv4" => value.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => value.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(value),
        "byte" => base64::engine::general_purpose::STANDARD
            .decode(value)
            .is_ok(),
        "uri" => is_uri(value),
        "email" => is_email(value),
        "isbn" => is_isbn(value, 10) || is_isbn(value, 13),
        "isbn10" => is_isbn(value, 10),
        "isbn13" => is_isbn(value, 13),
        "creditcard" => {
            let digits: String = value.chars().filter(char::is_ascii_digit).collect();
            fits("creditcard", &digits) && luhn(&digits)
        }
        "hostname" => {
            fits("hostname", value)
                && value.len() <= 255
                && value.split('.').all(|label| label.len() <= 63)
        }
        "k8sshortname" => names::dns_label(value).is_empty(),
        "k8slongname" => names::dns_subdomain(value).is_empty(),
        other => fits(other, value),
    }
}

fn fits(name: &str, value: &str) -> bool {
    let found = COMPILED.iter().find(|(own, _)| *own == name);
    found.is_none_or(|(_, pattern)| pattern.is_match(value))
}

fn is_cidr(value: &str) -> bool {
    let Some((address, prefix)) = value.split_once('/') else {
        return false;
    };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    let plain = prefix.chars().all(|c| c.is_ascii_digit());
    plain && prefix.parse::<u8>().is_ok_and(|n| n <= most)
}

/// An absolute URI or an absolute path, as a request line has it.
fn is_uri(value: &str) -> bool {
    let whole = |text: &str| !text.chars().any(|c| c.is_control() || c == ' ');
    if value.starts_with('/') {
        return whole(value);
    }
    let Some((scheme, rest)) = value.split_once(':') else {
        return false;
    };
    let letter = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(letter)
        && !rest.is_empty()
        && whole(rest)
}

/// `user@host`, or `Name <user@host>`.
fn is_email(value: &str) -> bool {
    let value = value.trim();
    let address = match value.split_once('<') {
        Some((_, rest)) => match rest.strip_suffix('>') {
            Some(address) => address,
            None => return false,
        },
        None => value,
    };
    let Some((user, host)) = address.rsplit_once('@') else {
        return false;
    };
    let atom = |text: &str| {
        let special = |c: char| c.is_whitespace() || c.is_control() || "()<>[]:;@\\,\"".contains(c);
        text.split('.')
            .all(|part| !part.is_empty() && !part.contains(special))
    };
    let quoted = user.len() > 2 && user.starts_with('"') && user.ends_with('"');
    (quoted || atom(user)) && atom(host)
}

fn is_isbn(value: &str, length: usize) -> bool {
    let text: String = value.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    if text.len() != length || !text.is_ascii() {
        return false;
    }
    let mut sum = 0;
    for (at, letter) in text.chars().enumerate() {
        let digit = match letter.to_digit(10) {
            Some(digit) => digit,
            None if length == 10 && at == 9 && letter == 'X' => 10,
            None => return false,
        };
        let weight = match length {
            10 => u32::try_from(10 - at).unwrap_or_default(),
            _ if at.is_multiple_of(2) => 1,
            _ => 3,
        };
        sum += digit * weight;
    }
    sum.is_multiple_of(if length == 10 { 11 } else { 10 })
}

/// The check digit of a card's number.
fn luhn(digits: &str) -> bool {
    let sum: u32 = digits
        .chars()
        .rev()
        .filter_map(|c| c.to_digit(10))
        .enumerate()
        .map(|(at, digit)| match (at % 2, digit * 2) {
            (0, _) => digit,
            (_, twice) if twice > 9 => twice - 9,
            (_, twice) => twice,
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles() {
        assert_eq!(COMPILED.len(), PATTERNS.len());
    }

    #[test]
    fn formats() {
        for (format, good, bad) in [
            ("email", "a.b@example.com", "a b"),
            ("email", "A B <a@example.com>", "@example.com"),
            ("hostname", "example.com", "-a.example.com"),
            ("uri", "https://example.com/a?b", "example"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("cidr", "fd00::/64", "10.0.0.0"),
            ("mac", "00:1a:2b:3c:4d:5e", "00:1a:2b"),
            ("duration", "1h30m", "soon"),
            ("duration", "22 ns", "5"),
            ("uuid", "A7D8F3E2-0000-4000-8000-123456789abc", "a7d8"),
            (
                "uuid4",
                "a7d8f3e2-0000-4000-8000-123456789abc",
                "a7d8f3e2-0000-3000-8000-123456789abc",
            ),
            ("isbn", "978-0321751041", "978-0321751042"),
            ("isbn10", "0321751043", "0321751044"),
            ("creditcard", "4111-1111-1111-1111", "4111-1111-1111-1112"),
            ("ssn", "123-45-6789", "12-345-6789"),
            ("hexcolor", "#FFFFFF", "#FFFF"),
            ("rgbcolor", "rgb(255,0,12)", "rgb(256,0,12)"),
            ("bsonobjectid", "507f1f77bcf86cd799439011", "507f"),
            ("byte", "aGk=", "a"),
            ("date", "2026-01-02", "2026-13-02"),
            ("date-time", "2026-01-02T03:04:05Z", "2026-01-02"),
            ("k8s-short-name", "a-b", "a.b"),
            ("k8s-long-name", "a.b", "A"),
        ] {
            assert!(has_format(format, good), "{format}: {good}");
            assert!(!has_format(format, bad), "{format}: {bad}");
        }
        assert!(has_format("password", "anything") && has_format("unheard-of", ""));
    }
}
