//! When things happen in a video, in seconds, read from JSON with times in any spelling and from prose such as
//! `00:12.4 - 00:15: text` or `<3.5 seconds>`.

use serde::Serialize;

use super::lenient::{self, Node, number, plain};
use super::objects::first_text;

/// Something that happens in a video.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// Seconds from the beginning of the video.
    pub start: f64,
    /// When it ends, if the answer says so. Never before `start`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<f64>,
    /// What happens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

impl Event {
    fn new((start, end): (f64, Option<f64>), label: Option<String>) -> Self {
        let label = label.map(|label| label.trim().to_owned()).filter(|label| !label.is_empty());
        match end {
            Some(end) if end < start => Event { start: end, end: Some(start), label },
            _ => Event { start, end, label },
        }
    }
}

/// Every event of an answer, in its order: those of its JSON if that has any, and otherwise those of its prose. Times are
/// seconds, `mm:ss` or `hh:mm:ss`, with fractions after a point.
pub fn events(answer: &str) -> Vec<Event> {
    let mut found = Vec::new();
    let values = lenient::values(answer);
    values.iter().for_each(|node| collect(node, &mut found));
    if found.is_empty() {
        found = written(answer);
    }
    if found.is_empty() {
        values.iter().for_each(|node| pairs(node, &mut found));
    }
    found
}

/// Keys of when something starts.
const STARTS: [&str; 9] =
    ["start", "starttime", "starts", "begin", "begintime", "from", "starttimestamp", "startseconds", "startsec"];
/// Keys of when something ends.
const ENDS: [&str; 9] = ["end", "endtime", "ends", "stop", "stoptime", "to", "endtimestamp", "endseconds", "endsec"];
/// Keys of a moment, or of both ends in one value.
const TIMES: [&str; 12] = [
    "time",
    "timestamp",
    "timestamps",
    "timerange",
    "interval",
    "span",
    "segment",
    "timespan",
    "times",
    "seconds",
    "second",
    "period",
];
/// Keys of what happens, the most telling first.
const LABELS: [&str; 13] = [
    "event",
    "description",
    "label",
    "caption",
    "activity",
    "action",
    "sentence",
    "text",
    "content",
    "title",
    "name",
    "query",
    "subtitle",
];

fn collect(node: &Node, found: &mut Vec<Event>) {
    let entries = match node {
        Node::Object(entries) => entries,
        Node::List { items, .. } => return items.iter().for_each(|item| collect(item, found)),
        _ => return,
    };
    let start = node.get(&STARTS).and_then(moment);
    let span = match start {
        Some(start) => Some((start, node.get(&ENDS).and_then(moment))),
        None => node.get(&TIMES).and_then(span),
    };
    if let Some(span) = span {
        let by_key = node.get(&LABELS).and_then(|value| first_text(value, false));
        let timed = |key: &str| STARTS.iter().chain(&ENDS).chain(&TIMES).any(|name| plain(key).eq(name.chars()));
        let mut others = entries.iter().filter(|(key, _)| !timed(key));
        let label = by_key.or_else(|| others.find_map(|(_, value)| first_text(value, false)));
        found.push(Event::new(span, label));
        return;
    }
    for (key, value) in entries {
        match value {
            // `{"00:23.00 - 00:48.00": "trim the fat"}`, or with key and value exchanged.
            Node::Text(text) => match (whole_span(key), whole_span(text)) {
                (Some(span), _) => found.push(Event::new(span, Some(text.clone()))),
                (None, Some(span)) => found.push(Event::new(span, Some(key.clone()))),
                _ => {}
            },
            _ => match whole_span(key) {
                Some(span) => found.push(Event::new(span, first_text(value, false))),
                None => collect(value, found),
            },
        }
    }
}

/// Lists of two numbers, `[[1.0, 4.5], [7, 9]]`, in an answer that has no other times.
fn pairs(node: &Node, found: &mut Vec<Event>) {
    let Node::List { items, .. } = node else { return };
    match (&items[..], span(node)) {
        ([_, _], Some(span)) => found.push(Event::new(span, None)),
        _ => items.iter().for_each(|item| pairs(item, found)),
    }
}

/// A moment, written as a number of seconds or as text.
fn moment(node: &Node) -> Option<f64> {
    match node {
        Node::Number(seconds) => Some(*seconds).filter(|seconds| *seconds >= 0.0),
        Node::Text(text) => whole_span(text).map(|(start, _)| start),
        _ => None,
    }
}

/// A value that is a moment, or a start and an end.
fn span(node: &Node) -> Option<(f64, Option<f64>)> {
    match node {
        Node::Text(text) => whole_span(text),
        Node::List { items, closed: true } => match &items[..] {
            [start, end] => Some((moment(start)?, Some(moment(end)?))),
            [one] => span(one),
            _ => None,
        },
        Node::Object(_) => Some((moment(node.get(&STARTS)?)?, node.get(&ENDS).and_then(moment))),
        _ => moment(node).map(|start| (start, None)),
    }
}

