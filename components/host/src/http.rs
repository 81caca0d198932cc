//! What an oracle's `observe` reaches by HTTP: origins that its manifest names and this operator allows.
//!
//! [`HttpClient`] is made once. Each observation has its own [`HttpHooks`], through which `wasi:http/outgoing-handler`
//! sends: they count requests, bound what goes out and comes in, and note in plain sentences what was refused.
//!
//! Where a request may go is decided on the URL that's sent, and at which address on the answer that's connected to, so
//! a name can't resolve to one address for the check and to another for the connection. A redirect isn't followed: the
//! service gets it as the response and may send another request, which is checked like the first. Nothing of a request
//! outlives it, neither cookies nor connections, so one service can't meet what another left behind.
//!
//! What responses say is for `reduce` to weigh; plain `http` can be changed by anyone on the way.

use std::error::Error as StdError;
use std::fmt;
use std::future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Method, Uri, header};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use lamina_types::{Oracle, Origin};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Url, redirect, retry};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, WasiBody, WasiHttpHooks,
};

/// What an operator lets oracles reach by HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Where requests may go to: `"any"`, or a list of origins such as `["https://api.example.org"]`. None by default.
    ///
    /// A service reaches those of its manifest that are also here; if one is missing, this operator doesn't observe.
    pub origins: Allowed<Origin>,
    /// Those that may lead to addresses which aren't public: this machine, the local network. None by default, since
    /// whoever answers for a name can make it lead to the operator's own services. To be in `origins` as well.
    pub private_origins: Vec<Origin>,
    /// Most requests in one observation, refused ones included.
    pub requests_max: u32,
    /// Longest body of a request, in bytes.
    pub request_bytes_max: u32,
    /// Longest body of a response, in bytes.
    pub response_bytes_max: u32,
    /// How long one request may take, from looking up its name to the last byte of the response.
    #[serde(with = "humantime_serde")]
    pub time_max: Duration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            origins: Allowed::default(),
            private_origins: Vec::new(),
            requests_max: 16,
            request_bytes_max: 64 << 10,
            response_bytes_max: 1 << 20,
            time_max: Duration::from_secs(10),
        }
    }
}

impl HttpConfig {
    /// Checks that the oracle may reach all that it names.
    ///
    /// # Errors
    /// The first origin that this operator doesn't allow.
    pub(crate) fn admits(&self, oracle: &Oracle) -> Result<(), Origin> {
        let mut origins = oracle.origins.as_slice().iter();
        origins.find(|origin| !self.origins.contains(origin)).map_or(Ok(()), |o| Err(o.clone()))
    }
}

/// What is allowed of all that there is: `"any"`, or a list. By default nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed<T> {
    /// Everything.
    Any,
    /// These only.
    These(Vec<T>),
}

impl<T: PartialEq> Allowed<T> {
    /// Whether `value` is allowed.
    #[must_use]
    pub fn contains(&self, value: &T) -> bool {
        match self {
            Self::Any => true,
            Self::These(values) => values.contains(value),
        }
    }
}

impl<T> Default for Allowed<T> {
    fn default() -> Self {
        Self::These(Vec::new())
    }
}

impl<T: Serialize> Serialize for Allowed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => serializer.serialize_str(ANY),
            Self::These(values) => values.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Allowed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AllowedVisitor(std::marker::PhantomData))
    }
}

struct AllowedVisitor<T>(std::marker::PhantomData<T>);

impl<'de, T: Deserialize<'de>> de::Visitor<'de> for AllowedVisitor<T> {
    type Value = Allowed<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ANY:?} or a list")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        if text == ANY {
            return Ok(Allowed::Any);
        }
        Err(E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(Allowed::These)
    }
}

const ANY: &str = "any";

/// Sends what observations ask for. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct HttpClient(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: HttpConfig,
    /// For origins that must be at public addresses.
    public: Client,
    /// For those in `private_origins`.
    private: Client,
}

impl HttpClient {
    /// A client for this operator.
    ///
    /// # Errors
    /// In a sentence, why the machine's TLS certificates couldn't be loaded.
    pub(crate) fn new(config: HttpConfig) -> Result<Self, String> {
        let failed = |error| format!("starting the HTTP client: {}", causes(&error));
        let private = client_builder(config.time_max);
        let public = client_builder(config.time_max).dns_resolver(Arc::new(PublicResolver));
        let (private, public) = (private.build().map_err(failed)?, public.build().map_err(failed)?);
        Ok(Self(Arc::new(Shared { config, public, private })))
    }

    /// What one observation of the oracle sends through.
    pub(crate) fn hooks(&self, oracle: &Oracle) -> HttpHooks {
        HttpHooks {
            client: self.clone(),
            origins: oracle.origins.as_slice().to_vec(),
            requests: 0,
            refusals: Refusals::default(),
        }
    }

