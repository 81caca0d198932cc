//! What has accrued to commitments and operators.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use lamina_types::{Action, Address, Amount, Asset, CommitmentId, RewardSource};
use serde_json::{Value, json};

use super::operation::{self, SubmitOptions};
use super::output::{plain, print, short, table};
use super::withdraw::PayoutOptions;
use super::{ApiOptions, service};
use crate::client::Client;

/// `lamina reward`.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List what has accrued to an account: by its commitments, and as an operator by service.
    List {
        /// Whose.
        account: Address,
        #[command(flatten)]
        api: ApiOptions,
    },
    /// Get what has accrued into the account's balance, or on to Ethereum.
    Claim(Box<ClaimRewards>),
}

/// `lamina reward claim`.
#[derive(Debug, Args)]
pub(crate) struct ClaimRewards {
    /// Of this commitment.
    #[arg(long, conflicts_with = "service", required_unless_present = "service")]
    commitment: Option<CommitmentId>,
    /// As an operator of this service.
    #[arg(long)]
    service: Option<String>,
    /// In which asset.
    #[arg(long, default_value = "ether")]
    asset: Asset,
    /// Withdraw it to Ethereum, too, but for fees.
    #[arg(long)]
    to_ethereum: bool,
    #[command(flatten)]
    payout: PayoutOptions,
    #[command(flatten)]
    options: SubmitOptions,
}

impl Verb {
    pub(crate) async fn run(self, json: bool) -> anyhow::Result<()> {
        match self {
            Self::List { account, api } => {
                let view = rewards(&api.client()?, account).await?;
                print(json, &view, || rewards_table(&view));
                Ok(())
            }
            Self::Claim(claim) => claim.run(json).await,
        }
    }
}

impl ClaimRewards {
    async fn run(self, json: bool) -> anyhow::Result<()> {
        let Self { commitment, service, asset, to_ethereum, payout, options } = self;
        let client = options.client()?;
        let source = match (commitment, service) {
            (Some(commitment), _) => RewardSource::Commitment { commitment },
            (None, Some(name)) => {
                let service = service::find(&client, &name).await?;
                RewardSource::Participation { service }
            }
            (None, None) => anyhow::bail!("name a --commitment or a --service"),
        };
        if to_ethereum {
            return claim_to_ethereum(json, &client, &options, payout, source, asset).await;
        }
        anyhow::ensure!(
            !payout.says_something(),
            "rewards go to the account's balance; --to-ethereum takes them on"
        );
        options.submit(json, Action::ClaimRewards { source, asset }).await
    }
}

/// Claims, then withdraws what had accrued before, as far as the fee leaves it.
async fn claim_to_ethereum(
    json: bool,
    client: &Client,
    options: &SubmitOptions,
    payout: PayoutOptions,
    source: RewardSource,
    asset: Asset,
) -> anyhow::Result<()> {
    anyhow::ensure!(!options.is_hasty(), "--to-ethereum waits for the claim; leave --no-wait");
    let withdrawal = payout.prepare(client, options, asset).await?;
    let account = options.account().key_of(&withdrawal.secret)?;
    let address = account.address();
    let due = accrued(&rewards(client, address).await?, source, asset)?;
    anyhow::ensure!(due.0 > 0, "nothing has accrued to {address} there in {asset}");
    let view = options.send(client, account, Action::ClaimRewards { source, asset }).await?;
    operation::check(&view)?;
    let (fee_asset, fee) = options.fee_max(client, &withdrawal.action(due)).await?;
    let reserved = if fee_asset == asset { fee } else { Amount(0) };
    let balance = balance(client, address, asset).await?;
    let amount = Amount(due.0.min(balance.0.saturating_sub(reserved.0)));
    anyhow::ensure!(
        amount.0 > 0,
        "{address} has got {due} {asset}, which the fee of a withdrawal would use up"
    );
    if !json {
        println!("{due} {asset} claimed; withdrawing {amount}…");
    }
    withdrawal.run(json, client, options, amount).await
}

async fn rewards(client: &Client, account: Address) -> anyhow::Result<Value> {
    client.get(&format!("/v1/rewards?account={account}")).await
}

/// What of a list of rewards is this source's in this asset.
fn accrued(view: &Value, source: RewardSource, asset: Asset) -> anyhow::Result<Amount> {
    let (list, name, wanted) = match source {
        RewardSource::Commitment { commitment } => ("commitments", "commitment", json!(commitment)),
        RewardSource::Participation { service } => ("participation", "service", json!(service)),
    };
    let entries = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let of = entries(&view[list]).into_iter().find(|of| of[name] == wanted);
    let rewards = of.map(|of| entries(&of["rewards"])).unwrap_or_default();
    let reward = rewards.into_iter().find(|reward| reward["asset"] == json!(asset));
    let amount = reward.map(|reward| serde_json::from_value(reward["amount"].clone()));
    Ok(amount.transpose().context("the node's answer")?.unwrap_or_default())
}

async fn balance(client: &Client, account: Address, asset: Asset) -> anyhow::Result<Amount> {
    let view = client.get(&format!("/v1/accounts/{account}")).await?;
    let balances = view["balances"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = balances.iter().find(|balance| balance["asset"] == json!(asset));
    let amount = found.map(|balance| serde_json::from_value(balance["amount"].clone()));
    Ok(amount.transpose().context("the node's answer")?.unwrap_or_default())
}

fn rewards_table(view: &Value) -> String {
    let list = |name: &str| view[name].as_array().cloned().unwrap_or_default();
    let rows = |of: &Value, what: String| {
        let rewards = of["rewards"].as_array().cloned().unwrap_or_default();
        let row = move |reward: &Value| {
            vec![
                what.clone(),
                short(&of["service"]),
                plain(&reward["asset"]),
                plain(&reward["amount"]),
            ]
        };
        rewards.iter().map(row).collect::<Vec<_>>()
    };
    let mut all = Vec::new();
    for of in list("commitments") {
        all.extend(rows(&of, format!("commitment {}", short(&of["commitment"]))));
    }
    for of in list("participation") {
        all.extend(rows(&of, "operator".to_owned()));
    }
    table(&["for", "service", "asset", "accrued"], all)
}
