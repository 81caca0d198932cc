//! The local HTTP API. Bodies are JSON, or canonical bytes where something is signed or certified.

mod ledger;
mod value;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use futures::{Stream, StreamExt as _};
use lamina_certificate::{Backing, CertifiedTask, Genesis};
use lamina_ethereum::Endpoints;
use lamina_node_core::{
    Command, CommandError, Notice, ObservationView, OperatorView, Reply, ServiceView, TaskStatus,
    TaskView,
};
use lamina_p2p_net::Handle;
use lamina_types::{
    BLOB_BYTES_MAX, COMPONENT_BYTES_MAX, Canonical, Digest, Height, OperatorIndex, PeerKey,
    ServiceId, SignedTaskRequest, TaskId,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::BroadcastStream;

use crate::daemon::anchors::AnchorStatus;
use crate::daemon::driver::{Mailbox, Stopped};
use crate::daemon::ethereum::Followed;
use crate::daemon::executor::Executor;
use crate::daemon::ledger::Archive;
use crate::daemon::metrics;
use crate::daemon::store::Store;

/// Longest wait for a task that a request can ask for.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Most tasks in a list.
const LIST_MAX: usize = 1000;

/// What the handlers work with.
pub(crate) struct Shared {
    pub(crate) genesis: Genesis,
    pub(crate) index: Option<OperatorIndex>,
    pub(crate) peer_key: PeerKey,
    pub(crate) mailbox: Mailbox,
    pub(crate) network: Handle,
    pub(crate) store: Arc<Store>,
    pub(crate) executor: Arc<Executor>,
    pub(crate) ledger: Archive,
    /// What was followed of Ethereum, if the network has contracts there.
    pub(crate) ethereum: Option<Followed>,
    /// What this node submits there, if it does.
    pub(crate) anchoring: Option<Arc<AnchorStatus>>,
    pub(crate) endpoints: Option<Endpoints>,
}

type Context = State<Arc<Shared>>;

/// Serves until `stop` is true.
pub(crate) async fn serve(listener: TcpListener, shared: Shared, stop: watch::Receiver<bool>) {
    let stopped = |mut stop: watch::Receiver<bool>| async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/genesis", get(genesis))
        .route("/v1/peers", get(peers))
        .route("/v1/operators", get(operators))
        .route("/v1/components", put(put_component))
        .layer(DefaultBodyLimit::max(COMPONENT_BYTES_MAX as usize))
        .route("/v1/blobs/{digest}", get(show_blob).put(put_blob))
        .route("/v1/services", get(list_services))
        .route("/v1/services/{id}", get(show_service))
        .route("/v1/tasks", get(list_tasks))
        .route("/v1/tasks", post(submit_task))
        .route("/v1/tasks/{id}", get(show_task))
        .route("/v1/tasks/{id}/observations", get(task_observations))
        .route("/v1/tasks/{id}/certificate", get(task_certificate))
        .route("/v1/operations", post(ledger::submit))
        .route("/v1/operations/{id}", get(ledger::show_operation))
        .route("/v1/accounts/{account}", get(ledger::show_account))
        .route("/v1/commitments", get(ledger::list_commitments))
        .route("/v1/deposits/{index}", get(value::show_deposit))
        .route("/v1/claims", get(value::list_claims))
        .route("/v1/claims/{index}/proof", get(value::claim_proof))
        .route("/v1/rewards", get(value::list_rewards))
        .route("/v1/checkpoints", get(ledger::list_checkpoints))
        .route("/v1/handovers", get(ledger::handovers))
        .route("/v1/checkpoints/{height}", get(ledger::show_checkpoint))
        .route("/v1/checkpoints/{height}/file", get(ledger::checkpoint_file))
        .route("/v1/state/{key}/file", get(ledger::state_file))
        .route("/v1/ledger", get(ledger::status))
        .route("/v1/books/{book}/file", get(ledger::book_file))
        .route("/v1/events", get(events))
        .route("/metrics", get(show_metrics))
        .with_state(Arc::new(shared));
    let server = axum::serve(listener, router).with_graceful_shutdown(stopped(stop.clone()));
    tokio::select! {
        result = server => if let Err(error) = result {
            tracing::error!(%error, "the API failed");
        },
        // Event streams never end by themselves.
        () = async { stopped(stop).await; tokio::time::sleep(Duration::from_secs(1)).await } => {}
    }
}

async fn status(State(shared): Context) -> Result<Json<serde_json::Value>, Error> {
    let (services, (tasks_open, tasks_queued), metrics, ledger) = shared
        .mailbox
        .query(|node| {
            (node.services().count(), node.load(), node.metrics().clone(), node.ledger_view())
        })
        .await?;
    let network = shared.network.status().await.map_err(|_| Stopped)?;
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "chain_id": shared.genesis.chain_id,
        "operator": shared.index,
        "peer_id": peer_id(&shared.peer_key),
        "listening": network.listening,
        "peers": network.peers.len(),
        "operators": shared.genesis.operators.len(),
        "services": services,
        "tasks_open": tasks_open,
        "tasks_queued": tasks_queued,
        "tasks_certified": metrics.tasks_certified,
        "checkpoint": ledger.as_ref().map(|ledger| ledger.height),
        "checkpoint_highest": ledger.as_ref().map(|ledger| ledger.highest),
        "operations_pending": ledger.as_ref().map(|ledger| ledger.pending),
        "anchored": shared.last_anchor().await?,
        "submitting": shared.anchoring.is_some(),
        "submitting_stuck": shared.anchoring.as_ref().and_then(|status| status.stuck()),
        "resident_bytes": metrics::resident_bytes(),
    })))
}

