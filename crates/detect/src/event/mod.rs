//! What an event is: a time, a thread, a type, and parameters in the order that the type's schema
//! gives them.
//!
//! Invariant: reading an event never panics, whatever its bytes.

mod facts;
pub mod schema;
pub mod set;
pub mod syscall;
pub mod value;
mod view;
pub mod write;

#[cfg(test)]
mod tests;

pub use schema::{EventSchema, EventType, FlagTable, Kind, ParamSchema};
pub use set::{CallSet, EventSet, Selection};
pub use value::{SockAddr, SockTuple, Value};
pub use view::{Event, HEADER_BYTES, Malformed, Param};
pub use write::EventWriter;
