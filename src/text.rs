//! Text that files and systems chose, made safe for terminals and logs: names, labels, paths, messages.
//!
//! Every [`Error`](crate::Error) is displayed so. A program that prints names itself, or logs this library's
//! messages, calls [`visible`].

use std::{
    borrow::Cow,
    fmt::{self, Write},
};

/// Whether a terminal obeys a character instead of showing it, breaks the line there, or turns around what
/// stands beside it.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}')
}

/// One line that a terminal shows as it is: `\n`, `\u{1b}` and the like for what it would obey.
///
/// ```
/// use goldcrest::text::visible;
/// assert_eq!(visible("tabby cat"), "tabby cat");
/// assert_eq!(visible("\u{1b}[2Jcat\r\n"), r"\u{1b}[2Jcat\r\n");
/// assert_eq!(visible("\u{202e}tac"), r"\u{202e}tac");
/// ```
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, is_obeyed, |c| c.escape_debug().to_string())
}

/// [`visible`], but for lines that are meant to be several.
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c != '\n' && is_obeyed(c), |c| c.escape_debug().to_string())
}

/// JSON that says the same and may be shown: what it allows in strings is escaped where a terminal would obey
/// it.
///
/// ```
/// assert_eq!(goldcrest::text::visible_json("\"\u{202e}tac\"\n"), "\"\\u202etac\"\n");
/// ```
pub fn visible_json(json: &str) -> Cow<'_, str> {
    // Between strings nothing but line feeds is obeyed, and none of these is beyond 16 bits.
    escaped(json, |c| c != '\n' && is_obeyed(c), |c| format!("\\u{:04x}", u32::from(c)))
}

fn escaped(text: &str, obeyed: impl Fn(char) -> bool, escape: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(&obeyed) {
        return text.into();
    }
    text.chars().map(|c| if obeyed(c) { escape(c) } else { c.into() }).collect::<String>().into()
}

/// Writes text on as [`visible`] has it.
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
    fn what_terminals_obey_is_written_out() {
        for (text, shown) in [
            ("a\tb\u{7f}\u{9b}31m", r"a\tb\u{7f}\u{9b}31m"),
            ("\u{2028}\u{2029}\u{200f}\u{61c}", r"\u{2028}\u{2029}\u{200f}\u{61c}"),
            ("\u{2066}x\u{2069}\0", r"\u{2066}x\u{2069}\0"),
        ] {
            assert_eq!(visible(text), shown);
            // Shown twice it is the same.
            assert_eq!(visible(shown), shown);
        }
    }

    #[test]
    fn what_people_write_stays() {
        // A joiner within an emoji, one within Persian, and a backslash.
        for text in ["", "café", "👩\u{200d}🔬", "می\u{200c}خواهم", r"C:\cats\new", "\"quoted\""]
        {
            assert!(matches!(visible(text), Cow::Borrowed(same) if same == text));
        }
        assert_eq!(visible_lines("a\nb\r\n"), "a\nb\\r\n");
    }

    #[test]
    fn json_says_the_same() {
        let value = serde_json::json!({ "\u{9b}\u{1b}": "a\n\u{202e}b\u{7f}\u{2028}" });
        let text = serde_json::to_string_pretty(&value).unwrap();
        let shown = visible_json(&text);
        assert_ne!(shown, text);
        assert!(!shown.contains(|c| c != '\n' && is_obeyed(c)));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
