//! `cargo xtask facts`: writes the leaf `crates/api/src/facts` from upstream's published OpenAPI and
//! discovery documents.
//!
//! Only facts are taken (names, types, merge keys, verbs), no descriptions. Only stable versions are
//! taken: alpha and beta versions are off by default upstream.

mod proto;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const REF: &str = "#/definitions/";

/// Types that are leaves of an object, with the `Shape` that they get.
const LEAVES: &[(&str, &str)] = &[
    ("io.k8s.apimachinery.pkg.api.resource.Quantity", "Quantity"),
    (
        "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
        "MicroTime",
    ),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Time", "Time"),
    (
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
        "IntOrString",
    ),
];

/// Types that hold any JSON value.
const FREE: &[&str] = &[
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Patch",
    "io.k8s.apimachinery.pkg.runtime.RawExtension",
];

/// Types that no resource refers to and that requests or answers have all the same.
const EXTRA: &[&str] = &[
    "io.k8s.apimachinery.pkg.apis.meta.v1.APIGroup",
    "io.k8s.apimachinery.pkg.apis.meta.v1.APIGroupList",
    "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList",
    "io.k8s.apimachinery.pkg.apis.meta.v1.APIVersions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Patch",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
    "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent",
    "io.k8s.apimachinery.pkg.version.Info",
];

