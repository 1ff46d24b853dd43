use super::translate;

/// What V8 says (tests/make_regexp.mjs). A pattern without the flag u may be narrower here: it is about units of UTF-16.
#[test]
fn matches_what_javascript_matches() {
    let file: serde_json::Value = serde_json::from_str(include_str!("../../tests/regexp.json")).unwrap();
    let texts: Vec<&str> = file["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let mut wrong = Vec::new();
    for row in file["table"].as_array().unwrap() {
        let (source, flags) = (row["source"].as_str().unwrap(), row["flags"].as_str().unwrap());
        let expected: Vec<usize> =
            row["matches"].as_array().unwrap().iter().map(|i| i.as_u64().unwrap() as usize).collect();
        let pattern = match translate(source, flags) {
            Ok(pattern) => pattern.unwrap_or_default(),
            Err(_) if expected.is_empty() => continue,
            Err(error) => {
                wrong.push(format!("/{source}/{flags}: {error}"));
                continue;
            }
        };
        let ours = regex::Regex::new(&format!("^(?:{pattern})$")).unwrap();
        for (index, text) in texts.iter().enumerate() {
            let (theirs, ours) = (expected.contains(&index), ours.is_match(text));
            let units = !flags.contains(['u', 'v']) && text.chars().any(|c| u32::from(c) > 0xffff);
            if ours != theirs && (ours || !units) {
                wrong.push(format!("/{source}/{flags} on {text:?}: {theirs} there, {ours} here ({pattern})"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_refused_says_why() {
    let around = [
        r"(?=a)b",
        r"a(?!b)",
        r"(?<=a)b",
        r"(?<!a)b",
        r"\bword\b",
        r"a\B",
        r"(a)\1",
        r"(?<n>a)\k<n>",
        "a^b",
        "a$b",
        "(a$)+b",
        "a(^b)",
    ];
    for source in around {
        let error = translate(source, "").unwrap_err();
        assert!(error.expected.contains("front to back"), "{source}: {error}");
    }
    for (source, flags) in [
        ("(", ""),
        (")", ""),
        ("[a", ""),
        ("a**", ""),
        ("*", ""),
        ("a{2,1}", ""),
        ("[b-a]", ""),
        ("\\", ""),
        ("a{99999}", ""),
        ("a", "x"),
        ("(?z:a)", ""),
        ("(?<n", ""),
        ("\\u{110000}", "u"),
        ("\\p{Nothing}", "u"),
        ("\\p", "u"),
        ("\\q", "u"),
        ("{", "u"),
        ("]", "u"),
        ("[\\w-z]", "u"),
        ("[]", ""),
        ("[a--b]", "v"),
        ("[[a]]", "v"),
        ("[\\q{ab}]", "v"),
        ("😀+", ""),
        ("[😀]", ""),
        ("(?", ""),
        ("\\x1", "u"),
        ("[^]+(", ""),
    ] {
        let error = translate(source, flags).unwrap_err();
        assert_eq!(error.what, "regular expression", "{source}");
    }
    assert!(translate(&"(".repeat(5000), "").is_err() && translate(&"a".repeat(20_000), "").is_err());
    assert!(translate(&format!("{}a{}", "(?:".repeat(99), ")".repeat(99)), "").is_ok());
}

/// Nothing that is cut anywhere, or changed anywhere, makes it panic.
#[test]
fn any_text_at_all() {
    let source = r"^(?<a>[^\]\w-]{2,3}|\p{L}+?)\u{1F600}(?i-s:\x41\u0041)*[a-z&&\d]$";
    let mut seed = 1u64;
    for _ in 0..1000 {
        let mut text: Vec<char> = source.chars().collect();
        for _ in 0..3 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (seed >> 33) as usize % text.len();
            match (seed >> 20) % 4 {
                0 => text.truncate(at.max(1)),
                1 => drop(text.remove(at)),
                2 => text[at] = *['(', '[', '{', '\\', '-', '😀', '|', '^'].get((seed >> 24) as usize % 8).unwrap(),
                _ => text.insert(at, *[')', ']', '}', 'u', 'p', '+', ',', '1'].get((seed >> 24) as usize % 8).unwrap()),
            }
            if text.is_empty() {
                break;
            }
        }
        let text: String = text.into_iter().collect();
        for flags in ["", "u", "iv", "ims"] {
            if let Ok(Some(pattern)) = translate(&text, flags) {
                assert!(regex_syntax::parse(&pattern).is_ok(), "{text} {pattern}");
            }
        }
    }
}
