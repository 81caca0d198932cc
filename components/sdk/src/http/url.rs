use std::fmt;

/// A URL of the web in its parts, as far as requests and redirects need them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    scheme: &'static str,
    /// Host and port.
    pub(crate) authority: String,
    /// Path and query, beginning with `/`, or empty.
    pub(crate) path: String,
}

impl Url {
    /// None if it isn't `http://` or `https://` with a host. A fragment is dropped, since servers don't see it, and so
    /// is a URL with a user's name, which is mostly there to deceive.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = SCHEMES.into_iter().find(|known| known.eq_ignore_ascii_case(scheme))?;
        let rest = without_fragment(rest);
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let slash = if path.starts_with('?') { "/" } else { "" };
        if authority.is_empty() || authority.contains('@') || text.contains(is_no_part) {
            return None;
        }
        let authority = authority.to_ascii_lowercase();
        Some(Self { scheme, authority, path: format!("{slash}{path}") })
    }

    /// What `reference` means here: a URL, or some last part of one. RFC 3986, §5.2.
    pub(crate) fn join(&self, reference: &str) -> Option<Self> {
        let reference = without_fragment(reference);
        let begins_with_a_scheme = reference
            .split_once(':')
            .is_some_and(|(scheme, _)| scheme.chars().all(|c| c.is_ascii_alphanumeric()));
        if begins_with_a_scheme {
            return Self::parse(reference);
        }
        if reference.starts_with("//") {
            return Self::parse(&format!("{}:{reference}", self.scheme));
        }
        if reference.contains(is_no_part) {
            return None;
        }
        let (path, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let path = match reference.chars().next() {
            None if query.is_empty() => path.to_owned(),
            None => format!("{path}?{query}"),
            Some('/') => without_dots(reference),
            Some('?') => format!("{}{reference}", if path.is_empty() { "/" } else { path }),
            Some(_) => {
                let folder = path.rfind('/').map_or("", |slash| &path[..slash]);
                without_dots(&format!("{folder}/{reference}"))
            }
        };
        Some(Self { path, ..self.clone() })
    }

    pub(crate) fn is_https(&self) -> bool {
        self.scheme == "https"
    }

    pub(crate) fn is_same_origin(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.authority == other.authority
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.path)
    }
}

const SCHEMES: [&str; 2] = ["http", "https"];

/// What would have to be written as `%20` and the like.
fn is_no_part(c: char) -> bool {
    c.is_whitespace() || c.is_control() || c == '\\'
}

fn without_fragment(text: &str) -> &str {
    text.split_once('#').map_or(text, |(url, _)| url)
}

/// Takes `.` and `..` out of a path, but not out of its query.
fn without_dots(path: &str) -> String {
    let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    let mut kept = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    let is_folder = path.ends_with("/.") || path.ends_with("/..");
    format!("/{}{}{query}", kept.join("/"), if is_folder && !kept.is_empty() { "/" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved_as_browsers_do() {
        for (base, reference, expected) in [
            ("http://a/b/c/d?q", "g", "http://a/b/c/g"),
            ("http://a/b/c/d?q", "./g", "http://a/b/c/g"),
            ("http://a/b/c/d?q", "g/", "http://a/b/c/g/"),
            ("http://a/b/c/d?q", "/g", "http://a/g"),
            ("http://a/b/c/d?q", "//g", "http://g"),
            ("http://a/b/c/d?q", "?y", "http://a/b/c/d?y"),
            ("http://a/b/c/d?q", "g?y/../x", "http://a/b/c/g?y/../x"),
            ("http://a/b/c/d?q", "#s", "http://a/b/c/d?q"),
            ("http://a/b/c/d?q", "", "http://a/b/c/d?q"),
            ("http://a/b/c/d?q", ".", "http://a/b/c/"),
            ("http://a/b/c/d?q", "..", "http://a/b/"),
            ("http://a/b/c/d?q", "../../../g", "http://a/g"),
            ("http://a/b/c/d?q", "HTTPS://B/x", "https://b/x"),
            ("http://a", "g", "http://a/g"),
            ("http://a:80?q", "?y", "http://a:80/?y"),
        ] {
            let url = Url::parse(base).unwrap().join(reference).map(|url| url.to_string());
            assert_eq!(url.as_deref(), Some(expected), "{base} + {reference}");
        }
    }

    #[test]
    fn what_is_no_url_of_the_web_is_refused() {
        for text in ["mailto:a", "ftp://a", "http://", "http://u@a/", "http://a b/", "http://a/\\"]
        {
            assert_eq!(Url::parse(text), None, "{text}");
        }
        let base = Url::parse("https://a/").unwrap();
        assert_eq!(base.join("javascript:alert"), None);
        assert_eq!(base.join("a b"), None);
    }
}