/// Group, version and plural of a resource as it is served.
type Served = (&'static str, &'static str, &'static str);
/// Group and version in which it is stored.
type Stored = (&'static str, &'static str);

/// Where a resource is stored when that is not its own group version: `(group, version, plural)`
/// to `(group, version)`.
const STORED_ELSEWHERE: &[(Served, Stored)] = &[
    (("events.k8s.io", "v1", "events"), ("", "v1")),
    (
        ("autoscaling", "v1", "horizontalpodautoscalers"),
        ("autoscaling", "v2"),
    ),
];

/// Reads `upstream` (the folder with `openapi/` and `discovery/`) and writes `types.rs`,
/// `resources.rs` and `described.rs` into `out`; with `protos` (a folder with upstream's
/// `generated.proto` files and the Go files beside them) also `proto.rs`.
///
/// # Errors
/// When a document is absent or not of the form that upstream publishes.
pub(crate) fn run(upstream: &Path, protos: Option<&Path>, out: &Path) -> Result<()> {
    let source = Source::load(upstream)?;
    let groups = source.group_versions()?;
    let types = source.closure(&groups)?;
    let index: BTreeMap<&str, usize> = types
        .iter()
        .enumerate()
        .map(|(i, n)| (n.as_str(), i))
        .collect();
    write(out, "types.rs", &source.types(&types, &index)?)?;
    write(out, "resources.rs", &source.resources(&groups, &index)?)?;
    write(out, "described.rs", &source.described(&groups)?)?;
    if let Some(protos) = protos {
        let known = |name: &String| {
            let fields = object(source.definition(name)?.get("properties"))
                .map(|(f, _)| f.clone())
                .collect();
            Ok(proto::Known {
                name: name.clone(),
                fields,
            })
        };
        let known: Vec<proto::Known> = types.iter().map(known).collect::<Result<_>>()?;
        write(out, "proto.rs", &proto::table(protos, &known)?)?;
    }
    Ok(())
}

fn write(out: &Path, name: &str, text: &str) -> Result<()> {
    let path = out.join(name);
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

/// A group version and its `APIResourceList`.
struct GroupVersion {
    group: String,
    version: String,
    resources: Vec<Value>,
}

struct Source {
    definitions: Map<String, Value>,
    /// `(type, field)` to the declared default.
    defaults: BTreeMap<(String, String), Value>,
    discovery: std::path::PathBuf,
}

impl Source {
    fn load(upstream: &Path) -> Result<Self> {
        let mut swagger = read(&upstream.join("openapi/swagger.json"))?;
        let definitions = match swagger.get_mut("definitions").map(Value::take) {
            Some(Value::Object(map)) => map,
            _ => bail!("swagger.json has no definitions"),
        };
        let mut defaults = BTreeMap::new();
        let folder = upstream.join("openapi/v3");
        for entry in
            std::fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?
        {
            let document = read(&entry?.path())?;
            let schemas = document
                .pointer("/components/schemas")
                .and_then(Value::as_object);
            for (name, schema) in schemas.into_iter().flatten() {
                for (field, property) in object(schema.get("properties")) {
                    if let Some(default) = property.get("default") {
                        defaults.insert((name.clone(), field.clone()), default.clone());
                    }
                }
            }
        }
        Ok(Self {
            definitions,
            defaults,
            discovery: upstream.join("discovery"),
        })
    }

    /// The stable group versions in upstream's order, core first.
    fn group_versions(&self) -> Result<Vec<GroupVersion>> {
        let mut all = vec![self.group_version("", "v1", "api__v1.json")?];
        let apis = read(&self.discovery.join("apis.json"))?;
        for group in array(apis.get("groups")) {
            let name = text(group, "name");
            for version in array(group.get("versions")) {
                let version = text(version, "version");
                if version
                    .strip_prefix('v')
                    .is_some_and(|n| n.parse::<u32>().is_ok())
                {
                    all.push(self.group_version(
                        name,
                        version,
                        &format!("apis__{name}__{version}.json"),
                    )?);
                }
            }
        }
        Ok(all)
    }

    fn group_version(&self, group: &str, version: &str, file: &str) -> Result<GroupVersion> {
        let list = read(&self.discovery.join(file))?;
        let resources = array(list.get("resources")).to_vec();
        Ok(GroupVersion {
            group: group.to_owned(),
            version: version.to_owned(),
            resources,
        })
    }

    fn definition(&self, name: &str) -> Result<&Value> {
        self.definitions
            .get(name)
            .with_context(|| format!("no definition of {name}"))
    }

    /// The name of the type whose kind this is.
    fn type_of(&self, group: &str, version: &str, kind: &str) -> Option<&str> {
        self.definitions.iter().find_map(|(name, definition)| {
            // DeleteOptions and WatchEvent are registered in every group version.
            let own = !name.starts_with(META) || group.is_empty();
            let found = array(definition.get("x-kubernetes-group-version-kind"))
                .iter()
                .any(|k| {
                    text(k, "kind") == kind
                        && text(k, "version") == version
                        && text(k, "group") == group
                });
            (own && found).then_some(name.as_str())
        })
    }

    /// Names of all types that the resources refer to, sorted.
    fn closure(&self, groups: &[GroupVersion]) -> Result<Vec<String>> {
        let mut todo: Vec<String> = EXTRA.iter().map(|s| (*s).to_owned()).collect();
        for gv in groups {
            for resource in &gv.resources {
                let (group, version) = body_version(gv, resource);
                let kind = text(resource, "kind");
                todo.extend(self.type_of(group, version, kind).map(str::to_owned));
                todo.extend(
                    self.type_of(group, version, &format!("{kind}List"))
                        .map(str::to_owned),
                );
            }
        }
        let mut seen = BTreeSet::new();
        while let Some(name) = todo.pop() {
            if LEAVES.iter().any(|(leaf, _)| *leaf == name) || !seen.insert(name.clone()) {
                continue;
            }
            for (_, property) in object(self.definition(&name)?.get("properties")) {
                references(property, &mut todo);
            }
        }
        Ok(seen.into_iter().collect())
    }

    fn types(&self, types: &[String], index: &BTreeMap<&str, usize>) -> Result<String> {
        let mut text = String::from(
            "//! @generated by `cargo xtask facts` from upstream's OpenAPI document: every type and its fields.\n\n\
             #[allow(clippy::enum_glob_use, reason = \"a generated table\")]\n\
             use crate::schema::Shape::*;\n\
             use crate::schema::{\n    Field, Gvk,\n    ListType::{Atomic as A, Map as M, Set as S},\n    Type, TypeRef as T,\n};\n\n\
             const F: Field = Field::PLAIN;\n\n\
             #[rustfmt::skip]\npub(crate) static TYPES: &[Type] = &[\n",
        );
        for name in types {
            let definition = self.definition(name)?;
            let kinds: Vec<String> = if let Some(kind) = name.strip_prefix(META) {
                let is_kind = definition.get("x-kubernetes-group-version-kind").is_some();
                is_kind.then(|| gvk("", "v1", kind)).into_iter().collect()
            } else {
                array(definition.get("x-kubernetes-group-version-kind"))
                    .iter()
                    .map(|k| {
                        gvk(
                            self::text(k, "group"),
                            self::text(k, "version"),
                            self::text(k, "kind"),
                        )
                    })
                    .collect()
            };
            let atomic = self::text(definition, "x-kubernetes-map-type") == "atomic";
            writeln!(
                text,
                "Type {{ name: {name:?}, kinds: &[{}], atomic: {atomic}, fields: &[",
                kinds.join(", ")
            )?;
            let required: Vec<&str> = array(definition.get("required"))
                .iter()
                .filter_map(Value::as_str)
                .collect();
            let mut fields: Vec<_> = object(definition.get("properties")).collect();
            fields.sort_by(|a, b| a.0.cmp(b.0));
            for (field, property) in fields {
                let default = self.defaults.get(&(name.clone(), field.clone()));
                let line = field_line(
                    field,
                    property,
                    required.contains(&field.as_str()),
                    default,
                    index,
                )
                .with_context(|| format!("{name}.{field}"))?;
                writeln!(text, "  {line},")?;
            }
            text.push_str("] },\n");
        }
        text.push_str("];\n");
        Ok(text)
    }

    fn resources(&self, groups: &[GroupVersion], index: &BTreeMap<&str, usize>) -> Result<String> {
        let mut out = String::from(
            "//! @generated by `cargo xtask facts` from upstream's discovery documents: every stable resource.\n\n\
             use crate::resource::Text::Fixed as F;\nuse crate::resource::{Resource, Subresource, Texts};\n\
             use crate::schema::{Schema, TypeRef as T};\n\n\
             #[rustfmt::skip]\npub(crate) static RESOURCES: &[Resource] = &[\n",
        );
        for gv in groups {
            for resource in gv
                .resources
                .iter()
                .filter(|r| !text(r, "name").contains('/'))
            {
                self.resource(&mut out, gv, resource, index)?;
            }
        }
        out.push_str("];\n");
        Ok(out)
    }

    fn resource(
        &self,
        out: &mut String,
        gv: &GroupVersion,
        resource: &Value,
        index: &BTreeMap<&str, usize>,
    ) -> Result<()> {
        let (group, version) = (gv.group.as_str(), gv.version.as_str());
        let (plural, kind) = (text(resource, "name"), text(resource, "kind"));
        let type_index = |group: &str, version: &str, kind: &str| {
            self.type_of(group, version, kind)
                .and_then(|name| index.get(name))
                .map(|i| format!("T({i})"))
        };
        let schema =
            type_index(group, version, kind).with_context(|| format!("no type of {kind}"))?;
        let list_kind = format!("{kind}List");
        let list = type_index(group, version, &list_kind);
        let stored = STORED_ELSEWHERE
            .iter()
            .find(|(from, _)| *from == (group, version, plural))
            .map_or((group, version), |(_, to)| *to);
        let api_version = if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        };
        writeln!(
            out,
            "Resource {{ group: F({group:?}), version: F({version:?}), api_version: F({api_version:?}), plural: F({plural:?}), \
             singular: F({:?}), kind: F({kind:?}), list_kind: F({:?}), namespaced: {}, short_names: Texts::Fixed({}), \
             categories: Texts::Fixed({}), verbs: {}, schema: Schema::Table({schema}), list_schema: {}, \
             storage_group: F({:?}), storage_version: F({:?}), storage_version_hash: F({:?}), stored_as: None, \
             subresources: &[",
            text(resource, "singularName"),
            if list.is_some() {
                list_kind.as_str()
            } else {
                ""
            },
            resource
                .get("namespaced")
                .and_then(Value::as_bool)
                .unwrap_or_default(),
            strings(resource.get("shortNames")),
            strings(resource.get("categories")),
            strings(resource.get("verbs")),
            list.map_or_else(|| "None".to_owned(), |t| format!("Some({t})")),
            stored.0,
            stored.1,
            text(resource, "storageVersionHash"),
        )?;
        for sub in &gv.resources {
            let Some(name) = text(sub, "name")
                .strip_prefix(plural)
                .and_then(|n| n.strip_prefix('/'))
            else {
                continue;
            };
            let (body_group, body_version) = body_version(gv, sub);
            let schema = type_index(body_group, body_version, text(sub, "kind"));
            writeln!(
                out,
                "  Subresource {{ name: {name:?}, group: {:?}, version: {:?}, kind: {:?}, verbs: {}, schema: {} }},",
                text(sub, "group"),
                text(sub, "version"),
                text(sub, "kind"),
                strings(sub.get("verbs")),
                schema.map_or_else(|| "None".to_owned(), |t| format!("Some({t})")),
            )?;
        }
        out.push_str("] },\n");
        Ok(())
    }

    /// A function that knows, for each kind of a group version, the struct that carries its descriptions.
    fn described(&self, groups: &[GroupVersion]) -> Result<String> {
        let mut out = String::from(
            "//! @generated by `cargo xtask facts`: the structs of `k8s-openapi` that carry descriptions.\n\n\
             use k8s_openapi::schemars::generate::SchemaGenerator;\n\n\
             /// Adds the schemas of the kinds of `group`/`version` to `schemas`.\n\
             #[rustfmt::skip]\npub(crate) fn describe(group: &str, version: &str, schemas: &mut SchemaGenerator) {\n  \
             match (group, version) {\n",
        );
        for gv in groups {
            let mut names = BTreeSet::new();
            for resource in &gv.resources {
                let (group, version) = body_version(gv, resource);
                names.extend(self.type_of(group, version, text(resource, "kind")));
            }
            writeln!(out, "    ({:?}, {:?}) => {{", gv.group, gv.version)?;
            for name in names {
                let path = name
                    .trim_start_matches("io.k8s.")
                    .replace('-', "_")
                    .replace('.', "::");
                writeln!(
                    out,
                    "      let _ = schemas.subschema_for::<k8s_openapi::{path}>();"
                )?;
            }
            out.push_str("    }\n");
        }
        out.push_str("    _ => {}\n  }\n}\n");
        Ok(out)
    }
}

/// Group and version of a resource's body: its own fields where it has them.
fn body_version<'a>(gv: &'a GroupVersion, resource: &'a Value) -> (&'a str, &'a str) {
    match text(resource, "version") {
        "" => (&gv.group, &gv.version),
        version => (text(resource, "group"), version),
    }
}

