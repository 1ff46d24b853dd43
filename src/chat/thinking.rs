//! Reasoning and answer told apart: Qwen3's thinking models write `reasoning</think>`, white space, and the answer.
//!
//! The prompt of a thinking checkpoint ends with `<think>` and a line break, so the model writes only the closing tag. A checkpoint that
//! decides by itself whether to think writes both tags. In Qwen3's tokenizers both are added tokens that are not called special, so they
//! are still there in text that is decoded without special tokens.

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";
/// What begins and ends reasoning.
pub(super) const TAGS: [&str; 2] = [OPEN, CLOSE];
/// Most white space before an opening tag, in bytes. A text that begins with more is an answer.
const MAX_INDENT: usize = 64;

/// The next pieces of reasoning and answer. Reasoning comes before the answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pieces {
    /// The next piece of reasoning.
    pub reasoning: String,
    /// The next piece of the answer.
    pub answer: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but white space has come. `true` if the prompt ends with `<think>`.
    Beginning(bool),
    Reasoning,
    /// Between the closing tag and the answer.
    Gap,
    Answer,
}

/// Tells reasoning from answer in a text that comes in pieces. The result does not depend on where the pieces are cut.
///
/// White space around the reasoning and before the answer after it is dropped. A text without reasoning is passed on unchanged.
#[derive(Debug, Clone)]
pub struct ThinkingSplitter {
    state: State,
    /// Text that may be the beginning of a tag; before the first tag also the white space in front of it.
    held: String,
    /// White space at the end of the reasoning so far, which is kept back until something follows it.
    space: String,
    /// Whether any reasoning has come.
    begun: bool,
}

impl ThinkingSplitter {
    /// `opened` says whether the prompt ends with `<think>`.
    pub fn new(opened: bool) -> Self {
        ThinkingSplitter { state: State::Beginning(opened), held: String::new(), space: String::new(), begun: false }
    }

    /// Takes the next piece of text.
    pub fn push(&mut self, piece: &str) -> Pieces {
        let mut out = Pieces::default();
        let mut text = std::mem::take(&mut self.held) + piece;
        loop {
            match self.state {
                State::Beginning(opened) => {
                    let rest = text.trim_start();
                    let far = text.len() - rest.len() > MAX_INDENT;
                    if !opened && far {
                        self.state = State::Answer;
                    } else if let Some(rest) = rest.strip_prefix(OPEN) {
                        text = rest.to_owned();
                        self.state = State::Reasoning;
                    } else if OPEN.starts_with(rest) {
                        self.held = if opened { rest.to_owned() } else { text };
                        return out;
                    } else if opened {
                        self.state = State::Reasoning;
                    } else {
                        self.state = State::Answer;
                    }
                }
                State::Reasoning => {
                    let (end, closed) = match text.find(CLOSE) {
                        Some(end) => (end, true),
                        None => (text.len() - tail(&text), false),
                    };
                    self.reason(&text[..end], &mut out.reasoning);
                    if !closed {
                        self.held = text.split_off(end);
                        return out;
                    }
                    self.space.clear();
                    text = text.split_off(end + CLOSE.len());
                    self.state = State::Gap;
                }
                State::Gap => {
                    text = text.trim_start().to_owned();
                    if text.is_empty() {
                        return out;
                    }
                    self.state = State::Answer;
                }
                State::Answer => {
                    out.answer += &text;
                    return out;
                }
            }
        }
    }

    /// Ends the text.
    pub fn finish(&mut self) -> Pieces {
        let mut out = Pieces::default();
        let held = std::mem::take(&mut self.held);
        match self.state {
            State::Beginning(false) => out.answer = held,
            State::Beginning(true) | State::Reasoning => self.reason(held.trim(), &mut out.reasoning),
            State::Gap | State::Answer => {}
        }
        self.space.clear();
        out
    }

    /// Adds to the reasoning, without the white space at its beginning and end.
    fn reason(&mut self, text: &str, out: &mut String) {
        let text = if self.begun { text } else { text.trim_start() };
        let body = text.trim_end();
        if !body.is_empty() {
            out.push_str(&self.space);
            out.push_str(body);
            self.space.clear();
            self.begun = true;
        }
        self.space.push_str(&text[body.len()..]);
    }
}