async fn genesis(State(shared): Context) -> Json<Genesis> {
    Json(shared.genesis.clone())
}

async fn peers(State(shared): Context) -> Result<Json<Vec<serde_json::Value>>, Error> {
    let network = shared.network.status().await.map_err(|_| Stopped)?;
    let peer = |peer: &lamina_p2p_net::PeerStatus| {
        json!({
            "peer_id": peer_id(&peer.peer),
            "operator": shared
                .genesis
                .operators
                .iter()
                .position(|operator| operator.peer_key == peer.peer),
            "address": peer.address,
            "dialled": peer.dialled,
            "round_trip_us": peer.round_trip.map(|time| time.as_micros()),
            "score": peer.score,
            "agent": peer.agent,
        })
    };
    Ok(Json(network.peers.iter().map(peer).collect()))
}

async fn operators(State(shared): Context) -> Result<Json<Vec<OperatorView>>, Error> {
    Ok(Json(shared.mailbox.query(|node| node.operators().collect()).await?))
}

/// Keeps a component's bytes, once they are found to be a service's.
async fn put_component(State(shared): Context, body: Bytes) -> Result<Response, Error> {
    let executor = shared.executor.clone();
    let digest = tokio::task::spawn_blocking(move || {
        executor.check(&body).map_err(|e| Error::unprocessable(e.to_string()))?;
        executor.blobs().write(&body).map_err(|e| Error::insufficient(e.to_string()))
    })
    .await
    .map_err(|_| Stopped)??;
    Ok((StatusCode::CREATED, Json(json!({ "digest": digest }))).into_response())
}

/// Whether a blob is here: its size, or null.
async fn show_blob(
    State(shared): Context,
    Path(digest): Path<Digest>,
) -> Result<Json<serde_json::Value>, Error> {
    let size = shared.executor.blobs().size(&digest).map_err(|e| Error::internal(e.to_string()))?;
    Ok(Json(json!({ "digest": digest, "bytes": size })))
}

