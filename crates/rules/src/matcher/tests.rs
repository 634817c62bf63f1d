//! Globs, patterns and paths, one by one.

use super::{Glob, Paths, Pattern};

#[test]
fn globs() {
    let cases = [
        ("", "", true),
        ("", "a", false),
        ("*", "", true),
        ("*", "a/b", true),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("?", "/", true),
        (".*", ".a", true),
        ("*a*b*c", "xxaxxbxxc", true),
        ("*a*b*c", "xxaxxcxxb", false),
        ("a**b", "ab", true),
        ("[abc]", "b", true),
        ("[!abc]", "b", false),
        ("[^abc]", "d", true),
        ("[a-c]x", "bx", true),
        ("[]a]", "]", true),
        ("[!]a]", "]", false),
        ("[a-]", "-", true),
        ("[[:digit:]]*", "1a", true),
        ("[[:digit:]]*", "a1", false),
        ("[[:nosuch:]]", "a", false),
        ("[", "[", true),
        ("[a", "[a", true),
        ("a\\*", "a*", true),
        ("a\\*", "ab", false),
        ("a\\", "a\\", true),
        ("[\\]]", "]", true),
    ];
    for (pattern, text, expected) in cases {
        let glob = Glob::new(pattern.as_bytes(), false);
        assert_eq!(glob.matches(text.as_bytes()), expected, "{pattern} {text}");
    }
    for (pattern, text) in [
        ("BASH", "bash"),
        ("b*H", "BASh"),
        ("[A-Z]", "q"),
        ("[a-z]", "Q"),
    ] {
        assert!(
            Glob::new(pattern.as_bytes(), true).matches(text.as_bytes()),
            "{pattern} {text}"
        );
    }
}

#[test]
fn patterns() {
    let cases = [
        ("abc", "abc", true),
        ("abc", "xabcx", false),
        ("a|bc", "bc", true),
        ("a|bc", "a", true),
        ("(a|b)+", "abba", true),
        ("a.c", "a\nc", false),
        ("a[^b]c", "a\nc", true),
        ("^abc$", "abc", true),
        ("a+?", "", true),
        ("a*?", "aaa", true),
        ("a**", "aaa", true),
        ("a{2}", "aa", true),
        ("a{2,}", "a", false),
        ("a{,2}", "a{,2}", true),
        ("a{b", "a{b", true),
        ("[[:alpha:]_]+", "a_b", true),
        ("[[]a]", "[a]", true),
        ("[a&&b]+", "&a", true),
        ("[]-]+", "]-", true),
        (r"\.", ".", true),
        (r"\.", "x", false),
        (r"\x41\x{42}", "AB", true),
        (r"\101", "A", true),
        (r"[\]\\]+", r"]\", true),
        ("#x y", "#x y", true),
        ("é", "é", true),
        (".", "é", true),
    ];
    for (pattern, text, expected) in cases {
        let compiled =
            Pattern::new(pattern.as_bytes()).unwrap_or_else(|e| panic!("{pattern}: {e}"));
        assert_eq!(
            compiled.matches(text.as_bytes()),
            expected,
            "{pattern} {text}"
        );
    }
    // Bytes that are no text are one strange character.
    let dot = Pattern::new(b"a.b").expect("a pattern");
    assert!(dot.matches(b"a\xffb") && !dot.matches(b"a\xff\xffb"));
    for bad in [
        "(",
        ")",
        "[",
        "[a",
        "*",
        "+a",
        "a|*",
        "(?:a)",
        "(?i)a",
        r"\d",
        r"\b",
        r"\pL",
        r"\1",
        r"\Q",
        "a{1001}",
        "a{2,1}",
        "[b-a]",
        "[[:nosuch:]]",
        "\\",
        "(a{1000}){1000}",
    ] {
        assert!(Pattern::new(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn paths() {
    let cases = [
        ("/var/run /etc /lib", "/var/run/docker", true),
        ("/var/run /etc /lib", "/boot", false),
        ("/var/run /etc", "/var/lib", false),
        ("/var/run", "/var", false),
        ("/var/run", "/var/running", false),
        ("/usr/lib /usr", "/usr/share", true),
        ("/usr /usr/lib", "/usr/share", true),
        ("/", "/anything", true),
        ("/", "", true),
        ("/etc/", "//etc//passwd", true),
        ("etc", "/etc/x", true),
        ("/home/*/.ssh", "/home/me/.ssh/id", true),
        ("/home/*/.ssh", "/home/.ssh", false),
        ("/home/*/.ssh /home/me", "/home/you/.ssh", true),
        ("/b*", "/bin/sh", true),
        ("/[ab]/c", "/b/c", true),
    ];
    for (paths, path, expected) in cases {
        let paths = Paths::new(paths.split(' ').map(str::as_bytes));
        assert_eq!(paths.matches(path.as_bytes()), expected, "{path}");
    }
}