/// A text that is one time or two and nothing else. A number alone is seconds.
fn whole_span(text: &str) -> Option<(f64, Option<f64>)> {
    let text = text.trim();
    // Two times are never longer than this; a longer text is prose.
    if text.len() > 64 {
        return None;
    }
    if let Some(seconds) = number(text).filter(|seconds| *seconds >= 0.0) {
        return Some((seconds, None));
    }
    let times = times(text);
    let (first, last) = (times.first()?, times.last()?);
    let whole = |part: &str| part.chars().all(|c| !c.is_alphanumeric());
    match &times[..] {
        [_] if whole(&text[..first.start]) && whole(&text[first.end..]) => Some((first.seconds, None)),
        [_, _] if whole(&text[..first.start]) && whole(&text[last.end..]) && joins(&text[first.end..last.start]) => {
            Some((first.seconds, Some(last.seconds)))
        }
        _ => None,
    }
}

/// A time in a text.
#[derive(Debug, Clone, Copy)]
struct Time {
    seconds: f64,
    start: usize,
    end: usize,
    /// Whether it is a number without a colon or a unit. Such a number is a time only next to one that has them.
    bare: bool,
}

/// Everything in a text that may be a time.
fn times(text: &str) -> Vec<Time> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() && (bytes[at].is_ascii_digit() || b":.,".contains(&bytes[at])) {
            at += 1;
        }
        let written = text[start..at].trim_end_matches([':', '.', ',']);
        let mut end = start + written.len();
        // A number that follows a letter is part of a word or a version. Chinese and Japanese have no spaces between words.
        let before = text[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphabetic() && c < '\u{2E80}' || c == '_') {
            continue;
        }
        let (seconds, colon) = match clock(written) {
            Some(seconds) => (seconds, true),
            None => match number(written) {
                Some(seconds) => (seconds, false),
                None => continue,
            },
        };
        let mut seconds = seconds;
        let mut unit = None;
        if !colon && let Some((worded, length)) = words(&text[start..], written.len()) {
            (seconds, unit) = (worded, Some(()));
            end = start + length;
            at = at.max(end);
        } else if let Some(length) = unit_of(SECONDS, &text[end..]).filter(|length| ends(&text[end + length..])) {
            unit = Some(());
            end += length;
            at = at.max(end);
        }
        found.push(Time { seconds, start, end, bare: !colon && unit.is_none() });
    }
    found
}

const HOURS: &[&str] = &["hours", "hour", "hrs", "hr", "h", "小时"];
const MINUTES: &[&str] = &["minutes", "minute", "mins", "min", "m", "分钟", "分"];
const SECONDS: &[&str] = &["seconds", "second", "secs", "sec", "s", "秒"];

/// How long the unit is that a text begins with, after spaces.
fn unit_of(names: &[&str], text: &str) -> Option<usize> {
    let rest = text.trim_start_matches(' ');
    let unit = names.iter().find(|unit| {
        rest.strip_prefix(**unit).is_some_and(|after| !after.starts_with(char::is_alphabetic) || !unit.is_ascii())
    })?;
    Some(text.len() - rest.len() + unit.len())
}

/// Whether a unit may end before this text.
fn ends(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// Seconds and length of a time with hours or minutes in words, `5 minutes 30 seconds`, `1h02m05s` or `2分30秒`, that a text begins with.
/// `digits` is the length of its first number. A lone `m` could be metres, so it counts only beside another unit.
fn words(text: &str, digits: usize) -> Option<(f64, usize)> {
    let (mut seconds, mut length, mut units) = (0.0, 0, 0);
    let mut digits = digits;
    let mut bare_minute = false;
    for (names, factor) in [(HOURS, 3600.0), (MINUTES, 60.0), (SECONDS, 1.0)] {
        let start = match length {
            0 => 0,
            _ => {
                // The next number, after spaces, a comma or "and".
                let rest = text[length..].trim_start_matches([' ', ',']);
                let rest = rest.strip_prefix("and ").unwrap_or(rest);
                digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
                text.len() - rest.len()
            }
        };
        let end = start + digits;
        let Some(value) = number(&text[start..end]).filter(|_| digits > 0) else { break };
        let Some(unit) = unit_of(names, &text[end..]) else { continue };
        bare_minute = factor == 60.0 && text[end..end + unit].trim() == "m";
        seconds += value * factor;
        length = end + unit;
        units += 1;
        if factor == 1.0 && units == 1 {
            return None;
        }
    }
    (units > 1 || units == 1 && !bare_minute).then_some((seconds, length)).filter(|_| ends(&text[length..]))
}

/// Seconds of `mm:ss` or `hh:mm:ss`, with fractions after a point or, as in subtitles, a comma.
fn clock(text: &str) -> Option<f64> {
    let (whole, fraction) = text.split_once(['.', ',']).unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) || fraction.len() > 9 {
        return None;
    }
    let parts: Vec<&str> = whole.split(':').collect();
    let fits = |part: &&str| !part.is_empty() && part.len() <= 4 && part.bytes().all(|byte| byte.is_ascii_digit());
    if !(2..=3).contains(&parts.len()) || !parts.iter().all(fits) || parts[1..].iter().any(|part| part.len() != 2) {
        return None;
    }
    let seconds = parts.iter().filter_map(|part| part.parse::<f64>().ok()).fold(0.0, |all, part| 60.0 * all + part);
    Some(seconds + number(&format!("0.{fraction}0")).unwrap_or(0.0))
}

