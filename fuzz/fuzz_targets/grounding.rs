//! What a model wrote, as boxes, as a page, as events and as reasoning: coordinates stay inside the pictures.
#![no_main]

use fanlight::chat::ImageInfo;
use fanlight::chat::grounding::{Convention, Shape, document, events, locate};
use fanlight::chat::thinking::{ThinkingSplitter, split_thinking};
use fanlight_fuzz::within;
use libfuzzer_sys::fuzz_target;

const WIDTH: u32 = 640;
const HEIGHT: u32 = 480;

fn inside([x, y]: [f64; 2]) {
    assert!((0.0..=f64::from(WIDTH)).contains(&x) && (0.0..=f64::from(HEIGHT)).contains(&y), "{x}, {y}");
}

fn ordered([x1, y1, x2, y2]: [f64; 4]) {
    inside([x1, y1]);
    inside([x2, y2]);
    assert!(x1 <= x2 && y1 <= y2);
}

fuzz_target!(|input: &str| {
    let image = ImageInfo { original: [WIDTH, HEIGHT], resized: [644, 476], tokens: 1 };
    let images = [image.clone(), image.clone()];
    // The most is a point of five characters with a label of 256 bytes, as a tree, as found and as placed.
    within(512 * input.len() + (64 << 10), || {
        for convention in [Convention::ThousandTokens, Convention::ResizedPixels, Convention::ThousandJson] {
            for located in locate(input, convention, &images) {
                assert!(located.image < images.len());
                match located.shape {
                    Shape::Box(at) => ordered(at),
                    Shape::Point(at) => inside(at),
                    Shape::Polygon(corners) => {
                        assert!(corners.len() >= 3);
                        corners.into_iter().for_each(inside);
                    }
                    Shape::Box3d(at) => assert!(at.iter().all(|value| value.is_finite())),
                }
            }
        }
        document(input, Convention::ThousandJson, &image).into_iter().filter_map(|block| block.at).for_each(ordered);
        for event in events(input) {
            assert!(event.start >= 0.0 && event.end.is_none_or(|end| end >= event.start));
        }
        for opened in [true, false] {
            let mut splitter = ThinkingSplitter::new(opened);
            let (mut reasoning, mut answer) = (String::new(), String::new());
            for piece in input.split_inclusive(['<', ' ', 'k']).map(|piece| splitter.push(piece)).collect::<Vec<_>>() {
                reasoning += &piece.reasoning;
                answer += &piece.answer;
            }
            let last = splitter.finish();
            let pieces = (reasoning + &last.reasoning, answer + &last.answer);
            let (reasoning, answer) = split_thinking(input, opened);
            assert_eq!((reasoning.unwrap_or_default(), answer), pieces);
        }
    });
});
