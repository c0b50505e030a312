//! JSON as it is written by hand: objects of a few fields, in one line.

use std::fmt::Write;

/// An object that is being written.
pub(crate) struct Object {
    text: String,
}

impl Object {
    pub(crate) fn new() -> Self {
        Self { text: "{".into() }
    }

    fn name(&mut self, name: &str) {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        string_into(&mut self.text, name);
        self.text.push(':');
    }

    /// A field whose value is written as it is.
    pub(crate) fn raw(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.name(name);
        // A String takes everything.
        let _ = write!(self.text, "{value}");
        self
    }

    pub(crate) fn string(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        string_into(&mut self.text, value);
        self
    }

    /// A field that is left out where there is nothing.
    pub(crate) fn some_string(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.string(name, value),
            None => self,
        }
    }

    pub(crate) fn some_raw(self, name: &str, value: Option<impl std::fmt::Display>) -> Self {
        match value {
            Some(value) => self.raw(name, value),
            None => self,
        }
    }

    pub(crate) fn end(mut self) -> String {
        self.text.push('}');
        self.text
    }
}

/// An array of what is written already.
pub(crate) fn array(values: impl IntoIterator<Item = String>) -> String {
    let values: Vec<_> = values.into_iter().collect();
    format!("[{}]", values.join(","))
}

/// A string with its quotes.
pub(crate) fn string(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    string_into(&mut text, value);
    text
}

fn string_into(text: &mut String, value: &str) {
    text.push('"');
    for letter in value.chars() {
        match letter {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            // These two end a line in a script.
            '\u{2028}' | '\u{2029}' | '\0'..'\x20' | '\x7f' => {
                let _ = write!(text, "\\u{:04x}", letter as u32);
            }
            letter => text.push(letter),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_string_or_a_line_is_escaped_and_no_more() {
        let object = Object::new()
            .string("na\"me", "a\\b\n<locals>\u{2028}ü")
            .raw("number", 1.5)
            .some_raw("none", None::<u8>);
        assert_eq!(
            object.end(),
            r#"{"na\"me":"a\\b\u000a<locals>\u2028ü","number":1.5}"#
        );
        assert_eq!(array([string("a"), "1".into()]), r#"["a",1]"#);
    }
}