    /// What the client was made with.
    pub(crate) fn config(&self) -> &HttpConfig {
        &self.0.config
    }

    fn is_private(&self, origin: &Origin) -> bool {
        self.0.config.private_origins.contains(origin)
    }

    /// The one that connects where `origin` may lead to.
    fn of(&self, origin: &Origin) -> &Client {
        if self.is_private(origin) { &self.0.private } else { &self.0.public }
    }
}

/// What all of our clients have in common: no redirects, retries, proxies or kept connections.
pub(crate) fn client_builder(time_max: Duration) -> reqwest::ClientBuilder {
    Client::builder()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .no_proxy()
        .pool_max_idle_per_host(0)
        .connect_timeout(time_max.min(CONNECT_TIME_MAX))
        .user_agent("lamina")
}

/// Longest wait for a connection. A guess: the second repetition of a lost SYN comes after three seconds (RFC 6298).
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// What one observation sends through, and what was refused to it.
#[derive(Debug)]
pub(crate) struct HttpHooks {
    client: HttpClient,
    origins: Vec<Origin>,
    requests: u32,
    refusals: Refusals,
}

impl HttpHooks {
    /// What was refused so far and why, first to last, in a sentence each. Those beyond the first dozen are left out.
    pub(crate) fn refusals(&self) -> Vec<String> {
        self.refusals.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Checks all that can be known before anything is sent.
    fn admit(&mut self, method: &Method, uri: &Uri) -> Result<(Origin, Url), Refusal> {
        let config = self.client.config();
        if self.requests >= config.requests_max {
            let reason = format!("more than {} requests in one observation", config.requests_max);
            return Err(Refusal(Error::HttpRequestDenied, reason));
        }
        self.requests += 1;
        if FORBIDDEN_METHODS.contains(&method.as_str()) {
            let reason = format!("the method {method} isn't for services");
            return Err(Refusal(Error::HttpRequestMethodInvalid, reason));
        }
        let (origin, url) = parse(uri)?;
        let denied = |reason| Err(Refusal(Error::HttpRequestDenied, reason));
        if !self.origins.contains(&origin) {
            return denied(format!("{origin} isn't among the manifest's origins"));
        }
        if !config.origins.contains(&origin) {
            let advice = "allow it with components.http.origins";
            return denied(format!("{origin} isn't among this operator's origins; {advice}"));
        }
        // A client looks up names only, so addresses are checked here.
        match origin.host().parse::<IpAddr>() {
            Ok(address) if !is_public(address) && !self.client.is_private(&origin) => {
                Err(NotPublic(address).refusal(&origin))
            }
            _ => Ok((origin, url)),
        }
    }
}

impl WasiHttpHooks for HttpHooks {
    /// It follows from the URL.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        match self.admit(request.method(), request.uri()) {
            Ok((origin, url)) => {
                let (client, refusals) = (self.client.clone(), self.refusals.clone());
                let exchange = Exchange { client, origin, refusals };
                Box::new(exchange.run(request, url, options.unwrap_or_default()))
            }
            Err(refusal) => Box::new(future::ready(Err(self.refusals.note(refusal)))),
        }
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES
    }
}

/// The response, and what ends when the connection does: ours has no more to tell.
type Sent =
    Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

/// Most of a request's body that is copied at once, in bytes. wasmtime-wasi-http's own is 1 MiB, more than most bodies
/// may have.
const CHUNK_BYTES: usize = 16 << 10;

/// Methods that make a tunnel or an echo. Fetch, "forbidden method".
const FORBIDDEN_METHODS: [&str; 3] = ["CONNECT", "TRACE", "TRACK"];

/// One admitted request, on its way.
struct Exchange {
    client: HttpClient,
    origin: Origin,
    refusals: Refusals,
}

impl Exchange {
    async fn run(
        self,
        request: http::Request<WasiBody>,
        url: Url,
        options: RequestOptions,
    ) -> Sent {
        let request = self.outgoing(request, url);
        let response = self.client.of(&self.origin).execute(request);
        // The client can't tell waiting for a connection from waiting for an answer, so the service's bounds on
        // them are added up. Its bound between two bytes isn't kept: `time_max` holds for all of them.
        let time_max = self.client.config().time_max;
        let connect = options.connect_timeout.unwrap_or(time_max);
        let head_time_max = connect.saturating_add(options.first_byte_timeout.unwrap_or(time_max));
        let response = match tokio::time::timeout(head_time_max, response).await {
            Ok(response) => response.map_err(|error| self.failure(&error))?,
            Err(_) => return Err(Error::HttpResponseTimeout),
        };
        let response = self.incoming(response.into())?;
        Ok((response, Box::new(future::ready(Ok(())))))
    }

