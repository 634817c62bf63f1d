//! The audit policy: which requests are written down, at which level. Pure: read once, asked for
//! every request. The first rule that matches counts.

use api::validate::FieldError;
use serde::Deserialize;
use serde_json::Value;

use super::event::{Level, Stage};
use crate::auth::rbac::Attributes;

const VERSION: &str = "audit.k8s.io/v1";
const LEVELS: &[&str] = &["None", "Metadata", "Request", "RequestResponse"];
const STAGES: &[&str] = &[
    "RequestReceived",
    "ResponseStarted",
    "ResponseComplete",
    "Panic",
];

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The text is no YAML.
    #[error("cannot be read")]
    Yaml(#[from] api::yaml::YamlError),
    /// It is not one document of the right kind.
    #[error("is not one document of kind Policy in {VERSION}")]
    Kind,
    /// A field is unknown or of another type.
    #[error("cannot be read as an audit policy")]
    Shape(#[from] serde_json::Error),
    /// It has no rules.
    #[error("has no rules")]
    Empty,
    /// A value is wrong.
    #[error("is invalid: {}", words(.0))]
    Invalid(Vec<FieldError>),
}

fn words(errors: &[FieldError]) -> String {
    let words: Vec<String> = errors
        .iter()
        .map(|error| format!("{}: {}", error.path, error.body()))
        .collect();
    words.join(", ")
}

/// A policy as its file has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct File {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "metadata")]
    _metadata: Value,
    rules: Vec<RuleFile>,
    omit_stages: Vec<String>,
    omit_managed_fields: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RuleFile {
    level: String,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    omit_stages: Vec<String>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct GroupResources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

/// Stages for which no events are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OmitStages(u8);

impl OmitStages {
    fn bit(stage: Stage) -> u8 {
        match stage {
            Stage::RequestReceived => 1,
            Stage::ResponseStarted => 2,
            Stage::ResponseComplete => 4,
            Stage::Panic => 8,
        }
    }

    fn of(names: &[String]) -> Self {
        let stages = [
            Stage::RequestReceived,
            Stage::ResponseStarted,
            Stage::ResponseComplete,
            Stage::Panic,
        ];
        let named = stages
            .into_iter()
            .filter(|stage| names.iter().any(|n| n == stage.name()));
        Self(named.fold(0, |bits, stage| bits | Self::bit(stage)))
    }

    /// Whether events of this stage are left out.
    pub fn contains(self, stage: Stage) -> bool {
        self.0 & Self::bit(stage) != 0
    }
}

/// What a policy says of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// How much is written down.
    pub level: Level,
    /// Of which stages nothing is.
    pub omit_stages: OmitStages,
    /// Whether objects are written without their managed fields.
    pub omit_managed_fields: bool,
}

#[derive(Debug, Clone)]
struct Rule {
    verdict: Verdict,
    matched: RuleFile,
}

/// A policy that holds.
#[derive(Debug, Clone)]
pub struct Policy {
    rules: Vec<Rule>,
    otherwise: Verdict,
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// It is malformed, has unknown fields or wrong values, in upstream's words.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let mut documents = api::yaml::parse_documents(text)?.into_iter();
        let (Some(document), None) = (documents.next(), documents.next()) else {
            return Err(PolicyError::Kind);
        };
        if document["apiVersion"] != VERSION || document["kind"] != "Policy" {
            return Err(PolicyError::Kind);
        }
        let file: File = serde_json::from_value(document)?;
        if file.rules.is_empty() {
            return Err(PolicyError::Empty);
        }
        let mut errors = check_stages(&file.omit_stages, "omitStages");
        for (index, rule) in file.rules.iter().enumerate() {
            errors.extend(check(rule, &format!("rules[{index}]")));
        }
        if !errors.is_empty() {
            return Err(PolicyError::Invalid(errors));
        }
        let verdict = |level, stages: &[String], managed: Option<bool>| Verdict {
            level,
            omit_stages: OmitStages(OmitStages::of(stages).0 | OmitStages::of(&file.omit_stages).0),
            omit_managed_fields: managed.unwrap_or(file.omit_managed_fields),
        };
        let rules = file.rules.iter().map(|rule| Rule {
            verdict: verdict(
                level(&rule.level),
                &rule.omit_stages,
                rule.omit_managed_fields,
            ),
            matched: rule.clone(),
        });
        Ok(Self {
            rules: rules.collect(),
            otherwise: verdict(Level::None, &[], None),
        })
    }

    /// What holds for a request; `user` is missing where authentication failed.
    pub fn evaluate(&self, attributes: &Attributes<'_>, known: bool) -> Verdict {
        let rule = self
            .rules
            .iter()
            .find(|rule| rule.matched.matches(attributes, known));
        rule.map_or(self.otherwise, |rule| rule.verdict)
    }
}

