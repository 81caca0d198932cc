//! Requests to the outside world, for what oracles `observe`. In `reduce` and in services they end the run.
//!
//! The manifest names the hosts that may be reached, and the operator's node checks each request, redirects included.
//!
//! ```
//! use lamina_sdk::http::{self, Request, Response};
//!
//! # lamina_sdk::testing::set_response("https://harbour.example/tide", Response::new(200, "2.4"));
//! let response = http::get("https://harbour.example/tide")?.ok()?;
//! assert_eq!(response.text()?, "2.4");
//!
//! # lamina_sdk::testing::set_response("https://harbour.example/query", Response::new(200, "{}"));
//! let request = Request::post("https://harbour.example/query", r#"{"at":"noon"}"#)
//!     .header("content-type", "application/json")
//!     .body_bytes_max(4096);
//! let response = request.send()?.ok()?;
//! # Ok::<(), http::Error>(())
//! ```

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::value::from_json;
use crate::{DecodeError, host};

mod url;

pub(crate) use url::Url;

/// Gets what's at `url`.
///
/// # Errors
/// All of [`Error`] but [`Error::Status`]: see [`Response::ok`].
pub fn get(url: impl Into<String>) -> Result<Response, Error> {
    Request::get(url).send()
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Where: `http://` or `https://`.
    pub url: String,
    /// GET, POST or another of HTTP's methods.
    pub method: String,
    /// Names and values. What HTTP itself needs is added.
    pub headers: Vec<(String, String)>,
    /// What is sent.
    pub body: Vec<u8>,
    /// Bounds each of: the connection, the response's first byte, and the wait between any two parts of its body.
    pub timeout: Duration,
    /// The most bytes of the response's body.
    pub body_bytes_max: usize,
    /// How many redirects are followed.
    pub redirects_max: u32,
}

impl Request {
    /// A request of any method, without headers and body.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            method: method.into(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout: TIMEOUT,
            body_bytes_max: BODY_BYTES_MAX,
            redirects_max: REDIRECTS_MAX,
        }
    }

    /// Asks for what's at `url`.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// Sends `body` to `url`.
    pub fn post(url: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new("POST", url) }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets [`Request::timeout`]; 10 seconds by default.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Sets [`Request::body_bytes_max`]; 1 MiB by default.
    #[must_use]
    pub fn body_bytes_max(self, body_bytes_max: usize) -> Self {
        Self { body_bytes_max, ..self }
    }

    /// Sets [`Request::redirects_max`]; 5 by default.
    #[must_use]
    pub fn redirects_max(self, redirects_max: u32) -> Self {
        Self { redirects_max, ..self }
    }

    /// Sends it, follows redirects and reads the response whole. Any status will do: see [`Response::ok`].
    ///
    /// A redirect to another host isn't given the headers `authorization`, `cookie` and `proxy-authorization`, and one from
    /// `https` to `http` isn't followed.
    ///
    /// # Errors
    /// All of [`Error`] but [`Error::Status`].
    pub fn send(&self) -> Result<Response, Error> {
        let mut request = self.clone();
        for _ in 0..=self.redirects_max {
            let url =
                Url::parse(&request.url).ok_or_else(|| Error::Url { url: request.url.clone() })?;
            let response = host::send(&request)?;
            let Some(location) = response.location() else { return Ok(response) };
            let target = url.join(location);
            let target = target.ok_or_else(|| Error::Url { url: location.to_owned() })?;
            if url.is_https() && !target.is_https() {
                return Err(Error::Downgrade { url: target.to_string() });
            }
            request.redirect(response.status, &url, &target);
        }
        Err(Error::Redirects { url: self.url.clone(), redirects_max: self.redirects_max })
    }

    /// Makes this the request to which a response with `status` redirects. RFC 9110, §15.4.
    fn redirect(&mut self, status: u16, from: &Url, to: &Url) {
        let keeps_method = matches!(status, 307 | 308);
        if !keeps_method && self.method != "HEAD" {
            "GET".clone_into(&mut self.method);
            self.body.clear();
            self.headers.retain(|(name, _)| !is_one_of(name, &["content-type"]));
        }
        if !from.is_same_origin(to) {
            self.headers.retain(|(name, _)| !is_one_of(name, &SECRET_HEADERS));
        }
        self.url = to.to_string();
    }
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// 200 if all is well.
    pub status: u16,
    /// Names, in lower case, and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// What came.
    pub body: Vec<u8>,
}

impl Response {
    /// A response without headers, for tests.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// Adds a header, for tests.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.into()));
        self
    }

    /// Only a response with a status from 200 to 299.
    ///
    /// # Errors
    /// [`Error::Status`].
    pub fn ok(self) -> Result<Self, Error> {
        match self.status {
            200..=299 => Ok(self),
            status => Err(Error::Status { status }),
        }
    }

    /// The first value of the header `name`, if it's there and text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        header.and_then(|(_, value)| str::from_utf8(value).ok())
    }

    /// The body as text.
    ///
    /// # Errors
    /// [`Error::Body`] if it isn't UTF-8.
    pub fn text(&self) -> Result<&str, Error> {
        str::from_utf8(&self.body).map_err(|_| Error::Body(DecodeError::NotText))
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// [`Error::Body`] if it isn't a `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        from_json(&self.body).map_err(Error::Body)
    }

    /// Where it redirects to, if it does.
    fn location(&self) -> Option<&str> {
        matches!(self.status, 301 | 302 | 303 | 307 | 308).then(|| self.header("location"))?
    }

    /// As the host's stand-in gives it, which has the body at once.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn bounded(self, request: &Request) -> Result<Self, Error> {
        let bytes_max = request.body_bytes_max;
        if self.body.len() > bytes_max {
            return Err(Error::TooLong { url: request.url.clone(), bytes_max });
        }
        Ok(self)
    }
}

