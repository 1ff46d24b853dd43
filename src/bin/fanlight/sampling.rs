//! How tokens are chosen.

use clap::Args;
use fanlight::chat::{AskOptions, DEFAULT_CONTEXT};
use fanlight::generate::config::GenerationConfig;
use fanlight::generate::sampler::SamplingParams;

#[derive(Args)]
pub struct SamplingArgs {
    /// Most new tokens.
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<usize>,
    /// Divides the logits; 0 is greedy.
    #[arg(long, value_name = "T")]
    pub temperature: Option<f64>,
    /// Keep this many of the best tokens (0 keeps all).
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Keep this much probability.
    #[arg(long, value_name = "P")]
    pub top_p: Option<f64>,
    /// Drop tokens below this share of the best one's probability.
    #[arg(long, value_name = "P")]
    pub min_p: Option<f64>,
    /// Weakens tokens that already occurred (1 is off).
    #[arg(long, value_name = "R")]
    pub repetition_penalty: Option<f64>,
    /// Subtracted from the logits of tokens that the answer has already, from -2 to 2.
    #[arg(long, value_name = "P", allow_hyphen_values = true)]
    pub presence_penalty: Option<f64>,
    /// The same as often as the answer has them.
    #[arg(long, value_name = "P", allow_hyphen_values = true)]
    pub frequency_penalty: Option<f64>,
    /// Added to the logit of a token, from -100 to 100; may be given several times.
    #[arg(long, value_name = "ID=BIAS", value_parser = bias)]
    pub logit_bias: Vec<(u32, f32)>,
    /// With --json: log-probabilities of the answer's tokens, and of so many of the likeliest.
    #[arg(long, value_name = "N")]
    pub logprobs: Option<usize>,
    /// End an answer that only repeats itself.
    #[arg(long)]
    pub loop_guard: bool,
    /// Where the random numbers start.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Ends the answer; may be given several times.
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Start from greedy decoding instead of the checkpoint's generation_config.json.
    #[arg(long)]
    pub no_generation_config: bool,
    /// Prefix images with "Picture N: ".
    #[arg(long)]
    pub add_vision_id: bool,
    /// Longest conversation in tokens.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_CONTEXT)]
    pub context: usize,
}

impl SamplingArgs {
    pub fn options(&self, checkpoint: &GenerationConfig) -> AskOptions {
        let mut sampling = if self.no_generation_config {
            SamplingParams { seed: self.seed, ..SamplingParams::default() }
        } else {
            checkpoint.sampling(self.seed)
        };
        if let Some(t) = self.temperature {
            sampling.temperature = t;
            sampling.do_sample = t != 0.0;
        } else if self.top_k.is_some() || self.top_p.is_some() || self.min_p.is_some() {
            sampling.do_sample = true;
        }
        sampling.top_k = self.top_k.unwrap_or(sampling.top_k);
        sampling.top_p = self.top_p.unwrap_or(sampling.top_p);
        sampling.min_p = self.min_p.or(sampling.min_p);
        sampling.repetition_penalty = self.repetition_penalty.unwrap_or(sampling.repetition_penalty);
        sampling.presence_penalty = self.presence_penalty.unwrap_or(0.0);
        sampling.frequency_penalty = self.frequency_penalty.unwrap_or(0.0);
        sampling.logit_bias = self.logit_bias.clone();
        AskOptions {
            sampling: Some(sampling),
            max_tokens: self.max_tokens,
            stop: self.stop.clone(),
            add_vision_id: self.add_vision_id,
            logprobs: self.logprobs,
            loop_guard: self.loop_guard,
            ..AskOptions::default()
        }
    }
}

fn bias(text: &str) -> Result<(u32, f32), String> {
    let pair = text.split_once('=').and_then(|(id, bias)| id.parse().ok().zip(bias.parse().ok()));
    pair.ok_or_else(|| "expected the id of a token and a number: 42=-100".to_owned())
}
