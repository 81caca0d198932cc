//! Talks to a node's HTTP API.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use lamina_certificate::Genesis;
use lamina_types::{
    Canonical, Digest, Height, OperationId, SignedOperation, SignedTaskRequest, TaskId,
};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;

/// Longest answer that is read, in bytes: a list of tasks with large outputs.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Longer than the node makes anyone wait.
const TIMEOUT: Duration = Duration::from_secs(90);

/// Longest upload: half a gigabyte at a few megabits a second.
const UPLOAD_MAX: Duration = Duration::from_secs(30 * 60);

/// A node, as its users see it.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    /// `url` as `http://127.0.0.1:4100`.
    pub(crate) fn new(url: &str) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
        Ok(Self { http, url: url.trim_end_matches('/').to_owned() })
    }

    /// Reads JSON.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.json(self.request(Method::GET, path)).await
    }

    pub(crate) async fn genesis(&self) -> anyhow::Result<Genesis> {
        serde_json::from_value(self.get("/v1/genesis").await?).context("the node's genesis file")
    }

    pub(crate) async fn put_component(&self, bytes: Vec<u8>) -> anyhow::Result<()> {
        self.json(self.request(Method::PUT, "/v1/components").body(bytes)).await.map(drop)
    }

    /// Whether the node has the blob already.
    pub(crate) async fn has_blob(&self, digest: &Digest) -> anyhow::Result<bool> {
        Ok(self.get(&format!("/v1/blobs/{digest}")).await?["bytes"].is_u64())
    }

    /// Uploads the file at `path`, which has this hash.
    pub(crate) async fn put_blob(&self, digest: &Digest, path: &Path) -> anyhow::Result<()> {
        let file = tokio::fs::File::open(path)
            .await
            .with_context(|| format!("reading {}", path.display()))?;
        let request = self.request(Method::PUT, &format!("/v1/blobs/{digest}")).body(file);
        self.json(request.timeout(UPLOAD_MAX)).await.map(drop)
    }

    pub(crate) async fn submit_task(&self, request: &SignedTaskRequest) -> anyhow::Result<TaskId> {
        let request = self.request(Method::POST, "/v1/tasks").body(request.to_bytes());
        let answer = self.json(request).await?;
        serde_json::from_value(answer["id"].clone()).context("the node's answer")
    }

    /// A task, after it ended or the wait did.
    pub(crate) async fn task(&self, id: &TaskId, wait: Duration) -> anyhow::Result<Value> {
        let path = format!("/v1/tasks/{id}?wait_ms={}", wait.as_millis());
        self.get(&path).await
    }

    /// The bytes that `lamina task verify` reads.
    pub(crate) async fn certificate(&self, id: &TaskId) -> anyhow::Result<Vec<u8>> {
        let path = format!("/v1/tasks/{id}/certificate");
        self.bytes(self.request(Method::GET, &path)).await
    }

    pub(crate) async fn submit_operation(
        &self,
        signed: &SignedOperation,
    ) -> anyhow::Result<OperationId> {
        let request = self.request(Method::POST, "/v1/operations").body(signed.to_bytes());
        let answer = self.json(request).await?;
        serde_json::from_value(answer["id"].clone()).context("the node's answer")
    }

    /// The latest checkpoint's height at the node.
    pub(crate) async fn height(&self) -> anyhow::Result<Height> {
        let view = self.get("/v1/ledger").await?;
        serde_json::from_value(view["height"].clone()).context("the node's answer has no height")
    }

    /// An operation, after it's final or the wait ended.
    pub(crate) async fn operation(
        &self,
        id: &OperationId,
        wait: Duration,
    ) -> anyhow::Result<Value> {
        self.get(&format!("/v1/operations/{id}?wait_ms={}", wait.as_millis())).await
    }

    /// The bytes of a file.
    pub(crate) async fn file(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        self.bytes(self.request(Method::GET, path)).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    async fn json(&self, request: RequestBuilder) -> anyhow::Result<Value> {
        let bytes = self.bytes(request).await?;
        serde_json::from_slice(&bytes)
            .with_context(|| format!("{} isn't a Lamina node's API", self.url))
    }

    async fn bytes(&self, request: RequestBuilder) -> anyhow::Result<Vec<u8>> {
        let answer = request.send().await.map_err(|error| self.explain(error))?;
        let status = answer.status();
        let bytes = self.read(answer).await?;
        if status.is_success() {
            return Ok(bytes);
        }
        let message = serde_json::from_slice::<Value>(&bytes)
            .ok()
            .and_then(|body| body["error"].as_str().map(ToOwned::to_owned));
        match message {
            Some(message) => anyhow::bail!("{message}"),
            None => anyhow::bail!("{} answered {status}", self.url),
        }
    }

    async fn read(&self, mut answer: Response) -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            anyhow::ensure!(
                bytes.len() + chunk.len() <= ANSWER_BYTES_MAX,
                "{} answers with more than {ANSWER_BYTES_MAX} bytes",
                self.url
            );
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn explain(&self, error: reqwest::Error) -> anyhow::Error {
        if error.is_connect() {
            return anyhow::anyhow!(
                "no node answers at {}; start one with `lamina node run`, or name another with --api",
                self.url
            );
        }
        anyhow::Error::from(error).context(format!("asking {}", self.url))
    }
}
