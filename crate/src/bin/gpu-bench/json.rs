//! JSON as text: what is written is numbers, texts and lists of such objects, for which nothing larger is needed.

use std::fmt::Write as _;

/// An object being written.
#[derive(Default)]
pub struct Object(String);

impl Object {
    fn field(mut self, name: &str, value: &str) -> Self {
        let comma = if self.0.is_empty() { "" } else { ", " };
        let _ = write!(self.0, "{comma}\"{name}\": {value}");
        self
    }

    /// A text.
    pub fn text(self, name: &str, value: &str) -> Self {
        let mut quoted = String::from('"');
        for c in value.chars() {
            match c {
                '"' | '\\' => quoted.extend(['\\', c]),
                c if c.is_control() => {
                    let _ = write!(quoted, "\\u{:04x}", c as u32);
                }
                c => quoted.push(c),
            }
        }
        quoted.push('"');
        self.field(name, &quoted)
    }

    /// A number with as many digits as a measurement deserves, `null` for none.
    pub fn number(self, name: &str, value: Option<f64>) -> Self {
        let text = value.filter(|value| value.is_finite()).map_or("null".to_owned(), |value| {
            let digits = (3 - value.abs().max(1e-12).log10().floor() as i32).clamp(0, 15);
            format!("{value:.*}", digits as usize)
        });
        self.field(name, &text)
    }

    /// Objects, one a line.
    pub fn list(self, name: &str, items: impl IntoIterator<Item = Self>) -> Self {
        let lines: Vec<String> = items.into_iter().map(|item| format!("\n    {}", item.end())).collect();
        self.field(name, &format!("[{}\n  ]", lines.join(",")))
    }

    /// The text of the object.
    pub fn end(&self) -> String {
        format!("{{ {} }}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_valid_json() {
        let line = Object::default().text("a", "say \"no\"\n").number("b", Some(0.000_123_456)).number("c", None);
        assert_eq!(line.end(), r#"{ "a": "say \"no\"\u000a", "b": 0.0001235, "c": null }"#);
        let all = Object::default().number("n", Some(35_123.4)).list("lines", [line]);
        assert!(all.end().starts_with("{ \"n\": 35123, \"lines\": [\n    { \"a\""), "{}", all.end());
    }
}
