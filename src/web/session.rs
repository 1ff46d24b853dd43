//! A conversation: JavaScript's messages, pictures and videos on the way in, answers on the way out.

use std::cell::RefCell;
use std::rc::Rc;

use js_sys::{Array, Function, Reflect, Uint8Array};
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

use super::constraint::Grammatical;
use super::convert::{plain, to_js, to_js_error};
use super::current::Current;
use super::now;
use super::video::VideoInput;
use crate::chat::message_json::{self, RawMessage, RawPart, RawVideo};
use crate::chat::{self, AskOptions, Content, Delta, Draft, Hooks, Message, Part};
use crate::error::{Error, Result};
use crate::generate::constraint::Constrained;
use crate::image::{ImageOptions, Still};
use crate::video::Video;

/// A conversation: it remembers its messages.
#[wasm_bindgen]
pub struct Session {
    engine: Rc<Current>,
    pixels: ImageOptions,
    add_vision_id: bool,
    /// `None` while a call runs, which has taken it.
    state: RefCell<Option<State>>,
}

struct State {
    conversation: chat::Conversation,
    messages: Vec<Message>,
    /// The call that a lost device interrupted. Its messages are among `messages`.
    unfinished: Option<Unfinished>,
}

struct Unfinished {
    before: Before,
    work: Work,
}

/// The messages from before the interrupted call.
enum Before {
    /// The first so many of the present messages.
    First(usize),
    /// These. The interrupted call has replaced all of them.
    Others(Vec<Message>),
}

enum Work {
    Append(Box<AskOptions>),
    Answer(Box<Answering>),
}

struct Answering {
    draft: Draft,
    options: AskOptions,
    new_pictures: usize,
    /// When the call began.
    begun: f64,
}

impl State {
    /// The messages that count: all except those of a call that was not finished.
    fn settled(&self) -> &[Message] {
        match &self.unfinished {
            None => &self.messages,
            Some(Unfinished { before: Before::First(n), .. }) => &self.messages[..self.messages.len().min(*n)],
            Some(Unfinished { before: Before::Others(messages), .. }) => messages,
        }
    }

    fn undo(&mut self, before: Before) {
        match before {
            Before::First(n) => self.messages.truncate(n),
            Before::Others(messages) => self.messages = messages,
        }
    }
}

