//! The dialect of Jinja that transformers compiles templates in.

use minijinja::value::Kwargs;
use minijinja::{Environment, ErrorKind, Value, syntax::SyntaxConfig};

use super::guard::Guard;
use super::json_dumps::Dump;
use super::limits::{Bounded, FUEL, MAX_OUTPUT, failed};
use super::strftime::strftime;
use crate::error::Result;

/// The name that errors give to the template.
pub(super) const NAME: &str = "chat_template";

/// What a template may call and how long it may take, for messages of `input` bytes. `now` is the clock of `strftime_now`.
pub(super) fn environment(now: Option<u64>, guard: &Guard, input: usize) -> Result<Environment<'static>> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.map_err(|e| failed(e.to_string()))?);
    environment.set_fuel(Some(FUEL + input as u64));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", move |format: String| -> Result<String, minijinja::Error> {
        strftime(now, &format).map_err(|e| minijinja::Error::new(ErrorKind::InvalidOperation, e))
    });
    let guard = guard.clone();
    environment.add_filter("tojson", move |value: &Value, options: Kwargs| -> Result<String, minijinja::Error> {
        let mut dump = Dump::new(&guard, &options, MAX_OUTPUT + 4 * input)?;
        dump.value(value, 0)?;
        Ok(dump.out)
    });
    Ok(environment)
}

/// What a template writes for these variables, up to `limit` bytes.
pub(super) fn written(environment: &Environment, source: &str, context: Value, limit: usize) -> Result<String> {
    let template = environment.template_from_named_str(NAME, source).map_err(|e| failed(e.to_string()))?;
    let mut out = Bounded { bytes: Vec::new(), limit };
    template.render_captured_to(context, &mut out).map_err(|e| failed(e.to_string()))?;
    String::from_utf8(out.bytes).map_err(|e| failed(e.to_string()))
}