fn field_line(
    name: &str,
    property: &Value,
    required: bool,
    default: Option<&Value>,
    index: &BTreeMap<&str, usize>,
) -> Result<String> {
    let mut line = format!(
        "Field {{ name: {name:?}, shape: {}",
        shape(property, index)?
    );
    if required {
        line.push_str(", required: true");
    }
    match text(property, "x-kubernetes-list-type") {
        "map" => write!(
            line,
            ", list: M, keys: {}",
            strings(property.get("x-kubernetes-list-map-keys"))
        )?,
        "set" => line.push_str(", list: S"),
        "atomic" => line.push_str(", list: A"),
        _ => {}
    }
    let strategies: Vec<&str> = text(property, "x-kubernetes-patch-strategy")
        .split(',')
        .collect();
    if strategies.contains(&"merge") {
        line.push_str(", merge: true");
    }
    if strategies.contains(&"replace") {
        line.push_str(", replace: true");
    }
    if strategies.contains(&"retainKeys") {
        line.push_str(", retain_keys: true");
    }
    if let Some(key) = property
        .get("x-kubernetes-patch-merge-key")
        .and_then(Value::as_str)
    {
        write!(line, ", merge_key: {key:?}")?;
    }
    if text(property, "x-kubernetes-map-type") == "atomic" {
        line.push_str(", atomic: true");
    }
    if let Some(default) = default {
        write!(line, ", default: {:?}", default.to_string())?;
    }
    line.push_str(", ..F }");
    Ok(line)
}

