//! Answers as the families write them. Those of Qwen's own cookbooks and cards are marked so; numbers are worked out by hand.

use super::*;
use crate::chat::ImageInfo;

/// 100×50 for the model.
fn image() -> ImageInfo {
    ImageInfo { original: [200, 100], resized: [100, 50], tokens: 1 }
}

fn pixels(answer: &str) -> Vec<Located> {
    locate(answer, Convention::ResizedPixels, &[image()])
}

/// In thousandths of 2000×1000, so that numbers become twice and once what they were.
fn thousand(answer: &str) -> Vec<Located> {
    let image = ImageInfo { original: [2000, 1000], resized: [1, 1], tokens: 1 };
    locate(answer, Convention::ThousandJson, &[image])
}

fn tokens(answer: &str) -> Vec<Located> {
    let image = ImageInfo { original: [2000, 1000], resized: [1, 1], tokens: 1 };
    locate(answer, Convention::ThousandTokens, &[image])
}

fn at(shape: Shape, label: &str) -> Located {
    Located { shape, label: Some(label.to_owned()).filter(|label| !label.is_empty()), image: 0 }
}

fn a_box(corners: [f64; 4], label: &str) -> Located {
    at(Shape::Box(corners), label)
}

fn point(x: f64, y: f64, label: &str) -> Located {
    at(Shape::Point([x, y]), label)
}