    fn outgoing(&self, request: http::Request<WasiBody>, url: Url) -> reqwest::Request {
        let config = self.client.config();
        let (mut parts, body) = request.into_parts();
        strip(&mut parts.headers);
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        *request.timeout_mut() = Some(config.time_max);
        if !body.is_end_stream() {
            let body = Limited::new(body, config.request_bytes_max as usize).into_data_stream();
            *request.body_mut() = Some(reqwest::Body::wrap_stream(body));
        }
        request
    }

    fn incoming(
        self,
        response: http::Response<reqwest::Body>,
    ) -> Result<http::Response<WasiBody>, Error> {
        let bytes = response.headers().iter().map(|(k, v)| k.as_str().len() + v.len()).sum();
        if HEADER_BYTES_MAX < bytes {
            let max = u32::try_from(HEADER_BYTES_MAX).ok();
            return Err(self.refuse(
                Error::HttpResponseHeaderSectionSize(max),
                format!("sent {bytes} bytes of headers, at most {HEADER_BYTES_MAX} are taken"),
            ));
        }
        let max = self.client.config().response_bytes_max;
        if response.body().size_hint().lower() > max.into() {
            return Err(self.response_too_long());
        }
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, max as usize).map_err(move |error| {
            if error.is::<LengthLimitError>() {
                return self.response_too_long();
            }
            error.downcast_ref().map_or(Error::HttpResponseIncomplete, |error| self.failure(error))
        });
        Ok(http::Response::from_parts(parts, body.boxed_unsync()))
    }

    /// What the service is told of a request that came to nothing.
    fn failure(&self, error: &reqwest::Error) -> Error {
        tracing::debug!(origin = %self.origin, error = causes(error), "HTTP request failed");
        if let Some(not_public) = cause::<NotPublic>(error) {
            return self.refusals.note(not_public.refusal(&self.origin));
        }
        if cause::<LengthLimitError>(error).is_some() {
            let max = self.client.config().request_bytes_max;
            let reason = format!("was sent more than {max} bytes in one request");
            return self.refuse(Error::HttpRequestBodySize(Some(max.into())), reason);
        }
        match io_error_kind(error) {
            _ if error.is_dns() => Error::DnsError { rcode: None, info_code: None },
            _ if error.is_timeout() && error.is_connect() => Error::ConnectionTimeout,
            _ if error.is_timeout() => Error::HttpResponseTimeout,
            Some(io::ErrorKind::ConnectionRefused) => Error::ConnectionRefused,
            // As tokio-rustls puts what rustls says.
            Some(io::ErrorKind::InvalidData) if error.is_connect() => Error::TlsProtocolError,
            _ if error.is_connect() => Error::DestinationUnavailable,
            _ if error.is_body() || error.is_decode() => Error::HttpResponseIncomplete,
            _ => Error::HttpProtocolError,
        }
    }

    fn response_too_long(&self) -> Error {
        let max = self.client.config().response_bytes_max;
        let reason = format!("sent more than {max} bytes in one response");
        self.refuse(Error::HttpResponseBodySize(Some(max.into())), reason)
    }

    fn refuse(&self, error: Error, what_it_did: String) -> Error {
        self.refusals.note(Refusal(error, format!("{} {what_it_did}", self.origin)))
    }
}

/// Most of a response's headers, names and values, in bytes. A guess: a few thousand are common, and hyper itself would
/// take some 400,000.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// Takes away what's between two ends of a connection rather than between service and server. RFC 9110, section 7.6.1.
fn strip(headers: &mut HeaderMap) {
    for name in DEFAULT_FORBIDDEN_HEADERS.into_iter().chain([header::TE, header::TRAILER]) {
        headers.remove(name);
    }
}

/// The URL that `uri` comes to, and its origin.
///
/// URLs have other rules than URIs (`http://0x7f.1` leads to 127.0.0.1), and it's them that the client goes by.
fn parse(uri: &Uri) -> Result<(Origin, Url), Refusal> {
    let invalid = || {
        let uri = uri.to_string();
        let uri = &uri[..uri.floor_char_boundary(REFUSED_URI_BYTES)];
        Refusal(Error::HttpRequestUriInvalid, format!("{uri} isn't the URL of an origin"))
    };
    let url = Url::parse(&uri.to_string()).map_err(|_| invalid())?;
    let origin = Origin::new(url.scheme(), url.host_str().unwrap_or_default(), url.port());
    let has_user = !url.username().is_empty() || url.password().is_some();
    match origin {
        Ok(origin) if !has_user => Ok((origin, url)),
        _ => Err(invalid()),
    }
}

/// As much of a URI as is told, in bytes.
const REFUSED_URI_BYTES: usize = 200;

/// What the service is told, and why in a sentence.
struct Refusal(Error, String);

/// Why requests of one observation were refused.
#[derive(Debug, Clone, Default)]
struct Refusals(Arc<Mutex<Vec<String>>>);

