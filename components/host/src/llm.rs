//! Asks a large language model for an oracle's `observe`: chat completions at an endpoint of the operator's choice.
//!
//! What's spoken is the chat completions that `vllm`, `llama.cpp` and hosted services have in common, as in
//! <https://platform.openai.com/docs/api-reference/chat>. Each request names the manifest's model and seed and
//! temperature 0, which makes answers alike and not the same. That the model is the pinned one is only known as far as
//! the endpoint says so.
//!
//! The endpoint is the operator's own choice: its address isn't checked, and services don't learn it. Its key is read
//! once and told to nobody else. Messages and answers are bounded; how often a service may ask, the caller bounds.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use lamina_types::Llm;
use reqwest::{Client, Url};
use serde::{Deserialize, Serialize};
use wasmtime::component::{ComponentType, Lift};
use zeroize::Zeroizing;

use crate::http::{Allowed, causes, client_builder};

/// Where this operator's oracles find language models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LlmConfig {
    /// The base of an endpoint for chat completions in the form of `OpenAI`'s: `http://127.0.0.1:8000/v1`.
    pub url: String,
    /// The models that services may ask: `"any"`, or a list of names. They differ in what they cost.
    pub models: Allowed<String>,
    /// A file with the endpoint's API key and nothing else, if it wants one.
    #[serde(default)]
    pub api_key_file: Option<PathBuf>,
    /// How long one answer may take. Within the time of a run, so that the service is told.
    #[serde(default = "default_time_max", with = "humantime_serde")]
    pub time_max: Duration,
    /// Most tokens of one answer. Services that ask for more get these.
    #[serde(default = "default_tokens_max")]
    pub tokens_max: u32,
    /// Longest response of the endpoint, in bytes.
    #[serde(default = "default_response_bytes_max")]
    pub response_bytes_max: u32,
}

fn default_time_max() -> Duration {
    Duration::from_secs(30)
}

fn default_tokens_max() -> u32 {
    1024
}

fn default_response_bytes_max() -> u32 {
    256 << 10
}

/// Who says a message; `role` of `lamina:service/llm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ComponentType, Lift)]
#[serde(rename_all = "lowercase")]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "guests make them, by lifting; the names are the contract's")]
pub(crate) enum Role {
    /// The instructions.
    #[component(name = "system")]
    System,
    /// The one who asks.
    #[component(name = "user")]
    User,
    /// The model.
    #[component(name = "assistant")]
    Assistant,
}

/// A message of a conversation; `message` of `lamina:service/llm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Message {
    /// Who says it.
    #[component(name = "role")]
    pub(crate) role: Role,
    /// What is said.
    #[component(name = "content")]
    pub(crate) content: String,
}

/// The operator's endpoint.
pub(crate) struct LlmClient {
    config: LlmConfig,
    completions: Url,
    client: Client,
    api_key: Option<Zeroizing<String>>,
}

impl LlmClient {
    /// A client for this operator. Reads the API key.
    ///
    /// # Errors
    /// In a sentence, what's wrong with the configuration.
    pub(crate) fn new(config: LlmConfig) -> Result<Self, String> {
        let completions = completions_url(&config.url)?;
        let api_key = config.api_key_file.as_deref().map(read_key).transpose()?;
        let client = client_builder(config.time_max).timeout(config.time_max).build();
        let client = client.map_err(|e| format!("starting the HTTP client: {}", causes(&e)))?;
        Ok(Self { config, completions, client, api_key })
    }

    /// Checks that services may ask this model here.
    ///
    /// # Errors
    /// In a sentence, why not.
    pub(crate) fn admits(&self, llm: &Llm) -> Result<(), String> {
        if self.config.models.contains(&llm.model.as_str().to_owned()) {
            return Ok(());
        }
        Err(format!("the model {} isn't among this operator's components.llm.models", llm.model))
    }

    /// What the model says next, in at most `tokens_max` tokens or what the operator allows.
    ///
    /// # Errors
    /// In a sentence that services may read, why there's no answer.
    pub(crate) async fn complete(
        &self,
        llm: &Llm,
        messages: Vec<Message>,
        tokens_max: u32,
    ) -> Result<String, String> {
        self.admits(llm)?;
        check(&messages)?;
        if tokens_max == 0 {
            return Err("an answer of at most 0 tokens says nothing".to_owned());
        }
        let request = ChatRequest {
            model: llm.model.as_str(),
            messages: &messages,
            seed: llm.seed,
            temperature: 0,
            max_tokens: tokens_max.min(self.config.tokens_max),
            stream: false,
        };
        let completion = self.request(&request).await?;
        if completion.model != llm.model.as_str() {
            let other = printable(&completion.model);
            return Err(format!("the endpoint answered with the model {other}, not {}", llm.model));
        }
        let choice = completion.choices.into_iter().next();
        let content = choice.and_then(|choice| choice.message.content);
        content.ok_or_else(|| "the endpoint's answer has no text".to_owned())
    }