#[wasm_bindgen]
impl Session {
    /// Tokens that `tools` (JSON) and the texts, calls and pictures of these messages take. Videos have to leave room for them.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn tokens(&self, messages: &str, images: Array, tools: &str) -> Result<f64, JsValue> {
        let engine = self.engine.get();
        let count = || {
            let mut tokens = engine.tokens(&Part::Text(tools.to_owned()));
            for message in message_json::parse(messages.as_bytes())? {
                tokens += message.text.map_or(0, |text| engine.tokens(&Part::Text(text)));
                for call in &message.tool_calls {
                    tokens += engine.tokens(&Part::Text(json!(call).to_string()));
                }
                for part in message.parts {
                    tokens += match part {
                        RawPart::Text(text) => engine.tokens(&Part::Text(text)),
                        RawPart::Image(name, own) => {
                            let index = name.parse::<u32>().unwrap_or(u32::MAX);
                            let picture = Still::open(Uint8Array::new(&images.get(index)).to_vec())?;
                            engine.tokens(&Part::Image(Rc::new(picture), self.limited(own)))
                        }
                        RawPart::Video(..) => 0,
                    };
                }
            }
            Ok(tokens as f64)
        };
        count().map_err(|e: Error| to_js_error(&e))
    }

    /// What `prompt` with the same arguments would take: the `Plan` of the package's types, without what JavaScript knows itself
    /// about the videos.
    ///
    /// # Errors
    /// As [`Engine::load`]. The conversation stays as it is.
    pub fn plan(
        &self,
        messages: &str,
        images: Array,
        videos: Vec<VideoInput>,
        options: JsValue,
    ) -> Result<JsValue, JsValue> {
        let plan = || {
            let state = self.state.borrow();
            let state = state.as_ref().ok_or_else(busy)?;
            let options = self.options(&plain(&options)?)?;
            let (turn, [pictures, _]) = self.turn(messages, &images, videos)?;
            let all: Vec<Message> = state.settled().iter().cloned().chain(turn).collect();
            let mut plan = self.engine.get().plan(&state.conversation, &all, &options)?;
            plan.images.drain(..plan.images.len().saturating_sub(pictures));
            Ok(to_js(&json!(plan)))
        };
        plan().map_err(|error: Error| to_js_error(&error))
    }

    /// Another conversation with the same messages so far. The two share memory until one of them goes on.
    ///
    /// # Errors
    /// As [`Engine::load`].
    #[wasm_bindgen(js_name = clone)]
    pub fn fork(&self) -> Result<Session, JsValue> {
        let state = self.state.borrow();
        let state = state.as_ref().ok_or_else(|| to_js_error(&busy()))?;
        let conversation = state.conversation.fork().map_err(|error| to_js_error(&error))?;
        let state = State { conversation, messages: state.settled().to_vec(), unfinished: None };
        let (engine, pixels, add_vision_id) = (self.engine.clone(), self.pixels, self.add_vision_id);
        Ok(Session { engine, pixels, add_vision_id, state: RefCell::new(Some(state)) })
    }

    /// Adds messages as `prompt` does, and computes for them what can be computed before an answer. Returns the number of tokens of
    /// the conversation.
    ///
    /// # Errors
    /// As [`Session::prompt`]; `aborted` if it is cancelled.
    pub async fn append(
        &self,
        messages: String,
        images: Array,
        videos: Vec<VideoInput>,
        options: JsValue,
        cancelled: Function,
    ) -> Result<JsValue, JsValue> {
        let begin = || {
            let options = self.options(&plain(&options)?)?;
            let (turn, _) = self.turn(&messages, &images, videos)?;
            Ok((turn, Work::Append(Box::new(options))))
        };
        self.begin(begin, false, None, &cancelled).await
    }

    /// Adds messages (JSON; pictures are indices into `images`, which are encoded files, and videos into `videos`, which are
    /// used up) and answers. With `options.replace` they take the place of all that was said before; what the cache holds of
    /// their beginning is not computed again. `constraint`: a fresh one, for this answer.
    ///
    /// # Errors
    /// As [`Engine::load`]. The conversation is then as it was before the call; only `device_lost` leaves it open for `resume`.
    #[expect(clippy::too_many_arguments, reason = "JavaScript calls it, and half of them are callbacks")]
    pub async fn prompt(
        &self,
        messages: String,
        images: Array,
        videos: Vec<VideoInput>,
        options: JsValue,
        on_delta: Function,
        cancelled: Function,
        constraint: Option<Grammatical>,
    ) -> Result<JsValue, JsValue> {
        let replace = Reflect::get(&options, &JsValue::from_str("replace")).is_ok_and(|value| value.is_truthy());
        let begin = || {
            let (draft, begun) = (Draft::default(), now());
            let constraint = constraint.map(Constrained::new);
            let options = AskOptions { constraint, ..self.options(&plain(&options)?)? };
            let (turn, [new_pictures, _]) = self.turn(&messages, &images, videos)?;
            Ok((turn, Work::Answer(Box::new(Answering { draft, options, new_pictures, begun }))))
        };
        self.begin(begin, replace, Some(&on_delta), &cancelled).await
    }

    /// Goes on with the call that ended with `device_lost`, once the engine has another device, and returns what that call would
    /// have returned.
    ///
    /// # Errors
    /// Those of that call.
    pub async fn resume(&self, on_delta: Function, cancelled: Function) -> Result<JsValue, JsValue> {
        let mut state = self.state.borrow_mut().take().ok_or_else(|| to_js_error(&busy()))?;
        let result = match state.unfinished.take() {
            Some(unfinished) => self.run(&mut state, unfinished, Some(&on_delta), &cancelled).await,
            None => Err(Error::invalid("resume", "a call that lost its device", "none")),
        };
        *self.state.borrow_mut() = Some(state);
        result.map(|value| to_js(&value)).map_err(|error| to_js_error(&error))
    }
}

