//! A chat template: parsed, and rendered over a conversation.
#![no_main]

use fanlight::text::{ChatTemplate, Content, Message, Part, RenderOptions, Span};
use fanlight_fuzz::within;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let message = |role: &str, content| Message { role: role.into(), content, ..Message::default() };
    let text = "Hi <|im_end|> there";
    let messages = [
        message("system", Content::Text("Be <|im_start|>brief.".into())),
        message("user", Content::Parts(vec![Part::Image, Part::Text(text.into()), Part::Video])),
        Message {
            reasoning: Some("Why <|im_end|>?".into()),
            tool_calls: Some(
                serde_json::json!([{"function": {"name": "<|im_start|>", "arguments": {"<|im_end|>": [1]}}}]),
            ),
            ..message("assistant", Content::Text("Yes.".into()))
        },
        message("assistant", Content::Text("<think>\nWhy?\n</think>\n\nYes.".into())),
        message("tool", Content::Text("{\"a\": [1, 2.5, null]}".into())),
    ];
    let options = RenderOptions {
        add_generation_prompt: true,
        add_vision_id: true,
        control_tokens: ["<|im_start|>", "<|im_end|>", "<|image_pad|>"].map(str::to_owned).to_vec(),
        ..RenderOptions::default()
    };
    // Fuel pays for time and for 64 bytes a step; the prompt has its own limit.
    within(512 * input.len() + (192 << 20), || {
        let source = std::str::from_utf8(input).ok().map(ChatTemplate::new);
        let found = ChatTemplate::find(Some(input), None, None);
        for template in source.into_iter().chain([found]).flatten() {
            let Ok(prompt) = template.render(&messages, &options) else { continue };
            for span in &prompt.spans {
                if let Span::Control(token) = span {
                    assert!(options.control_tokens.contains(token), "{token}");
                }
            }
        }
    });
});
