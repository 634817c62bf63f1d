//! One line of a CRI log: `2026-01-02T03:04:05.123456789Z stdout F text`.
//!
//! Invariant: parsing never panics and never copies.

/// A parsed line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// RFC 3339 time with nanoseconds.
    pub time: &'a str,
    /// `stdout` or `stderr`.
    pub stream: &'a str,
    /// Whether a line of the program ends here (`F`), or goes on in the next (`P`).
    pub complete: bool,
    /// What the program wrote, without the line feed.
    pub text: &'a [u8],
}

/// Parses one line, with or without its line feed.
pub(crate) fn parse(line: &[u8]) -> Option<Line<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let (time, rest) = split(line)?;
    let (stream, rest) = split(rest)?;
    let (tag, text) = split(rest).unwrap_or((rest, &[]));
    let stream = std::str::from_utf8(stream)
        .ok()
        .filter(|s| matches!(*s, "stdout" | "stderr"))?;
    let time = std::str::from_utf8(time).ok()?;
    // Tags are separated by colons; the first says whether the line is complete.
    let complete = match tag.split(|b| *b == b':').next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(Line {
        time,
        stream,
        complete,
        text,
    })
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|b| *b == b' ')?;
    Some((&bytes[..at], &bytes[at + 1..]))
}
