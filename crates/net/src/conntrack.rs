//! Forgetting tracked UDP flows. TCP ends a connection itself; a UDP client goes on
//! sending to a backend that is gone, because the kernel remembers its translation.
//!
//! The table is read once and only when a UDP backend went away or a UDP Service got
//! its first; on a host with very many flows this takes a while, on a thread of its own.

use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use rtnetlink::sys::{Socket, SocketAddr};
use std::collections::HashSet;
use std::io;
use std::net::Ipv4Addr;

/// NETLINK_NETFILTER
const NETFILTER: isize = 12;
/// NFNL_SUBSYS_CTNETLINK in the high byte, IPCTNL_MSG_CT_GET in the low one.
const GET: u16 = 0x101;
/// Likewise with IPCTNL_MSG_CT_DELETE.
const DELETE: u16 = 0x102;
/// NLMSG_ERROR
const ERROR: u16 = 2;
/// NLMSG_DONE
const DONE: u16 = 3;
const AF_INET: u8 = 2;
const UDP: u8 = 17;
/// CTA_TUPLE_ORIG
const ORIGINAL: u16 = 1;
/// CTA_TUPLE_REPLY
const REPLY: u16 = 2;
/// Flag of an attribute that holds attributes, NLA_F_NESTED.
const NESTED: u16 = 0x8000;
/// Length in bytes of a netlink header and of the netfilter header behind it.
const HEADER: usize = 16;
const NETFILTER_HEADER: usize = 4;

/// Forgets the flows that were translated to one of the backends `gone`, and those to
/// one of the Service addresses `woken` that were not translated at all. Best effort:
/// what is left behind runs out after a minute of silence.
pub(crate) async fn forget(gone: HashSet<(Ipv4Addr, u16)>, woken: HashSet<(Ipv4Addr, u16)>) {
    if gone.is_empty() && woken.is_empty() {
        return;
    }
    match tokio::task::spawn_blocking(move || sweep(&gone, &woken)).await {
        Ok(Ok(0)) | Err(_) => {}
        Ok(Ok(flows)) => tracing::debug!(flows, "stale UDP flows are forgotten"),
        Ok(Err(error)) => tracing::warn!(%error, "stale UDP flows are not forgotten"),
    }
}

fn sweep(gone: &HashSet<(Ipv4Addr, u16)>, woken: &HashSet<(Ipv4Addr, u16)>) -> io::Result<usize> {
    let mut socket = Socket::new(NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&message(GET, NLM_F_DUMP, &[]), 0)?;
    let mut stale: Vec<Vec<u8>> = Vec::new();
    exchange(&socket, |body| {
        let (Some(original), Some(reply)) = (attribute(body, ORIGINAL), attribute(body, REPLY))
        else {
            return;
        };
        let (Some(o), Some(r)) = (Tuple::parse(original), Tuple::parse(reply)) else {
            return;
        };
        let translated = o.destination != r.source;
        let dead = translated && gone.contains(&r.source);
        if o.protocol == UDP && (dead || (!translated && woken.contains(&o.destination))) {
            stale.push(original.to_vec());
        }
    })?;
    for tuple in &stale {
        let mut attributes = Vec::with_capacity(tuple.len() + 4);
        let length = u16::try_from(tuple.len() + 4).unwrap_or(u16::MAX);
        attributes.extend_from_slice(&length.to_ne_bytes());
        attributes.extend_from_slice(&(ORIGINAL | NESTED).to_ne_bytes());
        attributes.extend_from_slice(tuple);
        socket.send(&message(DELETE, NLM_F_ACK, &attributes), 0)?;
        match exchange(&socket, |_| {}) {
            // It ran out by itself meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    Ok(stale.len())
}

fn message(kind: u16, flags: u16, attributes: &[u8]) -> Vec<u8> {
    let length = HEADER + NETFILTER_HEADER + attributes.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[AF_INET, 0, 0, 0]);
    bytes.extend_from_slice(attributes);
    bytes
}

/// Reads answers up to "done" or an acknowledgement; `each` gets the attributes.
fn exchange(socket: &Socket, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer: Vec<u8> = Vec::with_capacity(64 * 1024);
    loop {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        let mut rest = buffer.as_slice();
        while let (Some(length), Some(kind)) = (u32_at(rest, 0), u16_at(rest, 4)) {
            let length = length as usize;
            let Some(body) = rest.get(HEADER..length) else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            match kind {
                DONE => return Ok(()),
                ERROR => {
                    let code = u32_at(body, 0).unwrap_or_default().cast_signed();
                    return if code == 0 {
                        Ok(())
                    } else {
                        Err(io::Error::from_raw_os_error(-code))
                    };
                }
                _ => each(body.get(NETFILTER_HEADER..).unwrap_or_default()),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The value of the attribute `kind` among `attributes`.
fn attribute(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    while let (Some(length), Some(found)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let length = usize::from(length);
        let value = attributes.get(4..length)?;
        if found & !NESTED == kind {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// One direction of a flow.
struct Tuple {
    protocol: u8,
    source: (Ipv4Addr, u16),
    destination: (Ipv4Addr, u16),
}

impl Tuple {
    fn parse(tuple: &[u8]) -> Option<Tuple> {
        // CTA_TUPLE_IP { CTA_IP_V4_SRC, CTA_IP_V4_DST },
        // CTA_TUPLE_PROTO { CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT }
        let (ips, transport) = (attribute(tuple, 1)?, attribute(tuple, 2)?);
        let ip = |kind| {
            let bytes: [u8; 4] = attribute(ips, kind)?.try_into().ok()?;
            Some(Ipv4Addr::from(bytes))
        };
        let port = |kind| {
            let bytes: [u8; 2] = attribute(transport, kind)?.try_into().ok()?;
            Some(u16::from_be_bytes(bytes))
        };
        Some(Tuple {
            protocol: *attribute(transport, 1)?.first()?,
            source: (ip(1)?, port(2)?),
            destination: (ip(2)?, port(3)?),
        })
    }
}
