//! The ledger's part of the API: operations in; accounts, commitments, checkpoints, books and proofs out.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use lamina_certificate::HandoverFile;
use lamina_ledger::book::VerifiedChange;
use lamina_ledger::file::CheckpointFile;
use lamina_ledger::state::{Scope, accounts, bank, commitments, tree};
use lamina_ledger::{Decision, StateReader as _, book};
use lamina_ledger_store::Order;
use lamina_node_core::{Command, Notice};
use lamina_types::account::SigningContext;
use lamina_types::{
    Action, Address, Amount, Asset, BookId, Canonical, Change, CommitmentId, EpochNumber, Height,
    OperationId, ServiceId, SignedOperation, VolumeId,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Context, Error, LIST_MAX, Shared, WAIT_MAX};
use crate::daemon::anchors::Anchor;
use crate::daemon::driver::Stopped;

/// Takes an operation; answered when the node has promised to carry it.
pub(super) async fn submit(State(shared): Context, body: Bytes) -> Result<Response, Error> {
    let signed = SignedOperation::from_bytes(&body)
        .map_err(|e| Error::unprocessable(format!("the body isn't a signed operation: {e}")))?;
    // What this operator couldn't run it doesn't carry: the author hears of it here, rather than from nobody.
    if let Action::RegisterService { manifest } | Action::UpdateService { manifest, .. } =
        &signed.operation.action
    {
        let (executor, manifest) = (shared.executor.clone(), manifest.clone());
        tokio::task::spawn_blocking(move || executor.check_manifest(&manifest))
            .await
            .map_err(|_| Stopped)?
            .map_err(Error::unprocessable)?;
    }
    shared.command(Command::SubmitOperation(Box::new(signed))).await
}

#[derive(Deserialize)]
pub(super) struct Wait {
    /// How long to wait until it's final, in milliseconds; at most a minute.
    #[serde(default)]
    wait_ms: u64,
}

/// An operation: pending, or final with its receipt.
pub(super) async fn show_operation(
    State(shared): Context,
    Path(id): Path<OperationId>,
    Query(options): Query<Wait>,
) -> Result<Json<Value>, Error> {
    let mut notices = shared.mailbox.notices();
    let ends = tokio::time::Instant::now() + Duration::from_millis(options.wait_ms).min(WAIT_MAX);
    loop {
        // One that isn't known here yet may be on its way.
        let view = operation(&shared, id).await?;
        let is_final = view.as_ref().is_some_and(|view| view["status"] == "final");
        if is_final || tokio::time::Instant::now() >= ends {
            let unknown = || Error::not_found(format!("operation {id} isn't known here"));
            return view.map(Json).ok_or_else(unknown);
        }
        let checkpoint =
            async { while !matches!(notices.recv().await, Ok(Notice::Checkpoint(..)) | Err(_)) {} };
        let _ = tokio::time::timeout_at(ends, checkpoint).await;
    }
}

async fn operation(shared: &Shared, id: OperationId) -> Result<Option<Value>, Error> {
    let store = shared.ledger.store();
    let (receipt, found) =
        blocking(move || Ok((store.receipt(&id)?, store.operation(&id)?))).await?;
    let operation = found.map(|found| found.operation);
    if let Some(receipt) = receipt {
        let reason = receipt.refusal.as_ref().map(ToString::to_string);
        let operation = operation.map(|signed| signed.operation);
        return Ok(Some(json!({
            "id": id, "status": "final", "operation": operation, "receipt": receipt, "reason": reason,
        })));
    }
    let pending = shared.mailbox.query(move |node| node.pending_operation(&id)).await?;
    let view = |signed: SignedOperation| json!({ "id": id, "status": "pending", "operation": signed.operation });
    Ok(pending.or(operation).map(view))
}