fn shape(property: &Value, index: &BTreeMap<&str, usize>) -> Result<String> {
    if let Some(name) = reference(property) {
        if let Some((_, leaf)) = LEAVES.iter().find(|(leaf, _)| *leaf == name) {
            return Ok((*leaf).to_owned());
        }
        let i = index.get(name).with_context(|| format!("no type {name}"))?;
        let variant = if FREE.contains(&name) {
            "Any"
        } else {
            "Object"
        };
        return Ok(format!("{variant}(T({i}))"));
    }
    let item = |key: &str| shape(property.get(key).unwrap_or(&Value::Null), index);
    Ok(match (text(property, "type"), text(property, "format")) {
        ("string", "byte") => "Bytes".to_owned(),
        ("string", _) => "String".to_owned(),
        ("boolean", _) => "Bool".to_owned(),
        ("integer", "int32") => "Int32".to_owned(),
        ("integer", _) => "Int64".to_owned(),
        ("number", _) => "Double".to_owned(),
        ("array", _) => format!("List(&{})", item("items")?),
        ("object", _) => format!("Map(&{})", item("additionalProperties")?),
        other => bail!("a type that is not known: {other:?}"),
    })
}

fn reference(property: &Value) -> Option<&str> {
    property
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|r| r.strip_prefix(REF))
}

fn references(property: &Value, found: &mut Vec<String>) {
    found.extend(reference(property).map(str::to_owned));
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = property.get(key) {
            references(inner, found);
        }
    }
}

fn gvk(group: &str, version: &str, kind: &str) -> String {
    format!("Gvk {{ group: {group:?}, version: {version:?}, kind: {kind:?} }}")
}

fn strings(list: Option<&Value>) -> String {
    let quoted: Vec<String> = array(list)
        .iter()
        .filter_map(Value::as_str)
        .map(|s| format!("{s:?}"))
        .collect();
    format!("&[{}]", quoted.join(", "))
}

fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn array(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn object(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}
