//! Operators and what modifies them.

use std::fmt;

/// What compares a field with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "their names say it")]
pub enum Operator {
    Eq,
    /// `==`, which is `=`.
    EqEq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Contains,
    IContains,
    BContains,
    StartsWith,
    BStartsWith,
    EndsWith,
    Glob,
    IGlob,
    Regex,
    In,
    Intersects,
    PMatch,
    Exists,
}

/// What a list on the right of a string operator means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Modifier {
    /// Exactly one holds.
    OneOf,
    /// At least one holds.
    AnyOf,
    /// All hold.
    AllOf,
}

impl Operator {
    /// Those that are followed by a number.
    pub(crate) const NUMERIC: [Self; 4] = [Self::Le, Self::Lt, Self::Ge, Self::Gt];
    /// Those that are followed by text, in the order in which they are tried.
    pub(crate) const TEXT: [Self; 12] = [
        Self::EqEq,
        Self::Eq,
        Self::Ne,
        Self::Glob,
        Self::IGlob,
        Self::Contains,
        Self::IContains,
        Self::BContains,
        Self::StartsWith,
        Self::BStartsWith,
        Self::EndsWith,
        Self::Regex,
    ];
    /// Those that are followed by a list.
    pub(crate) const LIST: [Self; 3] = [Self::Intersects, Self::In, Self::PMatch];

    /// All, in the order in which messages name them.
    pub(crate) fn supported() -> impl Iterator<Item = Self> {
        [Self::Exists]
            .into_iter()
            .chain(Self::NUMERIC)
            .chain(Self::TEXT)
            .chain(Self::LIST)
    }

    /// As conditions have it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::EqEq => "==",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::Contains => "contains",
            Self::IContains => "icontains",
            Self::BContains => "bcontains",
            Self::StartsWith => "startswith",
            Self::BStartsWith => "bstartswith",
            Self::EndsWith => "endswith",
            Self::Glob => "glob",
            Self::IGlob => "iglob",
            Self::Regex => "regex",
            Self::In => "in",
            Self::Intersects => "intersects",
            Self::PMatch => "pmatch",
            Self::Exists => "exists",
        }
    }

    /// As messages have it.
    pub(crate) fn canonical(self) -> Self {
        if self == Self::EqEq { Self::Eq } else { self }
    }

    /// Whether a blank must follow.
    pub(crate) fn is_word(self) -> bool {
        self.text().as_bytes()[0].is_ascii_alphabetic()
    }

    /// The operator of that text.
    pub fn find(text: &str) -> Option<Self> {
        Self::supported().find(|operator| operator.text() == text)
    }

    /// An operator of text with a modifier, such as `startswith anyof`.
    pub(crate) fn modified(text: &str) -> Option<(Self, Modifier)> {
        let (operator, modifier) = text.split_once(' ')?;
        let operator = Self::find(operator).filter(|operator| Self::TEXT.contains(operator))?;
        Some((operator, Modifier::find(modifier)?))
    }
}

impl Modifier {
    pub(crate) const ALL: [Self; 3] = [Self::OneOf, Self::AnyOf, Self::AllOf];

    /// As conditions have it.
    pub fn text(self) -> &'static str {
        match self {
            Self::OneOf => "oneof",
            Self::AnyOf => "anyof",
            Self::AllOf => "allof",
        }
    }

    fn find(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|modifier| modifier.text() == text)
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
