use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use lamina_certificate::FeeSchedule;
use lamina_types::account::SigningContext;
use lamina_types::{
    AccountKey, Action, Amount, Asset, Operation, OperationId, SignedOperation, Timestamp,
};
use serde_json::Value;

use super::output::{fields, plain, print};
use super::{AccountOptions, ApiOptions};
use crate::client::Client;
use crate::daemon::now;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Sign an operation and submit it. `docs/operations.md` lists them all.
    Submit {
        /// The action as JSON: `{"kind": "transfer", …}`.
        #[arg(value_name = "JSON", required_unless_present = "file")]
        action: Option<String>,
        /// A file with the action.
        #[arg(long, value_name = "FILE", conflicts_with = "action")]
        file: Option<PathBuf>,
        #[command(flatten)]
        options: SubmitOptions,
    },
    /// Show an operation: whether it's pending or final, and what became of it.
    Show {
        /// Its identifier.
        id: OperationId,
        /// Wait so long for its end, in seconds.
        #[arg(long, default_value_t = 0)]
        wait: u64,
        #[command(flatten)]
        api: ApiOptions,
    },
}

impl Verb {
    pub(crate) async fn run(self, json: bool) -> anyhow::Result<()> {
        match self {
            Self::Submit { action, file, options } => {
                let text = match (action, file) {
                    (Some(text), _) => text,
                    (None, Some(path)) => std::fs::read_to_string(&path)
                        .with_context(|| format!("reading {}", path.display()))?,
                    (None, None) => unreachable!("clap requires one of them"),
                };
                let action: Action = serde_json::from_str(&text)
                    .context("the action isn't one; docs/operations.md shows them as JSON")?;
                options.submit(json, action).await
            }
            Self::Show { id, wait, api } => {
                let view = api.client()?.operation(&id, Duration::from_secs(wait)).await?;
                print(json, &view, || text(&view));
                Ok(())
            }
        }
    }
}

/// How an operation is signed and submitted.
#[derive(Debug, Args)]
pub(crate) struct SubmitOptions {
    /// Answer as soon as a node has promised to carry it, rather than when it's final.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait until it's final, in seconds.
    #[arg(long, default_value_t = 60)]
    wait: u64,
    /// How long it may take effect, in seconds.
    #[arg(long, default_value_t = 3600)]
    valid_for: u64,
    /// Most that it may cost, in the smallest unit of the fee asset; by default twice of what it costs now.
    #[arg(long)]
    fee_max: Option<Amount>,
    #[command(flatten)]
    account: AccountOptions,
    #[command(flatten)]
    api: ApiOptions,
}

impl SubmitOptions {
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        self.api.client()
    }

    /// Signs, submits, waits and prints.
    pub(crate) async fn submit(&self, json: bool, action: Action) -> anyhow::Result<()> {
        let account = self.account.unlock()?;
        let view = self.send(&self.client()?, account, action).await?;
        print(json, &view, || text(&view));
        if self.no_wait { Ok(()) } else { check(&view) }
    }

    /// Whether nobody waits for the end.
    pub(crate) const fn is_hasty(&self) -> bool {
        self.no_wait
    }

    /// Which account signs.
    pub(crate) const fn account(&self) -> &AccountOptions {
        &self.account
    }

    /// Most that an action may cost, and in which asset.
    pub(crate) async fn fee_max(
        &self,
        client: &Client,
        action: &Action,
    ) -> anyhow::Result<(Asset, Amount)> {
        let fees = client.genesis().await?.ledger.fees;
        let asset = fees.asset;
        Ok((asset, self.fee_max.unwrap_or_else(|| fee_max(&fees, action))))
    }

    /// The account that signs.
    pub(crate) fn unlock(&self) -> anyhow::Result<AccountKey> {
        self.account.unlock()
    }

    /// Signs, submits and waits, unless nobody wants to wait; returns what became of it.
    pub(crate) async fn send(
        &self,
        client: &Client,
        account: AccountKey,
        action: Action,
    ) -> anyhow::Result<Value> {
        let signer = OperationSigner::new(client, account).await?;
        let sequence = signer.next_sequence(client).await?;
        let valid_until = now() + Duration::from_secs(self.valid_for);
        let fee_max = self.fee_max.unwrap_or_else(|| signer.fee_max(&action));
        let signed = signer.sign(sequence, valid_until, fee_max, action);
        let id = client.submit_operation(&signed).await?;
        let wait = if self.no_wait { 0 } else { self.wait };
        client.operation(&id, Duration::from_secs(wait)).await
    }
}

/// Fails unless the operation is final and done.
pub(crate) fn check(view: &Value) -> anyhow::Result<()> {
    anyhow::ensure!(
        view["status"] == "final",
        "the operation isn't final yet; `lamina operation show {} --wait 60` waits on",
        plain(&view["id"])
    );
    let refusal = &view["receipt"]["refusal"];
    anyhow::ensure!(refusal.is_null(), "the operation was refused: {}", plain(&view["reason"]));
    Ok(())
}

/// Signs one account's operations for one network.
#[derive(Debug)]
pub(crate) struct OperationSigner {
    account: AccountKey,
    context: SigningContext,
    fees: FeeSchedule,
}

impl OperationSigner {
    pub(crate) async fn new(client: &Client, account: AccountKey) -> anyhow::Result<Self> {
        let genesis = client.genesis().await?;
        let context = genesis.signing_context();
        Ok(Self { account, context, fees: genesis.ledger.fees })
    }

    /// Twice what the action costs now: a bound, not a price.
    pub(crate) fn fee_max(&self, action: &Action) -> Amount {
        fee_max(&self.fees, action)
    }

    /// The account's next number, after what's pending at the node.
    pub(crate) async fn next_sequence(&self, client: &Client) -> anyhow::Result<u64> {
        let view = client.get(&format!("/v1/accounts/{}", self.account.address())).await?;
        view["next_sequence"].as_u64().context("the node's answer has no sequence")
    }

    pub(crate) fn sign(
        &self,
        sequence: u64,
        valid_until: Timestamp,
        fee_max: Amount,
        action: Action,
    ) -> SignedOperation {
        let account = self.account.address();
        Operation { account, sequence, valid_until, fee_max, action }
            .sign(&self.account, &self.context)
    }
}

fn fee_max(fees: &FeeSchedule, action: &Action) -> Amount {
    let bytes = borsh::to_vec(action).map_or(0, |bytes| bytes.len() as u128) + 128;
    let fee = fees.per_byte.mul_div(bytes, 1).and_then(|fee| fee.checked_add(fees.base));
    fee.and_then(|fee| fee.mul_div(2, 1)).unwrap_or(Amount(u128::MAX))
}

/// An operation for people.
fn text(view: &Value) -> String {
    let receipt = &view["receipt"];
    let result = match (view["status"].as_str(), view["reason"].as_str()) {
        (Some("final"), Some(reason)) => format!("refused: {reason}"),
        (Some("final"), None) => "done".to_owned(),
        _ => "pending".to_owned(),
    };
    fields(&[
        ("operation", plain(&view["id"])),
        ("action", plain(&view["operation"]["action"]["kind"])),
        ("account", plain(&view["operation"]["account"])),
        ("sequence", plain(&view["operation"]["sequence"])),
        ("result", result),
        ("checkpoint", plain(&receipt["height"])),
        ("fee", plain(&receipt["fee"])),
    ])
}
