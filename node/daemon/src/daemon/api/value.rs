//! Value on its way: claims on Ethereum, and rewards.

use axum::Json;
use axum::extract::{Path, Query, State};
use lamina_ledger::StateReader as _;
use lamina_ledger::state::{Scope, claims, commitments, rewards, services};
use lamina_types::{Address, Height, ServiceId};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ledger::blocking;
use super::{Context, Error, LIST_MAX};

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

/// Claims on Ethereum, ascending by index. Whether they are paid the vault knows.
pub(super) async fn list_claims(
    State(shared): Context,
    Query(filter): Query<ClaimFilter>,
) -> Result<Json<Vec<claims::ClaimRecord>>, Error> {
    let limit = filter.limit.clamp(1, LIST_MAX);
    let ledger = shared.ledger.store();
    let list = blocking(move || {
        let reader = ledger.reader()?;
        let scope = Scope::new(&reader);
        let (mut found, mut from) = (Vec::new(), filter.from);
        while found.len() < limit {
            let page = claims::claims(&scope, from, LIST_MAX)?;
            let Some(last) = page.last() else { break };
            from = last.claim.index + 1;
            let pays =
                |r: &claims::ClaimRecord| filter.recipient.is_none_or(|to| to == r.claim.recipient);
            found.extend(page.into_iter().filter(pays));
        }
        found.truncate(limit);
        Ok(found)
    })
    .await?;
    Ok(Json(list))
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
