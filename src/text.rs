//! Escapes names, labels, paths and messages that come from outside the program, so that terminals and logs
//! can show them safely.
//!
//! Every [`Error`](crate::Error) is displayed this way. A program that prints names itself, or logs this
//! library's messages, should call [`visible`].

use std::{
    borrow::Cow,
    fmt::{self, Write},
};

/// True if a terminal does not show a character but acts on it: control characters, line separators, and
/// controls of text direction.
fn needs_escape(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}')
}

/// Escapes text to one line that is safe to show: control characters become `\n`, `\u{1b}` and the like.
///
/// ```
/// use goldcrest::text::visible;
/// assert_eq!(visible("tabby cat"), "tabby cat");
/// assert_eq!(visible("\u{1b}[2Jcat\r\n"), r"\u{1b}[2Jcat\r\n");
/// assert_eq!(visible("\u{202e}tac"), r"\u{202e}tac");
/// ```
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, needs_escape, |c| c.escape_debug().to_string())
}

/// Escapes text like [`visible`], but keeps line feeds.
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c != '\n' && needs_escape(c), |c| c.escape_debug().to_string())
}

/// Escapes JSON for terminals without changing its meaning. Strings may contain control characters, which are
/// escaped.
///
/// ```
/// assert_eq!(goldcrest::text::visible_json("\"\u{202e}tac\"\n"), "\"\\u202etac\"\n");
/// ```
pub fn visible_json(json: &str) -> Cow<'_, str> {
    // Line feeds between values are kept: they are the only characters outside of strings that `visible`
    // would escape. Every escaped character fits 16 bits.
    escaped(json, |c| c != '\n' && needs_escape(c), |c| format!("\\u{:04x}", u32::from(c)))
}

fn escaped(text: &str, selected: impl Fn(char) -> bool, escape: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(&selected) {
        return text.into();
    }
    text.chars().map(|c| if selected(c) { escape(c) } else { c.into() }).collect::<String>().into()
}

/// A writer that passes on text escaped by [`visible`].
pub(crate) struct Visible<W>(pub W);

impl<W: Write> Write for Visible<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(&visible(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_controls_are_escaped() {
        for (text, shown) in [
            ("a\tb\u{7f}\u{9b}31m", r"a\tb\u{7f}\u{9b}31m"),
            ("\u{2028}\u{2029}\u{200f}\u{61c}", r"\u{2028}\u{2029}\u{200f}\u{61c}"),
            ("\u{2066}x\u{2069}\0", r"\u{2066}x\u{2069}\0"),
        ] {
            assert_eq!(visible(text), shown);
            // Escaping twice changes nothing.
            assert_eq!(visible(shown), shown);
        }
    }

    #[test]
    fn ordinary_text_is_unchanged() {
        // A joiner within an emoji, one within Persian, and a backslash.
        for text in ["", "café", "👩\u{200d}🔬", "می\u{200c}خواهم", r"C:\cats\new", "\"quoted\""]
        {
            assert!(matches!(visible(text), Cow::Borrowed(same) if same == text));
        }
        assert_eq!(visible_lines("a\nb\r\n"), "a\nb\\r\n");
    }

    #[test]
    fn escaped_json_has_the_same_value() {
        let value = serde_json::json!({ "\u{9b}\u{1b}": "a\n\u{202e}b\u{7f}\u{2028}" });
        let text = serde_json::to_string_pretty(&value).unwrap();
        let shown = visible_json(&text);
        assert_ne!(shown, text);
        assert!(!shown.contains(|c| c != '\n' && needs_escape(c)));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
