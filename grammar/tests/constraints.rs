//! Constraints walked at random, as a model without any sense would: whatever they accept is what was asked for.

use fanlight_grammar::{Constraint, Grammar, Kind, Spec, Vocabulary};
use serde_json::{Value, json};

/// All bytes, pieces that JSON and prose are made of, and the control tokens of a chat model.
fn vocabulary() -> (Vocabulary, Vec<Vec<u8>>, u32) {
    let mut words: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
    for piece in [
        "{\"", "\":", "\",", "\"}", "},", " \"", "\", \"", "\": \"", "true", "false", "null", "name", "age", " the",
        "ing", "tion", "\n", "\n  ", "  ", "10", "20", "0.", "é", "中", "[]", "{}", "[\"", "\"]", "ab", "abc", "</",
        "tool", "_call", "😀", "\u{fe0f}", "\\u00", "\\n", "e+", "-1", "]}", "}}", "red", "green",
    ] {
        words.push(piece.as_bytes().to_vec());
    }
    words.push(vec![0xe4, 0xb8]);
    words.push(vec![0xff, 0xfe]);
    words.push(Vec::new());
    words.push(b"a".repeat(700));
    let mut vocabulary = Vocabulary::default();
    words.iter().for_each(|word| vocabulary.push(word, Kind::Text));
    for control in ["<|im_end|>", "<tool_call>", "</tool_call>", "<think>"] {
        vocabulary.push(control.as_bytes(), Kind::Control);
        words.push(control.as_bytes().to_vec());
    }
    let end = words.len() as u32 - 4;
    (vocabulary, words, end)
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// Draws tokens until the end, or until so many have come: then `None`. Checks what every state promises.
fn walk(constraint: &mut Constraint, words: &[Vec<u8>], end: u32, random: &mut Random, most: usize) -> Option<String> {
    let mut text = Vec::new();
    for _ in 0..most {
        if constraint.complete() {
            assert!(constraint.accepts().unwrap());
            return Some(String::from_utf8(text).unwrap());
        }
        let mask = constraint.mask().unwrap().to_vec();
        let allowed: Vec<u32> =
            (0..words.len() as u32).filter(|&id| mask[id as usize / 32] >> (id % 32) & 1 == 1).collect();
        assert!(!allowed.is_empty());
        assert_eq!(allowed.contains(&end), constraint.accepts().unwrap());
        // The cheap question has the answer of the dear one.
        for _ in 0..8 {
            let id = random.below(words.len()) as u32;
            assert_eq!(constraint.allows(id).unwrap(), allowed.contains(&id), "{:?}", words[id as usize]);
        }
        // An end is drawn more often than a token, or texts would be long.
        let id = match allowed.contains(&end) && random.below(4) == 0 {
            true => end,
            false => allowed[random.below(allowed.len())],
        };
        if id == end {
            return Some(String::from_utf8(text).unwrap());
        }
        text.extend(&words[id as usize]);
        constraint.commit(id).unwrap();
    }
    None
}

fn grammar() -> (Grammar, Vec<Vec<u8>>, u32) {
    let (vocabulary, words, end) = vocabulary();
    (Grammar::new(&vocabulary, &[end]).unwrap(), words, end)
}

#[test]
fn json_is_valid_at_every_stop() {
    let (grammar, words, end) = grammar();
    let schemas = [
        json!({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 120}}, "required": ["name", "age"], "additionalProperties": false}),
        json!({"type": "array", "items": {"enum": ["red", "green", 3, null, {"a": [1]}]}, "minItems": 1, "maxItems": 3}),
        json!({"type": "object", "properties": {"box": {"type": "array", "prefixItems": [{"type": "number"}, {"type": "number"}], "items": false, "minItems": 2}, "tag": {"const": "x\"y"}}, "required": ["box"], "additionalProperties": {"type": "boolean"}}),
        json!({"$defs": {"tree": {"type": "object", "properties": {"value": {"type": "number"}, "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 2}}, "required": ["value"], "additionalProperties": false}}, "$ref": "#/$defs/tree"}),
        json!({"anyOf": [{"type": "string", "pattern": "^[a-c]{2,4}$"}, {"type": "null"}, {"type": "string", "format": "date"}]}),
        json!({"type": "string", "minLength": 2, "maxLength": 5}),
        json!({"type": "number", "exclusiveMinimum": -1.5, "maximum": 2.25}),
        json!({"type": "object", "patternProperties": {"^n_[a-z]$": {"type": "integer"}}, "additionalProperties": false, "maxProperties": 2}),
        json!({}),
    ];
    for schema in schemas {
        let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        let (mut ended, mut whole) = (0, std::collections::HashSet::new());
        for seed in 0..60 {
            let mut constraint = grammar.constraint(&Spec::JsonSchema(schema.clone())).unwrap();
            if let Some(text) = walk(&mut constraint, &words, end, &mut Random(seed), 400) {
                let value: Value = match serde_json::from_str(&text) {
                    // It is JSON all the same; JavaScript has infinity for it.
                    Err(error) if error.to_string().contains("number out of range") => continue,
                    other => other.unwrap_or_else(|e| panic!("{schema}: {e} in {text}")),
                };
                assert!(validator.is_valid(&value), "{schema}: {text}");
                ended += 1;
                whole.insert(text);
            }
        }
        assert!(ended >= 10 && whole.len() > 3, "{schema}: {ended} of 60 ended, {whole:?}");
    }
}

#[test]
fn texts_match_their_expression() {
    let (grammar, words, end) = grammar();
    // The second is what the regex crate has for the first.
    for (source, flags, oracle) in [
        (r"\d{3}-\d{4}", "", r"[0-9]{3}-[0-9]{4}"),
        (r"(yes|no|maybe)", "", r"(yes|no|maybe)"),
        (r"a*", "", r"a*"),
        (r"(?:)", "", r""),
        (r"[^\s<>]{1,6}", "u", r"[^\s\u{FEFF}<>]{1,6}"),
        (r"^#[0-9a-f]{6}$", "i", r"#[0-9a-fA-F]{6}"),
        (r"中.é", "", r"中.é"),
        (r"(a|ab)(c|bcd)(d*)", "", r"(a|ab)(c|bcd)(d*)"),
        (r"/\\/", "", r"/\\/"),
    ] {
        let oracle = regex::Regex::new(&format!("^(?:{oracle})$")).unwrap();
        let mut ended = 0;
        for seed in 0..40 {
            let mut constraint = grammar.constraint(&Spec::regex(source, flags)).unwrap();
            if let Some(text) = walk(&mut constraint, &words, end, &mut Random(seed), 60) {
                assert!(oracle.is_match(&text), "/{source}/{flags}: {text:?}");
                ended += 1;
            }
        }
        assert!(ended >= 10, "/{source}/{flags}: {ended} ended");
    }
}

/// Control tokens come where a grammar names them and nowhere else.
#[test]
fn grammars_with_control_tokens_and_parts() {
    let (grammar, words, end) = grammar();
    let spec = Spec::from_json(&json!({
        "lark": "start: call (\"\\n\" call)*\ncall: <tool_call> \"\\n\" \"{\\\"name\\\": \\\"f\\\", \\\"arguments\\\": \" @f \"}\" \"\\n\" </tool_call>\n",
        "parts": {"f": {"jsonSchema": {"type": "object", "properties": {"x": {"type": "boolean"}}, "required": ["x"], "additionalProperties": false}}},
    }))
    .unwrap();
    let mut ended = 0;
    for seed in 0..20 {
        let mut constraint = grammar.constraint(&spec).unwrap();
        if let Some(text) = walk(&mut constraint, &words, end, &mut Random(seed), 200) {
            for call in text.split("</tool_call>").filter(|call| !call.is_empty()) {
                let json = call.trim_start_matches('\n').strip_prefix("<tool_call>\n").unwrap().trim();
                let call: Value = serde_json::from_str(json).unwrap();
                assert!(call["arguments"]["x"].is_boolean() && call["name"] == "f");
            }
            ended += 1;
        }
    }
    assert!(ended >= 10, "{ended}");
    // A string may spell a control token, in tokens that are text.
    let mut text = grammar.constraint(&Spec::regex("<tool_call>", "")).unwrap();
    let tool_call = words.iter().position(|word| word == b"<tool_call>").unwrap() as u32;
    assert!(!text.allows(tool_call).unwrap() && text.allows(u32::from(b'<')).unwrap());
    // Bytes that no text has are no marker of control tokens.
    let mut call = grammar.constraint(&Spec::lark("start: <tool_call>")).unwrap();
    assert!(call.allows(tool_call).unwrap() && !call.allows(0xff).unwrap());
    let mask = call.mask().unwrap();
    assert_eq!(mask.iter().map(|word| word.count_ones()).sum::<u32>(), 1);
}

#[test]
fn odd_vocabularies() {
    let spec = Spec::JsonSchema(json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}));
    let make = |words: &[(&[u8], Kind)], stop: &[u32]| {
        let mut vocabulary = Vocabulary::default();
        words.iter().for_each(|(bytes, kind)| vocabulary.push(bytes, *kind));
        Grammar::new(&vocabulary, stop).unwrap()
    };
    let text = Kind::Text;
    // None at all, one, ends that are no ids, the same bytes twice, nothing but control tokens.
    for (words, stop) in [
        (&[][..], &[][..]),
        (&[(&b"{"[..], text)], &[0]),
        (&[(b"{", text), (b"{", text), (b"}", text)], &[2, 2, 9999, u32::MAX]),
        (&[(b"<a>", Kind::Control), (b"<a>", Kind::Control), (b"\xff", text), (b"\xff", Kind::Control)], &[1]),
        (&[(&b""[..], text); 70], &[3]),
    ] {
        let grammar = make(words, stop);
        let mut constraint = grammar.constraint(&spec).unwrap();
        for id in [0, 1, 31, 32, u32::MAX] {
            let _ = constraint.allows(id);
        }
        match constraint.mask() {
            Ok(mask) => assert_eq!(mask.len(), words.len().div_ceil(32)),
            Err(error) => assert!(error.to_string().contains("tokens"), "{error}"),
        }
        assert!(constraint.commit(u32::MAX).is_err());
        assert!(grammar.constraint(&Spec::lark("start: <nothing>")).is_err());
    }
    // A vocabulary that has no byte for what must come next: an error, not an endless answer.
    let grammar = make(&[(b"{", text), (b"\"a", text), (b"<end>", Kind::Control)], &[2]);
    let mut constraint = grammar.constraint(&spec).unwrap();
    constraint.commit(0).unwrap();
    constraint.commit(1).unwrap();
    let bits: u32 = constraint.mask().map_or(0, |mask| mask.iter().sum());
    assert_eq!(bits, 0);
    // No end among the ids: complete all the same.
    let grammar = make(&[(b"a", text)], &[]);
    let mut constraint = grammar.constraint(&Spec::regex("aa", "")).unwrap();
    constraint.commit(0).unwrap();
    assert!(!constraint.complete());
    constraint.commit(0).unwrap();
    assert!(constraint.complete() && constraint.accepts().unwrap());
}

#[test]
fn hostile_specs_are_errors() {
    let (grammar, ..) = grammar();
    let nested = |depth: usize| {
        (0..depth).fold(json!({"type": "null"}), |inner, _| json!({"type": "array", "items": inner, "minItems": 1}))
    };
    let wide: Value = (0..30_000)
        .map(|i| (format!("p{i}"), json!({"type": "string", "pattern": format!("^x{i}[a-z]{{1,400}}$")})))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let schemas = [
        json!([]),
        json!("string"),
        json!(false),
        json!({"type": "nothing"}),
        json!({"type": "object", "properties": 3}),
        json!({"$ref": "https://example.org/schema"}),
        json!({"$ref": "#/$defs/missing"}),
        json!({"not": {"type": "string"}}),
        json!({"type": "string", "pattern": "(?=a)b"}),
        json!({"type": "string", "minLength": 5, "maxLength": 2}),
        json!({"oneOf": [{"type": "object", "properties": {"a": {"type": "number"}}}, {"type": "object", "properties": {"b": {"type": "number"}}}]}),
        nested(150),
        json!({"type": "object", "properties": wide}),
    ];
    for schema in schemas {
        let Err(error) = grammar.constraint(&Spec::JsonSchema(schema.clone())) else {
            panic!("{} is taken", schema.to_string().chars().take(200).collect::<String>());
        };
        assert!(error.to_string().len() < 700 && !error.found.contains('\n'), "{error}");
    }
    assert!(grammar.constraint(&Spec::JsonSchema(nested(40))).is_ok());
    // A definition that is itself and nothing else has no value; making it must end.
    let circle = json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"});
    let _ = grammar.constraint(&Spec::JsonSchema(circle)).map(|mut constraint| constraint.mask().map(<[u32]>::to_vec));
    let chain: String = (0..6000).map(|i| format!("A{i}: A{}\n", i + 1)).collect();
    for lark in [
        "".to_owned(),
        "start".into(),
        "start: other".into(),
        format!("start: {}\"a\"{}", "(".repeat(5000), ")".repeat(5000)),
        format!("start: A\nA: {}\"a\"", "~".repeat(5000)),
        format!("start: A0\n{}", chain.chars().take(60_000).collect::<String>()),
        "start: /(?=a)/".into(),
        "start: @missing".into(),
        "start: <[999999]>".into(),
        "start: \"a".repeat(30_000),
    ] {
        assert!(grammar.constraint(&Spec::lark(&lark)).is_err(), "{}", lark.chars().take(80).collect::<String>());
    }
    // Rules without a text: nothing can come.
    assert!(grammar.constraint(&Spec::lark("start: start")).is_ok_and(|mut constraint| constraint.mask().is_err()));
    for value in [json!(null), json!({}), json!({"regex": 3}), json!({"lark": ["start"]}), json!({"schema": {}})] {
        assert!(Spec::from_json(&value).is_err(), "{value}");
    }
}

/// White space in JSON is bounded: a model that only writes white space comes to an end.
#[test]
fn white_space_ends() {
    let (grammar, words, end) = grammar();
    let spec = Spec::JsonSchema(
        json!({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": false}),
    );
    let mut constraint = grammar.constraint(&spec).unwrap();
    let mut text = Vec::new();
    while !constraint.complete() {
        let spaces: Vec<u32> = [b"\n".to_vec(), b"  ".to_vec(), b" ".to_vec()]
            .iter()
            .filter_map(|word| words.iter().position(|w| w == word).map(|id| id as u32))
            .collect();
        let space = spaces.into_iter().find(|&id| constraint.allows(id).unwrap());
        let mask = constraint.mask().unwrap().to_vec();
        let first = (0..words.len() as u32).find(|&id| mask[id as usize / 32] >> (id % 32) & 1 == 1).unwrap();
        let id = space.unwrap_or(first);
        if id == end {
            break;
        }
        text.extend(&words[id as usize]);
        constraint.commit(id).unwrap();
        assert!(text.len() < 600, "{}", String::from_utf8_lossy(&text));
    }
    let value: Value = serde_json::from_slice(&text).unwrap();
    assert!(value["a"].is_boolean());
}

/// What Zod 4 writes (`z.toJSONSchema`) beyond what llguidance knows, and that it still means what it says: texts that the schema has
/// to let through or to keep out (checked with Python's jsonschema).
#[test]
fn schemas_of_zod() {
    let (grammar, words, _) = grammar();
    let ends = |schema: &Value, text: &str| {
        let mut constraint =
            grammar.constraint(&Spec::JsonSchema(schema.clone())).unwrap_or_else(|e| panic!("{schema}: {e}"));
        let ids = text.bytes().map(|byte| words.iter().position(|word| word[..] == [byte]).unwrap() as u32);
        for id in ids {
            if !constraint.allows(id).unwrap() || constraint.commit(id).is_err() {
                return false;
            }
        }
        constraint.accepts().unwrap()
    };
    let string = |format: &str, pattern: &str| json!({"type": "string", "format": format, "pattern": pattern});
    let emoji = r"^(?=[\s\S]*[\p{Extended_Pictographic}\p{Regional_Indicator}\u20E3])[\p{Extended_Pictographic}\p{Emoji_Component}]+$";
    let duration = r"^P(?:(\d+W)|(?!.*W)(?=\d|T\d)(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+([.,]\d+)?S)?)?)$";
    let names =
        |rule: Value| json!({"type": "object", "propertyNames": rule, "additionalProperties": {"type": "number"}});
    let float32 = json!({"type": "number", "minimum": -3.4028234663852886e38, "maximum": 3.4028234663852886e38});
    for (schema, good, bad) in [
        (names(json!({"type": "string"})), r#"{"x": 1}"#, r#"{"x": "1"}"#),
        (names(json!(true)), r#"{"x": 1}"#, r#"{"x": "1"}"#),
        (names(json!({"type": "string", "enum": ["a", "b"]})), r#"{"a": 1}"#, r#"{"c": 1}"#),
        (names(json!({"pattern": "^[ab]+$"})), r#"{"ab": 1}"#, r#"{"ac": 1}"#),
        (string("ulid", "^[0-7]{3}$"), r#""123""#, r#""128""#),
        (string("includes", "x"), r#""axb""#, r#""ab""#),
        (string("emoji", emoji), "\"😀\"", "\"1\""),
        (string("duration", duration), r#""P3D""#, r#""3D""#),
        (json!({"type": "string", "format": "made-up"}), r#""a""#, "1"),
        (json!({"type": "string", "format": "email"}), r#""a@b.de""#, r#""a""#),
        (float32, "-1.5", r#""1""#),
        (json!({"$defs": {"m": names(json!({}))}, "anyOf": [{"$ref": "#/$defs/m"}]}), r#"{"x": 1}"#, r#"{"x": []}"#),
    ] {
        assert!(ends(&schema, good), "{schema} {good}");
        assert!(!ends(&schema, bad), "{schema} {bad}");
    }
    // A property of the name of a keyword is no keyword.
    let odd = json!({"type": "object", "properties": {"format": {"const": 1}, "pattern": {"const": 2}}, "required": ["format", "pattern"]});
    assert!(ends(&odd, r#"{"format": 1, "pattern": 2}"#));
    let many = |n: usize| {
        let all: serde_json::Map<String, Value> = (0..n).map(|i| (format!("p{i}"), json!({}))).collect();
        grammar.constraint(&Spec::JsonSchema(json!({"type": "object", "properties": all}))).map(drop)
    };
    assert!(many(5000).unwrap_err().to_string().contains("1000 properties"));
}
