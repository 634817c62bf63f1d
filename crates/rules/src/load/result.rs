//! What came of loading a file, as Falco tells it: in a line, at length, or in JSON.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Value, json};

use super::code::{DEPRECATED_FIELDS, ErrorCode, WarningCode};
use super::context::Context;

/// What makes a file unusable, and where.
#[derive(Clone, Debug)]
pub struct LoadError {
    /// Its code.
    pub code: ErrorCode,
    /// What is wrong.
    pub message: String,
    /// Where.
    pub context: Context,
}

/// What one should know about a file, and where.
#[derive(Clone, Debug)]
pub struct Warning {
    /// Its code.
    pub code: WarningCode,
    /// What there is to know.
    pub message: String,
    /// The field that should not be used.
    pub deprecated_field: Option<&'static str>,
    /// Where.
    pub context: Context,
}

impl Warning {
    fn text(&self) -> String {
        let reason = self.deprecated_field.and_then(|field| {
            DEPRECATED_FIELDS
                .iter()
                .find(|(name, _)| *name == field)
                .map(|(_, reason)| *reason)
        });
        match reason {
            Some(reason) => format!("{}: {reason}", self.code.text()),
            None => self.code.text().to_owned(),
        }
    }
}

/// What came of loading a file.
#[derive(Clone, Debug)]
pub struct LoadResult {
    /// The file's name.
    pub name: String,
    /// The files so far, this one last: what is wrong may be in an earlier one.
    pub(crate) contents: Vec<(String, Arc<str>)>,
    /// What makes it unusable.
    pub errors: Vec<LoadError>,
    /// What one should know about it.
    pub warnings: Vec<Warning>,
}

impl LoadResult {
    pub(crate) fn new(name: &str, content: &str) -> Self {
        Self {
            name: name.to_owned(),
            contents: vec![(name.to_owned(), content.into())],
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// The result for a file that cannot be read.
    pub fn unreadable(name: &str, reason: &str) -> Self {
        let mut result = Self::new(name, "");
        result.errors.push(LoadError {
            code: ErrorCode::FileRead,
            message: reason.to_owned(),
            context: Context::file(name),
        });
        result
    }

    pub(crate) fn warn(&mut self, code: WarningCode, message: &str, context: &Context) {
        self.warnings.push(Warning {
            code,
            message: message.to_owned(),
            deprecated_field: None,
            context: context.clone(),
        });
    }

    pub(crate) fn warn_deprecated(
        &mut self,
        field: &'static str,
        message: &str,
        context: &Context,
    ) {
        self.warnings.push(Warning {
            code: WarningCode::DeprecatedItem,
            message: message.to_owned(),
            deprecated_field: Some(field),
            context: context.clone(),
        });
    }

    /// The text that a context points into.
    fn content(&self, context: &Context) -> &str {
        self.contents
            .iter()
            .rfind(|(name, _)| name == context.file_name())
            .map_or("", |(_, content)| content)
    }

    /// Whether the file can be used.
    pub fn successful(&self) -> bool {
        self.errors.is_empty()
    }

    fn verdict(&self) -> String {
        let verdict = match (self.successful(), self.warnings.is_empty()) {
            (true, true) => "Ok",
            (true, false) => "Ok, with warnings",
            (false, _) => "Invalid",
        };
        if self.name.is_empty() {
            verdict.to_owned()
        } else {
            format!("{}: {verdict}", self.name)
        }
    }

    /// In few lines.
    pub fn summary(&self) -> String {
        let mut out = self.verdict();
        if !self.errors.is_empty() {
            let errors: Vec<_> = self
                .errors
                .iter()
                .map(|error| format!("{} ({})", error.code.code(), error.code.text()))
                .collect();
            let _infallible = write!(out, "\n {} errors: [{}]", errors.len(), errors.join(" "));
        }
        if !self.warnings.is_empty() {
            let warnings: Vec<_> = self
                .warnings
                .iter()
                .map(|warning| format!("{} ({})", warning.code.code(), warning.text()))
                .collect();
            let _infallible = write!(
                out,
                "\n {} warnings: [{}]",
                warnings.len(),
                warnings.join(" ")
            );
        }
        out
    }

    /// With places and snippets.
    pub fn verbose(&self) -> String {
        let mut out = self.verdict();
        let rule = "------\n";
        let entry = |out: &mut String, context: &Context, code: &str, text: &str, message| {
            let _infallible = writeln!(
                out,
                "{}{rule}{}{rule}{code} ({text}): {message}",
                context.text(),
                context.snippet(self.content(context)),
            );
        };
        if !self.errors.is_empty() {
            let _infallible = writeln!(out, "\n{} Errors:", self.errors.len());
            for error in &self.errors {
                let message: &str = &error.message;
                entry(
                    &mut out,
                    &error.context,
                    error.code.code(),
                    error.code.text(),
                    message,
                );
            }
        }
        if !self.warnings.is_empty() {
            let _infallible = writeln!(out, "\n{} Warnings:", self.warnings.len());
            for warning in &self.warnings {
                let message: &str = &warning.message;
                entry(
                    &mut out,
                    &warning.context,
                    warning.code.code(),
                    &warning.text(),
                    message,
                );
            }
        }
        out
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let errors: Vec<_> = self
            .errors
            .iter()
            .map(|error| {
                json!({
                    "context": error.context.json(self.content(&error.context)),
                    "code": error.code.code(),
                    "codedesc": error.code.text(),
                    "message": error.message,
                })
            })
            .collect();
        let warnings: Vec<_> = self
            .warnings
            .iter()
            .map(|warning| {
                let mut value = json!({
                    "context": warning.context.json(self.content(&warning.context)),
                    "code": warning.code.code(),
                    "codedesc": warning.code.about(),
                    "message": warning.message,
                });
                if let (Some(field), Some(value)) =
                    (warning.deprecated_field, value.as_object_mut())
                {
                    value.insert("deprecated_field".into(), field.into());
                }
                value
            })
            .collect();
        json!({
            "name": self.name,
            "successful": self.successful(),
            "errors": errors,
            "warnings": warnings,
        })
    }
}

/// The results of several files, in Falco's shape.
pub fn results_json(results: &[LoadResult]) -> Value {
    let results: Vec<_> = results.iter().map(LoadResult::json).collect();
    json!({"falco_load_results": results})
}
