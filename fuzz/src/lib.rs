//! What must hold of every input, for a search that tries many: one function for each sort of input.
//! None may panic, hang or take much memory; beyond that, what is accepted must keep its meaning.
//!
//! `cargo xtask fuzz` runs them, as does `cargo fuzz` where it is installed.

use std::sync::{Arc, LazyLock};

use api::fields::{self, Target};
use api::resource::{self, Resource};
use api::selector::{FieldSelector, LabelSelector};
use api::structural::{self, Custom};
use api::{MAX_DEPTH, convert, patch, proto, schema, validate, yaml};
use cel::{Decl, Env, ListKind, Shape, Variables};
use serde_json::{Value, json};

/// When everything happens.
const NOW: &str = "2026-01-01T00:00:00Z";

fn kind(version: &str, name: &str) -> &'static Resource {
    let (group, version) = resource::split_api_version(version);
    resource::by_kind(group, version, name).expect("a kind that exists")
}

fn pods() -> &'static Resource {
    kind("v1", "Pod")
}

/// An object that patches have something to do to.
fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "n", "labels": {"a": "b"}, "finalizers": ["x/y"]},
        "spec": {
            "containers": [
                {"name": "a", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "env": [{"name": "E", "value": "1"}]},
                {"name": "b", "image": "j", "args": ["x", "y"]},
            ],
            "volumes": [{"name": "v", "emptyDir": {}}],
            "tolerations": [{"key": "k", "operator": "Exists"}],
        },
    })
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// What the server does to an object of a kind that it knows, up to the store.
fn admit(mut object: Value) {
    if depth(&object) > MAX_DEPTH {
        return;
    }
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = resource::split_api_version(text("apiVersion"));
    let known = resource::by_kind(group, version, text("kind")).unwrap_or_else(pods);
    if schema::decode(known, &mut object).is_err() {
        return;
    }
    let again = schema::decode(known, &mut object.clone()).expect("was accepted before");
    assert!(again.is_empty(), "decoded twice: {again:?}");
    schema::apply_defaults(known, &mut object);
    let mut twice = object.clone();
    schema::apply_defaults(known, &mut twice);
    assert_eq!(twice, object, "defaults of defaults");
    let _errors = validate::create(known, &object);
    let _errors = validate::update(known, &object, &twice);
    let target = Target::of(known, "");
    fields::update(&target, None, &mut object, "fuzz", NOW);
    convert::convert(known, known.storage(), &mut object);
}

/// A body in JSON.
pub fn json(data: &[u8]) {
    let _problems = schema::duplicates(data);
    if let Ok(object) = serde_json::from_slice(data) {
        admit(object);
    }
}

/// A body in YAML.
pub fn yaml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for document in yaml::parse_documents(text).into_iter().flatten() {
        assert!(depth(&document) <= MAX_DEPTH + 1, "deeper than promised");
        admit(document);
    }
}

/// A body in protobuf.
pub fn protobuf(data: &[u8]) {
    let Ok(object) = proto::decode(data) else {
        return;
    };
    let Ok(bytes) = proto::encode(&object) else {
        return;
    };
    // Encoding adds the empty structures that Go always writes; from then on nothing changes.
    let first = proto::decode(&bytes).expect("what was encoded here");
    let bytes = proto::encode(&first).expect("what was decoded here");
    assert_eq!(proto::decode(&bytes).as_ref(), Ok(&first), "encoded twice");
    admit(object);
}

/// A JSON patch on a pod.
pub fn json_patch(data: &[u8]) {
    let mut target = pod();
    if patch::json(&mut target, data).is_ok() {
        admit(target);
    }
}

/// A merge patch on a pod.
pub fn merge_patch(data: &[u8]) {
    let Ok(asked) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    let mut target = pod();
    if patch::merge(&mut target, asked.clone()).is_ok() {
        let mut twice = target.clone();
        patch::merge(&mut twice, asked).expect("was applied before");
        assert_eq!(twice, target, "merged twice");
        admit(target);
    }
}

/// A strategic merge patch on a pod.
pub fn strategic_patch(data: &[u8]) {
    let Ok(asked) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    let mut target = pod();
    if patch::strategic(pods(), &mut target, asked).is_ok() {
        admit(target);
    }
}

/// An object that is applied over a pod that others own, and over nothing.
pub fn apply(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok([mut asked]) = <[Value; 1]>::try_from(yaml::parse_documents(text).unwrap_or_default())
    else {
        return;
    };
    if depth(&asked) > MAX_DEPTH || schema::decode(pods(), &mut asked).is_err() {
        return;
    }
    let target = Target::of(pods(), "");
    let mut live = pod();
    fields::update(&target, None, &mut live, "others", NOW);
    let _conflicts = fields::apply(&target, Some(&live), &asked, "fuzz", false, NOW);
    for live in [None, Some(&live)] {
        if let Ok(new) = fields::apply(&target, live, &asked, "fuzz", true, NOW) {
            let again = fields::apply(&target, Some(&new), &asked, "fuzz", false, NOW);
            assert_eq!(again.as_ref(), Ok(&new), "applied twice");
        }
    }
}