impl Session {
    pub(super) fn new(
        engine: Rc<Current>,
        conversation: chat::Conversation,
        pixels: ImageOptions,
        add_vision_id: bool,
    ) -> Self {
        let state = State { conversation, messages: Vec::new(), unfinished: None };
        Session { engine, pixels, add_vision_id, state: RefCell::new(Some(state)) }
    }

    async fn begin(
        &self,
        begin: impl FnOnce() -> Result<(Vec<Message>, Work)>,
        replace: bool,
        on_delta: Option<&Function>,
        cancelled: &Function,
    ) -> Result<JsValue, JsValue> {
        let mut state = self.state.borrow_mut().take().ok_or_else(|| to_js_error(&busy()))?;
        // A new call means that the interrupted one will not be resumed.
        if let Some(unfinished) = state.unfinished.take() {
            state.undo(unfinished.before);
        }
        let result = match begin() {
            Ok((turn, work)) => {
                let before = match replace {
                    true => Before::Others(std::mem::take(&mut state.messages)),
                    false => Before::First(state.messages.len()),
                };
                state.messages.extend(turn);
                self.run(&mut state, Unfinished { before, work }, on_delta, cancelled).await
            }
            Err(error) => Err(error),
        };
        *self.state.borrow_mut() = Some(state);
        result.map(|value| to_js(&value)).map_err(|error| to_js_error(&error))
    }

    async fn run(
        &self,
        state: &mut State,
        mut unfinished: Unfinished,
        on_delta: Option<&Function>,
        cancelled: &Function,
    ) -> Result<Value> {
        let cancelled = || cancelled.call0(&JsValue::NULL).is_ok_and(|stop| stop.is_truthy());
        let result = match &mut unfinished.work {
            Work::Append(options) => {
                let engine = self.engine.get();
                let tokens = engine.append(&mut state.conversation, &state.messages, options, &cancelled).await;
                tokens.map(|tokens| json!(tokens))
            }
            Work::Answer(answering) => self.answer(state, answering, on_delta, &cancelled).await,
        };
        match result {
            Err(Error::DeviceLost { .. }) => state.unfinished = Some(unfinished),
            Err(_) => state.undo(unfinished.before),
            Ok(_) => {}
        }
        result
    }