/// Whether a text is something that stands between the two ends of a span, such as `-` or `until`.
fn joins(between: &str) -> bool {
    let word = between.trim_matches(|c: char| c.is_whitespace() || "<>[]()\"'*`".contains(c));
    let word = word.trim_start_matches("at ").to_ascii_lowercase();
    matches!(
        word.as_str(),
        "-" | "--"
            | "–"
            | "—"
            | "~"
            | "～"
            | "→"
            | ","
            | "to"
            | "until"
            | "till"
            | "and"
            | "through"
            | "to the"
            | "到"
            | "至"
    )
}

/// The events of prose. The label of a time is what follows it on its line, up to the next time. If nothing follows, it is what stands
/// before the time with a colon.
fn written(text: &str) -> Vec<Event> {
    let mut found = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let times = times(line);
        let mut spans: Vec<(Time, Option<Time>)> = Vec::new();
        let mut rest = times.iter().peekable();
        while let Some(&first) = rest.next() {
            let second = rest.peek().filter(|next| {
                let between = &line[first.end..next.start];
                // "and" joins two moments where "between" or "from" stands before them.
                let and = between.trim().eq_ignore_ascii_case("and");
                let asked = || ends_with_word(line[..first.start].trim_end(), "between");
                joins(between) && !(first.bare && next.bare) && (!and || asked())
            });
            match second {
                Some(&&second) => {
                    rest.next();
                    spans.push((first, Some(second)));
                }
                None if !first.bare => spans.push((first, None)),
                None => {}
            }
        }
        for (index, (first, second)) in spans.iter().enumerate() {
            let end = second.map_or(first.end, |second| second.end);
            let next = spans.get(index + 1).map_or(line.len(), |(next, _)| next.start);
            let after = trimmed(&line[end..next]);
            let before = line[..first.start].trim_end_matches(|c: char| c.is_whitespace() || "<[(*`\"'".contains(c));
            let label = match before.strip_suffix(':') {
                Some(before) if index == 0 && !after.contains(char::is_alphanumeric) => trimmed(before),
                _ => after,
            };
            let label = Some(label).filter(|label| label.contains(char::is_alphanumeric)).map(str::to_owned);
            // In subtitles, the words stand on the lines after the times.
            let alone = spans.len() == 1 && second.is_some() && !line[..first.start].contains(char::is_alphanumeric);
            let mut below = || {
                let mut words = Vec::new();
                while let Some(next) = lines.next_if(|next| !next.trim().is_empty() && self::times(next).is_empty()) {
                    words.push(next.trim());
                }
                Some(words.join(" ")).filter(|words| !words.is_empty())
            };
            let label = if alone && label.is_none() { below() } else { label };
            found.push(Event::new((first.seconds, second.map(|second| second.seconds)), label));
        }
    }
    found
}

/// A label without the punctuation and words that join it to the times around it.
fn trimmed(text: &str) -> &str {
    let loose = |c: char| c.is_whitespace() || "<>[]()*`\"'-–—:,;|•#".contains(c);
    let mut text = text.trim_start_matches(|c: char| loose(c) || c == '.').trim_end_matches(loose);
    // Words that belong to the next time, as in "… From 2.0s to".
    while let Some(word) = ["from", "at", "between", "and"].iter().find(|word| ends_with_word(text, word)) {
        text = text[..text.len() - word.len()].trim_end_matches(loose);
    }
    text
}

/// Whether a text ends with this word, in upper or lower case.
fn ends_with_word(text: &str, word: &str) -> bool {
    let (head, tail) = match text.len().checked_sub(word.len()) {
        Some(at) if text.is_char_boundary(at) => text.split_at(at),
        _ => return false,
    };
    tail.eq_ignore_ascii_case(word) && !head.ends_with(char::is_alphanumeric)
}
