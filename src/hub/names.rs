//! Checks a server's text before it becomes part of a path or of a message.

use std::fmt;

use crate::text::visible;

/// Makes untrusted text safe for a message: short, on one line, without control characters.
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 160;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => visible(&text[..end]).into_owned() + "…",
        None => visible(text).into_owned(),
    }
}

/// Returns whether this is a git commit: a SHA-1 or SHA-256 in lower-case hexadecimal.
pub fn is_commit(text: &str) -> bool {
    [40, 64].contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// An etag that is safe as a file name: not a path, a hidden file or a Windows device (`NUL`). It has no dot,
/// so it cannot collide with another file's lock or partial download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etag(String);

impl Etag {
    /// Parses a header's value, which may be quoted.
    pub fn parse(header: &str) -> Option<Self> {
        let text = header.strip_prefix("W/").unwrap_or(header);
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let named = (5..=128).contains(&text.len()) && text.bytes().all(plain);
        named.then(|| Self(text.into()))
    }

    /// The hash in the etag, if it is one: 64 digits of SHA-256, or 40 of git's SHA-1.
    pub fn hash(&self) -> Option<&str> {
        let hex = [40, 64].contains(&self.0.len()) && self.0.bytes().all(|b| b.is_ascii_hexdigit());
        hex.then_some(&*self.0)
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_are_plain_names_of_files() {
        let sha1 = "2ef7bde608ce5404e97d5f042f95f89f1c232871";
        for (header, etag) in [
            (format!("\"{sha1}\""), sha1),
            (format!("W/\"{sha1}\""), sha1),
            (sha1.to_owned(), sha1),
            ("\"5e3a-1f_Z\"".into(), "5e3a-1f_Z"),
        ] {
            assert_eq!(Etag::parse(&header).unwrap().to_string(), etag);
        }
        let long = "a".repeat(129);
        for wrong in [
            "",
            "\"\"",
            "\"../../x\"",
            "\"/etc/passwd\"",
            "\"..\"",
            "\".hidden\"",
            "\"a\\\\b\"",
            "\"C:evil\"",
            "\"NUL\"",
            "\"COM1\"",
            "\"abcdef.lock\"",
            "\"abc def\"",
            "\"ab\u{1b}[31m\"",
            "\"ümlaut\"",
            &long,
        ] {
            assert_eq!(Etag::parse(wrong), None, "{wrong:?}");
        }
        assert_eq!(Etag::parse(sha1).unwrap().hash(), Some(sha1));
        assert_eq!(Etag::parse("5e3a-1f_Z").unwrap().hash(), None);
        assert_eq!(Etag::parse(&"g".repeat(40)).unwrap().hash(), None);
    }

    #[test]
    fn commits_are_hexadecimal() {
        assert!(is_commit(&"0f".repeat(20)) && is_commit(&"0f".repeat(32)));
        for wrong in ["", "main", "c0ffee", &"0F".repeat(20), &"../".repeat(14)[..40], &"0g".repeat(20)] {
            assert!(!is_commit(wrong), "{wrong}");
        }
    }

    #[test]
    fn untrusted_text_has_no_control_characters() {
        assert_eq!(shown("a\u{1b}[31m\n\u{202e}b"), "a\\u{1b}[31m\\n\\u{202e}b");
        assert_eq!(shown(&"x".repeat(500)).chars().count(), 161);
    }
}
