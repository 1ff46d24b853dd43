//! A prompt as text in which control tokens are told apart from equal text that somebody wrote.

/// A prompt as text, with its control tokens told apart from equal text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RenderedPrompt {
    /// In order; no span is empty, and no two texts are neighbours.
    pub spans: Vec<Span>,
}

/// A piece of a [`RenderedPrompt`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Span {
    /// A control token by its text. It becomes one id.
    Control(String),
    /// Ordinary text, even if it contains a control token's text. It is normalised and split into words as one string.
    Text(String),
}

impl RenderedPrompt {
    /// Cuts a text at every control token in it; like in transformers, the leftmost and longest counts. Only for text that is
    /// trusted as a whole, such as a prompt that a developer wrote by hand in the model's own format.
    pub fn trusted(text: &str, control_tokens: &[String]) -> Self {
        Self::cut(text, control_tokens, str::to_owned)
    }

    /// The prompt as one string: what transformers' `apply_chat_template(tokenize=False)` returns. Lossy, since a
    /// control token and equal text look the same in it.
    pub fn to_string_lossy(&self) -> String {
        let text = |span: &Span| match span {
            Span::Control(text) | Span::Text(text) => text.clone(),
        };
        self.spans.iter().map(text).collect()
    }

    /// Cuts a text at the control tokens and passes what is between them through `clean`.
    pub(super) fn cut(text: &str, control_tokens: &[String], clean: impl Fn(&str) -> String) -> Self {
        let mut spans = Vec::new();
        let push_text = |spans: &mut Vec<Span>, text: &str| {
            let text = clean(text);
            if !text.is_empty() {
                spans.push(Span::Text(text));
            }
        };
        let firsts: Vec<char> = control_tokens.iter().filter_map(|token| token.chars().next()).collect();
        let (mut start, mut at) = (0, 0);
        while let Some(skipped) = text[at..].find(firsts.as_slice()) {
            at += skipped;
            let here = control_tokens.iter().filter(|token| text[at..].starts_with(token.as_str()));
            match here.max_by_key(|token| token.len()).filter(|token| !token.is_empty()) {
                Some(token) => {
                    push_text(&mut spans, &text[start..at]);
                    spans.push(Span::Control(token.clone()));
                    at += token.len();
                    start = at;
                }
                None => at += text[at..].chars().next().map_or(1, char::len_utf8),
            }
        }
        push_text(&mut spans, &text[start..]);
        Self { spans }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftmost_and_longest() {
        let tokens: Vec<String> = ["<a>", "<a><b>", "<b>", ""].map(String::from).to_vec();
        let (control, text) = (|s: &str| Span::Control(s.into()), |s: &str| Span::Text(s.into()));
        let cut = |s: &str| RenderedPrompt::trusted(s, &tokens).spans;
        assert_eq!(cut("x<a><b>é<a>"), [text("x"), control("<a><b>"), text("é"), control("<a>")]);
        assert_eq!(cut("<<a>><b"), [text("<"), control("<a>"), text("><b")]);
        assert_eq!(cut(""), []);
        assert_eq!(RenderedPrompt::trusted("x<a><b>é", &tokens).to_string_lossy(), "x<a><b>é");
    }
}