    async fn request(&self, request: &ChatRequest<'_>) -> Result<ChatCompletion, String> {
        let mut post = self.client.post(self.completions.clone()).json(request);
        if let Some(api_key) = &self.api_key {
            post = post.header(header::AUTHORIZATION, bearer(api_key)?);
        }
        let response = post.send().await.map_err(|error| self.no_answer(error))?;
        if response.status() != StatusCode::OK {
            // What it says beside that may repeat the key.
            return Err(format!("the endpoint answered with status {}", response.status()));
        }
        let max = self.config.response_bytes_max;
        let body = Limited::new(reqwest::Body::from(response), max as usize).collect().await;
        let body = body.map_err(|error| match error.downcast::<reqwest::Error>() {
            Ok(error) => self.no_answer(*error),
            Err(error) if error.is::<LengthLimitError>() => {
                format!("the endpoint's answer has more than {max} bytes")
            }
            Err(_) => "the endpoint's answer broke off".to_owned(),
        })?;
        serde_json::from_slice(&body.to_bytes())
            .map_err(|_| "the endpoint's answer isn't a chat completion".to_owned())
    }

    /// The operator's log has the cause, with addresses that aren't the service's business.
    fn no_answer(&self, error: reqwest::Error) -> String {
        let timed_out = error.is_timeout();
        tracing::warn!(error = causes(&error.without_url()), "language model didn't answer");
        if timed_out {
            return format!("the endpoint didn't answer within {:?}", self.config.time_max);
        }
        "the endpoint didn't answer".to_owned()
    }
}

impl fmt::Debug for LlmClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LlmClient").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What's asked. <https://platform.openai.com/docs/api-reference/chat/create>.
#[derive(Serialize)]
struct ChatRequest<'a> {
    model: &'a str,
    messages: &'a [Message],
    seed: u64,
    temperature: u8,
    max_tokens: u32,
    stream: bool,
}

/// As much of the answer as matters. <https://platform.openai.com/docs/api-reference/chat/object>.
#[derive(Deserialize)]
struct ChatCompletion {
    model: String,
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: ChoiceMessage,
}

#[derive(Deserialize)]
struct ChoiceMessage {
    /// Null if the model called a tool or refused.
    content: Option<String>,
}

fn completions_url(base: &str) -> Result<Url, String> {
    // It isn't repeated here: what's too much in it may be a secret.
    let invalid = || {
        "components.llm.url must be like http://127.0.0.1:8000/v1: without user, query and fragment"
            .to_owned()
    };
    let mut url = Url::parse(base).map_err(|_| invalid())?;
    let has_user = !url.username().is_empty() || url.password().is_some();
    let is_base = !has_user && url.query().is_none() && url.fragment().is_none();
    if !is_base || !matches!(url.scheme(), "http" | "https") {
        return Err(invalid());
    }
    let mut path = url.path_segments_mut().map_err(|()| invalid())?;
    path.pop_if_empty().extend(["chat", "completions"]);
    drop(path);
    Ok(url)
}

fn read_key(path: &Path) -> Result<Zeroizing<String>, String> {
    let failed = |reason: &dyn fmt::Display| {
        format!("reading components.llm.api_key_file ({}): {reason}", path.display())
    };
    // One allocation, so that growing leaves no copy behind.
    let mut text = Zeroizing::new(String::with_capacity(API_KEY_BYTES_MAX + 1));
    let file = File::open(path).map_err(|error| failed(&error))?;
    let read = file.take(API_KEY_BYTES_MAX as u64 + 1).read_to_string(&mut text);
    read.map_err(|error| failed(&error))?;
    let key = Zeroizing::new(text.trim().to_owned());
    let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
    if text.len() > API_KEY_BYTES_MAX || !is_key {
        return Err(failed(&"it must have the key in one line, and nothing else"));
    }
    Ok(key)
}

/// Longest file with a key, in bytes. Keys that are signed tokens have one or two thousand.
const API_KEY_BYTES_MAX: usize = 8 << 10;

