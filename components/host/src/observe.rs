use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lamina_types::{Bytes, OBSERVATION_BYTES_MAX, Oracle};
use tokio::runtime::Runtime;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::http::{HttpClient, HttpHooks};
use crate::imports::{Host, Log, charge, interface};
use crate::llm::{LlmClient, Message};
use crate::{Config, Error};

/// What came of observing at this operator.
#[derive(Debug, Clone)]
pub struct Observation {
    /// What was observed, or in a sentence why nothing was.
    pub value: Result<Bytes<OBSERVATION_BYTES_MAX>, String>,
    /// What the component wanted of the outside world and didn't get, in a sentence each.
    pub refusals: Vec<String>,
    /// What the component logged.
    pub log: Log,
    /// Most memory that the component had at any moment, tables included, in bytes.
    pub memory_bytes_peak: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// The outside world, as far as this operator lets oracles have it.
#[derive(Debug)]
pub(crate) struct Network {
    http: HttpClient,
    llm: Option<Arc<LlmClient>>,
    /// Where requests are carried out. Most operators never observe, so it's started with the first observation.
    runtime: OnceLock<Runtime>,
}

impl Network {
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let failed = |reason| Error::Network { reason };
        Ok(Self {
            http: HttpClient::new(config.http.clone()).map_err(failed)?,
            llm: config.llm.clone().map(LlmClient::new).transpose().map_err(failed)?.map(Arc::new),
            runtime: OnceLock::new(),
        })
    }

    /// Checks that this operator allows what an oracle wants.
    pub(crate) fn admit(&self, oracle: &Oracle) -> Result<(), Error> {
        self.http.config().admits(oracle).map_err(|origin| Error::OriginNotAdmitted { origin })?;
        match (&oracle.llm, &self.llm) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(Error::LlmNotAdmitted {
                reason: "this operator has no language model (components.llm)".to_owned(),
            }),
            (Some(llm), Some(client)) => {
                client.admits(llm).map_err(|reason| Error::LlmNotAdmitted { reason })
            }
        }
    }

    /// What one observation is given.
    pub(crate) fn outside(&self, oracle: &Arc<Oracle>) -> Box<Outside> {
        let mut wasi = WasiCtx::builder();
        wasi.allow_tcp(false).allow_udp(false).max_random_size(RANDOM_BYTES_MAX);
        Box::new(Outside {
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            hooks: self.http.hooks(oracle),
            table: ResourceTable::new(),
            oracle: oracle.clone(),
            llm: self.llm.clone(),
            questions: 0,
        })
    }

    /// Waits for `work` in the caller's thread.
    ///
    /// # Panics
    /// If the system starts no more threads, or in a thread of an asynchronous runtime.
    pub(crate) fn block_on<F: Future>(&self, work: F) -> F::Output {
        let runtime = self.runtime.get_or_init(|| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name("observe")
                .enable_all()
                .build()
                .expect("a thread can be started")
        });
        runtime.block_on(work)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Whatever a service left behind isn't waited for.
            runtime.shutdown_background();
        }
    }
}

/// Most random bytes of one call.
const RANDOM_BYTES_MAX: u64 = 64 * 1024;

/// Most questions to a language model in one observation: each may take the operator's money.
const QUESTIONS_MAX: u32 = 16;

/// What an observation may reach.
pub(crate) struct Outside {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: HttpHooks,
    table: ResourceTable,
    oracle: Arc<Oracle>,
    llm: Option<Arc<LlmClient>>,
    questions: u32,
}

impl Outside {
    pub(crate) fn refusals(&self) -> Vec<String> {
        self.hooks.refusals()
    }
}

impl Host {
    fn outside(&mut self) -> &mut Outside {
        self.outside.as_mut().expect("what's linked for observing is called in observations only")
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let outside = self.outside();
        WasiCtxView { ctx: &mut outside.wasi, table: &mut outside.table }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let outside = self.outside();
        WasiHttpCtxView {
            hooks: &mut outside.hooks,
            table: &mut outside.table,
            ctx: &mut outside.http,
        }
    }
}

/// Defines what observations are given beside what every run is: WASI with the machine's clocks and without files and
/// sockets, HTTP, a language model.
pub(crate) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    linker
        .instance(&interface("llm"))?
        .func_wrap_async("complete", |store, params| Box::new(complete(store, params)))
}

async fn complete(
    mut store: StoreContextMut<'_, Host>,
    (messages, tokens_max): (Vec<Message>, u32),
) -> wasmtime::Result<(Result<String, String>,)> {
    charge(&mut store, messages.iter().map(|message| message.content.len()).sum())?;
    let outside = store.data_mut().outside();
    let (client, oracle) = (outside.llm.clone(), outside.oracle.clone());
    outside.questions += 1;
    let answer = match (client, &oracle.llm) {
        _ if outside.questions > QUESTIONS_MAX => {
            Err(format!("more than {QUESTIONS_MAX} questions in one observation"))
        }
        (Some(client), Some(llm)) => client.complete(llm, messages, tokens_max).await,
        (None, _) => Err("this operator has no language model (components.llm)".to_owned()),
        (_, None) => Err("the manifest names no language model (oracle.llm)".to_owned()),
    };
    Ok((answer,))
}