/// A label selector.
pub fn label_selector(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(selector) = LabelSelector::parse(text) {
        let _matches = selector.matches_object(&pod());
    }
}

/// A field selector.
pub fn field_selector(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(selector) = FieldSelector::parse(text)
        && selector.check(pods()).is_ok()
    {
        let _matches = selector.matches(pods(), &pod());
    }
}

static ENV: LazyLock<EnvAndRoot> = LazyLock::new(EnvAndRoot::new);

/// What a rule of a custom resource knows.
struct EnvAndRoot {
    env: Env,
    root: Arc<Decl>,
    data: Value,
}

impl EnvAndRoot {
    fn new() -> Self {
        let of = |shape| Arc::new(Decl::new(shape));
        let string = || of(Shape::String);
        let root = Arc::new(Decl::object(
            "self",
            [
                ("name", string()),
                ("replicas", of(Shape::Int)),
                ("any", of(Shape::Dyn)),
                ("tags", of(Shape::List(string(), ListKind::Set))),
                ("labels", of(Shape::Map(string()))),
            ],
        ));
        Self {
            env: Env::new().with_data("self", &root),
            root,
            data: json!({"name": "web", "replicas": 3, "any": {"a": [1, "x", null]},
                "tags": ["a", "b"], "labels": {"app": "web"}}),
        }
    }
}

/// A rule: its cost at most what is allowed, whatever it says.
pub fn cel(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(program) = ENV.env.compile(source) else {
        return;
    };
    let _estimate = program.estimate(Some(&ENV.root));
    let value = cel::Value::wrap(&ENV.data, &ENV.root).expect("the data fit");
    let mut variables = Variables::new();
    variables.set("self", value);
    let _outcome = program.eval(&variables, cel::PER_CALL_LIMIT);
}

/// A version of a custom resource definition, and an object of it.
pub fn definition(data: &[u8]) {
    let Ok([version, mut object]) =
        <[Value; 2]>::try_from(serde_json::from_slice::<Vec<Value>>(data).unwrap_or_default())
    else {
        return;
    };
    if depth(&version).max(depth(&object)) > MAX_DEPTH {
        return;
    }
    if !structural::check(&version, "spec.versions[0]").is_empty() {
        return;
    }
    let custom = Custom::new(&version);
    if custom.decode(&mut object).is_err() {
        return;
    }
    let mut again = object.clone();
    let problems = custom.decode(&mut again).expect("was accepted before");
    assert!(problems.is_empty() && again == object, "pruned twice");
    custom.apply_defaults(&mut object);
    let mut twice = object.clone();
    custom.apply_defaults(&mut twice);
    assert_eq!(twice, object, "defaults of defaults");
    let _errors = custom.validate(&object, None);
    let _errors = custom.validate(&object, Some(&twice));
}

/// An event with a value for every field, whatever rules ask for.
struct Everything(rules::events::EventType);

impl rules::Event for Everything {
    fn kind(&self) -> rules::events::EventType {
        self.0
    }

    fn field<'a>(
        &'a self,
        field: rules::fields::FieldId,
        _argument: &rules::fields::Argument,
        out: &mut rules::Values<'a>,
    ) {
        use rules::fields::Type;
        match field.info().kind {
            Type::Bool => out.boolean(true),
            Type::IpAddr | Type::IpNet => out.address([127, 0, 0, 1].into()),
            Type::I16 | Type::I32 | Type::I64 => out.signed(-1),
            kind if kind.is_text() || kind == Type::Bytebuf => out.text("/bin/\u{ff}x"),
            _ => out.unsigned(1),
        }
    }

    fn time_ns(&self) -> u64 {
        0
    }
}

/// A file of rules: loaded, told again, made a program, and run.
pub fn rules(data: &[u8]) {
    use rules::fields::Source;
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut loader = rules::load::Loader::new();
    let result = loader.load("fuzz", text);
    let _told = (result.verbose(), result.json());
    let set = loader.finish();
    let _told = set.describe();
    for rule in set.rules() {
        // Macros can make a condition deeper than one may be written.
        let printed = rules::condition::print(&rule.condition);
        if let Ok(again) = rules::condition::parse(&printed) {
            assert_eq!(rules::condition::print(&again), printed);
        }
    }
    let program = rules::program::Program::new(&set, &rules::program::Selection::default());
    let mut scratch = program.scratch();
    for (source, kind) in [(Source::Syscall, "open"), (Source::K8sAudit, "pluginevent")] {
        let event = Everything(rules::events::find(kind).expect("the table has it"));
        let first = program.first(source, &event, &mut scratch);
        let mut all = Vec::new();
        program.all(source, &event, &mut scratch, &mut all);
        assert_eq!(first, all.first().copied());
        for rule in all {
            let alert = rules::Alert::of(&program.rules()[rule]);
            let _line = alert.json(&event, &rules::AlertOptions::default());
        }
    }
}

/// What a rule says.
pub fn output(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(template) = rules::Template::parse(rules::fields::Source::Syscall, text) {
        let event = Everything(rules::events::find("open").expect("the table has it"));
        let _text = template.render(&event, &rules::AlertOptions::default().time_zone);
    }
}