    async fn answer(
        &self,
        state: &mut State,
        Answering { draft, options, new_pictures, begun }: &mut Answering,
        on_delta: Option<&Function>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Value> {
        let engine = self.engine.get();
        let mut tell = |delta: Delta| {
            let mut event = json!({"text": delta.text});
            if !delta.reasoning.is_empty() {
                event["reasoning"] = json!(delta.reasoning);
            }
            if let Some(call) = delta.call {
                event["toolCall"] = json!(call);
            }
            if !delta.logprobs.is_empty() {
                event["logprobs"] = json!(delta.logprobs);
            }
            // An error that the listener throws does not stop the answer.
            let _ = on_delta.map(|on_delta| on_delta.call1(&JsValue::NULL, &to_js(&event)));
        };
        let hooks = Hooks { on_delta: &mut tell, cancelled, clock: &now };
        let answer = engine.go_on(draft, &mut state.conversation, &state.messages, options, hooks).await?;
        answer.join(&mut state.messages);
        let t = answer.timings;
        let size = |[width, height]: [u32; 2]| json!({"width": width, "height": height});
        let new = answer.images.len().saturating_sub(*new_pictures);
        let mut result = json!({
            "located": engine.locate(&answer),
            "text": answer.text,
            "reasoning": answer.reasoning,
            "tokenIds": answer.token_ids,
            "finishReason": answer.finish_reason,
            "usage": {
                "promptTokens": answer.usage.prompt_tokens,
                "imageTokens": answer.usage.image_tokens,
                "videoTokens": answer.usage.video_tokens,
                "completionTokens": answer.usage.completion_tokens,
                "cachedTokens": answer.usage.cached_tokens,
            },
            "timings": {
                "imageMs": t.image_ms,
                "prefillMs": t.prefill_ms,
                "ttftMs": now() - *begun - t.decode_ms,
                "decodeMs": t.decode_ms,
                "decodeTps": t.decode_tokens_per_second,
            },
            "images": answer.images[new..].iter().map(|i| json!({
                "original": size(i.original), "resized": size(i.resized), "tokens": i.tokens,
            })).collect::<Vec<_>>(),
        });
        if !answer.tool_calls.is_empty() {
            result["toolCalls"] = json!(answer.tool_calls);
        }
        if let Some(logprobs) = &answer.logprobs {
            result["logprobs"] = json!(logprobs);
        }
        Ok(result)
    }

    /// Messages from JavaScript, and how many pictures and videos there are in them.
    fn turn(&self, messages: &str, images: &Array, videos: Vec<VideoInput>) -> Result<(Vec<Message>, [usize; 2])> {
        let turn = message_json::parse(messages.as_bytes())?;
        let pictures = images.iter().map(|bytes| Still::open(Uint8Array::new(&bytes).to_vec()).map(Rc::new));
        let pictures = pictures.collect::<Result<Vec<_>>>()?;
        let videos = videos.into_iter().map(|video| video.0.finish().map(Rc::new)).collect::<Result<Vec<_>>>()?;
        let turn = turn.into_iter().map(|m| self.message(m, &pictures, &videos)).collect::<Result<Vec<_>>>()?;
        Ok((turn, [pictures.len(), videos.len()]))
    }

    /// A picture's own options, completed with those of the engine.
    fn limited(&self, own: ImageOptions) -> ImageOptions {
        ImageOptions {
            min_pixels: own.min_pixels.or(self.pixels.min_pixels),
            max_pixels: own.max_pixels.or(self.pixels.max_pixels),
            ..own
        }
    }

    fn message(&self, raw: RawMessage, pictures: &[Rc<Still>], videos: &[Rc<Video>]) -> Result<Message> {
        let content = match raw.text {
            Some(text) => Content::Text(text),
            None => {
                let part = |part| match part {
                    RawPart::Text(text) => Ok(Part::Text(text)),
                    RawPart::Image(name, own) => {
                        let picture = name.parse::<usize>().ok().and_then(|i| pictures.get(i));
                        let picture = picture.ok_or_else(|| Error::invalid("image", "the index of a picture", name))?;
                        Ok(Part::Image(picture.clone(), self.limited(own)))
                    }
                    RawPart::Video(raw, _) => {
                        let RawVideo::File(name) = raw else {
                            return Err(Error::invalid("video", "the index of a video", "a list of frames"));
                        };
                        let video = name.parse::<usize>().ok().and_then(|i| videos.get(i));
                        let video = video.ok_or_else(|| Error::invalid("video", "the index of a video", name))?;
                        Ok(Part::Video(video.clone()))
                    }
                };
                Content::Parts(raw.parts.into_iter().map(part).collect::<Result<_>>()?)
            }
        };
        let RawMessage { role, reasoning, tool_calls, tool_call_id, prefix, .. } = raw;
        Ok(Message { role, content, reasoning, tool_calls, tool_call_id, prefix })
    }

    /// The checkpoint's sampling defaults, changed by what the caller names.
    fn options(&self, o: &Value) -> Result<AskOptions> {
        let mut own = o.clone();
        // `prompt` reads the first one itself, and gets the second one as an argument.
        own.as_object_mut().map(|fields| ["replace", "responseConstraint"].map(|name| fields.remove(name)));
        let options = AskOptions::from_json(&own, self.engine.get().generation_config())?;
        Ok(AskOptions { add_vision_id: self.add_vision_id, now: Some(local_seconds()), ..options })
    }
}

/// What the clock on the user's wall shows, in seconds since 1970. The offset is in minutes, west of Greenwich.
fn local_seconds() -> u64 {
    let date = js_sys::Date::new_0();
    // A float becomes an integer by saturation.
    (date.get_time() / 1000.0 - date.get_timezone_offset() * 60.0) as u64
}

/// For a call while another one runs. The worker makes one call after another, so nobody should see this.
fn busy() -> Error {
    Error::invalid("session", "one call at a time", "a second one")
}