/// Keeps a blob, which is written while it comes in.
async fn put_blob(
    State(shared): Context,
    Path(digest): Path<Digest>,
    body: Body,
) -> Result<Response, Error> {
    let full = |error: super::blobs::Error| Error::insufficient(error.to_string());
    let mut upload = shared.executor.blobs().upload().map_err(full)?;
    let mut body = body.into_data_stream();
    let mut bytes = 0;
    while let Some(part) = body.next().await {
        let part = part.map_err(|e| Error::unprocessable(format!("the upload broke off: {e}")))?;
        bytes += part.len() as u64;
        if bytes > u64::from(BLOB_BYTES_MAX) {
            let reason = format!("a blob has at most {BLOB_BYTES_MAX} bytes");
            return Err(Error::unprocessable(reason));
        }
        // Blocks for as long as a part takes to get into the kernel's buffers.
        tokio::task::block_in_place(|| upload.append(&part)).map_err(full)?;
    }
    if upload.digest() != digest {
        let found = upload.digest();
        return Err(Error::unprocessable(format!("the blob's SHA-256 is {found}, not {digest}")));
    }
    tokio::task::block_in_place(|| upload.finish()).map_err(full)?;
    Ok((StatusCode::CREATED, Json(json!({ "digest": digest, "bytes": bytes }))).into_response())
}

async fn list_services(State(shared): Context) -> Result<Json<Vec<ServiceView>>, Error> {
    Ok(Json(shared.mailbox.query(|node| node.services().collect()).await?))
}

async fn show_service(
    State(shared): Context,
    Path(id): Path<ServiceId>,
) -> Result<Json<ServiceView>, Error> {
    let service = shared.mailbox.query(move |node| node.service(&id)).await?;
    service.map(Json).ok_or_else(|| Error::not_found(format!("service {id} isn't known here")))
}

async fn submit_task(State(shared): Context, body: Bytes) -> Result<Response, Error> {
    let request = SignedTaskRequest::from_bytes(&body)
        .map_err(|e| Error::unprocessable(format!("the body isn't a task request: {e}")))?;
    shared.command(Command::SubmitTask(Box::new(request))).await
}

#[derive(Deserialize)]
struct ListTasks {
    /// Only tasks of this status.
    status: Option<TaskStatus>,
    /// Only tasks of this service.
    service: Option<ServiceId>,
    /// Most tasks in the answer; 1 to 1,000.
    #[serde(default = "list_default")]
    limit: usize,
}

const fn list_default() -> usize {
    50
}

async fn list_tasks(
    State(shared): Context,
    Query(filter): Query<ListTasks>,
) -> Result<Json<Vec<TaskView>>, Error> {
    let tasks = move |node: &lamina_node_core::Node| {
        node.tasks()
            .filter(|task| filter.status.is_none_or(|status| status == task.status))
            .filter(|task| {
                let service = task.request.as_ref().map(|request| request.service);
                filter.service.is_none() || filter.service == service
            })
            .take(filter.limit.clamp(1, LIST_MAX))
            .collect()
    };
    Ok(Json(shared.mailbox.query(tasks).await?))
}

#[derive(Deserialize)]
struct ShowTask {
    /// How long to wait for the task's end, in milliseconds; at most a minute.
    #[serde(default)]
    wait_ms: u64,
}

/// A task, with what the ledger says of it.
#[derive(Serialize)]
struct ShownTask {
    #[serde(flatten)]
    task: TaskView,
    /// The checkpoint in which it was recorded.
    recorded: Option<Height>,
}

async fn show_task(
    State(shared): Context,
    Path(id): Path<TaskId>,
    Query(options): Query<ShowTask>,
) -> Result<Json<ShownTask>, Error> {
    let mut notices = shared.mailbox.notices();
    let ends = tokio::time::Instant::now() + Duration::from_millis(options.wait_ms).min(WAIT_MAX);
    loop {
        let task = shared.mailbox.query(move |node| node.task(&id)).await?;
        let Some(task) = task else {
            return Err(Error::not_found(format!(
                "task {id} isn't known here; ask another node, or its certificate if it's old"
            )));
        };
        let complete = task.status != TaskStatus::Open && task.outcome.is_some();
        if complete || tokio::time::Instant::now() >= ends {
            let recorded = tokio::task::spawn_blocking(move || shared.ledger.recorded(&id))
                .await
                .map_err(|_| Stopped)?
                .map_err(|e| Error::internal(e.to_string()))?;
            return Ok(Json(ShownTask { task, recorded }));
        }
        // Whatever happens to this task, or a second later: an outcome that's fetched isn't announced.
        let _ = tokio::time::timeout_at(
            ends.min(tokio::time::Instant::now() + Duration::from_secs(1)),
            async {
                loop {
                    match notices.recv().await {
                        Ok(notice) if about(&notice) != Some(id) => {}
                        _ => return,
                    }
                }
            },
        )
        .await;
    }
}

