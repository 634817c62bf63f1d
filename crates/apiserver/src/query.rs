//! The query of a request: decoding, and the options that lists and writes take.

use api::resource::Resource;
use api::selector::{FieldSelector, LabelSelector};
use api::status::ApiError;
use api::validate::FieldError;

/// Decoded `key=value` pairs in their order.
#[derive(Debug, Default, Clone)]
pub(crate) struct Query(Vec<(String, String)>);

/// Decodes `%xx`; with `plus`, `+` is a space. Invalid UTF-8 is replaced.
pub(crate) fn percent_decode(text: &str, plus: bool) -> String {
    let encoded = text.contains('%') || (plus && text.contains('+'));
    if !encoded {
        return text.to_owned();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        let code = || {
            let hex = std::str::from_utf8(after.get(..2)?).ok()?;
            hex.bytes()
                .all(|b| b.is_ascii_hexdigit())
                .then(|| u8::from_str_radix(hex, 16).ok())?
        };
        match (byte, code()) {
            (b'+', _) if plus => out.push(b' '),
            (b'%', Some(code)) => {
                out.push(code);
                rest = &after[2..];
            }
            (byte, _) => out.push(*byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl Query {
    pub(crate) fn parse(query: Option<&str>) -> Self {
        let pairs = query
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (percent_decode(key, true), percent_decode(value, true))
                })
                .collect(),
        )
    }

    /// The first value of a key; `None` when absent.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }

    /// The value of a key where it is there and not empty.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|v| !v.is_empty())
    }

    /// All values of a key.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }

    /// A boolean as upstream converts it: present and neither `false` nor `0` is true.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.get(key)
            .is_some_and(|v| !matches!(v.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    /// An integer.
    pub(crate) fn int(&self, key: &str) -> Result<Option<i64>, ApiError> {
        self.text(key)
            .map(|v| {
                v.parse().map_err(|_| {
                    ApiError::bad_request(format!(
                        "strconv.ParseInt: parsing {v:?}: invalid syntax"
                    ))
                })
            })
            .transpose()
    }

    /// Whether the write is only tried.
    pub(crate) fn dry_run(&self) -> Result<bool, ApiError> {
        dry_run(self.all("dryRun"))
    }
}

/// Reads a `dryRun` list.
pub(crate) fn dry_run<'a>(values: impl Iterator<Item = &'a str>) -> Result<bool, ApiError> {
    let mut any = false;
    for value in values.filter(|v| !v.is_empty()) {
        if value != "All" {
            let error = FieldError::not_supported("dryRun", serde_json::json!([value]), &["All"]);
            return Err(ApiError::invalid_kind(
                "meta.k8s.io",
                "CreateOptions",
                "",
                &[error],
            ));
        }
        any = true;
    }
    Ok(any)
}

/// `resourceVersionMatch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    /// Not given.
    Unset,
    /// At this revision or newer.
    NotOlderThan,
    /// At exactly this revision.
    Exact,
}

/// `metav1.ListOptions`, validated.
#[derive(Debug)]
pub(crate) struct ListOptions {
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
    pub(crate) watch: bool,
    pub(crate) bookmarks: bool,
    pub(crate) send_initial: Option<bool>,
    /// `None` when unset, else the revision (0: any).
    pub(crate) resource_version: Option<u64>,
    pub(crate) matching: Match,
    pub(crate) limit: usize,
    pub(crate) token: Option<String>,
    pub(crate) timeout_secs: Option<u64>,
}

/// Reads a `resourceVersion` parameter.
pub(crate) fn resource_version(text: &str) -> Result<u64, ApiError> {
    text.parse().map_err(|_| {
        let error = FieldError::invalid(
            "resourceVersion",
            text,
            format!("strconv.ParseUint: parsing {text:?}: invalid syntax"),
        );
        ApiError::invalid_kind("meta.k8s.io", "ListOptions", "", &[error])
    })
}

impl ListOptions {
    pub(crate) fn parse(query: &Query, resource: &Resource, watch: bool) -> Result<Self, ApiError> {
        let labels = match query.text("labelSelector") {
            Some(text) => LabelSelector::parse(text)
                .map_err(|e| ApiError::bad_request(format!("unable to parse requirement: {e}")))?,
            None => LabelSelector::everything(),
        };
        let fields = match query.text("fieldSelector") {
            Some(text) => {
                FieldSelector::parse(text).map_err(|e| ApiError::bad_request(e.to_string()))?
            }
            None => FieldSelector::default(),
        };
        fields.check(resource).map_err(|e| {
            ApiError::bad_request(format!(
                "Unable to find {:?} that match label selector {:?}, field selector {:?}: {e}",
                format!(
                    "{}, Resource={}",
                    resource.api_version_slash(),
                    &resource.plural
                ),
                query.get("labelSelector").unwrap_or_default(),
                query.get("fieldSelector").unwrap_or_default(),
            ))
        })?;
        let matching = match query.text("resourceVersionMatch") {
            None => Match::Unset,
            Some("NotOlderThan") => Match::NotOlderThan,
            Some("Exact") => Match::Exact,
            Some(other) => {
                let error = FieldError::not_supported(
                    "resourceVersionMatch",
                    other,
                    &["Exact", "NotOlderThan"],
                );
                return Err(ApiError::invalid_kind(
                    "meta.k8s.io",
                    "ListOptions",
                    "",
                    &[error],
                ));
            }
        };
        let limit = query.int("limit")?.unwrap_or(0);
        let options = Self {
            labels,
            fields,
            watch,
            bookmarks: query.flag("allowWatchBookmarks"),
            send_initial: query
                .text("sendInitialEvents")
                .map(|_| query.flag("sendInitialEvents")),
            resource_version: query
                .text("resourceVersion")
                .map(resource_version)
                .transpose()?,
            matching,
            limit: usize::try_from(limit).unwrap_or(0),
            token: query.text("continue").map(str::to_owned),
            timeout_secs: query
                .int("timeoutSeconds")?
                .and_then(|secs| u64::try_from(secs).ok())
                .filter(|secs| *secs > 0),
        };
        let errors = options.problems();
        if errors.is_empty() {
            Ok(options)
        } else {
            Err(ApiError::invalid_kind(
                "meta.k8s.io",
                "ListOptions",
                "",
                &errors,
            ))
        }
    }

    fn problems(&self) -> Vec<FieldError> {
        let forbidden = |field: &str, why: &str| vec![FieldError::forbidden(field, why)];
        if self.watch {
            if let Some(send) = self.send_initial {
                return match self.matching {
                    Match::NotOlderThan => Vec::new(),
                    _ if send => forbidden(
                        "resourceVersionMatch",
                        "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                    ),
                    _ => forbidden(
                        "resourceVersionMatch",
                        "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                    ),
                };
            }
            if self.matching != Match::Unset {
                return forbidden(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                );
            }
            return Vec::new();
        }
        if self.send_initial.is_some() {
            return forbidden(
                "sendInitialEvents",
                "sendInitialEvents is forbidden for list",
            );
        }
        match self.matching {
            Match::Unset => Vec::new(),
            _ if self.resource_version.is_none() => forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ),
            _ if self.token.is_some() => forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden when continue is provided",
            ),
            Match::Exact if self.resource_version == Some(0) => forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ),
            _ => Vec::new(),
        }
    }
}

trait Slash {
    fn api_version_slash(&self) -> String;
}
impl Slash for Resource {
    /// `/v1` or `apps/v1`, as messages print a group and version.
    fn api_version_slash(&self) -> String {
        format!("{}/{}", self.group, self.version)
    }
}
