//! Boxes and points in an answer, back in the pixels of the caller's picture.
//!
//! Qwen2.5-VL writes JSON objects with `bbox_2d` `[x1, y1, x2, y2]` or `point_2d` `[x, y]` in absolute pixels of the
//! *resized* picture, often in a fenced block, sometimes cut off by the token limit.

use serde::Serialize;
use serde_json::Value;

use crate::chat::ImageInfo;

/// Something located in a picture, in pixels of the picture as given.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Located {
    /// `[x1, y1, x2, y2]` of a box or `[x, y]` of a point.
    pub at: Vec<f64>,
    /// What it is: the object's `label` or `text_content`.
    pub label: Option<String>,
}

/// Reads every object with `bbox_2d` or `point_2d` out of an answer, whatever surrounds it; an object that is cut off is
/// left out. Coordinates are scaled from the resized picture to the original and clamped to it.
pub fn locate(answer: &str, image: &ImageInfo) -> Vec<Located> {
    objects(answer).filter_map(|object| located(&object, image)).collect()
}

fn located(object: &Value, image: &ImageInfo) -> Option<Located> {
    let list = object.get("bbox_2d").or_else(|| object.get("point_2d"))?.as_array()?;
    let mut at: Vec<f64> = list.iter().map(Value::as_f64).collect::<Option<_>>()?;
    if at.len() != 4 && at.len() != 2 {
        return None;
    }
    for (i, value) in at.iter_mut().enumerate() {
        let original = f64::from(image.original[i % 2]);
        let resized = f64::from(image.resized[i % 2].max(1));
        *value = (*value * original / resized).clamp(0.0, original);
    }
    if at.len() == 4 {
        // Corners may come in any order.
        let (x1, y1, x2, y2) = (at[0], at[1], at[2], at[3]);
        at = vec![x1.min(x2), y1.min(y2), x1.max(x2), y1.max(y2)];
    }
    let text = |name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
    Some(Located { at, label: text("label").or_else(|| text("text_content")) })
}

/// The innermost complete JSON objects of a text.
fn objects(text: &str) -> impl Iterator<Item = Value> {
    text.match_indices('{').filter_map(|(start, _)| {
        // The first value from here on; what follows it does not matter.
        let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>();
        values.next()?.ok().filter(Value::is_object)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ImageInfo {
        ImageInfo { original: [200, 100], resized: [100, 50], tokens: 1 }
    }

    #[test]
    fn fenced_plain_and_cut_off() {
        let answer = "Here:\n```json\n[\n{\"bbox_2d\": [10, 20, 30, 40], \"label\": \"Save\"},\n\
                      {\"point_2d\": [5, 6], \"label\": \"x\"},\n{\"bbox_2d\": [1, 2, 3";
        let found = locate(answer, &image());
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], Located { at: vec![20.0, 40.0, 60.0, 80.0], label: Some("Save".into()) });
        assert_eq!(found[1].at, [10.0, 12.0]);
    }

    #[test]
    fn clamped_and_ordered() {
        let found = locate(r#"{"bbox_2d": [90, 60, -5, 10]}"#, &image());
        assert_eq!(found[0].at, [0.0, 20.0, 180.0, 100.0]);
        assert_eq!(found[0].label, None);
    }

    #[test]
    fn what_is_no_box_is_left_out() {
        for answer in
            ["", "{", "{}", r#"{"bbox_2d": "1,2"}"#, r#"{"bbox_2d": [1, 2, 3]}"#, r#"{"bbox_2d": [1, "a", 2, 3]}"#]
        {
            assert_eq!(locate(answer, &image()), [], "{answer}");
        }
    }
}
