//! The stages that all writes share, one function each.

use api::resource::Resource;
use api::schema::{self, Problem, Schema};
use api::status::ApiError;
use api::{meta, validate};
use bytes::Bytes;
use serde_json::Value;

use super::Call;
use crate::admission::attributes::{Attributes, BodyKind, Operation};
use crate::admission::webhook::Reinvocation;
use crate::admission::{self, chain};
use crate::hooks;
use crate::negotiate::{Syntax, body_syntax};

/// What admission is shown of an object that is written through a body of another kind.
pub(crate) trait Face: Send + Sync {
    /// The kind of the body.
    fn kind(&self) -> Option<BodyKind>;
    /// The body that shows an object.
    fn show(&self, object: &Value) -> Value;
    /// Changes an object to what a body shows.
    fn put(&self, call: &Call, object: &mut Value, shown: &Value) -> Result<(), ApiError>;
}

/// What to do about fields that a type does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strictness {
    Ignore,
    Warn,
    Strict,
}

fn strictness(call: &Call) -> Result<Strictness, ApiError> {
    match call.query.text("fieldValidation") {
        None | Some("Warn") => Ok(Strictness::Warn),
        Some("Ignore") => Ok(Strictness::Ignore),
        Some("Strict") => Ok(Strictness::Strict),
        Some(other) => {
            let error = validate::FieldError::not_supported(
                "fieldValidation",
                other,
                &["", "Ignore", "Strict", "Warn"],
            );
            Err(ApiError::invalid_kind(
                "meta.k8s.io",
                "CreateOptions",
                "",
                &[error],
            ))
        }
    }
}

/// Reads a body into a value.
pub(crate) fn parse(syntax: Syntax, body: &Bytes) -> Result<Value, ApiError> {
    match syntax {
        Syntax::Json => serde_json::from_slice(body).map_err(|error| {
            ApiError::bad_request(format!(
                "couldn't get version/kind; json parse error: {error}"
            ))
        }),
        Syntax::Protobuf => {
            api::proto::decode(body).map_err(|error| ApiError::bad_request(error.to_string()))
        }
        Syntax::Yaml => Ok(parse_yaml(body)?.value),
    }
}

/// The first document of a body in YAML.
fn parse_yaml(body: &Bytes) -> Result<api::yaml::Document, ApiError> {
    let text = std::str::from_utf8(body)
        .map_err(|_| ApiError::bad_request("the body is not valid UTF-8"))?;
    let documents =
        api::yaml::parse_stream(text).map_err(|error| ApiError::bad_request(error.to_string()))?;
    documents
        .into_iter()
        .next()
        .ok_or_else(|| ApiError::bad_request("the body holds no document"))
}

/// Stage 1, decode: the body as an object of `kind` in `api_version`, checked against its type.
pub(crate) fn decode(
    call: &Call,
    body: &Bytes,
    api_version: &str,
    kind: &str,
    ty: &Schema,
) -> Result<Value, ApiError> {
    let syntax = body_syntax(&call.headers)?;
    let (mut object, mut problems) = match syntax {
        Syntax::Json => (parse(syntax, body)?, schema::duplicates(body)),
        Syntax::Yaml => {
            let document = parse_yaml(body)?;
            (document.value, document.duplicates)
        }
        Syntax::Protobuf => (parse(syntax, body)?, Vec::new()),
    };
    check_type(&mut object, api_version, kind)?;
    let version = api_version.rsplit('/').next().unwrap_or_default();
    let unfit = |why: String| {
        ApiError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
        ))
    };
    let mut unknown = schema::decode_schema(ty, &mut object).map_err(|e| unfit(e.to_string()))?;
    unknown.append(&mut problems);
    match report(call, &unknown)? {
        Some(strict) => Err(unfit(strict)),
        None => Ok(object),
    }
}

/// The object's own words about its type must fit; missing ones are filled in.
fn check_type(object: &mut Value, api_version: &str, kind: &str) -> Result<(), ApiError> {
    let Some(map) = object.as_object_mut() else {
        return Err(ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: json: cannot unmarshal into Go value of type struct"
        )));
    };
    let text = |name: &str| map.get(name).and_then(Value::as_str).unwrap_or_default();
    let (found_version, found_kind) = (text("apiVersion"), text("kind"));
    if !found_version.is_empty() && found_version != api_version {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({found_version}) does not match the expected API version ({api_version})"
        )));
    }
    if !found_kind.is_empty() && found_kind != kind {
        return Err(ApiError::bad_request(format!(
            "the kind in the data ({found_kind}) does not match the expected kind ({kind})"
        )));
    }
    map.insert("apiVersion".to_owned(), api_version.into());
    map.insert("kind".to_owned(), kind.into());
    Ok(())
}

/// Warns of problems, or gives the words of a strict refusal.
pub(crate) fn report(call: &Call, problems: &[Problem]) -> Result<Option<String>, ApiError> {
    let strictness = strictness(call)?;
    if problems.is_empty() || strictness == Strictness::Ignore {
        return Ok(None);
    }
    let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
    if strictness == Strictness::Strict {
        return Ok(Some(format!("strict decoding error: {}", words.join(", "))));
    }
    for word in words {
        call.warn(word);
    }
    Ok(None)
}

