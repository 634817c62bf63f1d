//! The codes of errors and warnings, with Falco's words for them.

/// What makes a file unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "their texts say it")]
pub enum ErrorCode {
    FileRead,
    YamlParse,
    YamlValidate,
    CompileCondition,
    CompileOutput,
    Validate,
    Extension,
}

impl ErrorCode {
    /// The code.
    pub fn code(self) -> &'static str {
        match self {
            Self::FileRead => "LOAD_ERR_FILE_READ",
            Self::YamlParse => "LOAD_ERR_YAML_PARSE",
            Self::YamlValidate => "LOAD_ERR_YAML_VALIDATE",
            Self::CompileCondition => "LOAD_ERR_COMPILE_CONDITION",
            Self::CompileOutput => "LOAD_ERR_COMPILE_OUTPUT",
            Self::Validate => "LOAD_ERR_VALIDATE",
            Self::Extension => "LOAD_ERR_EXTENSION",
        }
    }

    /// What it means.
    pub fn text(self) -> &'static str {
        match self {
            Self::FileRead => "File read error",
            Self::YamlParse => "YAML parse error",
            Self::YamlValidate => "Error validating internal structure of YAML file",
            Self::CompileCondition => "Error compiling condition",
            Self::CompileOutput => "Error compiling output",
            Self::Validate => "Error validating rule/macro/list/exception objects",
            Self::Extension => "Error in extension item",
        }
    }
}

/// What one should know about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "their texts say it")]
pub enum WarningCode {
    UnknownSource,
    UnsafeNaCheck,
    NoEvttype,
    UnknownFilter,
    UnusedMacro,
    UnusedList,
    UnknownItem,
    DeprecatedItem,
    Extension,
    AppendNoValues,
    ExceptionNameNotUnique,
    InvalidMacroName,
    InvalidListName,
    CompileCondition,
    UnknownKey,
}

impl WarningCode {
    /// The code.
    pub fn code(self) -> &'static str {
        match self {
            Self::UnknownSource => "LOAD_UNKNOWN_SOURCE",
            Self::UnsafeNaCheck => "LOAD_UNSAFE_NA_CHECK",
            Self::NoEvttype => "LOAD_NO_EVTTYPE",
            Self::UnknownFilter => "LOAD_UNKNOWN_FILTER",
            Self::UnusedMacro => "LOAD_UNUSED_MACRO",
            Self::UnusedList => "LOAD_UNUSED_LIST",
            Self::UnknownItem => "LOAD_UNKNOWN_ITEM",
            Self::DeprecatedItem => "LOAD_DEPRECATED_ITEM",
            Self::Extension => "LOAD_WARNING_EXTENSION",
            Self::AppendNoValues => "LOAD_APPEND_NO_VALUES",
            Self::ExceptionNameNotUnique => "LOAD_EXCEPTION_NAME_NOT_UNIQUE",
            Self::InvalidMacroName => "LOAD_INVALID_MACRO_NAME",
            Self::InvalidListName => "LOAD_INVALID_LIST_NAME",
            Self::CompileCondition => "LOAD_COMPILE_CONDITION",
            Self::UnknownKey => "LOAD_UNKNOWN_KEY",
        }
    }

    /// What it means, in short.
    pub fn text(self) -> &'static str {
        match self {
            Self::UnknownSource => "Unknown event source",
            Self::UnsafeNaCheck => "Unsafe <NA> comparison in condition",
            Self::NoEvttype => "Condition has no event-type restriction",
            Self::UnknownFilter => "Unknown field or event-type in condition or output",
            Self::UnusedMacro => "Unused macro",
            Self::UnusedList => "Unused list",
            Self::UnknownItem => "Unknown rules file item",
            Self::DeprecatedItem => "Used deprecated item",
            Self::Extension => "Warning in extension item",
            Self::AppendNoValues => "Overriding/appending with no values",
            Self::ExceptionNameNotUnique => "Multiple exceptions defined with the same name",
            Self::InvalidMacroName => "Invalid macro name",
            Self::InvalidListName => "Invalid list name",
            Self::CompileCondition => "Warning in rule condition",
            Self::UnknownKey => "Unknown key in item definition",
        }
    }

    /// What to do about it.
    pub fn about(self) -> &'static str {
        match self {
            Self::UnknownSource => {
                "No event source of this name is known here, so the rule is left out. It may need a \
                 plugin."
            }
            Self::UnsafeNaCheck => {
                "A field without a value cannot be found by comparing it with <NA>. Ask with \
                 'exists' whether it has one."
            }
            Self::NoEvttype => {
                "The rule looks at very many types of events, which costs time. Restrict it with \
                 evt.type."
            }
            Self::UnknownFilter => {
                "The rule names a field or a type of events that does not exist. Because of its \
                 skip-if-unknown-filter it is left out."
            }
            Self::UnusedMacro => "No rule and no other macro uses this macro.",
            Self::UnusedList => "No rule, no macro and no other list uses this list.",
            Self::UnknownItem => "The item is no rule, macro or list, and is ignored.",
            Self::DeprecatedItem => "The file uses something that will go away.",
            Self::Extension => "Something about an extension item.",
            Self::AppendNoValues => "An exception is appended to or replaced, but has no values.",
            Self::ExceptionNameNotUnique => "A rule has two exceptions of the same name.",
            Self::InvalidMacroName => "The macro's name cannot be used in conditions.",
            Self::InvalidListName => "The list's name cannot be used in conditions.",
            Self::CompileCondition => "The condition may not mean what was intended.",
            Self::UnknownKey => "The item has a key that it should not have, and that is ignored.",
        }
    }
}

/// Fields that no longer tell anything, with the reason.
pub(crate) const DEPRECATED_FIELDS: [(&str, &str); 6] = [
    (
        "evt.dir",
        "due to the drop of enter events, 'evt.dir = <' always evaluates to true, and 'evt.dir = >' \
         always evaluates to false. The rule expression can be simplified by removing the condition \
         on 'evt.dir'",
    ),
    ("evt.latency", NO_LATENCY),
    ("evt.latency.s", NO_LATENCY),
    ("evt.latency.ns", NO_LATENCY),
    ("evt.latency.human", NO_LATENCY),
    ("evt.wait_latency", NO_LATENCY),
];

const NO_LATENCY: &str = "field is not available due to the drop of enter events.";
