//! Messages in and out: what is a question for us, and answers that fit.

use super::answer::Answer;
use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};

/// The longest UDP message that we send, in bytes: what passes any path unfragmented.
const UDP_LIMIT: usize = 1232;
/// The longest UDP message of a client that says nothing else, in bytes.
const PLAIN_LIMIT: usize = 512;

/// A well-formed question.
pub(super) struct Question {
    pub(super) message: Message,
    pub(super) query: Query,
}

/// Reads a question. `Err(Some)` is the answer to what is none, `Err(None)`: no answer.
pub(super) fn read(bytes: &[u8]) -> Result<Question, Option<Vec<u8>>> {
    let Ok(message) = Message::from_vec(bytes) else {
        let [a, b, flags, ..] = bytes else {
            return Err(None);
        };
        // Never answer an answer: two servers would talk for ever.
        let answer = (bytes.len() >= 12 && flags & 0x80 == 0).then(|| {
            let id = u16::from_be_bytes([*a, *b]);
            Message::error_msg(id, OpCode::Query, ResponseCode::FormErr)
        });
        return Err(answer.and_then(|m| m.to_vec().ok()));
    };
    if message.metadata.message_type != MessageType::Query {
        return Err(None);
    }
    let code = if message.metadata.op_code != OpCode::Query {
        Some(ResponseCode::NotImp)
    } else if message.queries.len() != 1 {
        Some(ResponseCode::FormErr)
    } else if message.edns.as_ref().is_some_and(|e| e.version() > 0) {
        Some(ResponseCode::BADVERS)
    } else {
        None
    };
    let query = message.queries.first().cloned().unwrap_or_default();
    let refused = query.query_class != DNSClass::IN
        || matches!(query.query_type, RecordType::AXFR | RecordType::IXFR);
    let question = Question { message, query };
    match code.or(refused.then_some(ResponseCode::Refused)) {
        Some(code) => Err(Some(question.error(code))),
        None => Ok(question),
    }
}

impl Question {
    /// An answer without records.
    pub(super) fn error(&self, code: ResponseCode) -> Vec<u8> {
        let mut response = self.response();
        response.metadata.response_code = code;
        response.to_vec().unwrap_or_default()
    }

    /// The answer, cut to what the client takes unless `tcp`. Records that are only
    /// there for convenience go first; the client is told when an answer is missing.
    pub(super) fn reply(&self, answer: Box<Answer>, tcp: bool) -> Vec<u8> {
        let mut response = self.response();
        response.metadata.authoritative = true;
        if !answer.exists {
            response.metadata.response_code = ResponseCode::NXDomain;
        }
        response.answers = answer.records;
        response.additionals = answer.additionals;
        response.authorities.extend(answer.authority);
        let limit = if tcp {
            usize::from(u16::MAX)
        } else {
            self.limit()
        };
        let mut bytes = response.to_vec().unwrap_or_default();
        if bytes.len() > limit && !response.additionals.is_empty() {
            response.additionals.clear();
            bytes = response.to_vec().unwrap_or_default();
        }
        while bytes.len() > limit && !response.answers.is_empty() {
            response.metadata.truncation = true;
            // What fits is in proportion, less one so that every turn gets somewhere.
            let fit = response.answers.len() * limit / bytes.len();
            response
                .answers
                .truncate(fit.min(response.answers.len() - 1));
            bytes = response.to_vec().unwrap_or_default();
        }
        if bytes.is_empty() {
            self.error(ResponseCode::ServFail)
        } else {
            bytes
        }
    }

    fn limit(&self) -> usize {
        let offered = self
            .message
            .edns
            .as_ref()
            .map(|e| usize::from(e.max_payload()));
        offered.map_or(PLAIN_LIMIT, |o| o.clamp(PLAIN_LIMIT, UDP_LIMIT))
    }

    fn response(&self) -> Message {
        let request = &self.message.metadata;
        let mut response = Message::response(request.id, request.op_code);
        response.metadata = Metadata::response_from_request(request);
        response.metadata.recursion_available = true;
        response.queries = self.message.queries.iter().take(1).cloned().collect();
        if self.message.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(u16::try_from(UDP_LIMIT).unwrap_or(512));
            response.edns = Some(edns);
        }
        response
    }
}