/// How many bytes at the end of a text may be the beginning of the closing tag.
fn tail(text: &str) -> usize {
    (1..CLOSE.len()).rev().find(|&length| text.ends_with(&CLOSE[..length])).unwrap_or(0)
}

/// Reasoning and answer of a whole text, without the white space between them; `None` if there is no reasoning.
/// `opened` says whether the prompt ends with `<think>`; then a text without a closing tag was cut off and is all reasoning.
pub fn split_thinking(text: &str, opened: bool) -> (Option<String>, String) {
    let mut splitter = ThinkingSplitter::new(opened);
    let (first, last) = (splitter.push(text), splitter.finish());
    let reasoning = first.reasoning + &last.reasoning;
    (Some(reasoning).filter(|reasoning| !reasoning.is_empty()), first.answer + &last.answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_texts() {
        let split = |text, opened| {
            let (reasoning, answer) = split_thinking(text, opened);
            (reasoning.unwrap_or("none".into()), answer)
        };
        let both = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        // A thinking checkpoint, whose prompt has the opening tag.
        assert_eq!(
            split("Got it, 2 < 3.\n\nSo yes.\n</think>\n\nYes.\n", true),
            both("Got it, 2 < 3.\n\nSo yes.", "Yes.\n")
        );
        assert_eq!(split("cut off in </thi", true), both("cut off in </thi", ""));
        assert_eq!(split("<think>\nonce more</think>Yes", true), both("once more", "Yes"));
        assert_eq!(split("\n</think>\n\nYes", true), both("none", "Yes"));
        // One that opens it itself, or not at all.
        assert_eq!(split("<think>\nHm.\n</think>\n\nYes", false), both("Hm.", "Yes"));
        assert_eq!(split("<think>\n\n</think>\n\nYes", false), both("none", "Yes"));
        for answer in ["  Yes.\n", "", "1 < 2", "<thinking> is a word", "Tags: <think> and </think>.", "<th", " \n"] {
            assert_eq!(split(answer, false), both("none", answer));
        }
        assert_eq!(split("a</think>b</think>c", true), both("a", "b</think>c"), "an answer may name the tag");
        let indented = " ".repeat(65) + "<think>a</think>b";
        assert_eq!(split(&indented, false), both("none", &indented));
    }

    /// However the text is cut, the result is that of one piece.
    #[test]
    fn cuts_do_not_matter() {
        for text in
            [" <think>\nü <b \n\n c</thin \n</think>\n\n ä</think> ", "a  b </think> c", "  <thin", "\n\n", "a</thi"]
        {
            for opened in [true, false] {
                let whole = split_thinking(text, opened);
                let mut splitter = ThinkingSplitter::new(opened);
                let mut all = Pieces::default();
                let characters = text.chars().map(|c| splitter.push(&c.to_string())).collect::<Vec<_>>();
                for piece in characters.into_iter().chain([splitter.finish()]) {
                    assert!(all.answer.is_empty() || piece.reasoning.is_empty(), "reasoning comes first");
                    all.reasoning += &piece.reasoning;
                    all.answer += &piece.answer;
                }
                assert_eq!((Some(all.reasoning).filter(|r| !r.is_empty()), all.answer), whole, "{text:?} {opened}");
            }
        }
    }

    #[test]
    fn what_is_certain_comes_at_once() {
        let mut splitter = ThinkingSplitter::new(true);
        let piece = |reasoning: &str, answer: &str| Pieces { reasoning: reasoning.into(), answer: answer.into() };
        assert_eq!(splitter.push("\nFirst "), piece("First", ""));
        assert_eq!(splitter.push("this, </th"), piece(" this,", ""));
        assert_eq!(splitter.push("en> that.\n"), piece(" </then> that.", ""));
        assert_eq!(splitter.push("</think>\n"), piece("", ""));
        assert_eq!(splitter.push("\nYes"), piece("", "Yes"));
        assert_eq!(splitter.push(", </think"), piece("", ", </think"));
        assert_eq!(splitter.finish(), piece("", ""));
    }
}