#[test]
fn a_convention_for_every_family_that_sees() {
    let conventions =
        ["qwen", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen2"].map(Convention::of);
    use Convention::{ResizedPixels, ThousandJson, ThousandTokens};
    let expected = [ThousandTokens, ThousandTokens, ResizedPixels, ThousandJson, ThousandJson, ThousandJson].map(Some);
    assert_eq!(conventions[..6], expected);
    assert_eq!(conventions[6], None);
    for family in crate::model::registry::FAMILIES {
        assert_eq!(Convention::of(family.model_type).is_some(), family.vision.is_some(), "{}", family.model_type);
    }
}

#[test]
fn pixels_of_the_resized_picture() {
    let answer = "Here:\n```json\n[\n{\"bbox_2d\": [10, 20, 30, 40], \"label\": \"Save\"},\n\
                  {\"point_2d\": [5, 6], \"label\": \"x\"},\n{\"bbox_2d\": [1, 2, 3";
    assert_eq!(pixels(answer), [a_box([20.0, 40.0, 60.0, 80.0], "Save"), point(10.0, 12.0, "x")]);
    assert_eq!(pixels(r#"[{"bbox_2d": [1, 2, 3, 4], "text_content": "17,000"}]"#)[0].label.as_deref(), Some("17,000"));
}

#[test]
fn clamped_and_ordered() {
    assert_eq!(pixels(r#"{"bbox_2d": [90, 60, -5, 10]}"#), [a_box([0.0, 20.0, 180.0, 100.0], "")]);
    assert_eq!(thousand(r#"{"point_2d": [1200, -1]}"#), [point(2000.0, 0.0, "")]);
    assert_eq!(thousand(r#"{"bbox_2d": [0, 0, 1000, 1000]}"#), [a_box([0.0, 0.0, 2000.0, 1000.0], "")]);
}

#[test]
fn what_is_no_box_is_left_out() {
    for answer in [
        "",
        "{",
        "{}",
        r#"{"bbox_2d": "1,2"}"#,
        r#"{"bbox_2d": [1, 2, 3]}"#,
        r#"{"bbox_2d": [1, "a", 2, 3]}"#,
        r#"{"bbox_2d": [1, 2, 3, 1e999]}"#,
        r#"{"size": [1, 2], "text": "[see 1, 2, 3, 4]"}"#,
        "f(1, 2) and [1] and (1, 2), (3, 4) in prose",
        "17,000",
    ] {
        assert_eq!(pixels(answer), [], "{answer}");
    }
    assert_eq!(locate(r#"{"bbox_2d": [1, 2, 3, 4]}"#, Convention::ResizedPixels, &[]), [], "no picture, no pixels");
}

/// cookbooks/omni_recognition.ipynb of Qwen3-VL: no `label`, and once a brace too many.
#[test]
fn labels_by_other_names() {
    let answer = "```json\n[\n\t{\"bbox_2d\": [0, 614, 224, 825], \"name_zh\": \"米饭\", \"name_en\": \"Rice\"},\n\
                  \t{\n\t\t\"bbox_2d\": [541, 0, 667, 333],\n\t\t\"names\": {\n\t\t\t\"zh\": \"悲鸣屿行冥\",\n\t\t\t\"en\": \"Gyomei Himejima\"\n\t\t}\n\t},\n\
                  \t{\n\t{\"bbox_2d\": [649, 116, 794, 643],\n\t\t\"names\": {\"zh\": \"伊黑小芭内\"}\n\t},\n\
                  \t{\"bbox_2d\": [762, 34, 999, 555], \"label\": 7}\n]\n```";
    let expected = [
        a_box([0.0, 614.0, 448.0, 825.0], "米饭"),
        a_box([1082.0, 0.0, 1334.0, 333.0], "悲鸣屿行冥"),
        a_box([1298.0, 116.0, 1588.0, 643.0], "伊黑小芭内"),
        a_box([1524.0, 34.0, 1998.0, 555.0], "7"),
    ];
    assert_eq!(thousand(answer), expected);
}

#[test]
fn every_spelling_of_a_box() {
    for written in [
        r#"[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]"#,
        r#"{"label": "cat", "BBox": [1.0, 2.0, 3.0, 4.0]}"#,
        r#"{"label": "cat", "bounding_box": ["1", "2", "3", "4"]}"#,
        r#"{'label': 'cat', 'box': (1, 2, 3, 4),}"#,
        r#"{"label": "cat", "box_2d": {"x1": 1, "y1": 2, "x2": 3, "y2": 4}}"#,
        r#"{"label": "cat", "bbox": {"x": 1, "y": 2, "width": 2, "height": 2}}"#,
        r#"{"label": "cat", "xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}"#,
        r#"{"label": "cat", "bbox_2d": [[1, 2], [3, 4]]}"#,
        r#"{"label": "cat", "bbox_2d": [[1, 2, 3, 4]]}"#,
        r#"{"label": "cat", "bbox_2d": "1 2 3 4"}"#,
        r#"{"label": "cat", "coordinates": [1, 2, 3, 4]}"#,
        r#"{"objects": [{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]}"#,
        r#"{"cat": [1, 2, 3, 4]}"#,
        r#"{"bbox_2d": [1, 2, 3, 4, "label": "cat"}"#,
        r#"{"bbox_2d": [1, 2, 3, 4], "label": "cat"#,
    ] {
        let label = if written.ends_with("\"cat") { "" } else { "cat" };
        assert_eq!(thousand(written), [a_box([2.0, 2.0, 6.0, 4.0], label)], "{written}");
    }
}

#[test]
fn bare_boxes_and_points() {
    let two = [a_box([2.0, 2.0, 6.0, 4.0], ""), a_box([10.0, 6.0, 14.0, 8.0], "")];
    assert_eq!(thousand("[[1, 2, 3, 4], [5, 6, 7, 8]]"), two);
    assert_eq!(thousand("The boxes are [1, 2, 3, 4] and [5, 6, 7, 8], left to right."), two);
    assert_eq!(thousand("[[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 1"), two);
    assert_eq!(thousand("(12, 34)"), [point(24.0, 34.0, "")]);
    assert_eq!(thousand("[12, 34]."), [point(24.0, 34.0, "")]);
    let named = [a_box([2.0, 2.0, 6.0, 4.0], "cat"), a_box([10.0, 6.0, 14.0, 8.0], "dog")];
    assert_eq!(thousand(r#"{"cat": [1, 2, 3, 4], "dog": [[5, 6, 7, 8]]}"#), named);
}

#[test]
fn points_and_polygons() {
    // cookbooks/spatial_understanding.ipynb of Qwen3-VL.
    assert_eq!(
        thousand("```json\n[\n\t{\"point_2d\": [925, 618], \"label\": \"point_1\"}\n]\n```"),
        [point(1850.0, 618.0, "point_1")]
    );
    let many = [point(2.0, 2.0, "nut"), point(6.0, 4.0, "nut")];
    assert_eq!(thousand(r#"{"points": [[1, 2], [3, 4]], "label": "nut"}"#), many);
    assert_eq!(thousand(r#"{"points": [1, 2, 3, 4], "label": "nut"}"#), many);
    assert_eq!(thousand(r#"{"points": [{"x": 1, "y": 2}, {"x": 3, "y": 4}], "label": "nut"}"#), many);
    assert_eq!(thousand(r#"{"label": "nut", "points": [[1, 2], [3, 4], [5"#), many);
    let quad = [at(Shape::Polygon(vec![[2.0, 2.0], [6.0, 2.0], [6.0, 4.0], [2.0, 4.0]]), "sign")];
    for written in [
        r#"{"polygon": [[1, 2], [3, 2], [3, 4], [1, 4]], "text": "sign"}"#,
        r#"{"quad": [1, 2, 3, 2, 3, 4, 1, 4], "text": "sign"}"#,
        r#"{"bbox_2d": [1, 2, 3, 2, 3, 4, 1, 4], "text": "sign"}"#,
        r#"{"coordinates": [(1, 2), (3, 2), (3, 4), (1, 4)], "text": "sign"}"#,
        r#"{"x1": 1, "y1": 2, "x2": 3, "y2": 2, "x3": 3, "y3": 4, "x4": 1, "y4": 4, "text": "sign"}"#,
    ] {
        assert_eq!(thousand(written), quad, "{written}");
    }
    assert_eq!(thousand(r#"{"text": "sign", "polygon": [[1, 2], [3, 2], [3, 4], [1"#), [], "half a polygon");
    // A click of the computer-use tool.
    let call = "<tool_call>\n{\"name\": \"computer_use\", \"arguments\": {\"action\": \"left_click\", \"coordinate\": [120, 45]}}\n</tool_call>";
    assert_eq!(thousand(call), [point(240.0, 45.0, "left_click")]);
}

#[test]
fn points_in_tags() {
    let answer = "<points x1=\"154\" y1=\"104\" x2=\"885\" y2=\"104.5\" alt=\"corners &amp; edges\">corners</points>";
    assert_eq!(thousand(answer), [point(308.0, 104.0, "corners & edges"), point(1770.0, 104.5, "corners & edges")]);
    assert_eq!(pixels("It's a <b: <point x='5' y='6'>the cup</point>"), [point(10.0, 12.0, "the cup")]);
    assert_eq!(thousand("<points x1=\"1\" y1=\"2\" x2=\"3\" alt=\"cut"), [], "its end is missing");
    assert_eq!(thousand("<points x1=\"1\" y1=\"2\" x2=\"3\">a</points>"), [point(2.0, 2.0, "a")]);
}

/// cookbooks/3d_grounding.ipynb of Qwen3-VL.
#[test]
fn boxes_in_space_pass_as_they_are() {
    let answer = "```json\n[\n\t{\"bbox_3d\": [-0.4, -0.26, 2.71, 0.76, 0.96, 0.78, 0.16, 0.13, 0.08], \"label\": \"black chair\"}\n]\n```";
    let chair = [at(Shape::Box3d([-0.4, -0.26, 2.71, 0.76, 0.96, 0.78, 0.16, 0.13, 0.08]), "black chair")];
    assert_eq!(thousand(answer), chair);
    assert_eq!(locate(answer, Convention::ThousandJson, &[]), chair);
}

#[test]
fn control_tokens() {
    // The card of Qwen-VL-Chat.
    assert_eq!(
        tokens("<ref>击掌</ref><box>(536,509),(588,602)</box>"),
        [a_box([1072.0, 509.0, 1176.0, 602.0], "击掌")]
    );
    let cats = [a_box([2.0, 2.0, 6.0, 4.0], "two cats"), a_box([10.0, 6.0, 14.0, 8.0], "two cats")];
    for answer in [
        "<|object_ref_start|>two cats<|object_ref_end|><|box_start|>(1,2),(3,4)<|box_end|><|box_start|>(5,6),(7,8)<|box_end|><|im_end|>",
        "<|object_ref_start|>two cats<|object_ref_end|>: <|box_start|>(1, 2), (3, 4)<|box_end|>, <|box_start|>[5,6,7,8]<|box_end|>",
        "<ref>two cats</ref><box>(1,2),(3,4)</box><box>(5,6),(7,8)",
        "<ref>two cats<box>(1,2),(3,4),(5,6),(7,8)</box>",
        // Without them.
        "two cats(1,2),(3,4)(5,6),(7,8)",
        "- two cats: (1, 2), (3, 4)\n(5,6),(7,8)",
    ] {
        assert_eq!(tokens(answer), cats, "{answer}");
    }
    let quad = [at(Shape::Polygon(vec![[2.0, 2.0], [6.0, 2.0], [6.0, 4.0], [2.0, 4.0]]), "EXIT")];
    assert_eq!(tokens("<ref>EXIT</ref><quad>(1,2),(3,2),(3,4),(1,4)</quad>"), quad);
    assert_eq!(
        tokens("<|object_ref_start|>EXIT<|object_ref_end|><|quad_start|>(1,2),(3,2),(3,4),(1,4)<|quad_end|>"),
        quad
    );
    assert_eq!(tokens("EXIT(1,2),(3,2),(3,4),(1,4)"), quad);
    assert_eq!(tokens("<|box_start|>(1,2)<|box_end|>"), [point(2.0, 2.0, "")]);
    let second = tokens("<ref>a</ref><box>(1,2),(3,4)</box> and <ref>b</ref><box>(5,6),(7,8)</box>");
    assert_eq!(second[1], a_box([10.0, 6.0, 14.0, 8.0], "b"));
}

#[test]
fn control_tokens_that_are_cut_off() {
    for answer in
        ["<ref>a</ref><box>(1,2),(3,4", "<ref>a</ref><box>", "<ref>a", "a(1,2),(3,4", "a (see b) (c,d)", "<box>x</box>"]
    {
        assert_eq!(tokens(answer), [], "{answer}");
    }
    assert_eq!(thousand("a(1,2),(3,4)"), [], "only where a family writes so");
}

#[test]
fn which_picture() {
    let sizes = [[100, 100], [200, 200], [300, 300]].map(|original| ImageInfo { original, resized: [1, 1], tokens: 1 });
    let find = |named: &str| {
        let found = locate(&format!(r#"{{"point_2d": [500, 500]{named}}}"#), Convention::ThousandJson, &sizes);
        let Shape::Point([x, y]) = found[0].shape else { panic!("{found:?}") };
        assert_eq!(x, y);
        (found[0].image, x, found[0].label.clone())
    };
    assert_eq!(find(""), (2, 150.0, None));
    assert_eq!(find(r#", "image": 1"#), (0, 50.0, None));
    assert_eq!(find(r#", "image": "Picture 2", "label": "cat""#), (1, 100.0, Some("cat".into())));
    assert_eq!(find(r#", "image_id": "image_2.png""#), (1, 100.0, None));
    assert_eq!(find(r#", "image_index": 0"#), (0, 50.0, None));
    assert_eq!(find(r#", "image": "photo.jpg""#), (2, 150.0, None));
    assert_eq!(find(r#", "image": 9"#), (2, 150.0, None), "there is none");
}

#[test]
fn as_json() {
    let json = |located: &Located| serde_json::to_string(located).unwrap();
    let [cat, nut] = &thousand(r#"[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}, {"point_2d": [5, 6]}]"#)[..] else {
        panic!()
    };
    assert_eq!(json(cat), r#"{"kind":"box","at":[2.0,2.0,6.0,4.0],"label":"cat","image":0}"#);
    assert_eq!(json(nut), r#"{"kind":"point","at":[10.0,6.0],"image":0}"#);
}

#[test]
fn long_labels_are_not_multiplied() {
    let name = "ä".repeat(10_000);
    let one = thousand(&format!(r#"{{"point_2d": [1, 2], "label": "{name}"}}"#));
    assert_eq!(one[0].label.as_deref(), Some(&name[..]));
    let many = thousand(&format!(r#"{{"points": [[1, 2], [3, 4]], "label": "{name}"}}"#));
    assert_eq!(many[1].label.as_deref(), Some(&name[..256]));
}

/// cookbooks/document_parsing.ipynb of Qwen2.5-VL, shortened; 1014×1532 became 1008×1540.
#[test]
fn a_page() {
    let image = ImageInfo { original: [1014, 1532], resized: [1008, 1540], tokens: 1 };
    let html = r#"```html
<html><body>
<h2 data-bbox="310 94 658 132">Qwen2.5 Technical Report</h2> 
 <p data-bbox="427 154 542 182">Qwen Team</p> 
 <div class="image" data-bbox="262 195 708 272"><img data-bbox="262 195 708 272"/></div> 
 <p data-bbox="99 339 869 565">In this report, we introduce
   Qwen2.5 &amp; more: 3 &lt; 5.</p> 
</body></html>
```"#;
    let blocks = document(html, Convention::ResizedPixels, &image);
    let scaled = |[x1, y1, x2, y2]: [f64; 4]| {
        Some([x1 * 1014.0 / 1008.0, y1 * 1532.0 / 1540.0, x2 * 1014.0 / 1008.0, y2 * 1532.0 / 1540.0])
    };
    let seen: Vec<_> = blocks.iter().map(|b| (b.tag.as_str(), b.class.as_deref(), b.at, b.text.as_str())).collect();
    assert_eq!(
        seen,
        [
            ("h2", None, scaled([310.0, 94.0, 658.0, 132.0]), "Qwen2.5 Technical Report"),
            ("p", None, scaled([427.0, 154.0, 542.0, 182.0]), "Qwen Team"),
            ("div", Some("image"), scaled([262.0, 195.0, 708.0, 272.0]), ""),
            ("p", None, scaled([99.0, 339.0, 869.0, 565.0]), "In this report, we introduce Qwen2.5 & more: 3 < 5."),
        ]
    );
    assert_eq!(blocks[2].html, r#"<img data-bbox="262 195 708 272"/>"#);
    let located = locate(html, Convention::ResizedPixels, &[image]);
    let labels: Vec<_> = located.iter().map(|located| located.label.as_deref().unwrap_or("")).collect();
    assert_eq!(labels, ["h2", "p", "image", "p"]);
    assert_eq!(Some(located[1].shape.clone()), blocks[1].at.map(Shape::Box));
}

fn blocks(html: &str) -> Vec<(String, Option<[f64; 4]>, String)> {
    let image = ImageInfo { original: [1000, 1000], resized: [1, 1], tokens: 1 };
    let blocks = document(html, Convention::ThousandJson, &image).into_iter();
    blocks.map(|block| (block.class.unwrap_or(block.tag), block.at, block.text)).collect()
}

fn block(kind: &str, at: Option<[f64; 4]>, text: &str) -> (String, Option<[f64; 4]>, String) {
    (kind.to_owned(), at, text.to_owned())
}

#[test]
fn lists_tables_formulas_and_captions() {
    let html = r#"<ol data-bbox="0 0 9 9"><li data-bbox="1 1 2 2">one</li><li data-bbox="3 3 4 4">two <b>more</b></li></ol>
        <ul data-bbox="0 10 9 19"><li>red</li><li>green</li></ul>
        <table data-bbox="5 5 6 6"><tr><th data-bbox="5 5 5 5">A</th><th>B</th></tr><tr><td>1</td><td></td><td>2<br/>3</td></tr></table>
        <div class="formula" data-bbox="7,7,8,8"><img data-bbox="7 7 8 8"/><div>x &#60; y &#x3c; z&nbsp;&hellip; &nosuch; AT&T</div></div>
        <div class='image caption' data-bbox="[2, 1, 1, 2]">Figure 1: a cat</div>
        <p data-polygon="1 2 3 2 3 4 1 5">tilted</p>"#;
    let expected = [
        block("li", Some([1.0, 1.0, 2.0, 2.0]), "one"),
        block("li", Some([3.0, 3.0, 4.0, 4.0]), "two more"),
        // Without places of its own, an item is not lost.
        block("li", None, "red"),
        block("li", None, "green"),
        block("table", Some([5.0, 5.0, 6.0, 6.0]), "A\tB\n1\t\t2\n3"),
        block("formula", Some([7.0, 7.0, 8.0, 8.0]), "x < y < z … &nosuch; AT&T"),
        block("image caption", Some([1.0, 1.0, 2.0, 2.0]), "Figure 1: a cat"),
        block("p", Some([1.0, 2.0, 3.0, 5.0]), "tilted"),
    ];
    assert_eq!(blocks(html), expected);
}

#[test]
fn pages_that_are_not_well_formed() {
    let cut = [block("h1", Some([1.0, 2.0, 3.0, 4.0]), "Title"), block("p", Some([5.0, 6.0, 7.0, 8.0]), "half a sen")];
    for end in ["", "</", "</p", "\n```", "<b", "<p data-bbox=\"1 2", "<p data-bbox=\"1 2 3 4\">"] {
        let html = format!("<h1 data-bbox=\"1 2 3 4\">Title</h1><p data-bbox=\"5 6 7 8\">half a sen{end}");
        let mut expected = cut.to_vec();
        if end.ends_with('>') {
            expected.push(block("p", Some([1.0, 2.0, 3.0, 4.0]), ""));
        }
        assert_eq!(blocks(&html), expected, "{end}");
    }
    assert_eq!(
        blocks("<p>no box</p> prose <p data-bbox='1 2 3'>bad box"),
        [block("p", None, "no box"), block("p", None, "bad box")]
    );
    assert_eq!(
        blocks("</p></div><p data-bbox=\"1 2 3 4\">a < b and c > d</p></body>"),
        [block("p", Some([1.0, 2.0, 3.0, 4.0]), "a < b and c > d")]
    );
    assert_eq!(blocks("just prose, 1 < 2"), []);
    assert_eq!(
        blocks("<img data-bbox=\"1 2 3 4\" alt=\"a &quot;cat&quot;\"><!-- <p>not this</p> -->"),
        [block("img", Some([1.0, 2.0, 3.0, 4.0]), "a \"cat\"")]
    );
}

fn event(start: f64, end: impl Into<Option<f64>>, label: &str) -> Event {
    Event { start, end: end.into(), label: Some(label.to_owned()).filter(|label| !label.is_empty()) }
}

#[test]
fn events_in_json() {
    // cookbooks/video_understanding.ipynb of Qwen2.5-VL and of Qwen3-VL.
    let first = "```json\n[\n    {\n        \"start_time\": \"00:25.00\",\n        \"end_time\": \"00:46.00\",\n        \"description\": \"cut the fat off a piece of brisket.\"\n    },\n    {\n        \"start_time\": \"01:31.00\",\n        \"end_time\": \"01:38.00\",\n        \"desc";
    assert_eq!(events(first), [event(25.0, 46.0, "cut the fat off a piece of brisket."), event(91.0, 98.0, "")]);
    let second = "{\n    \"00:23.00 - 00:48.00\": \"trim the fat off a piece of beef.\",\n    \"00:56.00 - 01:28.00\": \"season the beef with salt and pepper.\"\n}";
    assert_eq!(
        events(second),
        [
            event(23.0, 48.0, "trim the fat off a piece of beef."),
            event(56.0, 88.0, "season the beef with salt and pepper.")
        ]
    );

    for (answer, expected) in [
        (r#"[{"start": "00:12.4", "end": "01:02:03", "event": "a"}]"#, event(12.4, 3723.0, "a")),
        (r#"{"start_time": 3.5, "end_time": 7, "caption": "a"}"#, event(3.5, 7.0, "a")),
        (r#"{"start_time": "3.5s", "end_time": "7 seconds", "label": "a"}"#, event(3.5, 7.0, "a")),
        (r#"{"timestamp": "00:01:02,500 --> 00:01:04,000", "text": "a"}"#, event(62.5, 64.0, "a")),
        (r#"{'timestamps': [2.0, 4.5], 'sentence': 'a'}"#, event(2.0, 4.5, "a")),
        (r#"{"time": 3.0, "bbox_2d": [1, 2, 3, 4], "label": "a"}"#, event(3.0, None, "a")),
        (r#"{"time": "<3.0 seconds>", "label": "a"}"#, event(3.0, None, "a")),
        (r#"{"a": "0:05 to 0:09"}"#, event(5.0, 9.0, "a")),
        (r#"{"events": [{"start": 9, "end": 5, "title": "a"}]}"#, event(5.0, 9.0, "a")),
    ] {
        assert_eq!(events(answer), [expected], "{answer}");
    }
    assert_eq!(events("[[1.0, 4.5], [7, 9]]"), [event(1.0, 4.5, ""), event(7.0, 9.0, "")]);
    assert_eq!(events(r#"[{"from": "human", "value": "no time at all"}]"#), []);
}

#[test]
fn hours_and_minutes_in_words() {
    for (written, start) in [
        ("The light turns green at 5 minutes 30 seconds.", 330.0),
        ("It begins at 5min30s", 330.0),
        ("At 1h02m05s", 3725.0),
        ("在2分30秒", 150.0),
        ("after 1 hour, 2 minutes and 5 seconds", 3725.0),
        ("at 3 minutes", 180.0),
        ("at 1小时2分钟", 3720.0),
        (r#"{"start": "5m30s"}"#, 330.0),
        ("at 30 seconds", 30.0),
    ] {
        let found = events(written);
        assert_eq!((found.len(), found[0].start), (1, start), "{written}: {found:?}");
    }
    assert_eq!(events("a wall of 5 m and 30 h2o"), []);
    let span = events("from 1 minute 10 seconds to 2 minutes: rain");
    assert_eq!((span[0].start, span[0].end), (70.0, Some(120.0)));
    let subtitles = "1\n00:00:01,500 --> 00:00:03,000\nHello\nthere\n\n2\n00:00:04,000 --> 00:00:05,000\nBye";
    assert_eq!(events(subtitles), [event(1.5, 3.0, "Hello there"), event(4.0, 5.0, "Bye")]);
}

#[test]
fn events_in_prose() {
    for (answer, expected) in [
        // cookbooks/video_understanding.ipynb of Qwen2.5-VL.
        ("The event happens in 01:32.40 - 01:35.60.", vec![event(92.4, 95.6, "")]),
        (
            "00:12 - 00:15: a man walks\n01:02:03 – 1:02:05: he sits",
            vec![event(12.0, 15.0, "a man walks"), event(3723.0, 3725.0, "he sits")],
        ),
        ("1. **00:05-00:09**: a\n2. **00:10-00:12**: b", vec![event(5.0, 9.0, "a"), event(10.0, 12.0, "b")]),
        ("<3.5 seconds> a dog\n<4.0 seconds> a cat", vec![event(3.5, None, "a dog"), event(4.0, None, "a cat")]),
        (
            "From 2.0s to 4.5s, a man walks. From 5 to 6.5 seconds he sits.",
            vec![event(2.0, 4.5, "a man walks."), event(5.0, 6.5, "he sits.")],
        ),
        ("Between 3 and 8 seconds the bell rings", vec![event(3.0, 8.0, "the bell rings")]),
        ("Seasoning the steak: 00:10 to 00:15.", vec![event(10.0, 15.0, "Seasoning the steak")]),
        ("[00:07] hello", vec![event(7.0, None, "hello")]),
        ("在 12 秒", vec![event(12.0, None, "")]),
        ("A ratio of 16:9, version 2.5, 3 steps, 5 to 6 people, v1:20, 2024-05-16.", vec![]),
    ] {
        assert_eq!(events(answer), expected, "{answer}");
    }
}

/// A mebibyte of whatever repeats ends in time that is proportional, and so at all.
#[test]
fn hostile_texts() {
    for piece in [
        "{",
        "[",
        "{\"bbox_2d\":[",
        "{\"points\":[[1,2],",
        "[1,2,3,4],",
        "{\"a\":\"",
        "<",
        "<p data-bbox=\"1 2 3 4\">",
        "<p data-bbox=\"",
        "<a></b>",
        "<points x1='1' ",
        "<points x1=\"1\" y1=\"2\">",
        "<box>(1,2),(3,4)",
        "<ref>",
        "a(1,2),(3,4)",
        "(1,2),",
        "(1,(",
        "1:00 and ",
        "1:00 - ",
        "00:00:00:",
        "9",
        "1 s ",
        "&",
        "&#",
        "\\",
        "é",
        "data-bbox ",
    ] {
        let text = piece.repeat((1 << 20) / piece.len());
        for convention in [Convention::ThousandTokens, Convention::ResizedPixels] {
            assert!(locate(&text, convention, &[image()]).len() <= text.len(), "{piece}");
        }
        assert!(document(&text, Convention::ResizedPixels, &image()).len() <= text.len(), "{piece}");
        assert!(events(&text).len() <= text.len(), "{piece}");
    }
}

/// Forms of fine-tunes and agents: UI-TARS, OpenCUA, Qwen's mobile agent, Chandra, and "QwenVL Markdown" of Qwen3-VL's cookbook.
#[test]
fn forms_of_agents_and_pages() {
    for written in [
        "Action: click(start_box='<|box_start|>(84,56)<|box_end|>')",
        "Thought: it is there.\nAction: click(start_box='(84,56)')",
        "click(point='<point>84 56</point>')",
        "pyautogui.click(x=84, y=56)",
        "```python\npyautogui.moveTo(84, 56, duration=1)\n```",
    ] {
        assert_eq!(thousand(written), [point(168.0, 56.0, "")], "{written}");
        assert_eq!(tokens(written), [point(168.0, 56.0, "")], "{written}");
    }
    let drag = "drag(start_box='(1,2)', end_box='(3,4)')";
    assert_eq!(thousand(drag), [point(2.0, 2.0, ""), point(6.0, 4.0, "")]);
    assert_eq!(thousand("<bbox>1 2 3 4</bbox>"), [a_box([2.0, 2.0, 6.0, 4.0], "")]);
    let swipe =
        r#"{"name": "mobile_use", "arguments": {"action": "swipe", "coordinate": [1, 2], "coordinate2": [3, 4]}}"#;
    assert_eq!(thousand(swipe), [point(2.0, 2.0, "swipe"), point(6.0, 4.0, "swipe")]);
    let page = "# Report\n<!-- Image (1, 2, 3, 4) -->\nWords.\n<!-- Table (5, 6, 7, 8) -->\n\\begin{tabular}{l} a \\end{tabular}";
    let expected = [a_box([2.0, 2.0, 6.0, 4.0], "Image"), a_box([10.0, 6.0, 14.0, 8.0], "Table")];
    assert_eq!(thousand(page), expected);
    assert_eq!(thousand("<!-- see (1, 2) --> <!-- (1, 2, 3, 4"), []);
    let chandra = r#"<div data-bbox="1 2 3 4" data-label="Section-Header"><h1>A</h1></div>"#;
    assert_eq!(thousand(chandra), [a_box([2.0, 2.0, 6.0, 4.0], "Section-Header")]);
    for prose in [
        "f(1, 2)",
        "print(x)",
        "plot(x=1)",
        "click(start_box='none')",
        "click(start_box='(84,56'",
        "()(((",
        "a.b(x=1, z=2)",
    ] {
        assert_eq!(thousand(prose), [], "{prose}");
    }
}
