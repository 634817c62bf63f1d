//! `evt` fields that events of every source have.

use rules::Values;
use rules::fields::{FieldId as F, Source};

use super::SyscallEvent;
use crate::event::EventType;

const SECOND_NS: u64 = 1_000_000_000;

impl SyscallEvent<'_> {
    pub(super) fn generic_field<'a>(&'a self, field: F, out: &mut Values<'a>) -> bool {
        let now = self.event.timestamp_ns;
        let since = now.saturating_sub(self.place.first_ns);
        match field {
            F::EvtNum => out.unsigned(self.place.number),
            // Texts of times are made where an alert is, by the time alone.
            F::EvtTime | F::EvtTimeS | F::EvtTimeIso8601 | F::EvtDatetime | F::EvtDatetimeS => {
                out.unsigned(now);
            }
            F::EvtRawtime => out.unsigned(now),
            F::EvtRawtimeS => out.unsigned(now / SECOND_NS),
            F::EvtRawtimeNs => out.unsigned(now % SECOND_NS),
            F::EvtReltime => out.unsigned(since),
            F::EvtReltimeS => out.unsigned(since / SECOND_NS),
            F::EvtReltimeNs => out.unsigned(since % SECOND_NS),
            // Events of the kernel come from no plugin.
            F::EvtPluginname | F::EvtPlugininfo => {}
            F::EvtSource => out.text(Source::Syscall.name()),
            F::EvtIsAsync => out.boolean(self.is_meta()),
            F::EvtAsynctype if !self.is_meta() => {}
            F::EvtAsynctype if self.event.kind == EventType::ASYNCEVENT_E => {
                super::maybe_text(self.event.text(1), out);
            }
            F::EvtAsynctype => {
                if let Some(schema) = self.event.schema() {
                    out.text(schema.name);
                }
            }
            F::EvtHostname => out.text(self.host.hostname()),
            _ => return false,
        }
        true
    }

    fn is_meta(&self) -> bool {
        self.event
            .schema()
            .is_some_and(crate::event::EventSchema::is_meta)
    }
}
