//! Constants of conditions, read as the type that their field has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use thiserror::Error;

use crate::fields::Type;
use crate::number;

/// What a constant and its end may take.
const MAX_LENGTH: usize = 256;

/// A constant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Constant {
    Bytes(Box<[u8]>),
    Number(i128),
    Bool(bool),
    Address(IpAddr),
    Net(IpNet),
}

/// Why a constant is none of its type.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "their messages say it")]
pub(crate) enum ConstantError {
    #[error("filter error: filter value cannot contain a NUL byte (\\x00)")]
    Nul,
    #[error("{0} is not a valid number")]
    Number(String),
    #[error("unrecognized protocol {0}")]
    Protocol(String),
    #[error("filter error: unrecognized boolean value {0}")]
    Bool(String),
    #[error("unrecognized IPv4 address {0}")]
    Address4(String),
    #[error("unrecognized IPv6 address {0}")]
    Address6(String),
    #[error("unrecognized IP network {0}")]
    Net(String),
    #[error("unrecognized IP address {0}")]
    NetAddress(String),
    #[error("invalid netmask {0}")]
    Mask4(String),
    #[error("invalid v6 netmask {0}")]
    Mask6(String),
    #[error("filter error: bcontains and bstartswith operator support hex strings only")]
    Hex,
    #[error("unknown event type {0}")]
    EventType(String),
    #[error("invalid regex pattern: {0}")]
    Regex(String),
    #[error("filter parameter too long (used={0}, available={MAX_LENGTH}):{1}")]
    TooLong(usize, String),
    #[error("filter parameter too long (byte buf)")]
    BytesTooLong,
    #[error("wrong parameter type")]
    Dynamic,
}

/// The constant that a text means for a type.
pub(crate) fn parse(kind: Type, value: &[u8]) -> Result<Constant, ConstantError> {
    if kind == Type::Bytebuf {
        if value.len() >= MAX_LENGTH {
            return Err(ConstantError::BytesTooLong);
        }
        return Ok(Constant::Bytes(value.into()));
    }
    if value.contains(&0) {
        return Err(ConstantError::Nul);
    }
    if kind.is_text() {
        if value.len() >= MAX_LENGTH {
            let text = String::from_utf8_lossy(value).into_owned();
            return Err(ConstantError::TooLong(value.len() + 1, text));
        }
        return Ok(Constant::Bytes(value.into()));
    }
    let text = String::from_utf8_lossy(value);
    let not_a_number = || ConstantError::Number(text.to_string());
    let unsigned = || number::unsigned(&text).ok_or_else(not_a_number);
    let signed = || number::signed(&text).ok_or_else(not_a_number);
    let bits = |bits: u32| unsigned().map(|number| number & (u64::MAX >> (64 - bits)));
    let signed_bits = |bits: u32| signed().map(|number| number << (64 - bits) >> (64 - bits));
    Ok(match kind {
        Type::U8 => Constant::Number(bits(8)?.into()),
        Type::U16 => Constant::Number(bits(16)?.into()),
        Type::U32 => Constant::Number(bits(32)?.into()),
        Type::U64 | Type::RelTime | Type::AbsTime => Constant::Number(unsigned()?.into()),
        Type::I8 => Constant::Number(signed_bits(8)?.into()),
        Type::I16 => Constant::Number(signed_bits(16)?.into()),
        Type::I32 | Type::Double => Constant::Number(signed_bits(32)?.into()),
        Type::I64 => Constant::Number(signed()?.into()),
        Type::Port => Constant::Number(port(&text)?.into()),
        Type::Bool => match &*text {
            "true" => Constant::Bool(true),
            "false" => Constant::Bool(false),
            _ => return Err(ConstantError::Bool(text.into())),
        },
        Type::IpAddr => Constant::Address(address(&text)?),
        Type::IpNet => Constant::Net(net(&text)?),
        _ => return Err(ConstantError::Dynamic),
    })
}

