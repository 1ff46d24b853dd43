//! Ids → text while they are generated: whole characters only, and nothing from a stop string on.

use super::tokenizer::Tokenizer;
use std::borrow::Borrow;

/// Turns ids into text one by one. The concatenation of all that [`push`](Self::push) and [`finish`](Self::finish)
/// return equals [`Tokenizer::decode`] of all the ids.
///
/// Holds the tokenizer as a reference, `Rc` or `Arc`.
#[derive(Debug, Clone)]
pub struct StreamDecoder<T: Borrow<Tokenizer>> {
    tokenizer: T,
    skip_special: bool,
    /// The first bytes of a character whose last bytes are still missing.
    pending: Vec<u8>,
}

impl<T: Borrow<Tokenizer>> StreamDecoder<T> {
    /// For an answer in which special tokens are left out, as with transformers' `skip_special_tokens=True`.
    pub fn new(tokenizer: T) -> Self {
        Self { tokenizer, skip_special: true, pending: Vec::new() }
    }

    /// For an answer in which special tokens are shown.
    pub fn with_special(tokenizer: T) -> Self {
        Self { skip_special: false, ..Self::new(tokenizer) }
    }

    /// Takes the next id and returns the whole characters that are complete now, with U+FFFD for bytes that are no UTF-8. An id without
    /// a token adds nothing.
    pub fn push(&mut self, id: u32) -> String {
        let tokenizer = self.tokenizer.borrow();
        if !(self.skip_special && tokenizer.is_special(id)) {
            self.pending.extend_from_slice(tokenizer.bytes_of(id).unwrap_or_default());
        }
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        while let Err(error) = std::str::from_utf8(rest) {
            let (valid, after) = rest.split_at(error.valid_up_to());
            text.push_str(&String::from_utf8_lossy(valid));
            let Some(broken) = error.error_len() else {
                self.pending = after.to_vec(); // the start of a character
                return text;
            };
            text.push(char::REPLACEMENT_CHARACTER);
            rest = &after[broken..];
        }
        text.push_str(&String::from_utf8_lossy(rest));
        self.pending.clear();
        text
    }

    /// Ends the answer: a character that was never completed becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }
}

/// Looks for stop strings in a text that comes in pieces, and holds back whatever could be the start of one.
///
/// The result does not depend on where the pieces are cut: the stop string that is complete first ends the text. If several are
/// complete at the same character, the longest counts, and of equally long ones the first.
#[derive(Debug, Clone)]
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
    hit: Option<usize>,
}

impl StopMatcher {
    /// Looks for these stop strings. Empty ones are ignored.
    pub fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new(), hit: None }
    }

    /// Takes the next piece. Returns the text that may be shown, and the index of the stop string if one is complete:
    /// the text then ends before it, and all later calls return nothing more.
    pub fn push(&mut self, piece: &str) -> (String, Option<usize>) {
        if self.hit.is_some() {
            return (String::new(), self.hit);
        }
        self.held.push_str(piece);
        let found = |(index, stop): (usize, &String)| {
            let start = if stop.is_empty() { None } else { self.held.find(stop.as_str()) };
            start.map(|start| (start + stop.len(), start, index))
        };
        if let Some((_, start, index)) = self.stops.iter().enumerate().filter_map(found).min() {
            self.hit = Some(index);
            self.held.truncate(start);
            return (std::mem::take(&mut self.held), self.hit);
        }
        let starts_stop = |&at: &usize| self.stops.iter().any(|stop| stop.starts_with(&self.held[at..]));
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest);
        let mut ends = self.held.char_indices().map(|(at, _)| at).skip_while(|&at| at < from);
        let keep = ends.find(starts_stop).unwrap_or(self.held.len());
        let held = self.held.split_off(keep);
        (std::mem::replace(&mut self.held, held), None)
    }

    /// Ends the text and returns what was held back, unless a stop string was found.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, Option<usize>) {
        let mut matcher = StopMatcher::new(stops.iter().map(|s| s.to_string()).collect());
        let (mut text, mut hit) = (String::new(), None);
        for piece in pieces {
            let (emit, found) = matcher.push(piece);
            text += &emit;
            hit = found;
        }
        text += &matcher.finish();
        (text, hit)
    }

    #[test]
    fn stop_strings() {
        assert_eq!(run(&["END"], &["one E", "N", "D two"]), ("one ".into(), Some(0)));
        assert_eq!(run(&["END"], &["one E", "N", "d E"]), ("one ENd E".into(), None));
        assert_eq!(run(&["\n\n", "END"], &["a\n", "b\n\nEND"]), ("a\nb".into(), Some(0)));
        assert_eq!(run(&["", "é"], &["caf", "é!"]), ("caf".into(), Some(1)));
        assert_eq!(run(&[], &["a", "b"]), ("ab".into(), None));
        assert_eq!(run(&["aab"], &["a", "a", "a", "b"]), ("a".into(), Some(0)));
        assert_eq!(run(&["bc", "abcd"], &["abcd"]), ("a".into(), Some(0)), "the first to be complete");
        assert_eq!(run(&["cd", "abcd"], &["xabcd"]), ("x".into(), Some(1)), "the longest of two that end together");
    }

    #[test]
    fn what_may_be_a_stop_string_is_held_back() {
        let mut matcher = StopMatcher::new(vec!["<end>".into()]);
        assert_eq!(matcher.push("text <e"), ("text ".into(), None));
        assert_eq!(matcher.push("n"), (String::new(), None));
        assert_eq!(matcher.push("x <"), ("<enx ".into(), None));
        assert_eq!(matcher.push("end>more"), (String::new(), Some(0)));
        assert_eq!(matcher.push("more"), (String::new(), Some(0)));
        assert_eq!(matcher.finish(), "");
    }

    /// However the text is cut, the result is that of one piece.
    #[test]
    fn cuts_do_not_matter() {
        let text = "aabababbaéabéabb";
        let stops = ["abb", "éa", "babab", "x"];
        let whole = run(&stops, &[text]);
        assert_eq!(whole, ("aa".into(), Some(2)));
        let marks: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        for &a in &marks {
            for &b in marks.iter().filter(|&&b| b >= a) {
                assert_eq!(run(&stops, &[&text[..a], &text[a..b], &text[b..]]), whole);
            }
        }
    }
}