/// What an account has.
pub(super) async fn show_account(
    State(shared): Context,
    Path(account): Path<Address>,
) -> Result<Json<Value>, Error> {
    let ledger = shared.ledger.store();
    let (height, next, balances) = blocking(move || {
        let reader = ledger.reader()?;
        let scope = Scope::new(&reader);
        let next = accounts::next_sequence(&scope, account)?;
        let balances = bank::balances(&scope, &bank::Holder::Account { account })?;
        Ok((Height(reader.version()), next, balances))
    })
    .await?;
    let next = shared.mailbox.query(move |node| node.next_sequence(account, next)).await?;
    let balance = |(asset, amount): &(Asset, Amount)| json!({ "asset": asset, "amount": amount });
    Ok(Json(json!({
        "account": account,
        "height": height,
        "next_sequence": next,
        "balances": balances.iter().map(balance).collect::<Vec<_>>(),
    })))
}

#[derive(Deserialize)]
pub(super) struct CommitmentFilter {
    account: Option<Address>,
    service: Option<ServiceId>,
    /// Most commitments in the answer; 1 to 1,000.
    #[serde(default = "super::list_default")]
    limit: usize,
}

/// Commitments: pending ones first.
pub(super) async fn list_commitments(
    State(shared): Context,
    Query(filter): Query<CommitmentFilter>,
) -> Result<Json<Vec<Value>>, Error> {
    let limit = filter.limit.clamp(1, LIST_MAX);
    let (account, service) = (filter.account, filter.service);
    let pending = shared
        .mailbox
        .query(move |node| {
            let wanted = |(_, signed): &(OperationId, SignedOperation)| {
                let Action::Commit { service: of, .. } = signed.operation.action else {
                    return false;
                };
                let by = signed.operation.account;
                account.is_none_or(|a| a == by) && service.is_none_or(|s| s == of)
            };
            node.pending_operations().filter(wanted).take(limit).collect::<Vec<_>>()
        })
        .await?;
    let ledger = shared.ledger.store();
    let known = blocking(move || {
        let reader = ledger.reader()?;
        let scope = Scope::new(&reader);
        Ok(commitments::list(&scope, account, service, crate::daemon::now(), limit)?)
    })
    .await?;
    let mut list: Vec<Value> = pending.iter().map(pending_commitment).collect();
    for commitment in known {
        let mut view =
            serde_json::to_value(&commitment).map_err(|e| Error::internal(e.to_string()))?;
        view["status"] = "final".into();
        view["account"] = json!(commitment.owner.controller());
        view["amount"] = json!(commitment.bound);
        list.push(view);
    }
    list.truncate(limit);
    Ok(Json(list))
}

fn pending_commitment((id, signed): &(OperationId, SignedOperation)) -> Value {
    let account = signed.operation.account;
    let Action::Commit { vault, service, operator, asset, amount, unbonding_s, purpose } =
        &signed.operation.action
    else {
        return Value::Null;
    };
    json!({
        "id": CommitmentId(id.0), "status": "pending", "account": account, "vault": vault,
        "service": service, "operator": operator, "asset": asset, "amount": amount,
        "unbonding_s": unbonding_s, "purpose": purpose,
    })
}

#[derive(Deserialize)]
pub(super) struct CheckpointFilter {
    /// Only those before this one.
    before: Option<u64>,
    /// Most checkpoints in the answer; 1 to 1,000.
    #[serde(default = "super::list_default")]
    limit: usize,
}

/// Checkpoints, latest first.
pub(super) async fn list_checkpoints(
    State(shared): Context,
    Query(filter): Query<CheckpointFilter>,
) -> Result<Json<Vec<Value>>, Error> {
    let ledger = shared.ledger.store();
    let limit = filter.limit.clamp(1, LIST_MAX);
    let before = filter.before.unwrap_or(u64::MAX);
    let list =
        blocking(move || Ok(ledger.checkpoints(..before, limit, Order::NewestFirst)?)).await?;
    let chain = &shared.genesis.chain_id;
    let row = |stored: &Decision| {
        let header = &stored.header;
        json!({
            "height": header.height, "id": header.id(chain), "time": header.time,
            "epoch": header.epoch, "state": header.state,
            "books": stored.cut.books.as_slice().len(),
            "signers": stored.certificate.as_ref().map(|c| c.signers.count()),
            "round": stored.certificate.as_ref().map(|c| c.round),
        })
    };
    Ok(Json(list.iter().map(row).collect()))
}