fn level(name: &str) -> Level {
    match name {
        "Metadata" => Level::Metadata,
        "Request" => Level::Request,
        "RequestResponse" => Level::RequestResponse,
        _ => Level::None,
    }
}

fn check_stages(stages: &[String], path: &str) -> Vec<FieldError> {
    let known = |stage: &String| STAGES.contains(&stage.as_str());
    let wrong = stages.iter().enumerate().filter(|(_, stage)| !known(stage));
    wrong
        .map(|(index, stage)| {
            let detail = format!("allowed stages are {}", STAGES.join(","));
            FieldError::invalid(format!("{path}[{index}]"), stage.as_str(), detail)
        })
        .collect()
}

fn check(rule: &RuleFile, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let at = |field: &str| format!("{path}.{field}");
    match rule.level.as_str() {
        "" => errors.push(FieldError::required(at("level"), "")),
        level if !LEVELS.contains(&level) => {
            errors.push(FieldError::not_supported(at("level"), level, LEVELS));
        }
        _ => {}
    }
    for (index, url) in rule.non_resource_urls.iter().enumerate() {
        let at = format!("{}[{index}]", at("nonResourceURLs"));
        if url == "*" {
            continue;
        }
        if !url.starts_with('/') {
            let words = "non-resource URL rules must begin with a '/' character";
            errors.push(FieldError::invalid(at.clone(), url.as_str(), words));
        }
        if url.strip_suffix('*').unwrap_or(url).contains('*') {
            let words = "non-resource URL wildcards '*' must be the final character of the rule";
            errors.push(FieldError::invalid(at, url.as_str(), words));
        }
    }
    for resources in &rule.resources {
        let group = resources.group.as_str();
        if !group.is_empty() && group != "*" {
            let words = api::validate::names::dns_subdomain(group);
            if !words.is_empty() {
                errors.push(FieldError::invalid(
                    at("resources.group"),
                    group,
                    words.join(","),
                ));
            }
        }
        if !resources.resource_names.is_empty() && resources.resources.is_empty() {
            let words = "using resourceNames requires at least one resource";
            let names = serde_json::json!(resources.resource_names);
            errors.push(FieldError::invalid(
                at("resources.resourceNames"),
                names,
                words,
            ));
        }
    }
    errors.extend(check_stages(&rule.omit_stages, &at("omitStages")));
    if !rule.non_resource_urls.is_empty()
        && (!rule.resources.is_empty() || !rule.namespaces.is_empty())
    {
        let words = "rules cannot apply to both regular resources and non-resource URLs";
        let urls = serde_json::json!(rule.non_resource_urls);
        errors.push(FieldError::invalid(at("nonResourceURLs"), urls, words));
    }
    errors
}

fn has(list: &[String], value: &str) -> bool {
    list.iter().any(|item| item == value)
}

