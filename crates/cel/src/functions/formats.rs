//! Named formats, and what is wrong with a string that is not of one.

use api::validate::names;

use super::{Table, no_overload};
use crate::eval::Context;
use crate::extension::Extension;
use crate::functions::regex;
use crate::functions::time::parse_timestamp;
use crate::functions::url::Url;
use crate::value::{Evaluated, Value};

/// A format.
pub struct Format {
    /// Its name in functions.
    function: &'static str,
    /// Its own name.
    name: &'static str,
    check: fn(&str) -> Vec<String>,
    /// The length that its pattern would have.
    pub(crate) regex_size: u64,
}

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

const fn format(
    function: &'static str,
    name: &'static str,
    regex_size: u64,
    check: fn(&str) -> Vec<String>,
) -> Format {
    Format {
        function,
        name,
        check,
        regex_size,
    }
}

static FORMATS: [Format; 12] = [
    format("format.dns1123Label", "DNS1123Label", 30, names::dns_label),
    format(
        "format.dns1123Subdomain",
        "DNS1123Subdomain",
        60,
        names::dns_subdomain,
    ),
    format(
        "format.dns1035Label",
        "DNS1035Label",
        30,
        names::dns_1035_label,
    ),
    format(
        "format.qualifiedName",
        "QualifiedName",
        60,
        names::qualified_name,
    ),
    format(
        "format.dns1123LabelPrefix",
        "DNS1123LabelPrefix",
        30,
        |text| names::dns_label(&unmasked(text)),
    ),
    format(
        "format.dns1123SubdomainPrefix",
        "DNS1123SubdomainPrefix",
        60,
        |text| names::dns_subdomain(&unmasked(text)),
    ),
    format(
        "format.dns1035LabelPrefix",
        "DNS1035LabelPrefix",
        30,
        |text| names::dns_1035_label(&unmasked(text)),
    ),
    format("format.labelValue", "LabelValue", 40, names::label_value),
    format("format.uri", "URI", 1_000, |text| match Url::parse(text) {
        Ok(_) => Vec::new(),
        Err(why) => vec![format!("parse {text:?}: {why}")],
    }),
    format("format.uuid", "uuid", 83, |text| {
        let pattern = "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$";
        let fits = regex::compile(pattern).is_ok_and(|pattern| pattern.is_match(text));
        unless(fits, "does not match the UUID format")
    }),
    format("format.byte", "byte", 84, |text| {
        use base64::Engine as _;
        let fits = base64::engine::general_purpose::STANDARD
            .decode(text)
            .is_ok();
        unless(fits && !text.is_empty(), "invalid base64")
    }),
    format("format.date", "date", 100, |text| {
        let fits = text.len() == 10 && parse_timestamp(&format!("{text}T00:00:00Z")).is_ok();
        unless(fits, "invalid date")
    }),
];

static DATETIME: Format = format("format.datetime", "datetime", 100, |text| {
    unless(parse_timestamp(text).is_ok(), "invalid datetime")
});

fn unless(fits: bool, message: &str) -> Vec<String> {
    if fits {
        Vec::new()
    } else {
        vec![message.to_owned()]
    }
}

/// A prefix as a name that it can begin: a dash at its end becomes a letter.
fn unmasked(text: &str) -> String {
    match text.strip_suffix('-') {
        Some(head) if !head.is_empty() => format!("{head}a"),
        _ => text.to_owned(),
    }
}

pub(crate) const TABLE: Table = &[
    ("validate", validate),
    ("format.named", named),
    ("format.dns1123Label", |_, _| by("format.dns1123Label")),
    ("format.dns1123Subdomain", |_, _| {
        by("format.dns1123Subdomain")
    }),
    ("format.dns1035Label", |_, _| by("format.dns1035Label")),
    ("format.qualifiedName", |_, _| by("format.qualifiedName")),
    ("format.dns1123LabelPrefix", |_, _| {
        by("format.dns1123LabelPrefix")
    }),
    ("format.dns1123SubdomainPrefix", |_, _| {
        by("format.dns1123SubdomainPrefix")
    }),
    ("format.dns1035LabelPrefix", |_, _| {
        by("format.dns1035LabelPrefix")
    }),
    ("format.labelValue", |_, _| by("format.labelValue")),
    ("format.uri", |_, _| by("format.uri")),
    ("format.uuid", |_, _| by("format.uuid")),
    ("format.byte", |_, _| by("format.byte")),
    ("format.date", |_, _| by("format.date")),
    ("format.datetime", |_, _| by("format.datetime")),
];

fn find(function: &str) -> Option<&'static Format> {
    FORMATS
        .iter()
        .chain([&DATETIME])
        .find(|format| format.function == function)
}

fn by<'a>(function: &str) -> Evaluated<'a> {
    match find(function) {
        Some(format) => Ok(Value::extension(Extension::Format(format))),
        None => no_overload(),
    }
}

fn named<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let [Value::String(name)] = args else {
        return no_overload();
    };
    let found = find(&format!("format.{}", &**name));
    Ok(found.map_or(Value::Optional(None), |format| {
        Value::some(Value::extension(Extension::Format(format)))
    }))
}

fn validate<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let [Value::Extension(extension), Value::String(text)] = args else {
        return no_overload();
    };
    let Extension::Format(format) = &**extension else {
        return no_overload();
    };
    let wrong = (format.check)(text);
    if wrong.is_empty() {
        return Ok(Value::Optional(None));
    }
    Ok(Value::some(Value::built_list(
        wrong.into_iter().map(Value::made).collect(),
    )))
}