/// A checkpoint, by its height or as `latest`.
pub(super) async fn show_checkpoint(
    State(shared): Context,
    Path(height): Path<String>,
) -> Result<Json<Value>, Error> {
    let stored = stored_checkpoint(&shared, &height).await?;
    let anchor = shared.anchor_of(stored.header.height).await?;
    let certificate = stored.certificate.as_ref().map(|certificate| {
        json!({
            "epoch": certificate.epoch, "round": certificate.round,
            "signers": certificate.signers, "signature": format!("0x{}", hex::encode(certificate.signature.to_bytes())),
        })
    });
    Ok(Json(json!({
        "id": stored.header.id(&shared.genesis.chain_id),
        "header": stored.header,
        "certificate": certificate,
        "cut": stored.cut,
        "anchor": anchor,
    })))
}

impl Shared {
    /// The height of the last anchor that's final on Ethereum.
    pub(super) async fn last_anchor(&self) -> Result<Option<Height>, Error> {
        let Some(followed) = self.ethereum.clone() else { return Ok(None) };
        let last = blocking(move || Ok(followed.last_anchor()?)).await?;
        Ok(last.map(|(height, _)| height))
    }

    /// The anchor that proves the checkpoint of this height, if there's one: what it is, and what its transaction used.
    async fn anchor_of(&self, height: Height) -> Result<Option<Value>, Error> {
        let Some(followed) = self.ethereum.clone() else { return Ok(None) };
        let Some((at, anchor)) = blocking(move || Ok(followed.anchor_of(height)?)).await? else {
            return Ok(None);
        };
        let Anchor { header, epoch, submitter, transaction, block } = anchor;
        let gas = match &self.endpoints {
            Some(endpoints) => endpoints.gas_used(&transaction).await.map_err(|e| e.to_string()),
            None => Err("no endpoint is configured".to_owned()),
        };
        let (gas_used, gas_unknown) = (gas.as_ref().ok().copied().flatten(), gas.err());
        Ok(Some(json!({
            "height": at, "header": header, "epoch": epoch, "is_this": at == height, "transaction": transaction,
            "block": block, "submitter": submitter, "gas_used": gas_used, "gas_unknown": gas_unknown,
        })))
    }
}

/// A checkpoint's file, as `lamina checkpoint verify` reads it.
pub(super) async fn checkpoint_file(
    State(shared): Context,
    Path(height): Path<String>,
) -> Result<Response, Error> {
    let stored = stored_checkpoint(&shared, &height).await?;
    let file = file_of(&shared, stored)?;
    Ok(bytes(file.to_bytes()))
}

/// How operators handed over to those of later epochs: a file that `lamina checkpoint verify` reads beside the genesis file.
pub(super) async fn handovers(State(shared): Context) -> Result<Response, Error> {
    let store = shared.ledger.store();
    let handovers = blocking(move || Ok(store.handovers(EpochNumber(0), usize::MAX)?)).await?;
    let file = HandoverFile::new(handovers).map_err(|e| Error::internal(e.to_string()))?;
    Ok(bytes(file.to_bytes()))
}

/// What the state has under a key, with its proof, as of the latest checkpoint: a file that `lamina checkpoint verify` reads.
pub(super) async fn state_file(
    State(shared): Context,
    Path(key): Path<String>,
) -> Result<Response, Error> {
    let key = hex::decode(key.trim_start_matches("0x"))
        .map_err(|_| Error::unprocessable("the key isn't hexadecimal".to_owned()))?;
    let ledger = shared.ledger.store();
    let (stored, key, value, proof) = blocking(move || {
        let reader = ledger.reader()?;
        let height = Height(reader.version());
        let (value, proof) = tree::prove(&reader, &key, height)?;
        let stored = ledger.checkpoint(height)?;
        Ok((stored, key, value, proof))
    })
    .await?;
    let stored =
        stored.ok_or_else(|| Error::internal("the latest checkpoint isn't stored".to_owned()))?;
    let file = file_of(&shared, stored)?
        .with_entry(&key, value.as_deref(), proof)
        .map_err(|error| Error::unprocessable(error.to_string()))?;
    Ok(bytes(file.to_bytes()))
}