/// What operators observed, of an oracle's task.
async fn task_observations(
    State(shared): Context,
    Path(id): Path<TaskId>,
) -> Result<Json<Vec<ObservationView>>, Error> {
    let task = shared.mailbox.query(move |node| node.task(&id)).await?;
    let task = task.ok_or_else(|| Error::not_found(format!("task {id} isn't known here")))?;
    Ok(Json(task.observations))
}

/// The [`CertifiedTask`], as `lamina task verify` reads it: with the certificate if all operators serve the service, else
/// with the checkpoint in which it was recorded, once it is.
async fn task_certificate(
    State(shared): Context,
    Path(id): Path<TaskId>,
) -> Result<Response, Error> {
    let known = shared.mailbox.query(move |node| node.certified_task(&id)).await?;
    let read = move || -> anyhow::Result<Option<CertifiedTask>> {
        let stored = || shared.store.certified_task(&shared.genesis.chain_id, &id);
        let certified = known.map_or_else(stored, |known| Ok(Some(known)))?;
        let Some(mut certified) = certified else { return Ok(None) };
        if !is_of_all(&certified, &shared.genesis)
            && let Some(proof) = shared.ledger.record_proof(&id)?
        {
            certified.backing = Backing::Record(Box::new(proof));
        }
        Ok(Some(certified))
    };
    let certified = tokio::task::spawn_blocking(read)
        .await
        .map_err(|_| Stopped)?
        .map_err(|e| Error::internal(format!("{e:#}")))?;
    match certified {
        Some(certified) => {
            let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
            Ok((kind, certified.to_bytes()).into_response())
        }
        None => Err(Error::not_found(format!("task {id} has no certificate here"))),
    }
}

/// Whether the certificate is of all operators of its epoch, whom the genesis file names.
fn is_of_all(certified: &CertifiedTask, genesis: &Genesis) -> bool {
    match &certified.backing {
        Backing::Certificate(certificate) => {
            let count = usize::from(certificate.signers.set_size());
            genesis.operator_count(certificate.epoch) == Some(count)
        }
        Backing::Record(_) => false,
    }
}

/// What happens, as it happens (server-sent events).
async fn events(State(shared): Context) -> Sse<impl Stream<Item = Result<SseEvent, Infallible>>> {
    let stream = BroadcastStream::new(shared.mailbox.notices()).map(|notice| {
        Ok(match notice {
            Ok(notice) => SseEvent::default().event(kind(&notice)).data(describe(&notice)),
            Err(missed) => SseEvent::default().event("missed").data(missed.to_string()),
        })
    });
    Sse::new(stream).keep_alive(KeepAlive::default())
}

