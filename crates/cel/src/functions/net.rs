//! Addresses and ranges of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Table, fail, no_overload};
use crate::error::EvalError;
use crate::eval::Context;
use crate::extension::Extension;
use crate::value::{Evaluated, Value};

pub(crate) const TABLE: Table = &[
    ("ip", ip),
    ("isIP", is_ip),
    ("ip.isCanonical", is_canonical),
    ("family", family),
    ("isUnspecified", is_unspecified),
    ("isLoopback", is_loopback),
    ("isLinkLocalMulticast", is_link_local_multicast),
    ("isLinkLocalUnicast", is_link_local_unicast),
    ("isGlobalUnicast", is_global_unicast),
    ("cidr", cidr),
    ("isCIDR", is_cidr),
    ("containsIP", contains_ip),
    ("containsCIDR", contains_cidr),
    ("prefixLength", prefix_length),
    ("masked", masked),
];

fn parse_ip(text: &str) -> Result<IpAddr, EvalError> {
    if text.contains('%') && text.contains(':') {
        return fail(format!(
            "IP address {text:?} with zone value is not allowed"
        ));
    }
    let address: IpAddr = text.parse().map_err(|_| {
        EvalError::failed(format!(
            "IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): unable to parse IP"
        ))
    })?;
    if is_mapped(address) {
        return fail(format!("IPv4-mapped IPv6 address {text:?} is not allowed"));
    }
    Ok(address)
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some())
}

fn parse_cidr(text: &str) -> Result<(IpAddr, u8), EvalError> {
    let wrong = |why: &str| {
        EvalError::failed(format!(
            "network address parse error during conversion from string: network address parse error during conversion from string: netip.ParsePrefix({text:?}): {why}"
        ))
    };
    let (address, bits) = text.rsplit_once('/').ok_or_else(|| wrong("no '/'"))?;
    let address: IpAddr = address.parse().map_err(|_| wrong("unable to parse IP"))?;
    let digits = bits.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = bits.len() > 1 && bits.starts_with('0');
    let bits: u8 = bits
        .parse()
        .ok()
        .filter(|bits| digits && !leading_zero && *bits <= width(address))
        .ok_or_else(|| wrong("bad bits after slash"))?;
    if is_mapped(address) {
        return fail(format!(
            "network address parse error during conversion from string: IPv4-mapped IPv6 address {text:?} is not allowed"
        ));
    }
    Ok((address, bits))
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address with all bits beyond the first few cleared.
fn mask(address: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - bits.min(32)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

/// A range as it is written.
pub(super) fn cidr_text(address: IpAddr, bits: u8) -> String {
    format!("{address}/{bits}")
}

fn address(value: &Value<'_>) -> Option<IpAddr> {
    match value {
        Value::Extension(extension) => match **extension {
            Extension::Ip(address) => Some(address),
            _ => None,
        },
        _ => None,
    }
}

fn range(value: &Value<'_>) -> Option<(IpAddr, u8)> {
    match value {
        Value::Extension(extension) => match **extension {
            Extension::Cidr(address, bits) => Some((address, bits)),
            _ => None,
        },
        _ => None,
    }
}

fn ip<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::String(text)] => Ok(Value::extension(Extension::Ip(parse_ip(text)?))),
        [value] => match range(value) {
            Some((address, _)) => Ok(Value::extension(Extension::Ip(address))),
            None => no_overload(),
        },
        _ => no_overload(),
    }
}

fn is_ip<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::String(text)] => Ok(Value::Bool(parse_ip(text).is_ok())),
        _ => no_overload(),
    }
}

fn is_canonical<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::String(text)] => Ok(Value::Bool(parse_ip(text)?.to_string() == **text)),
        _ => no_overload(),
    }
}

fn family<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args.first().and_then(address) {
        Some(address) => Ok(Value::Int(if address.is_ipv4() { 4 } else { 6 })),
        None => no_overload(),
    }
}

fn asked<'a>(args: &[Value<'a>], question: fn(IpAddr) -> bool) -> Evaluated<'a> {
    match args.first().and_then(address) {
        Some(address) => Ok(Value::Bool(question(address))),
        None => no_overload(),
    }
}

fn is_unspecified<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    asked(args, |address| address.is_unspecified())
}

fn is_loopback<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    asked(args, |address| address.is_loopback())
}

fn link_local_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => matches!(address.octets(), [224, 0, 0, _]),
        IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
    }
}

fn link_local_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn is_link_local_multicast<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    asked(args, link_local_multicast)
}

fn is_link_local_unicast<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    asked(args, link_local_unicast)
}

fn is_global_unicast<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    asked(args, |address| {
        let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
        !broadcast
            && !address.is_unspecified()
            && !address.is_loopback()
            && !address.is_multicast()
            && !link_local_unicast(address)
    })
}

fn cidr<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::String(text)] => {
            let (address, bits) = parse_cidr(text)?;
            Ok(Value::extension(Extension::Cidr(address, bits)))
        }
        _ => no_overload(),
    }
}

fn is_cidr<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::String(text)] => Ok(Value::Bool(parse_cidr(text).is_ok())),
        _ => no_overload(),
    }
}

fn within(network: (IpAddr, u8), address: IpAddr) -> bool {
    network.0.is_ipv4() == address.is_ipv4()
        && mask(network.0, network.1) == mask(address, network.1)
}

fn contains_ip<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let [network, other] = args else {
        return no_overload();
    };
    let other = match other {
        Value::String(text) => Some(parse_ip(text)?),
        other => address(other),
    };
    match (range(network), other) {
        (Some(network), Some(other)) => Ok(Value::Bool(within(network, other))),
        _ => no_overload(),
    }
}

fn contains_cidr<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let [network, other] = args else {
        return no_overload();
    };
    let other = match other {
        Value::String(text) => Some(parse_cidr(text)?),
        other => range(other),
    };
    match (range(network), other) {
        (Some(network), Some((address, bits))) => {
            Ok(Value::Bool(network.1 <= bits && within(network, address)))
        }
        _ => no_overload(),
    }
}

fn prefix_length<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args.first().and_then(range) {
        Some((_, bits)) => Ok(Value::Int(i64::from(bits))),
        None => no_overload(),
    }
}

fn masked<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args.first().and_then(range) {
        Some((address, bits)) => Ok(Value::extension(Extension::Cidr(mask(address, bits), bits))),
        None => no_overload(),
    }
}