/// The header of one request. hyper copies it into buffers that nobody wipes, and so it isn't wiped either.
fn bearer(api_key: &str) -> Result<HeaderValue, String> {
    let text = Zeroizing::new(format!("Bearer {api_key}"));
    let mut value =
        HeaderValue::from_str(&text).map_err(|_| "the API key isn't ASCII".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

fn check(messages: &[Message]) -> Result<(), String> {
    let bytes: usize = messages.iter().map(|message| message.content.len() + MESSAGE_BYTES).sum();
    if messages.is_empty() {
        return Err("there is no message to answer".to_owned());
    }
    if bytes > MESSAGES_BYTES_MAX {
        return Err(format!(
            "the messages have {bytes} bytes, at most {MESSAGES_BYTES_MAX} are sent"
        ));
    }
    Ok(())
}

/// Longest conversation, in bytes; the same at every operator.
const MESSAGES_BYTES_MAX: usize = 64 << 10;
/// What a message counts as beside its text, so that empty ones are bounded, too.
const MESSAGE_BYTES: usize = 32;

/// What the endpoint wrote, fit for a sentence and a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(128).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use lamina_types::Text;
    use tempfile::NamedTempFile;

    use super::*;
    use crate::http::tests::{Answer, Server};

    const KEY: &str = "sk-0123456789";

    fn config(server: &Server) -> LlmConfig {
        LlmConfig {
            url: format!("http://127.0.0.1:{}/v1", server.port),
            models: Allowed::These(vec!["small-1".to_owned()]),
            api_key_file: None,
            time_max: default_time_max(),
            tokens_max: default_tokens_max(),
            response_bytes_max: default_response_bytes_max(),
        }
    }

    fn llm(model: &str) -> Llm {
        Llm { model: Text::new(model).unwrap(), seed: 7 }
    }

    fn question() -> Vec<Message> {
        vec![
            Message { role: Role::System, content: "Answer in a word.".to_owned() },
            Message { role: Role::User, content: "2+2?".to_owned() },
        ]
    }

    async fn ask(config: LlmConfig) -> Result<String, String> {
        LlmClient::new(config).unwrap().complete(&llm("small-1"), question(), 5).await
    }

    fn completion(model: &str, content: &str) -> Answer {
        Answer::ok(
            &serde_json::json!({
                "id": "1",
                "object": "chat.completion",
                "model": model,
                "choices": [{
                    "index": 0,
                    "message": { "role": "assistant", "content": content },
                    "finish_reason": "stop",
                }],
                "usage": { "total_tokens": 9 },
            })
            .to_string(),
        )
    }

    fn key_file(text: &str) -> NamedTempFile {
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[tokio::test]
    async fn model_is_asked_as_the_manifest_pins_it() {
        let server = Server::start(completion("small-1", "4"));
        assert_eq!(ask(config(&server)).await, Ok("4".to_owned()));
        let heard = server.requests().remove(0);
        assert!(heard.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{heard}");
        let body: serde_json::Value =
            serde_json::from_str(heard.split_once("\r\n\r\n").unwrap().1).unwrap();
        let expected = serde_json::json!({
            "model": "small-1",
            "messages": [
                { "role": "system", "content": "Answer in a word." },
                { "role": "user", "content": "2+2?" },
            ],
            "seed": 7,
            "temperature": 0,
            "max_tokens": 5,
            "stream": false,
        });
        assert_eq!(body, expected);
        assert!(!heard.contains("authorization"), "{heard}");
    }

    #[tokio::test]
    async fn tokens_are_bounded_by_the_operator() {
        let server = Server::start(completion("small-1", "4"));
        let config = LlmConfig { tokens_max: 3, ..config(&server) };
        ask(config).await.unwrap();
        assert!(server.requests()[0].contains("\"max_tokens\":3"));
    }

    #[tokio::test]
    async fn answer_of_another_model_is_refused() {
        let server = Server::start(completion("tiny-0\u{1b}[2J", "5"));
        let error = ask(config(&server)).await.unwrap_err();
        assert_eq!(error, "the endpoint answered with the model tiny-0[2J, not small-1");
    }

    #[tokio::test]
    async fn models_that_the_operator_does_not_offer_are_not_asked() {
        let server = Server::start(completion("large-9", "4"));
        let client = LlmClient::new(config(&server)).unwrap();
        let error = client.complete(&llm("large-9"), question(), 5).await.unwrap_err();
        assert_eq!(error, "the model large-9 isn't among this operator's components.llm.models");
        assert!(server.requests().is_empty());
        let any = LlmConfig { models: Allowed::Any, ..config(&server) };
        assert_eq!(LlmClient::new(any).unwrap().admits(&llm("large-9")), Ok(()));
    }

    #[tokio::test]
    async fn garbage_is_told_in_a_sentence() {
        for (answer, told) in [
            (Answer::ok("<html>"), "the endpoint's answer isn't a chat completion"),
            (
                Answer::ok("{\"model\":\"small-1\"}"),
                "the endpoint's answer isn't a chat completion",
            ),
            (
                Answer::ok("{\"model\":\"small-1\",\"choices\":[]}"),
                "the endpoint's answer has no text",
            ),
            (
                Answer::Bytes(format!("HTTP/1.1 401 No\r\nx: y\r\n\r\n{KEY} is wrong").into()),
                "the endpoint answered with status 401 Unauthorized",
            ),
            (
                Answer::Bytes("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\n\r\n".into()),
                "the endpoint answered with status 302 Found",
            ),
            (Answer::Bytes("what?".into()), "the endpoint didn't answer"),
            (
                Answer::Bytes("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".into()),
                "the endpoint didn't answer",
            ),
        ] {
            let server = Server::start(answer);
            assert_eq!(ask(config(&server)).await, Err(told.to_owned()));
        }
    }

    #[tokio::test]
    async fn too_long_answer_is_refused() {
        let server = Server::start(completion("small-1", "4"));
        let error = ask(LlmConfig { response_bytes_max: 20, ..config(&server) }).await.unwrap_err();
        assert_eq!(error, "the endpoint's answer has more than 20 bytes");
    }

    #[tokio::test]
    async fn slow_endpoint_has_its_time() {
        for bytes in ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"] {
            let server = Server::start(Answer::Stall(bytes.into()));
            let (begin, time_max) = (Instant::now(), Duration::from_millis(200));
            let error = ask(LlmConfig { time_max, ..config(&server) }).await.unwrap_err();
            assert_eq!(error, "the endpoint didn't answer within 200ms");
            assert!(begin.elapsed() < Duration::from_secs(2));
        }
    }

    #[tokio::test]
    async fn conversations_are_bounded() {
        let server = Server::start(completion("small-1", "4"));
        let client = LlmClient::new(config(&server)).unwrap();
        let message = |bytes| Message { role: Role::User, content: "a".repeat(bytes) };
        for (messages, tokens_max, told) in [
            (Vec::new(), 5, "there is no message to answer"),
            (vec![message(1)], 0, "an answer of at most 0 tokens says nothing"),
            (vec![message(65_536)], 5, "the messages have 65568 bytes, at most 65536 are sent"),
            (vec![message(0); 2049], 5, "the messages have 65568 bytes, at most 65536 are sent"),
        ] {
            let answer = client.complete(&llm("small-1"), messages, tokens_max).await;
            assert_eq!(answer, Err(told.to_owned()));
        }
        assert!(server.requests().is_empty());
    }

    #[tokio::test]
    async fn key_is_sent_and_told_to_nobody_else() {
        let server = Server::start(completion("small-1", "4"));
        let file = key_file(&format!("{KEY}\n"));
        let api_key_file = Some(file.path().to_owned());
        let client = LlmClient::new(LlmConfig { api_key_file, ..config(&server) }).unwrap();
        client.complete(&llm("small-1"), question(), 5).await.unwrap();
        let heard = &server.requests()[0];
        assert!(heard.contains(&format!("authorization: Bearer {KEY}\r\n")), "{heard}");
        assert!(!format!("{client:?}").contains(KEY));
        assert!(!format!("{:?}", bearer(KEY)).contains(KEY));
    }

    #[test]
    fn keys_that_are_none_are_refused_unseen() {
        let server = Server::start(Answer::ok(""));
        for text in ["", "\n", "sk 1", "sk-1\nsk-2", "sk-é", &"a".repeat(API_KEY_BYTES_MAX + 1)] {
            let file = key_file(text);
            let api_key_file = Some(file.path().to_owned());
            let error = LlmClient::new(LlmConfig { api_key_file, ..config(&server) }).unwrap_err();
            let told = "it must have the key in one line, and nothing else";
            assert!(error.ends_with(told) && !error.contains("sk"), "{error}");
        }
        let api_key_file = Some("missing".into());
        let error = LlmClient::new(LlmConfig { api_key_file, ..config(&server) }).unwrap_err();
        assert!(error.starts_with("reading components.llm.api_key_file (missing): "), "{error}");
    }

    #[test]
    fn urls_are_bases_of_endpoints() {
        for base in ["http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1/"] {
            let url = completions_url(base).unwrap();
            assert_eq!(url.as_str(), "http://127.0.0.1:8000/v1/chat/completions");
        }
        for base in ["", "127.0.0.1:8000", "ftp://a", "http://u:p@a", "http://a/v1?key=1"] {
            assert!(completions_url(base).is_err(), "{base}");
        }
    }

    #[test]
    fn config_has_an_url_and_models() {
        let text = "url = \"http://127.0.0.1:8000/v1\"\nmodels = [\"small-1\"]\ntime_max = \"5s\"";
        let config: LlmConfig = toml::from_str(text).unwrap();
        assert_eq!(config.time_max, Duration::from_secs(5));
        assert_eq!(config.tokens_max, 1024);
        assert_eq!(
            toml::from_str::<LlmConfig>(&toml::to_string(&config).unwrap()).unwrap(),
            config
        );
        assert!(toml::from_str::<LlmConfig>("url = \"http://127.0.0.1:8000/v1\"").is_err());
        assert!(toml::from_str::<LlmConfig>(&format!("{text}\nkey = \"a\"")).is_err());
    }
}
