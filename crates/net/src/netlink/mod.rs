//! A small blocking client of the kernel's routing netlink.
//!
//! Several requests go in one system call and are acknowledged one by one; nothing
//! here waits for anything but the kernel, so callers run it off the async workers.

mod link;
mod route;

pub(crate) use link::{Bridge, Pair};
pub(crate) use route::mac_of;

use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::{Socket, SocketAddr};
use std::io;

/// Receive buffer in bytes: what the kernel fills at most in one dump message.
const RECEIVE_BYTES: usize = 64 * 1024;

/// A socket of the routing family in the network namespace of the thread that made it.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// One request and its flags beside REQUEST and ACK.
pub(crate) type Request = (RouteNetlinkMessage, u16);

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open() -> io::Result<Netlink> {
        let mut socket = Socket::new(0)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Netlink {
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(RECEIVE_BYTES),
        })
    }

    /// Sends the requests together; answers how each one ended, in order.
    pub(crate) fn send(&mut self, requests: Vec<Request>) -> io::Result<Vec<io::Result<()>>> {
        let first = self.sequence.wrapping_add(1);
        let count = requests.len();
        let mut bytes = Vec::with_capacity(256 * count);
        for (message, flags) in requests {
            self.encode(message, flags | NLM_F_ACK, &mut bytes);
        }
        self.socket.send(&bytes, 0)?;
        let mut results: Vec<Option<io::Result<()>>> = Vec::new();
        results.resize_with(count, || None);
        let mut open = count;
        while open > 0 {
            self.receive(|message| {
                let slot = message.header.sequence_number.wrapping_sub(first) as usize;
                if let NetlinkPayload::Error(error) = message.payload
                    && let Some(slot @ None) = results.get_mut(slot)
                {
                    *slot = Some(match error.code {
                        None => Ok(()),
                        Some(_) => Err(error.to_io()),
                    });
                    open -= 1;
                }
                Ok(())
            })?;
        }
        Ok(results.into_iter().flatten().collect())
    }

    /// Sends one request and waits for the kernel's answer.
    pub(crate) fn one(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.send(vec![(message, flags)])?.into_iter().collect()
    }

    /// Everything that the kernel answers to a GET of the whole kind.
    pub(crate) fn dump(
        &mut self,
        message: RouteNetlinkMessage,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.query(message, NLM_F_DUMP)
    }

    /// The answers to a GET.
    pub(crate) fn query(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut bytes = Vec::with_capacity(256);
        // A GET of one object ends with an acknowledgement, a dump with "done".
        let ack = if flags == NLM_F_DUMP { 0 } else { NLM_F_ACK };
        self.encode(message, flags | ack, &mut bytes);
        let sequence = self.sequence;
        self.socket.send(&bytes, 0)?;
        let mut found = Vec::new();
        let mut done = false;
        while !done {
            self.receive(|message| {
                if message.header.sequence_number != sequence {
                    return Ok(());
                }
                match message.payload {
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(error.to_io());
                    }
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => done = true,
                    NetlinkPayload::InnerMessage(inner) => found.push(inner),
                    _ => {}
                }
                Ok(())
            })?;
        }
        Ok(found)
    }

    fn encode(&mut self, message: RouteNetlinkMessage, flags: u16, bytes: &mut Vec<u8>) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let start = bytes.len();
        bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut bytes[start..]);
    }

    /// Reads one datagram and hands its messages out.
    fn receive(
        &mut self,
        mut each: impl FnMut(NetlinkMessage<RouteNetlinkMessage>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.buffer.clear();
        let length = self.socket.recv(&mut self.buffer, 0)?;
        if length > self.buffer.len() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "netlink answer truncated",
            ));
        }
        let mut rest = self.buffer.as_slice();
        let mut failure = None;
        while rest.len() >= 16 {
            let size = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            if size < 16 || size > rest.len() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "netlink length"));
            }
            // An answer that this library cannot decode (a newer kernel's attribute)
            // is skipped unless it ends the exchange: errors and "done" always decode.
            if let Ok(message) = NetlinkMessage::deserialize(&rest[..size])
                && let Err(error) = each(message)
            {
                failure.get_or_insert(error);
            }
            rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
        }
        failure.map_or(Ok(()), Err)
    }
}

/// Whether the kernel said that the object is not there.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(nix::errno::Errno::from_raw),
        Some(nix::errno::Errno::ENODEV | nix::errno::Errno::ENOENT | nix::errno::Errno::ESRCH)
    )
}

/// Whether the kernel said that the object is there already.
pub(crate) fn is_present(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AlreadyExists
}
