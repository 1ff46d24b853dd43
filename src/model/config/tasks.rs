//! What a checkpoint was trained to be asked.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::model::section::json;

/// What the checkpoint was trained to be asked for each task, from the bytes of its `config.json`: transformers'
/// `task_specific_params` (as T5 has it), `{"detect": {"prompt": "Locate the {what}."}}`. Empty for those that say nothing.
///
/// # Errors
/// As [`json`].
pub fn task_prompts(bytes: &[u8]) -> Result<BTreeMap<String, String>> {
    let json = json(bytes)?;
    let tasks = json["task_specific_params"].as_object().into_iter().flatten();
    Ok(tasks.filter_map(|(task, params)| Some((task.clone(), params["prompt"].as_str()?.to_owned()))).collect())
}
