//! HTTP with a bound on what comes back, as alloy's clients take it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use alloy::rpc::json_rpc::{RequestPacket, ResponsePacket};
use alloy::transports::{TransportError, TransportErrorKind};
use reqwest::{Client, Url};
use tower::Service;

/// An endpoint's answer was longer than allowed.
#[derive(Debug, thiserror::Error)]
#[error("an answer of more than {bytes_max} bytes")]
pub(crate) struct TooLong {
    bytes_max: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Bounded {
    pub(crate) client: Client,
    pub(crate) url: Url,
    pub(crate) bytes_max: usize,
}

impl Bounded {
    async fn ask(self, packet: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let request = self.client.post(self.url).json(&packet);
        let mut response = request.send().await.map_err(failed)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > self.bytes_max {
                let too_long = TooLong { bytes_max: self.bytes_max };
                return Err(TransportErrorKind::custom(too_long));
            }
            body.extend_from_slice(&chunk);
        }
        // Some endpoints answer errors with a status and an ordinary body.
        let status = response.status();
        match serde_json::from_slice(&body) {
            Ok(answer) => Ok(answer),
            Err(_) if !status.is_success() => {
                Err(TransportErrorKind::http_error(status.as_u16(), String::new()))
            }
            Err(error) => Err(TransportError::deser_err(error, String::new())),
        }
    }
}

/// Without the address, which may have a secret in it.
fn failed(error: reqwest::Error) -> TransportError {
    TransportErrorKind::custom(error.without_url())
}

impl Service<RequestPacket> for Bounded {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = Pin<Box<dyn Future<Output = Result<ResponsePacket, TransportError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        Box::pin(self.clone().ask(packet))
    }
}
