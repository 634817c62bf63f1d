//! What is known of an event by its type alone, found out once.

use std::sync::LazyLock;

use rules::events::{self, EventType as RuleType, Sort};

use crate::event::{Event, EventSchema, EventType, Kind, syscall};

/// Where an event names the descriptor that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FdPlace {
    /// Nowhere.
    None,
    /// In a parameter.
    Param(u8),
    /// In what the call returned.
    Result,
}

/// What is known of an event by its type.
#[derive(Debug)]
pub(super) struct Plan {
    rule_type: Option<RuleType>,
    pub(super) fd: FdPlace,
    /// Whether it makes, uses or ends a descriptor: other events have no `fd` fields.
    pub(super) has_fd: bool,
    pub(super) syscall: bool,
}

static PLANS: LazyLock<Vec<Plan>> = LazyLock::new(|| EventType::all().map(Plan::new).collect());

/// The types in rules of calls without an event of their own, by upstream's code.
static BY_CODE: LazyLock<Vec<Option<RuleType>>> = LazyLock::new(|| {
    (0..=1024)
        .map(|code| events::find(syscall::code_name(code)?))
        .collect()
});

/// The plan of a type.
pub(super) fn of(kind: EventType) -> Option<&'static Plan> {
    PLANS.get(usize::from(kind.0))
}

impl Plan {
    fn new(kind: EventType) -> Self {
        let schema = kind.schema();
        let has = |bits| schema.is_some_and(|schema| schema.has(bits));
        let rule_type = kind.name().and_then(events::find).filter(|found| {
            kind.is_exit() || found.info().enter || found.info().sort == Sort::Meta
        });
        let params = schema.map_or(&[][..], |schema| schema.params);
        let first_fd = (0u8..)
            .zip(params)
            .skip(usize::from(kind.is_exit()))
            .find(|(_, param)| param.kind == Kind::Fd)
            .map(|(place, _)| place);
        let returns_fd = has(EventSchema::CREATES_FD)
            && params.first().is_some_and(|param| param.kind == Kind::Fd);
        let fd = match first_fd {
            _ if returns_fd => FdPlace::Result,
            Some(place) if has(EventSchema::USES_FD | EventSchema::CREATES_FD) => {
                FdPlace::Param(place)
            }
            // dup and its like return what is about a descriptor in their result.
            _ if has(EventSchema::CREATES_FD) => FdPlace::Result,
            _ => FdPlace::None,
        };
        Self {
            rule_type,
            fd,
            has_fd: has(EventSchema::CREATES_FD | EventSchema::USES_FD | EventSchema::DESTROYS_FD),
            syscall: schema.is_some_and(EventSchema::is_syscall),
        }
    }

    /// The type that rules know the event by.
    pub(super) fn rule_type(&self, event: &Event<'_>) -> Option<RuleType> {
        if event.kind == EventType::GENERIC_X
            && let Some(code) = code_of(event)
            && let Some(found) = BY_CODE.get(usize::from(code)).copied().flatten()
        {
            return Some(found);
        }
        self.rule_type
    }
}

/// Upstream's code of the call that a generic event tells.
fn code_of(event: &Event<'_>) -> Option<u16> {
    u16::try_from(event.int(0)?).ok()
}

/// The name of an event: that of the call for generic ones.
pub(super) fn name_of(event: &Event<'_>) -> Option<&'static str> {
    if event.kind == EventType::GENERIC_X {
        return code_of(event).and_then(syscall::code_name);
    }
    event.schema().map(|schema| schema.name)
}