fn port(text: &str) -> Result<u16, ConstantError> {
    if text.is_empty() {
        return Ok(0);
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        // Numbers that are too large keep their lower half, as upstream's cast does.
        let number: u64 = text
            .parse()
            .map_err(|_| ConstantError::Number(text.to_owned()))?;
        return Ok(u16::try_from(number & 0xffff).unwrap_or(u16::MAX));
    }
    services::port(text).ok_or_else(|| ConstantError::Protocol(text.to_owned()))
}

fn address(text: &str) -> Result<IpAddr, ConstantError> {
    if text.contains('.') {
        text.parse::<Ipv4Addr>()
            .map(IpAddr::V4)
            .map_err(|_| ConstantError::Address4(text.to_owned()))
    } else {
        text.parse::<Ipv6Addr>()
            .map(IpAddr::V6)
            .map_err(|_| ConstantError::Address6(text.to_owned()))
    }
}

fn net(text: &str) -> Result<IpNet, ConstantError> {
    let four = text.contains('.');
    let Some((ip, mask)) = text.split_once('/') else {
        return Err(if four {
            ConstantError::Net(text.to_owned())
        } else {
            ConstantError::Mask6(text.to_owned())
        });
    };
    let length = || {
        number::unsigned(mask)
            .and_then(|length| u8::try_from(length & 0xff).ok())
            .ok_or_else(|| ConstantError::Number(mask.to_owned()))
    };
    if four {
        let ip: Ipv4Addr = ip
            .parse()
            .map_err(|_| ConstantError::NetAddress(text.to_owned()))?;
        return Ipv4Net::new(ip, length()?)
            .map(|net| IpNet::V4(net.trunc()))
            .map_err(|_| ConstantError::Mask4(mask.to_owned()));
    }
    let ip: Ipv6Addr = ip
        .parse()
        .map_err(|_| ConstantError::Address6(text.to_owned()))?;
    let length = length()?;
    Ipv6Net::new(ip, length)
        .ok()
        .filter(|_| length > 0)
        .map(|net| IpNet::V6(net.trunc()))
        .ok_or_else(|| ConstantError::Mask6(mask.to_owned()))
}

/// The bytes that hexadecimal digits mean.
pub(crate) fn unhex(digits: &[u8]) -> Result<Box<[u8]>, ConstantError> {
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(ConstantError::Hex);
    }
    let value = |digit: u8| char::from(digit).to_digit(16).unwrap_or_default();
    Ok(pairs
        .iter()
        .filter_map(|[high, low]| u8::try_from(value(*high) << 4 | value(*low)).ok())
        .collect())
}

/// Names of ports; a rule cannot depend on the host's own list.
mod services {
    const PORTS: [(&str, u16); 46] = [
        ("tcpmux", 1),
        ("echo", 7),
        ("discard", 9),
        ("systat", 11),
        ("daytime", 13),
        ("chargen", 19),
        ("ftp-data", 20),
        ("ftp", 21),
        ("ssh", 22),
        ("telnet", 23),
        ("smtp", 25),
        ("time", 37),
        ("whois", 43),
        ("domain", 53),
        ("bootps", 67),
        ("bootpc", 68),
        ("tftp", 69),
        ("gopher", 70),
        ("finger", 79),
        ("http", 80),
        ("kerberos", 88),
        ("pop3", 110),
        ("sunrpc", 111),
        ("auth", 113),
        ("nntp", 119),
        ("ntp", 123),
        ("netbios-ns", 137),
        ("netbios-dgm", 138),
        ("netbios-ssn", 139),
        ("imap2", 143),
        ("snmp", 161),
        ("snmp-trap", 162),
        ("bgp", 179),
        ("ldap", 389),
        ("https", 443),
        ("microsoft-ds", 445),
        ("syslog", 514),
        ("ldaps", 636),
        ("domain-s", 853),
        ("rsync", 873),
        ("imaps", 993),
        ("pop3s", 995),
        ("openvpn", 1194),
        ("mysql", 3306),
        ("postgresql", 5432),
        ("redis", 6379),
    ];

    pub(super) fn port(name: &str) -> Option<u16> {
        PORTS
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, port)| *port)
    }
}
