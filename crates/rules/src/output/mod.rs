//! What a rule says when it matches: templates, and alerts made with them.

mod alert;
mod render;
mod template;

pub use alert::{Alert, AlertOptions};
pub use template::{Template, TemplateError};