impl RuleFile {
    fn matches(&self, attributes: &Attributes<'_>, known: bool) -> bool {
        let user = attributes.user;
        let in_groups = || {
            user.groups
                .iter()
                .any(|group| has(&self.user_groups, group))
        };
        let of_users = self.users.is_empty() || known && has(&self.users, &user.name);
        let of_groups = self.user_groups.is_empty() || known && in_groups();
        if !of_users || !of_groups {
            return false;
        }
        if !self.verbs.is_empty() && !has(&self.verbs, attributes.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return self.matches_resource(attributes);
        }
        if !self.non_resource_urls.is_empty() {
            return !attributes.is_resource()
                && self
                    .non_resource_urls
                    .iter()
                    .any(|url| covers(url, attributes.path));
        }
        true
    }

    fn matches_resource(&self, attributes: &Attributes<'_>) -> bool {
        if !attributes.is_resource()
            || (!self.namespaces.is_empty() && !has(&self.namespaces, attributes.namespace))
        {
            return false;
        }
        self.resources.is_empty() || self.resources.iter().any(|r| r.matches(attributes))
    }
}

impl GroupResources {
    fn matches(&self, attributes: &Attributes<'_>) -> bool {
        let Attributes {
            resource,
            subresource,
            name,
            ..
        } = *attributes;
        if self.group != attributes.group && self.group != "*" {
            return false;
        }
        let named = self.resource_names.is_empty() || has(&self.resource_names, name);
        self.resources.is_empty()
            || named
                && self.resources.iter().any(|wanted| {
                    let whole = match wanted.split_once('/') {
                        None => wanted == resource && subresource.is_empty(),
                        Some((of, sub)) => of == resource && sub == subresource,
                    };
                    whole
                        || wanted == "*"
                        || (!subresource.is_empty()
                            && wanted.strip_prefix("*/") == Some(subresource))
                        || wanted.strip_suffix("/*") == Some(resource)
                })
    }
}

