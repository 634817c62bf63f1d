//! The values that Kubernetes' libraries bring.

use std::net::IpAddr;

use api::quantity::Quantity;

use crate::functions::formats::Format;
use crate::functions::semver::Semver;
use crate::functions::url::Url;
use crate::types::Type;

/// What an expression asks the authorizer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Question {
    /// On whose behalf, when not the request's own user: a service account's namespace and name.
    pub service_account: Option<(String, String)>,
    /// A path that is no resource's; then all below is empty.
    pub path: Option<String>,
    /// The verb; set when the question is asked.
    pub verb: String,
    /// The API group.
    pub group: String,
    /// The resource's plural.
    pub resource: String,
    /// The subresource.
    pub subresource: String,
    /// The namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// A field selector, as written.
    pub field_selector: String,
    /// A label selector, as written.
    pub label_selector: String,
}

/// The authorizer's answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// Whether it is allowed.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// What went wrong, if anything did.
    pub error: String,
}

/// Who answers questions of expressions.
pub trait Authorizer {
    /// Answers one.
    fn decide(&self, question: &Question) -> Decision;
}

/// A value of a library.
#[derive(Debug, Clone, PartialEq)]
pub enum Extension {
    /// `net.IP`.
    Ip(IpAddr),
    /// `net.CIDR`: an address and the bits that count.
    Cidr(IpAddr, u8),
    /// A quantity.
    Quantity(Quantity),
    /// A URL.
    Url(Url),
    /// A version.
    Semver(Semver),
    /// A named format.
    Format(&'static Format),
    /// The authorizer, perhaps on behalf of a service account.
    Authorizer(Option<(String, String)>),
    /// A question about a path.
    PathCheck(Question),
    /// A question that has a group.
    GroupCheck(Question),
    /// A question that has a resource.
    ResourceCheck(Question),
    /// An answer.
    Decision(Decision),
}

impl Extension {
    pub(crate) fn ty(&self) -> Type {
        Type::Opaque(match self {
            Self::Ip(_) => "net.IP",
            Self::Cidr(..) => "net.CIDR",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Url(_) => "kubernetes.URL",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Authorizer(_) => "kubernetes.authorization.Authorizer",
            Self::PathCheck(_) => "kubernetes.authorization.PathCheck",
            Self::GroupCheck(_) => "kubernetes.authorization.GroupCheck",
            Self::ResourceCheck(_) => "kubernetes.authorization.ResourceCheck",
            Self::Decision(_) => "kubernetes.authorization.Decision",
        })
    }

    /// Addresses have the size of their bytes.
    pub(crate) fn size(&self) -> Option<u64> {
        match self {
            Self::Ip(address) => Some(if address.is_ipv4() { 4 } else { 16 }),
            Self::Cidr(_, bits) => Some(u64::from(*bits).div_ceil(8)),
            _ => None,
        }
    }
}