/// Why there's no response, or not the one that was hoped for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not a URL that can be requested.
    #[error("{url:?} isn't a URL that begins with http:// or https://")]
    Url {
        /// What it is.
        url: String,
    },
    /// A method or header that HTTP doesn't have.
    #[error("the request can't be sent: {reason}")]
    Request {
        /// Which one, and why.
        reason: String,
    },
    /// The server can't or mustn't be reached, or doesn't answer in time or form.
    #[error("{url} couldn't be read: {reason}")]
    Failed {
        /// What was requested.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The body has more bytes than the request allows.
    #[error("{url} answered with more than {bytes_max} bytes")]
    TooLong {
        /// What was requested.
        url: String,
        /// What the request allows.
        bytes_max: usize,
    },
    /// One redirect after the other.
    #[error("{url} leads to more than {redirects_max} redirects")]
    Redirects {
        /// What was requested first.
        url: String,
        /// What the request allows.
        redirects_max: u32,
    },
    /// A redirect from `https` to `http`.
    #[error("a redirect leads to {url}, which isn't encrypted")]
    Downgrade {
        /// Where to.
        url: String,
    },
    /// The server doesn't agree with the request, or has trouble of its own.
    #[error("the server answered with status {status}")]
    Status {
        /// HTTP's number for it.
        status: u16,
    },
    /// The body isn't what was expected.
    #[error("the response {0}")]
    Body(DecodeError),
}

/// By default. Longer than most servers take, and shorter than operators wait for observations.
const TIMEOUT: Duration = Duration::from_secs(10);
/// By default. A service's memory bounds it, too.
const BODY_BYTES_MAX: usize = 1 << 20;
/// By default.
const REDIRECTS_MAX: u32 = 5;
/// What only the first host is told.
const SECRET_HEADERS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

fn is_one_of(name: &str, names: &[&str]) -> bool {
    names.iter().any(|other| name.eq_ignore_ascii_case(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn redirect(status: u16, from: &str, to: &str) {
        testing::set_response(from, Response::new(status, "").with_header("Location", to));
    }

    #[test]
    fn redirects_are_followed_to_the_end() {
        redirect(301, "http://a.example", "https://a.example/b");
        redirect(302, "https://a.example/b", "c?d");
        redirect(307, "https://a.example/c?d", "//e.example/");
        testing::set_response("https://e.example/", Response::new(200, "end"));
        assert_eq!(get("http://a.example").unwrap().text(), Ok("end"));
        assert_eq!(testing::requests().len(), 4);
    }

    #[test]
    fn redirects_end() {
        redirect(302, "https://a.example/", "/");
        let error = get("https://a.example/").unwrap_err();
        assert_eq!(error.to_string(), "https://a.example/ leads to more than 5 redirects");
        assert_eq!(testing::requests().len(), 6);
    }

    #[test]
    fn encryption_is_not_given_up() {
        redirect(302, "https://a.example/", "http://a.example/");
        assert!(matches!(get("https://a.example/"), Err(Error::Downgrade { .. })));
    }

    #[test]
    fn another_host_is_told_no_secrets() {
        redirect(308, "https://a.example/", "https://b.example/");
        testing::set_response("https://b.example/", Response::new(204, ""));
        let request = Request::post("https://a.example/", "body")
            .header("Authorization", "secret")
            .header("accept", "text/plain");
        request.send().unwrap();
        let second = &testing::requests()[1];
        assert_eq!((second.method.as_str(), second.body.as_slice()), ("POST", b"body".as_slice()));
        assert_eq!(second.headers, [("accept".to_owned(), "text/plain".to_owned())]);
    }

    #[test]
    fn post_becomes_get_where_it_is_told_to_look_elsewhere() {
        redirect(303, "https://a.example/", "/b");
        testing::set_response("https://a.example/b", Response::new(200, ""));
        Request::post("https://a.example/", "body").send().unwrap();
        let second = &testing::requests()[1];
        assert_eq!((second.method.as_str(), second.body.len()), ("GET", 0));
    }

    #[test]
    fn body_is_bounded_and_typed() {
        testing::set_response("https://a.example/", Response::new(200, "[1,2,3]"));
        let request = Request::get("https://a.example/");
        assert_eq!(request.send().unwrap().json(), Ok([1, 2, 3]));
        let error = request.body_bytes_max(6).send().unwrap_err().to_string();
        assert_eq!(error, "https://a.example/ answered with more than 6 bytes");
    }

    #[test]
    fn status_is_an_error_only_if_it_is_asked_for() {
        testing::set_response("https://a.example/", Response::new(404, "nothing"));
        let response = get("https://a.example/").unwrap();
        assert_eq!(response.text(), Ok("nothing"));
        assert_eq!(response.ok(), Err(Error::Status { status: 404 }));
    }

    #[test]
    fn only_the_web_is_requested() {
        for url in ["ftp://a.example", "a.example", "https://", "", "http:///a"] {
            assert!(matches!(get(url), Err(Error::Url { .. })), "{url}");
        }
    }
}