async fn show_metrics(State(shared): Context) -> Result<Response, Error> {
    let (metrics, load, ledger) = shared
        .mailbox
        .query(|node| {
            let ledger = node.ledger_metrics().copied().zip(node.ledger_view());
            (node.metrics().clone(), node.load(), ledger)
        })
        .await?;
    let anchored = shared.last_anchor().await?.unwrap_or_default();
    let bridge = shared.anchoring.as_ref().map(|status| status.metrics(anchored));
    let text = metrics::encode(&metrics, load, ledger, bridge, &shared.network.metrics());
    let kind =
        [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    Ok((kind, text).into_response())
}

impl Shared {
    async fn command(&self, command: Command) -> Result<Response, Error> {
        match self.mailbox.command(command).await? {
            Ok(Reply::Task(id)) => {
                Ok((StatusCode::ACCEPTED, Json(json!({ "id": id }))).into_response())
            }
            Ok(Reply::Operation(id)) => {
                Ok((StatusCode::ACCEPTED, Json(json!({ "id": id }))).into_response())
            }
            Err(error) => {
                let status = match error {
                    CommandError::Full { .. } => StatusCode::TOO_MANY_REQUESTS,
                    CommandError::UnknownService(_) => StatusCode::NOT_FOUND,
                    _ => StatusCode::UNPROCESSABLE_ENTITY,
                };
                Err(Error { status, message: error.to_string() })
            }
        }
    }
}

fn about(notice: &Notice) -> Option<TaskId> {
    match notice {
        Notice::ServiceReady(_)
        | Notice::Checkpoint(..)
        | Notice::EpochBegins(..)
        | Notice::ForeignKey(_)
        | Notice::SnapshotRestored(_)
        | Notice::ChangeEquivocation(_)
        | Notice::VoteEquivocation(_)
        | Notice::CannotPay(_) => None,
        Notice::TaskAccepted(id)
        | Notice::TaskCertified(id, _)
        | Notice::TaskExpired(id)
        | Notice::Dissent(id)
        | Notice::Equivocation(id, _)
        | Notice::ObservationEquivocation(id, _)
        | Notice::ProposalEquivocation(id, _) => Some(*id),
    }
}

const fn kind(notice: &Notice) -> &'static str {
    match notice {
        Notice::ServiceReady(_) => "service_ready",
        Notice::TaskAccepted(_) => "task_accepted",
        Notice::TaskCertified(..) => "task_certified",
        Notice::TaskExpired(_) => "task_expired",
        Notice::Dissent(_) => "dissent",
        Notice::Equivocation(..) => "equivocation",
        Notice::ObservationEquivocation(..) => "observation_equivocation",
        Notice::ProposalEquivocation(..) => "proposal_equivocation",
        Notice::Checkpoint(..) => "checkpoint",
        Notice::EpochBegins(..) => "epoch_begins",
        Notice::ForeignKey(_) => "foreign_key",
        Notice::SnapshotRestored(_) => "snapshot_restored",
        Notice::ChangeEquivocation(_) => "change_equivocation",
        Notice::VoteEquivocation(_) => "vote_equivocation",
        Notice::CannotPay(_) => "cannot_pay",
    }
}

fn describe(notice: &Notice) -> String {
    match notice {
        Notice::ServiceReady(id) => json!({ "service": id }),
        Notice::TaskAccepted(id) | Notice::TaskExpired(id) | Notice::Dissent(id) => {
            json!({ "task": id })
        }
        Notice::TaskCertified(id, certificate) => json!({
            "task": id,
            "outcome": certificate.get().outcome,
            "signers": certificate.get().signers,
        }),
        Notice::Equivocation(id, operator)
        | Notice::ObservationEquivocation(id, operator)
        | Notice::ProposalEquivocation(id, operator) => {
            json!({ "task": id, "operator": operator })
        }
        Notice::Checkpoint(height, operations) => {
            json!({ "height": height, "operations": operations })
        }
        Notice::ForeignKey(epoch) => json!({ "epoch": epoch }),
        Notice::EpochBegins(epoch, operators) => {
            json!({ "epoch": epoch, "operators": operators })
        }
        Notice::SnapshotRestored(height) => json!({ "height": height }),
        Notice::ChangeEquivocation(author) => json!({ "peer_key": author }),
        Notice::VoteEquivocation(operator) => json!({ "operator": operator }),
        Notice::CannotPay(reason) => json!({ "reason": reason }),
    }
    .to_string()
}

fn peer_id(key: &PeerKey) -> String {
    lamina_p2p_net::peer_id(key).map_or_else(|| key.to_string(), |id| id.to_string())
}

/// What went wrong, for people; the status code says it to programs.
#[derive(Debug, Serialize)]
struct Error {
    #[serde(skip)]
    status: StatusCode,
    #[serde(rename = "error")]
    message: String,
}

impl Error {
    fn not_found(message: String) -> Self {
        Self { status: StatusCode::NOT_FOUND, message }
    }

    fn unprocessable(message: String) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, message }
    }

    fn insufficient(message: String) -> Self {
        Self { status: StatusCode::INSUFFICIENT_STORAGE, message }
    }

    fn internal(message: String) -> Self {
        tracing::error!(message, "a request to the API failed");
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, message }
    }
}

impl From<Stopped> for Error {
    fn from(stopped: Stopped) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, message: stopped.to_string() }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        (self.status, Json(self)).into_response()
    }
}
