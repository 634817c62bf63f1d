//! The fields as `falco --list` tells them.

use serde_json::{Value, json};

use super::{Class, Field, Source, all};

const CLASSES: [Class; 12] = [
    Class::Generic,
    Class::Event,
    Class::Process,
    Class::User,
    Class::Group,
    Class::Fd,
    Class::FsPath,
    Class::Util,
    Class::FdList,
    Class::Container,
    Class::Audit,
    Class::Json,
];

fn shown(class: Class) -> impl Iterator<Item = &'static Field> {
    all()
        .iter()
        .filter(move |field| field.class == class && !field.hidden() && !field.deprecated())
}

fn sources(class: Class) -> Vec<&'static str> {
    Source::ALL
        .into_iter()
        .filter(|source| class.serves(*source))
        .map(Source::name)
        .collect()
}

/// The fields of a source, or of all, as JSON.
pub fn json(source: Option<Source>) -> Value {
    let wanted = |class: &Class| source.is_none_or(|source| class.serves(source));
    let classes: Vec<_> = CLASSES
        .into_iter()
        .filter(wanted)
        .map(|class| {
            let fields: Vec<_> = shown(class).map(field).collect();
            json!({"name": class.name(), "event_sources": sources(class), "fields": fields})
        })
        .collect();
    json!({"fieldclasses": classes})
}

fn field(field: &Field) -> Value {
    let mut types = Vec::new();
    if field.takes_index() {
        types.push("INDEX");
    }
    if field.takes_key() {
        types.push("KEY");
    }
    let argument = field
        .argument_allowed()
        .then(|| json!({"required": field.argument_required(), "type": types}));
    json!({
        "name": field.name,
        "type": field.kind.name(),
        "desc": field.about,
        "is_list": field.is_list(),
        "argument": argument,
    })
}

/// The fields of a source, or of all, as tables in Markdown.
pub fn markdown(source: Option<Source>) -> String {
    let mut out = String::new();
    for class in CLASSES {
        if source.is_some_and(|source| !class.serves(source)) {
            continue;
        }
        out.push_str(&format!("## Field Class: {}\n\n", class.name()));
        out.push_str(&format!("Event Sources: {} \n\n", sources(class).join(" ")));
        out.push_str("Name | Type | Description\n:----|:-----|:-----------\n");
        for field in shown(class) {
            let kind = match field.is_list() {
                true => format!("LIST({})", field.kind.name()),
                false => field.kind.name().to_owned(),
            };
            out.push_str(&format!("`{}` | {kind} | {}\n", field.name, field.about));
        }
        out.push('\n');
    }
    out
}
