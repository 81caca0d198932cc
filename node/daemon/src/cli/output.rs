//! Prints for people and for programs.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde_json::Value;

/// Prints a value as JSON on one line, or a text for people.
pub(crate) fn print(json: bool, value: &Value, text: impl FnOnce() -> String) {
    if json {
        println!("{value}");
    } else {
        println!("{}", text());
    }
}

/// A plain table: aligned columns under a head, nothing else.
pub(crate) fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head.iter().copied());
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// Names and values, one pair a line.
pub(crate) fn fields(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<_> =
        pairs.iter().map(|(name, value)| format!("{name:<width$}  {value}")).collect();
    lines.join("\n")
}

/// A JSON value as people write it: texts without quotes, nothing for null.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// The first digits of an identifier.
pub(crate) fn short(value: &Value) -> String {
    let text = plain(value);
    text.get(..10).unwrap_or(&text).to_owned()
}

/// Bytes that are text, as text on one line without anything that moves the cursor; others in hexadecimal.
pub(crate) fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.replace(char::is_control, " "),
        Err(_) => format!("0x{}", hex::encode(bytes)),
    }
}

/// Hexadecimal after `0x`, as the API writes bytes.
pub(crate) fn unhex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().and_then(|text| text.strip_prefix("0x")).unwrap_or_default();
    hex::decode(digits).unwrap_or_default()
}

/// At most `width` characters.
pub(crate) fn clip(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut clipped: String = text.chars().take(width.saturating_sub(1)).collect();
    clipped.push('…');
    clipped
}
