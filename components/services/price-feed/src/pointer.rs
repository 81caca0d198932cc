use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// A place in a JSON document: `/result/XETHZUSD/c/0`. RFC 6901.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pointer(Vec<String>);

impl TryFrom<String> for Pointer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let Some(path) = text.strip_prefix('/') else {
            let is_whole = text.is_empty();
            return if is_whole { Ok(Self(Vec::new())) } else { Err(invalid(&text)) };
        };
        // Once `~1` and `~0` are gone, no tilde is left.
        if text.replace("~0", "").replace("~1", "").contains('~') {
            return Err(invalid(&text));
        }
        let token = |token: &str| token.replace("~1", "/").replace("~0", "~");
        Ok(Self(path.split('/').map(token).collect()))
    }
}

fn invalid(text: &str) -> String {
    format!("{text:?} isn't a JSON pointer such as /data/amount")
}

impl Pointer {
    /// What stands there, as it's written. None if nothing does, or if the document isn't JSON.
    #[must_use]
    pub fn find<'a>(&self, document: &'a str) -> Option<&'a RawValue> {
        let whole = serde_json::from_str(document).ok()?;
        self.0.iter().try_fold(whole, |value: &RawValue, token| step(value, token))
    }
}

fn step<'a>(value: &'a RawValue, token: &str) -> Option<&'a RawValue> {
    match value.get().bytes().next()? {
        b'{' => {
            let members: BTreeMap<Name<'a>, &RawValue> = serde_json::from_str(value.get()).ok()?;
            members.get(token).copied()
        }
        b'[' => {
            let is_index = token == "0" || !token.starts_with(['0', '+']);
            let index = token.parse::<usize>().ok().filter(|_| is_index)?;
            let elements: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
            elements.get(index).copied()
        }
        _ => None,
    }
}

/// A member's name; borrowed unless it has escapes.
#[derive(PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl std::borrow::Borrow<str> for Name<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'a>(pointer: &str, document: &'a str) -> Option<&'a str> {
        Pointer::try_from(pointer.to_owned()).unwrap().find(document).map(RawValue::get)
    }

    /// RFC 6901, section 5, and what isn't there.
    #[test]
    fn pointers_lead_to_values() {
        let document = r#"{"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3,
            "g|h": 4, "i\\j": 5, "k\"l": 6, " ": 7, "m~n": 8}"#;
        for (pointer, value) in [
            ("/foo", Some(r#"["bar", "baz"]"#)),
            ("/foo/0", Some(r#""bar""#)),
            ("/", Some("0")),
            ("/a~1b", Some("1")),
            ("/c%d", Some("2")),
            ("/e^f", Some("3")),
            ("/g|h", Some("4")),
            ("/i\\j", Some("5")),
            ("/k\"l", Some("6")),
            ("/ ", Some("7")),
            ("/m~0n", Some("8")),
            ("/foo/2", None),
            ("/foo/-", None),
            ("/foo/00", None),
            ("/foo/+0", None),
            ("/bar", None),
            ("/a~1b/c", None),
        ] {
            assert_eq!(find(pointer, document), value, "{pointer}");
        }
        assert_eq!(find("", " 1.50 "), Some("1.50"));
    }

    #[test]
    fn numbers_keep_their_digits() {
        assert_eq!(find("/0", "[9007199254740993.10]"), Some("9007199254740993.10"));
    }

    #[test]
    fn what_is_not_json_has_no_values() {
        for document in ["", "<html>", "{\"a\": 1", "{\"a\": 1} x", "{'a': 1}"] {
            assert_eq!(find("/a", document), None, "{document}");
        }
    }

    #[test]
    fn wrong_pointers_are_refused() {
        for pointer in ["a", "#/a", "/a~", "/a~2"] {
            assert!(Pointer::try_from(pointer.to_owned()).is_err(), "{pointer}");
        }
    }
}
