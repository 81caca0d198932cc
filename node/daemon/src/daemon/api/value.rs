//! Value on its way: claims on Ethereum, and rewards.

use axum::Json;
use axum::extract::{Path, Query, State};
use lamina_ethereum_core::Deposit;
use lamina_ledger::StateReader as _;
use lamina_ledger::state::{Scope, claims, commitments, rewards, services};
use lamina_types::{Address, Height, ServiceId};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ledger::blocking;
use super::{Context, Error, LIST_MAX};

/// Most claims that are read for one answer; whoever wants more asks again.
const CLAIMS_SCANNED_MAX: usize = 10_000;
/// Services that are read at once.
const PAGE: usize = 256;

#[derive(Deserialize)]
pub(super) struct ClaimFilter {
    /// Only those that pay this account.
    recipient: Option<Address>,
    /// From this index on.
    #[serde(default)]
    from: u64,
    /// Most claims in the answer; 1 to 1,000.
    #[serde(default = "super::list_default")]
    limit: usize,
}

/// Claims on Ethereum, ascending by index, and from which one to go on, unless there are no more. Whether they are paid the
/// vault knows.
pub(super) async fn list_claims(
    State(shared): Context,
    Query(filter): Query<ClaimFilter>,
) -> Result<Json<Value>, Error> {
    let limit = filter.limit.clamp(1, LIST_MAX);
    let ledger = shared.ledger.store();
    let (claims, next) = blocking(move || {
        let reader = ledger.reader()?;
        let scope = Scope::new(&reader);
        let scanned = claims::claims(&scope, filter.from, CLAIMS_SCANNED_MAX)?;
        let pays =
            |r: &&claims::ClaimRecord| filter.recipient.is_none_or(|to| to == r.claim.recipient);
        let found: Vec<_> = scanned.iter().filter(pays).take(limit).copied().collect();
        let last = match found.len() == limit {
            true => found.last(),
            false => scanned.last(),
        };
        let next = last.map(|record| record.claim.index + 1);
        let count = claims::count(&scope)?;
        Ok((found, next.filter(|next| *next < count)))
    })
    .await?;
    Ok(Json(json!({ "claims": claims, "next": next })))
}

/// What a deposit on Ethereum, by its number there, has come to: null if it isn't credited.
pub(super) async fn show_deposit(
    State(shared): Context,
    Path(index): Path<u64>,
) -> Result<Json<Value>, Error> {
    let ledger = shared.ledger.store();
    let credit = blocking(move || {
        let reader = ledger.reader()?;
        Ok(claims::credit(&Scope::new(&reader), &Deposit::id_of(index))?)
    })
    .await?;
    Ok(Json(json!({ "index": index, "credit": credit })))
}

#[derive(Deserialize)]
pub(super) struct ProofOptions {
    /// Against the root of claims of this checkpoint, an anchored one.
    height: Height,
}

/// What proves a claim to the vault: the claim, its siblings in the tree of claims, and the checkpoint's header.
pub(super) async fn claim_proof(
    State(shared): Context,
    Path(index): Path<u64>,
    Query(ProofOptions { height }): Query<ProofOptions>,
) -> Result<Json<Value>, Error> {
    let ledger = shared.ledger.store();
    let proof = blocking(move || {
        let reader = ledger.reader()?;
        let scope = Scope::new(&reader);
        let record = claims::claim(&scope, index)?;
        let siblings = claims::claim_proof_at(&scope, index, height)?;
        let header = ledger.checkpoint(height)?.map(|decision| decision.header);
        Ok(record.zip(siblings).zip(header))
    })
    .await?;
    let Some(((record, siblings), header)) = proof else {
        let what = format!("claim {index} isn't in checkpoint {height}, or that one isn't here");
        return Err(Error::not_found(what));
    };
    Ok(Json(json!({ "claim": record.claim, "siblings": siblings, "header": header })))
}

#[derive(Deserialize)]
pub(super) struct RewardFilter {
    account: Address,
}

/// What has accrued to an account and wasn't claimed: by its commitments, and as an operator by service.
pub(super) async fn list_rewards(
    State(shared): Context,
    Query(RewardFilter { account }): Query<RewardFilter>,
) -> Result<Json<Value>, Error> {
    let ledger = shared.ledger.store();
    let (held, served) = blocking(move || {
        let reader = ledger.reader()?;
        let scope = Scope::new(&reader);
        let held = commitments::list(&scope, Some(account), None, crate::daemon::now(), LIST_MAX)?;
        let (mut served, mut after) = (Vec::<(ServiceId, Vec<rewards::Reward>)>::new(), None);
        loop {
            let page = services::services(&scope, after, PAGE)?;
            for (service, _) in &page {
                let accrued = rewards::of_operator(&scope, *service, account)?;
                if !accrued.is_empty() {
                    served.push((*service, accrued));
                }
            }
            after = page.last().map(|(id, _)| *id);
            if page.len() < PAGE {
                break;
            }
        }
        Ok((held, served, reader.version()))
    })
    .await
    .map(|(held, served, _)| (held, served))?;
    let of_commitment = |view: &commitments::CommitmentView| json!({ "commitment": view.id, "service": view.place.service, "rewards": view.rewards });
    let of_service = |(service, rewards): &(ServiceId, Vec<_>)| json!({ "service": service, "rewards": rewards });
    Ok(Json(json!({
        "account": account,
        "commitments": held.iter().filter(|v| !v.rewards.is_empty()).map(of_commitment).collect::<Vec<_>>(),
        "participation": served.iter().map(of_service).collect::<Vec<_>>(),
    })))
}