/// Whether a rule's URL covers a path.
fn covers(url: &str, path: &str) -> bool {
    url == "*" || url == path || (url.ends_with('*') && path.starts_with(url.trim_end_matches('*')))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{Level, Policy, Stage};
    use crate::auth::rbac::Attributes;
    use crate::auth::user::User;

    fn level(policy: &str, request: &str) -> Level {
        let policy = Policy::parse(&format!(
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: {policy}"
        ))
        .unwrap();
        let words: Vec<&str> = request.split(' ').collect();
        let user = User {
            name: words[0].to_owned(),
            groups: vec![format!("{}s", words[0])],
            ..User::default()
        };
        let mut attributes = Attributes {
            verb: words[1],
            version: "v1",
            ..Attributes::of(&user)
        };
        if words[2].starts_with('/') {
            attributes.path = words[2];
        } else {
            let (resource, subresource) = words[2].split_once('/').unwrap_or((words[2], ""));
            let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
            (attributes.resource, attributes.group) = (resource, group);
            attributes.subresource = subresource;
            attributes.namespace = words.get(3).copied().unwrap_or_default();
            attributes.name = words.get(4).copied().unwrap_or_default();
        }
        policy.evaluate(&attributes, words[0] != "nobody").level
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        use Level::{Metadata, None, Request, RequestResponse};
        for (policy, request, wanted) in [
            ("[{level: Metadata}]", "jane get pods ns p", Metadata),
            (
                "[{level: Metadata, users: [bob]}]",
                "jane get pods ns p",
                None,
            ),
            (
                "[{level: Metadata, userGroups: [janes]}]",
                "jane get pods ns p",
                Metadata,
            ),
            (
                "[{level: Metadata, userGroups: [nobodys]}]",
                "nobody get /x",
                None,
            ),
            (
                "[{level: None, users: [jane]}, {level: Request}]",
                "jane get /x",
                None,
            ),
            (
                "[{level: Request, verbs: [create, update]}]",
                "jane update pods ns p",
                Request,
            ),
            (
                "[{level: Request, verbs: [create]}]",
                "jane delete pods ns p",
                None,
            ),
            (
                "[{level: Request, namespaces: ['']}]",
                "jane get nodes  n",
                Request,
            ),
            (
                "[{level: Request, namespaces: ['']}]",
                "jane get pods ns p",
                None,
            ),
            ("[{level: Request, namespaces: [ns]}]", "jane get /x", None),
            (
                "[{level: RequestResponse, resources: [{group: ''}]}]",
                "jane get pods ns p",
                RequestResponse,
            ),
            (
                "[{level: RequestResponse, resources: [{group: apps}]}]",
                "jane get pods ns p",
                None,
            ),
            (
                "[{level: Request, resources: [{group: '*', resources: [deployments]}]}]",
                "jane get deployments.apps ns d",
                Request,
            ),
            (
                "[{level: Request, resources: [{resources: [pods]}]}]",
                "jane get pods/log ns p",
                None,
            ),
            (
                "[{level: Request, resources: [{resources: [pods/log]}]}]",
                "jane get pods/log ns p",
                Request,
            ),
            (
                "[{level: Request, resources: [{resources: ['*/log']}]}]",
                "jane get pods/log ns p",
                Request,
            ),
            (
                "[{level: Request, resources: [{resources: ['pods/*']}]}]",
                "jane get pods/log ns p",
                Request,
            ),
            (
                "[{level: Request, resources: [{resources: ['*']}]}]",
                "jane get pods/log ns p",
                Request,
            ),
            (
                "[{level: Request, resources: [{resources: [pods], resourceNames: [q]}]}]",
                "jane get pods ns p",
                None,
            ),
            (
                "[{level: Request, resources: [{resources: [pods], resourceNames: [p]}]}]",
                "jane get pods ns p",
                Request,
            ),
            (
                "[{level: Request, nonResourceURLs: [/healthz*]}]",
                "jane get /healthz/ping",
                Request,
            ),
            (
                "[{level: Request, nonResourceURLs: [/healthz]}]",
                "jane get /healthz/ping",
                None,
            ),
            (
                "[{level: Request, nonResourceURLs: ['*']}]",
                "jane get pods ns p",
                None,
            ),
        ] {
            assert_eq!(level(policy, request), wanted, "{policy}: {request}");
        }
    }

    #[test]
    fn stages_and_managed_fields_come_from_both() {
        let policy = Policy::parse(
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\n\
             omitManagedFields: true\nrules:\n- level: Request\n  omitStages: [Panic]\n  \
             omitManagedFields: false\n",
        )
        .unwrap();
        let rule = policy.rules[0].verdict;
        assert!(rule.omit_stages.contains(Stage::RequestReceived));
        assert!(rule.omit_stages.contains(Stage::Panic));
        assert!(!rule.omit_stages.contains(Stage::ResponseComplete));
        assert!(!rule.omit_managed_fields && policy.otherwise.omit_managed_fields);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (rules, words) in [
            ("[]", "has no rules"),
            ("[{}]", "rules[0].level: Required value"),
            (
                "[{level: Loud}]",
                "rules[0].level: Unsupported value: \"Loud\"",
            ),
            (
                "[{level: None, omitStages: [Late]}]",
                "allowed stages are RequestReceived,",
            ),
            (
                "[{level: None, nonResourceURLs: [x]}]",
                "must begin with a '/'",
            ),
            (
                "[{level: None, nonResourceURLs: [/a*b]}]",
                "must be the final character",
            ),
            (
                "[{level: None, nonResourceURLs: [/a], namespaces: [b]}]",
                "cannot apply to both",
            ),
            (
                "[{level: None, resources: [{group: a/b}]}]",
                "rules[0].resources.group: Invalid value",
            ),
            (
                "[{level: None, resources: [{resourceNames: [a]}]}]",
                "requires at least one resource",
            ),
            ("[{level: None, user: [a]}]", "unknown field `user`"),
        ] {
            let text = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: {rules}");
            let error = Policy::parse(&text).unwrap_err();
            let error = stdx::chain::chain(&error).to_string();
            assert!(error.contains(words), "{rules}: {error}");
        }
        assert!(Policy::parse("kind: Policy").is_err());
        assert!(Policy::parse("[").is_err());
    }
}
