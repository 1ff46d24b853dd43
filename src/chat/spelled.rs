//! Tags that are only spelled. Where a tokenizer has `<tool_call>` and `</think>` as tokens, the model writes these tokens when it means
//! a tag. The same characters written with ordinary tokens are text, for example what a page in a picture says, and must not become
//! a call or end the reasoning.

use std::borrow::Cow;
use std::collections::VecDeque;

/// A noncharacter, which no text has. It stands behind each `<` that begins no real tag, so that whoever looks for tags finds none.
const GUARD: char = '\u{FDD0}';

/// Guards an answer that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Spelled {
    /// Bytes of text that the tokens have brought, and that were guarded.
    written: usize,
    guarded: usize,
    /// Where real tags begin.
    real: VecDeque<usize>,
}

impl Spelled {
    /// Notes the text that the next token brings. `tag` is its length if the token is a tag, which the text then ends with.
    pub(super) fn token(&mut self, text: &str, tag: Option<usize>) {
        self.written += text.len();
        self.real.extend(tag.and_then(|length| self.written.checked_sub(length)));
    }

    /// The next piece of the text that [`token`](Self::token) was told of, with guards.
    pub(super) fn guard(&mut self, piece: &str) -> String {
        let mut out = String::with_capacity(piece.len());
        for (at, c) in piece.char_indices() {
            let place = self.guarded + at;
            while self.real.front().is_some_and(|real| *real < place) {
                self.real.pop_front();
            }
            match c {
                GUARD => out.push(char::REPLACEMENT_CHARACTER),
                '<' if self.real.front() != Some(&place) => out.extend(['<', GUARD]),
                _ => out.push(c),
            }
        }
        self.guarded += piece.len();
        out
    }
}

/// The text without guards.
pub(super) fn unguarded(text: &str) -> Cow<'_, str> {
    if text.contains(GUARD) { Cow::Owned(text.replace(GUARD, "")) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_tags_are_found_however_the_text_is_cut() {
        let tokens = [
            ("say <tool", None),
            ("_call> ", None),
            ("<tool_call>", Some(11)),
            ("a<b", None),
            ("</tool_call>", Some(12)),
        ];
        let whole: String = tokens.iter().map(|(text, _)| *text).collect();
        for cut in 0..=whole.len() {
            let mut spelled = Spelled::default();
            tokens.iter().for_each(|(text, tag)| spelled.token(text, *tag));
            let guarded = spelled.guard(&whole[..cut]) + &spelled.guard(&whole[cut..]);
            assert_eq!(guarded.match_indices("<tool_call>").count(), 1, "{cut}");
            assert!(guarded.contains("<tool_call>a<\u{FDD0}b</tool_call>"), "{guarded:?}");
            assert_eq!(unguarded(&guarded), whole);
        }
    }
}