impl Refusals {
    fn note(&self, Refusal(error, reason): Refusal) -> Error {
        let mut refusals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.len() < REFUSALS_MAX && !refusals.contains(&reason) {
            refusals.push(reason);
        }
        error
    }
}

/// Refusals that are kept for the operator. A guess: whoever has read these knows what's wrong.
const REFUSALS_MAX: usize = 12;

/// An origin leads to an address that isn't public.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("{0} isn't a public address")]
struct NotPublic(IpAddr);

impl NotPublic {
    fn refusal(self, origin: &Origin) -> Refusal {
        let Self(address) = self;
        let advice = "allow it with components.http.private_origins";
        let reason = format!("{origin} leads to a private address ({address}); {advice}");
        Refusal(Error::DestinationIpProhibited, reason)
    }
}

/// Looks names up as the machine does, and leaves out addresses that aren't public.
struct PublicResolver;

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let (public, other): (Vec<_>, Vec<_>) = found.partition(|a| is_public(a.ip()));
            match other.first() {
                Some(address) if public.is_empty() => Err(NotPublic(address.ip()).into()),
                _ => Ok(Box::new(public.into_iter()) as Addrs),
            }
        })
    }
}

/// Whether an address belongs to the public internet, as far as its number tells.
///
/// Less than what the registries of special-purpose addresses call globally reachable: their exceptions for protocols
/// (anycast of AMT, say) aren't where one finds websites. Of the ways to write an IPv4 address as an IPv6 one, only
/// NAT64's is taken, which is how IPv6-only machines reach the rest of the world; the address inside counts.
/// What a network's own NAT64 prefix leads to can't be known.
///
/// <https://www.iana.org/assignments/iana-ipv4-special-registry>,
/// <https://www.iana.org/assignments/iana-ipv6-special-registry>; RFC 6890.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let address = u32::from(address);
            let within = |&(network, bits): &(Ipv4Addr, u32)| {
                (address ^ u32::from(network)).leading_zeros() >= bits
            };
            !SPECIAL_V4.iter().any(within)
        }
        IpAddr::V6(address) => {
            let bytes = u128::from(address);
            let within = |&(network, bits): &(Ipv6Addr, u32)| {
                (bytes ^ u128::from(network)).leading_zeros() >= bits
            };
            if within(&NAT64) {
                let [.., a, b, c, d] = address.octets();
                return is_public(Ipv4Addr::new(a, b, c, d).into());
            }
            within(&GLOBAL_UNICAST_V6) && !SPECIAL_V6.iter().any(within)
        }
    }
}

/// Networks with the bits of their prefix.
const SPECIAL_V4: [(Ipv4Addr, u32); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),  // this network: RFC 791, section 3.2
    (Ipv4Addr::new(10, 0, 0, 0), 8), // private use: RFC 1918
    (Ipv4Addr::new(100, 64, 0, 0), 10), // shared by a carrier's NAT: RFC 6598
    (Ipv4Addr::new(127, 0, 0, 0), 8), // loopback: RFC 1122, section 3.2.1.3
    (Ipv4Addr::new(169, 254, 0, 0), 16), // link-local, and clouds' metadata: RFC 3927
    (Ipv4Addr::new(172, 16, 0, 0), 12), // private use: RFC 1918
    (Ipv4Addr::new(192, 0, 0, 0), 24), // IETF protocol assignments: RFC 6890, section 2.1
    (Ipv4Addr::new(192, 0, 2, 0), 24), // documentation: RFC 5737
    (Ipv4Addr::new(192, 88, 99, 0), 24), // 6to4 relays, deprecated: RFC 7526
    (Ipv4Addr::new(192, 168, 0, 0), 16), // private use: RFC 1918
    (Ipv4Addr::new(198, 18, 0, 0), 15), // benchmarking: RFC 2544
    (Ipv4Addr::new(198, 51, 100, 0), 24), // documentation: RFC 5737
    (Ipv4Addr::new(203, 0, 113, 0), 24), // documentation: RFC 5737
    (Ipv4Addr::new(224, 0, 0, 0), 4), // multicast: RFC 5771
    (Ipv4Addr::new(240, 0, 0, 0), 4), // reserved, and broadcast: RFC 1112, section 4; RFC 919
];

/// All that has been given out as global unicast, so none of `::/96` (compatible), `::ffff:0:0/96` (mapped),
/// `64:ff9b:1::/48` (NAT64 of local use), `100::/64` (discard), `fc00::/7` (unique-local), `fe80::/10` (link-local),
/// `ff00::/8` (multicast). RFC 4291, section 2.4; <https://www.iana.org/assignments/ipv6-address-space>.
const GLOBAL_UNICAST_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Networks within that one, with the bits of their prefix.
const SPECIAL_V6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocols, Teredo and benchmarking: RFC 2928, 4380, 5180
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation: RFC 3849
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4: RFC 3056
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation: RFC 9637
];

