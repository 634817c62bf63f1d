//! Lengths of time as people write them for Kubernetes.

use std::time::Duration;

/// Reads `90s`, `5m`, `1h`, `1m30s`, or plain seconds.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let fail = || format!("{text:?} is no duration such as 30s, 5m or 1h");
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(fail)?;
        let number: u64 = rest[..digits].parse().map_err(|_| fail())?;
        let after = &rest[digits..];
        let end = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let unit_ms = match &after[..end] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(fail()),
        };
        total += Duration::from_millis(number.checked_mul(unit_ms).ok_or_else(fail)?);
        rest = &after[end..];
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn gos_notation() {
        let ms = |text| parse(text).map(|d| d.as_millis());
        assert_eq!(ms("30s"), Ok(30_000));
        assert_eq!(ms("1m30s"), Ok(90_000));
        assert_eq!(ms("7"), Ok(7000));
        assert!(ms("5x").is_err());
        assert!(ms("99999999999999999999h").is_err());
    }
}
