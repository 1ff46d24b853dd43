//! The options that control how tokens are chosen.

use clap::Args;
use fanlight::chat::{AskOptions, DEFAULT_CONTEXT};
use fanlight::generate::config::GenerationConfig;
use fanlight::generate::sampler::SamplingParams;

#[derive(Args)]
pub struct SamplingArgs {
    /// Most tokens of the answer.
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<usize>,
    /// Divides the logits. 0 always takes the likeliest token.
    #[arg(long, value_name = "T")]
    pub temperature: Option<f64>,
    /// Choose only among this many of the likeliest tokens. 0 keeps all.
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Choose only among the likeliest tokens whose probabilities add up to this.
    #[arg(long, value_name = "P")]
    pub top_p: Option<f64>,
    /// Drop tokens whose probability is below this share of the likeliest token's.
    #[arg(long, value_name = "P")]
    pub min_p: Option<f64>,
    /// Makes tokens that already occurred less likely. 1 is off.
    #[arg(long, value_name = "R")]
    pub repetition_penalty: Option<f64>,
    /// Subtracted once from the logit of each token that is already in the answer, from -2 to 2.
    #[arg(long, value_name = "P", allow_hyphen_values = true)]
    pub presence_penalty: Option<f64>,
    /// Subtracted from the logit of a token as often as it is already in the answer, from -2 to 2.
    #[arg(long, value_name = "P", allow_hyphen_values = true)]
    pub frequency_penalty: Option<f64>,
    /// Added to the logit of a token, from -100 to 100. May be given several times.
    #[arg(long, value_name = "ID=BIAS", value_parser = bias)]
    pub logit_bias: Vec<(u32, f32)>,
    /// With --json: add the log-probability of each token of the answer, and of the N likeliest tokens at its place.
    #[arg(long, value_name = "N")]
    pub logprobs: Option<usize>,
    /// End the answer if it only repeats itself.
    #[arg(long)]
    pub loop_guard: bool,
    /// Seed of the random numbers.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Text that ends the answer. May be given several times.
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Ignore the checkpoint's generation_config.json and start from greedy decoding.
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
            now: u64::try_from(chrono::Local::now().naive_local().and_utc().timestamp()).ok(),
            ..AskOptions::default()
        }
    }
}

fn bias(text: &str) -> Result<(u32, f32), String> {
    let pair = text.split_once('=').and_then(|(id, bias)| id.parse().ok().zip(bias.parse().ok()));
    pair.ok_or_else(|| "expected a token id and a number, such as 42=-100".to_owned())
}