/// IPv4 addresses behind a translator. RFC 6052, section 2.1.
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// The first `E` among what caused `error`.
fn cause<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    chain(error).find_map(|cause| cause.downcast_ref())
}

/// The kind of the I/O error that caused `error`, also if that was wrapped in another one, which isn't its source then.
fn io_error_kind(error: &reqwest::Error) -> Option<io::ErrorKind> {
    let error = cause::<io::Error>(error)?;
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<io::Error>());
    Some(inner.unwrap_or(error).kind())
}

/// An error and its causes in one line.
pub(crate) fn causes(error: &(dyn StdError + 'static)) -> String {
    chain(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Instant;

    use bytes::Bytes;
    use http_body_util::{Empty, Full};
    use lamina_types::List;

    use super::*;

    /// What a [`Server`] does with each request.
    #[derive(Clone)]
    pub(crate) enum Answer {
        /// Sends these bytes.
        Bytes(Vec<u8>),
        /// Sends the first bytes of a response, and then nothing.
        Stall(Vec<u8>),
    }

    impl Answer {
        pub(crate) fn ok(body: &str) -> Self {
            let length = body.len();
            Self::Bytes(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}").into())
        }
    }

    /// A web server on the loopback device that answers everything alike.
    pub(crate) struct Server {
        pub(crate) port: u16,
        requests: Arc<Mutex<Vec<String>>>,
    }

    impl Server {
        pub(crate) fn start(answer: Answer) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let requests = Arc::new(Mutex::new(Vec::new()));
            let (heard, mut stalled) = (requests.clone(), Vec::new());
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    heard.lock().unwrap().push(read_request(&stream));
                    match &answer {
                        // The client may have hung up.
                        Answer::Bytes(bytes) => drop(stream.write_all(bytes)),
                        Answer::Stall(bytes) => {
                            drop(stream.write_all(bytes));
                            stalled.push(stream);
                        }
                    }
                }
            });
            Self { port, requests }
        }

        fn origin(&self) -> Origin {
            Origin::new("http", "127.0.0.1", Some(self.port)).unwrap()
        }

        /// The heads and bodies of the requests so far.
        pub(crate) fn requests(&self) -> Vec<String> {
            self.requests.lock().unwrap().clone()
        }
    }

    fn read_request(stream: &TcpStream) -> String {
        let (mut reader, mut head, mut length) = (BufReader::new(stream), String::new(), 0);
        // Until the empty line, or until the client hangs up.
        while reader.read_line(&mut head).is_ok_and(|bytes| bytes > 2) {
            let line = head.lines().last().unwrap_or_default();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        let _ = reader.read_exact(&mut body);
        head + &String::from_utf8_lossy(&body)
    }

    fn origin(text: &str) -> Origin {
        text.parse().unwrap()
    }

    fn oracle(origins: &[&Origin]) -> Oracle {
        let origins = origins.iter().map(|origin| (*origin).clone()).collect();
        Oracle { origins: List::new(origins).unwrap(), llm: None }
    }

    fn config() -> HttpConfig {
        HttpConfig { origins: Allowed::Any, ..HttpConfig::default() }
    }

    /// Those of an oracle that wants `origin`, at an operator that lets it lead to a private address.
    fn hooks(origin: &Origin, config: HttpConfig) -> HttpHooks {
        let config = HttpConfig { private_origins: vec![origin.clone()], ..config };
        HttpClient::new(config).unwrap().hooks(&oracle(&[origin]))
    }

    fn get(uri: impl fmt::Display) -> http::Request<WasiBody> {
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        http::Request::get(uri.to_string()).body(body).unwrap()
    }

    fn post(uri: impl fmt::Display, body: Vec<u8>) -> http::Request<WasiBody> {
        let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
        http::Request::post(uri.to_string()).body(body).unwrap()
    }

    async fn send(
        hooks: &mut HttpHooks,
        request: http::Request<WasiBody>,
    ) -> Result<http::Response<WasiBody>, Error> {
        let sent = hooks.send_request(request, None, Box::new(future::ready(Ok(()))));
        Box::into_pin(sent).await.map(|(response, _)| response)
    }

    async fn text(response: http::Response<WasiBody>) -> Result<String, Error> {
        let bytes = response.into_body().collect().await?.to_bytes();
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn admitted_request_is_answered() {
        let server = Server::start(Answer::ok("hello"));
        let mut hooks = hooks(&server.origin(), config());
        let mut request = post(format!("{}/path?query", server.origin()), b"body".to_vec());
        request.headers_mut().insert("x-of-the-service", "1".parse().unwrap());
        request.headers_mut().insert("content-length", "4".parse().unwrap());
        request.headers_mut().insert("te", "trailers".parse().unwrap());
        request.headers_mut().insert("host", "elsewhere.example".parse().unwrap());
        let response = send(&mut hooks, request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(text(response).await.unwrap(), "hello");
        let heard = server.requests().remove(0);
        assert!(heard.starts_with("POST /path?query HTTP/1.1\r\n"), "{heard}");
        assert!(heard.ends_with("\r\n\r\nbody"), "{heard}");
        assert!(heard.contains("x-of-the-service: 1"), "{heard}");
        assert!(heard.contains(&format!("host: 127.0.0.1:{}", server.port)), "{heard}");
        assert!(!heard.contains("te:") && !heard.contains("elsewhere"), "{heard}");
        assert!(hooks.refusals().is_empty());
    }

    /// A body that the service opened and didn't write to, as guests' libraries do for any method.
    struct Unwritten;

    impl http_body::Body for Unwritten {
        type Data = Bytes;
        type Error = Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, Error>>> {
            Poll::Ready(None)
        }
    }

    #[tokio::test]
    async fn opened_body_makes_a_plain_get() {
        let server = Server::start(Answer::ok("hello"));
        let mut hooks = hooks(&server.origin(), config());
        let request = get(server.origin()).map(|_| Unwritten.boxed_unsync());
        assert_eq!(text(send(&mut hooks, request).await.unwrap()).await.unwrap(), "hello");
        let heard = server.requests().remove(0).to_ascii_lowercase();
        assert!(!heard.contains("transfer-encoding"), "{heard}");
    }

    #[tokio::test]
    async fn what_is_not_tls_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
            // Until the client hangs up.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let origin = origin(&format!("https://127.0.0.1:{port}"));
        let sent = send(&mut hooks(&origin, config()), get(&origin)).await;
        assert!(matches!(sent, Err(Error::TlsProtocolError)), "{sent:?}");
    }

    #[tokio::test]
    async fn origins_outside_the_manifest_are_denied() {
        let mut hooks = hooks(&origin("https://api.example"), config());
        for uri in ["https://evil.example/", "http://api.example/", "https://api.example:8443/"] {
            assert!(matches!(send(&mut hooks, get(uri)).await, Err(Error::HttpRequestDenied)));
        }
        assert_eq!(hooks.refusals()[0], "https://evil.example isn't among the manifest's origins");
    }

    #[tokio::test]
    async fn origins_that_the_operator_does_not_allow_are_denied() {
        let mut hooks = hooks(&origin("https://api.example"), HttpConfig::default());
        let sent = send(&mut hooks, get("https://api.example/")).await;
        assert!(matches!(sent, Err(Error::HttpRequestDenied)));
        assert_eq!(
            hooks.refusals(),
            [
                "https://api.example isn't among this operator's origins; allow it with components.http.origins"
            ]
        );
    }

    #[test]
    fn first_origin_that_is_not_allowed_is_named() {
        let (a, b) = (origin("https://a.example"), origin("https://b.example"));
        let config = HttpConfig { origins: Allowed::These(vec![a.clone()]), ..config() };
        assert_eq!(config.admits(&oracle(&[])), Ok(()));
        assert_eq!(config.admits(&oracle(&[&a])), Ok(()));
        assert_eq!(config.admits(&oracle(&[&a, &b])), Err(b.clone()));
        let any = HttpConfig { origins: Allowed::Any, ..config };
        assert_eq!(any.admits(&oracle(&[&a, &b])), Ok(()));
    }

    #[tokio::test]
    async fn private_addresses_are_prohibited_however_they_are_written() {
        let server = Server::start(Answer::ok("secret"));
        let port = server.port;
        for host in ["127.0.0.1", "[::1]", "localhost"] {
            let origin = origin(&format!("http://{host}:{port}"));
            let mut hooks = HttpClient::new(config()).unwrap().hooks(&oracle(&[&origin]));
            let sent = send(&mut hooks, get(&origin)).await;
            assert!(matches!(sent, Err(Error::DestinationIpProhibited)), "{host}: {sent:?}");
            let refusals = hooks.refusals();
            let told = format!("{origin} leads to a private address (");
            assert!(refusals[0].starts_with(&told), "{refusals:?}");
            assert!(refusals[0].ends_with("allow it with components.http.private_origins"));
        }
        assert!(server.requests().is_empty());
    }

    #[tokio::test]
    async fn origins_are_those_of_the_url_that_is_sent() {
        let server = Server::start(Answer::ok("secret"));
        let (origin, port) = (server.origin(), server.port);
        for host in ["0x7f.1", "2130706433", "127.1"] {
            let mut hooks = HttpClient::new(config()).unwrap().hooks(&oracle(&[&origin]));
            let sent = send(&mut hooks, get(format!("http://{host}:{port}/"))).await;
            assert!(matches!(sent, Err(Error::DestinationIpProhibited)), "{host}: {sent:?}");
        }
        let mut hooks = hooks(&origin, config());
        for authority in ["user@127.0.0.1", "user:password@127.0.0.1", "localhost."] {
            let sent = send(&mut hooks, get(format!("http://{authority}:{port}/"))).await;
            assert!(matches!(sent, Err(Error::HttpRequestUriInvalid)), "{authority}: {sent:?}");
        }
        assert!(server.requests().is_empty());
    }

    #[tokio::test]
    async fn named_origin_may_lead_to_a_private_address() {
        let server = Server::start(Answer::ok("hello"));
        let named = origin(&format!("http://localhost:{}", server.port));
        let mut hooks = hooks(&named, config());
        assert_eq!(text(send(&mut hooks, get(&named)).await.unwrap()).await.unwrap(), "hello");
    }

    #[tokio::test]
    async fn another_port_of_a_private_origin_is_prohibited() {
        let (server, other) = (Server::start(Answer::ok("")), Server::start(Answer::ok("secret")));
        let config = HttpConfig { private_origins: vec![server.origin()], ..config() };
        let client = HttpClient::new(config).unwrap();
        let mut hooks = client.hooks(&oracle(&[&server.origin(), &other.origin()]));
        let sent = send(&mut hooks, get(other.origin())).await;
        assert!(matches!(sent, Err(Error::DestinationIpProhibited)), "{sent:?}");
        assert!(other.requests().is_empty());
    }

    #[tokio::test]
    async fn redirect_is_handed_to_the_service() {
        let target = Server::start(Answer::ok("secret"));
        let location = target.origin();
        let moved =
            format!("HTTP/1.1 302 Found\r\nlocation: {location}/\r\ncontent-length: 0\r\n\r\n");
        let server = Server::start(Answer::Bytes(moved.into()));
        let mut hooks = hooks(&server.origin(), config());
        let response = send(&mut hooks, get(server.origin())).await.unwrap();
        assert_eq!(response.status(), 302);
        let followed = send(&mut hooks, get(&location)).await;
        assert!(matches!(followed, Err(Error::HttpRequestDenied)), "{followed:?}");
        assert!(target.requests().is_empty());
    }

    #[tokio::test]
    async fn too_long_responses_end() {
        let config = HttpConfig { response_bytes_max: 10, ..config() };
        let announced = Answer::ok("12345678901");
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
            6\r\n123456\r\n6\r\n123456\r\n0\r\n\r\n";
        for answer in [announced, Answer::Bytes(chunked.into())] {
            let server = Server::start(answer);
            let mut hooks = hooks(&server.origin(), config.clone());
            let body = match send(&mut hooks, get(server.origin())).await {
                Ok(response) => text(response).await,
                Err(error) => Err(error),
            };
            assert!(matches!(body, Err(Error::HttpResponseBodySize(Some(10)))), "{body:?}");
            let told = format!("{} sent more than 10 bytes in one response", server.origin());
            assert_eq!(hooks.refusals(), [told]);
        }
    }

    #[tokio::test]
    async fn response_as_long_as_allowed_arrives() {
        let server = Server::start(Answer::ok("1234567890"));
        let config = HttpConfig { response_bytes_max: 10, ..config() };
        let mut hooks = hooks(&server.origin(), config);
        let response = send(&mut hooks, get(server.origin())).await.unwrap();
        assert_eq!(text(response).await.unwrap().len(), 10);
    }

    #[tokio::test]
    async fn too_many_headers_end_the_request() {
        let header = format!("x-long: {}\r\n", "a".repeat(8000)).repeat(10);
        let server =
            Server::start(Answer::Bytes(format!("HTTP/1.1 200 OK\r\n{header}\r\n").into()));
        let mut hooks = hooks(&server.origin(), config());
        let sent = send(&mut hooks, get(server.origin())).await;
        assert!(matches!(sent, Err(Error::HttpResponseHeaderSectionSize(_))), "{sent:?}");
    }

    #[tokio::test]
    async fn too_long_request_ends() {
        let server = Server::start(Answer::Stall(Vec::new()));
        let config = HttpConfig { request_bytes_max: 10, ..config() };
        let mut hooks = hooks(&server.origin(), config);
        let sent = send(&mut hooks, post(server.origin(), vec![b'a'; 11])).await;
        assert!(matches!(sent, Err(Error::HttpRequestBodySize(Some(10)))), "{sent:?}");
        let told = format!("{} was sent more than 10 bytes in one request", server.origin());
        assert_eq!(hooks.refusals(), [told]);
    }

    #[tokio::test]
    async fn slow_servers_have_their_time() {
        let config = HttpConfig { time_max: Duration::from_millis(200), ..config() };
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe";
        for bytes in ["", head] {
            let server = Server::start(Answer::Stall(bytes.into()));
            let mut hooks = hooks(&server.origin(), config.clone());
            let begin = Instant::now();
            let body = match send(&mut hooks, get(server.origin())).await {
                Ok(response) => text(response).await,
                Err(error) => Err(error),
            };
            assert!(matches!(body, Err(Error::HttpResponseTimeout)), "{body:?}");
            assert!(begin.elapsed() < Duration::from_secs(2));
        }
    }

    #[tokio::test]
    async fn service_may_wait_shorter() {
        let server = Server::start(Answer::Stall(Vec::new()));
        let mut hooks = hooks(&server.origin(), config());
        let wait = Some(Duration::from_millis(50));
        let options = RequestOptions {
            connect_timeout: wait,
            first_byte_timeout: wait,
            ..Default::default()
        };
        let processed = Box::new(future::ready(Ok(())));
        let sent = hooks.send_request(get(server.origin()), Some(options), processed);
        let sent = Box::into_pin(sent).await.map(|(response, _)| response);
        assert!(matches!(sent, Err(Error::HttpResponseTimeout)), "{sent:?}");
    }

    #[tokio::test]
    async fn response_that_breaks_off_is_incomplete() {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe";
        let server = Server::start(Answer::Bytes(head.into()));
        let mut hooks = hooks(&server.origin(), config());
        let body = text(send(&mut hooks, get(server.origin())).await.unwrap()).await;
        assert!(matches!(body, Err(Error::HttpResponseIncomplete)), "{body:?}");
    }

    #[tokio::test]
    async fn nobody_there_is_told() {
        let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let origin = origin(&format!("http://127.0.0.1:{unused}"));
        let sent = send(&mut hooks(&origin, config()), get(&origin)).await;
        assert!(matches!(sent, Err(Error::ConnectionRefused)), "{sent:?}");
    }

    #[tokio::test]
    async fn requests_are_counted() {
        let server = Server::start(Answer::ok(""));
        let config = HttpConfig { requests_max: 2, ..config() };
        let mut hooks = hooks(&server.origin(), config);
        assert!(send(&mut hooks, get(server.origin())).await.is_ok());
        assert!(send(&mut hooks, get("https://evil.example")).await.is_err());
        let third = send(&mut hooks, get(server.origin())).await;
        assert!(matches!(third, Err(Error::HttpRequestDenied)), "{third:?}");
        assert_eq!(server.requests().len(), 1);
        assert_eq!(hooks.refusals()[1], "more than 2 requests in one observation");
    }

    #[tokio::test]
    async fn tunnels_are_refused() {
        let server = Server::start(Answer::ok(""));
        let mut hooks = hooks(&server.origin(), config());
        let mut request = get(server.origin());
        *request.method_mut() = Method::CONNECT;
        let sent = send(&mut hooks, request).await;
        assert!(matches!(sent, Err(Error::HttpRequestMethodInvalid)), "{sent:?}");
    }

    #[tokio::test]
    async fn refusals_are_bounded() {
        let config = HttpConfig { requests_max: 100, ..config() };
        let mut hooks = hooks(&origin("https://api.example"), config);
        for n in 0..50 {
            let uri = format!("https://evil-{n}.example/{}", "a".repeat(10_000));
            assert!(send(&mut hooks, get(uri)).await.is_err());
        }
        assert_eq!(hooks.refusals().len(), REFUSALS_MAX);
        assert!(hooks.refusals().iter().all(|refusal| refusal.len() < 400));
    }

    #[tokio::test]
    async fn names_of_private_addresses_are_not_resolved() {
        let resolved = PublicResolver.resolve("localhost".parse().unwrap()).await;
        assert!(resolved.err().unwrap().is::<NotPublic>());
    }

    #[test]
    fn public_addresses_are_told_from_others() {
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:200::1",
            "2606:4700:4700::1111",
            "2a00::1",
            "3fff:1000::",
            "64:ff9b::8.8.8.8",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for other in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.0",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:1ff:ffff::",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "3fff:fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn origins_are_any_or_a_list() {
        let parse = |text: &str| toml::from_str::<HttpConfig>(text);
        assert_eq!(parse("").unwrap(), HttpConfig::default());
        assert_eq!(parse("origins = \"any\"").unwrap().origins, Allowed::Any);
        let some = parse("origins = [\"https://api.example\"]\ntime_max = \"3s\"").unwrap();
        assert_eq!(some.origins, Allowed::These(vec![origin("https://api.example")]));
        assert_eq!(some.time_max, Duration::from_secs(3));
        for config in [HttpConfig::default(), config(), some] {
            assert_eq!(parse(&toml::to_string(&config).unwrap()).unwrap(), config);
        }
        let wrong = parse("origins = \"all\"").unwrap_err().to_string();
        assert!(wrong.contains("expected \"any\" or a list"), "{wrong}");
        assert!(parse("origins = [\"https://api.example/\"]").is_err());
        assert!(parse("redirects = true").is_err());
    }
}
