//! Requests through `wasi:http`.

use std::time::Duration;

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    RequestOptions, Scheme,
};
use wasip2::io::streams::StreamError;

use crate::http::{Error, Request, Response, Url};

/// Sends one request, and reads the response whole. Redirects are responses as others.
pub(crate) fn send(request: &Request) -> Result<Response, Error> {
    let outgoing = outgoing(request)?;
    let body = outgoing.body().map_err(|()| refused("it has no body"))?;
    let sent = outgoing_handler::handle(outgoing, Some(options(request.timeout)));
    let response = sent.map_err(|code| failed(request, &code))?;
    write_body(request, body)?;
    response.subscribe().block();
    let response =
        response.get().and_then(Result::ok).ok_or_else(|| refused("it was answered twice"))?;
    let response = response.map_err(|code| failed(request, &code))?;
    let (status, headers) = (response.status(), response.headers().entries());
    let body = read_body(request, response)?;
    let headers = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
    Ok(Response { status, headers: headers.collect(), body })
}

fn outgoing(request: &Request) -> Result<OutgoingRequest, Error> {
    let url = Url::parse(&request.url).ok_or_else(|| Error::Url { url: request.url.clone() })?;
    let mut headers: Vec<_> =
        request.headers.iter().map(|(n, v)| (n.clone(), v.clone().into_bytes())).collect();
    if !request.body.is_empty() {
        headers.push(("content-length".to_owned(), request.body.len().to_string().into_bytes()));
    }
    let headers = Fields::from_list(&headers).map_err(|error| refused(&error.to_string()))?;
    let outgoing = OutgoingRequest::new(headers);
    let scheme = if url.is_https() { Scheme::Https } else { Scheme::Http };
    let path = if url.path.is_empty() { "/" } else { &url.path };
    outgoing
        .set_method(&method(&request.method))
        .and_then(|()| outgoing.set_scheme(Some(&scheme)))
        .and_then(|()| outgoing.set_authority(Some(&url.authority)))
        .and_then(|()| outgoing.set_path_with_query(Some(path)))
        .map_err(|()| refused("its method or its URL isn't valid"))?;
    Ok(outgoing)
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        _ => Method::Other(name.to_owned()),
    }
}

/// A host that doesn't support one of these has a bound of its own.
fn options(timeout: Duration) -> RequestOptions {
    let options = RequestOptions::new();
    let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
    let _ = options.set_connect_timeout(Some(timeout));
    let _ = options.set_first_byte_timeout(Some(timeout));
    let _ = options.set_between_bytes_timeout(Some(timeout));
    options
}

fn write_body(request: &Request, body: OutgoingBody) -> Result<(), Error> {
    let stream = body.write().map_err(|()| refused("its body can't be written"))?;
    for part in request.body.chunks(WRITE_BYTES) {
        stream.blocking_write_and_flush(part).map_err(|error| broken(request, &error))?;
    }
    drop(stream);
    OutgoingBody::finish(body, None).map_err(|code| failed(request, &code))
}

fn read_body(request: &Request, response: IncomingResponse) -> Result<Vec<u8>, Error> {
    let incoming: IncomingBody = response.consume().map_err(|()| refused("it has no answer"))?;
    let stream = incoming.stream().map_err(|()| refused("it has no answer"))?;
    let mut body = Vec::new();
    loop {
        match stream.blocking_read(READ_BYTES) {
            Ok(part) => body.extend(part),
            Err(StreamError::Closed) => return Ok(body),
            Err(error) => return Err(broken(request, &error)),
        }
        let bytes_max = request.body_bytes_max;
        if body.len() > bytes_max {
            return Err(Error::TooLong { url: request.url.clone(), bytes_max });
        }
    }
}

/// The most that WASI writes at once.
const WRITE_BYTES: usize = 4096;
/// What is read at once.
const READ_BYTES: u64 = 64 << 10;

fn refused(reason: &str) -> Error {
    Error::Request { reason: reason.to_owned() }
}

fn failed(request: &Request, code: &ErrorCode) -> Error {
    Error::Failed { url: request.url.clone(), reason: code.to_string() }
}

fn broken(request: &Request, error: &StreamError) -> Error {
    Error::Failed { url: request.url.clone(), reason: error.to_string() }
}