/// Stage 1 for an object of the call's resource, together with stage 2.
pub(crate) fn decode_object(call: &Call, body: &Bytes) -> Result<Value, ApiError> {
    let res = &*call.resource;
    let mut object = decode(call, body, &res.api_version, &res.kind, &res.schema)?;
    to_hub(res, &mut object);
    Ok(object)
}

/// Stage 2, convert and default: from the version of the request to the one that is worked on.
/// Custom resources are worked on in the version of the request, and converted when they are written.
pub(crate) fn to_hub(resource: &Resource, object: &mut Value) {
    schema::apply_defaults(resource, object);
    let hub = resource.hub();
    if hub.api_version != resource.api_version {
        api::convert::convert(resource, hub, object);
        schema::apply_defaults(hub, object);
    }
}

/// Stage 3, mutate: what admission adds, built in or from outside; then defaults once more for what
/// it added. `face` is what admission is shown, where that is not the object.
pub(crate) async fn mutate(
    call: &Call,
    new: &mut Value,
    old: Option<&Value>,
    face: Option<&dyn Face>,
) -> Result<(), ApiError> {
    built_in(call, new, old)?;
    if chain::is_idle(call) {
        return Ok(());
    }
    let mut again = Reinvocation::default();
    if outside(call, new, old, face, &mut again).await? {
        built_in(call, new, old)?;
        again.next_round();
        outside(call, new, old, face, &mut again).await?;
    }
    Ok(())
}

fn built_in(call: &Call, new: &mut Value, old: Option<&Value>) -> Result<(), ApiError> {
    if old.is_none() {
        hooks::namespace::lifecycle(call)?;
    }
    if hooks::of(&call.resource).mutate(call, new, old)? {
        schema::apply_defaults(call.resource.hub(), new);
    }
    Ok(())
}

/// What a write is to those outside; `new` as they are shown it.
fn attributes<'a>(
    call: &'a Call,
    new: Value,
    old: Option<&Value>,
    face: Option<&dyn Face>,
) -> Attributes<'a> {
    let operation = match old {
        None => Operation::Create,
        Some(_) => Operation::Update,
    };
    match face.and_then(|face| Some((face, face.kind()?))) {
        None => {
            let old = old.cloned().unwrap_or_default();
            Attributes::of_object(call, operation, new, old)
        }
        Some((face, kind)) => {
            let old = old.map(|old| face.show(old)).unwrap_or_default();
            Attributes::of_body(call, operation, kind, face.show(&new), old)
        }
    }
}

/// One round of those outside; whether anything changed.
async fn outside(
    call: &Call,
    new: &mut Value,
    old: Option<&Value>,
    face: Option<&dyn Face>,
    again: &mut Reinvocation,
) -> Result<bool, ApiError> {
    let mut attributes = attributes(call, new.clone(), old, face);
    if !chain::mutate(&mut attributes, again).await? {
        return Ok(false);
    }
    match face {
        None => {
            let managed = new.pointer("/metadata/managedFields").cloned();
            *new = attributes.object;
            // Who owns what is for the server to say.
            match managed {
                Some(managed) => meta::set(new, "managedFields", managed),
                None => drop(meta::remove(new, "managedFields")),
            }
        }
        Some(face) => face.put(call, new, &attributes.object)?,
    }
    Ok(true)
}

/// What is told where rules of a schema did not run.
const UNCHECKED: &str = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";

/// Whether rules, which count on values of their types, cannot run on an object with this error.
fn hides_rules(error: &validate::FieldError) -> bool {
    use validate::FieldErrorKind as Kind;
    matches!(
        error.kind,
        Kind::NotSupported(..)
            | Kind::Required
            | Kind::TooLong(_)
            | Kind::TooMany(..)
            | Kind::TypeInvalid(_)
    )
}

/// Stage 4, validate.
pub(crate) fn check(call: &Call, new: &Value, old: Option<&Value>) -> Result<(), ApiError> {
    let hub = call.resource.hub();
    let mut errors = match old {
        None => validate::create(hub, new),
        Some(old) if call.subresource.is_empty() => validate::update(hub, new, old),
        Some(old) => validate::update_subresource(hub, &call.subresource, new, old),
    };
    errors.extend(hooks::of(&call.resource).validate(call, new, old));
    if let Some(rules) = hub.schema.custom().and_then(|custom| custom.rules()) {
        if errors.iter().any(hides_rules) {
            errors.push(validate::FieldError::invalid(
                "<nil>",
                Value::Null,
                UNCHECKED,
            ));
        } else {
            let (refused, ratcheted) = rules.violations(new, old);
            errors.extend(refused);
            for warning in ratcheted {
                call.warn(warning.to_string());
            }
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(
            &call.resource,
            api::meta::name(new),
            &errors,
        ))
    }
}

/// Stage 5, admit: what may refuse a valid object, built in or from outside.
pub(crate) async fn admit(
    call: &Call,
    new: &Value,
    old: Option<&Value>,
    face: Option<&dyn Face>,
) -> Result<(), ApiError> {
    hooks::node_restriction::write(call, new, old)?;
    admission::pod_security::admit(call, new, old)?;
    hooks::of(&call.resource).admit(call, new, old)?;
    if chain::is_idle(call) {
        return Ok(());
    }
    chain::validate(&attributes(call, new.clone(), old, face)).await
}