/// How far the ledger is.
pub(super) async fn status(State(shared): Context) -> Result<Json<Value>, Error> {
    let view = shared.mailbox.query(lamina_node_core::Node::ledger_view).await?;
    Ok(Json(serde_json::to_value(view).map_err(|e| Error::internal(e.to_string()))?))
}

#[derive(Deserialize)]
pub(super) struct VolumeFilter {
    volume: Option<u32>,
}

/// A volume of a book as an Automerge document.
pub(super) async fn book_file(
    State(shared): Context,
    Path(name): Path<String>,
    Query(filter): Query<VolumeFilter>,
) -> Result<Response, Error> {
    let unknown =
        || Error::unprocessable("a book is `network`, or a service's identifier".to_owned());
    let id = match name.as_str() {
        "network" => BookId::Network,
        id => BookId::Service(id.parse().map_err(|_| unknown())?),
    };
    let ledger = shared.ledger.store();
    let context = shared.genesis.signing_context();
    let document = blocking(move || {
        let volume = match filter.volume {
            Some(volume) => volume,
            None => lamina_ledger::system::book(&ledger.reader()?, &id)?.map_or(0, |v| v.volume),
        };
        let volume = VolumeId { book: id, volume };
        let changes = read_volume(&ledger, &volume, &context)?;
        Ok(book::export(&changes, &volume)?)
    })
    .await?;
    Ok(bytes(document))
}

/// The final changes of a volume, verified as they were when they came.
fn read_volume(
    store: &lamina_ledger_store::Store,
    volume: &VolumeId,
    context: &SigningContext,
) -> anyhow::Result<Vec<VerifiedChange>> {
    let mut changes = Vec::new();
    for author in store.authors(volume)? {
        let mut after = 0;
        loop {
            let page = store.changes(volume, &author, after, lamina_p2p::PAGE_BYTES_MAX)?;
            for bytes in &page {
                let change = Change::from_bytes(bytes)?;
                after = change.number;
                // Operations were verified before they were written.
                changes.push(book::verify_with(change, context, &|_, _| true)?);
            }
            if page.is_empty() {
                break;
            }
        }
    }
    Ok(changes)
}

async fn stored_checkpoint(shared: &Shared, height: &str) -> Result<Decision, Error> {
    let wanted = match height {
        "latest" => None,
        number => Some(Height(number.parse().map_err(|_| {
            Error::unprocessable("a checkpoint is named by its height, or `latest`".to_owned())
        })?)),
    };
    let ledger = shared.ledger.store();
    let stored = blocking(move || {
        let height = match wanted {
            Some(height) => height,
            None => Height(ledger.reader()?.version()),
        };
        Ok(ledger.checkpoint(height)?)
    })
    .await?;
    stored.ok_or_else(|| Error::not_found(format!("checkpoint {height} isn't here")))
}

fn file_of(shared: &Shared, stored: Decision) -> Result<CheckpointFile, Error> {
    let checkpoint = stored.checkpoint().ok_or_else(|| {
        Error::not_found(
            "checkpoint 0 has no certificate: it follows from the genesis file".to_owned(),
        )
    })?;
    Ok(CheckpointFile::new(shared.genesis.chain_id.clone(), checkpoint))
}

fn bytes(bytes: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response()
}

/// Reads from disk, away from the threads that serve.
pub(super) async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(read)
        .await
        .map_err(|_| Stopped)?
        .map_err(|error| Error::internal(format!("{error:#}")))
}
