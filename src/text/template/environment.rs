//! The dialect of Jinja that transformers compiles templates in.

use std::fmt::Write;

use minijinja::value::Kwargs;
use minijinja::{Environment, ErrorKind, Value, syntax::SyntaxConfig};

use super::guard::Guard;
use super::json_dumps::Dump;
use super::limits::{Bounded, FUEL, MAX_OUTPUT, failed};
use super::source::prepared;
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
    environment.set_unknown_method_callback(|state, value, method, args| {
        if method == "format" {
            check_widths(value, args)?;
        }
        minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
    });
    // The engine charges for what these write when it has been written, however long that is.
    let most = MAX_OUTPUT + 4 * input;
    environment.add_filter("string", move |value: &Value| match value.as_str() {
        Some(_) => Ok(value.clone()),
        None => shown(format_args!("{value}"), most).map(Value::from),
    });
    environment.add_filter("pprint", move |value: &Value| shown(format_args!("{value:#?}"), most));
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
    let source = prepared(source)?;
    let template = environment.template_from_named_str(NAME, &source).map_err(|e| failed(e.to_string()))?;
    let mut out = Bounded { bytes: Vec::new(), limit };
    template.render_captured_to(context, &mut out).map_err(|e| failed(e.to_string()))?;
    String::from_utf8(out.bytes).map_err(|e| failed(e.to_string()))
}

/// Widest field of `str.format`.
const MAX_WIDTH: u64 = 10_000;

/// Refuses widths that `str.format` would fill with spaces: those in the text, and numbers that may be widths.
fn check_widths(value: &Value, args: &[Value]) -> Result<(), minijinja::Error> {
    let text = value.as_str().unwrap_or_default();
    let wide = |digits: &str| digits.parse::<u64>().map_or(digits.len() > 4, |width| width > MAX_WIDTH);
    let nested = text.split('{').skip(1).any(|field| field.contains(':') && !field.contains('}'));
    let number = |arg: &Value| i64::try_from(arg.clone()).is_ok_and(|n| n.unsigned_abs() > MAX_WIDTH);
    match text.split(|c: char| !c.is_ascii_digit()).any(wide) || nested && args.iter().any(number) {
        true => {
            let message = format!("format: expected widths of at most {MAX_WIDTH}, found a larger number");
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        }
        false => Ok(()),
    }
}

/// A value as text, up to `most` bytes.
fn shown(value: std::fmt::Arguments<'_>, most: usize) -> Result<String, minijinja::Error> {
    struct Short(String, usize);
    impl Write for Short {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            if text.len() > self.1 - self.0.len() {
                return Err(std::fmt::Error);
            }
            self.0.push_str(text);
            Ok(())
        }
    }
    let mut out = Short(String::new(), most);
    match out.write_fmt(value) {
        Ok(()) => Ok(out.0),
        Err(_) => {
            Err(minijinja::Error::new(ErrorKind::OutOfFuel, format!("a value of more than {most} bytes as text")))
        }
    }
}
