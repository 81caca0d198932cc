//! Value between Ethereum and the ledger: deposits, withdrawals, claims, rewards.

use std::time::Duration;

use alloy_sol_types::SolCall as _;
use anyhow::Context as _;
use clap::{Args, Subcommand};
use lamina_ethereum::Wallet;
use lamina_ethereum_core::{abi, calls};
use lamina_ledger::state::claims::{Claim, ClaimRecord};
use lamina_types::{
    Action, Address, Amount, Asset, CheckpointHeader, CommitmentId, Digest, HeaderId, Height,
    RewardSource,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::ethereum::{self, EthereumOptions};
use super::operation::{self, SubmitOptions};
use super::output::{fields, plain, print, short, table};
use super::{AccountOptions, ApiOptions, service};
use crate::client::Client;

/// Time between two looks at what's waited for.
const POLL: Duration = Duration::from_secs(1);

/// `lamina deposit`.
#[derive(Debug, Args)]
pub(crate) struct Deposit {
    /// How much, in the asset's smallest unit.
    amount: Amount,
    /// Of what: `ether` or `erc20:0x…`.
    #[arg(long, default_value = "ether")]
    asset: Asset,
    /// Who is credited; by default the account that pays.
    #[arg(long = "for", value_name = "ACCOUNT")]
    account_for: Option<Address>,
    /// Don't wait until the ledger has credited it.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for the credit, in seconds: Ethereum finalises a block after some 13 minutes.
    #[arg(long, default_value_t = 1800)]
    wait: u64,
    #[command(flatten)]
    ethereum: EthereumOptions,
    #[command(flatten)]
    account: AccountOptions,
    #[command(flatten)]
    api: ApiOptions,
}

impl Deposit {
    pub(crate) async fn run(self, json: bool) -> anyhow::Result<()> {
        let client = self.api.client()?;
        let (genesis, contracts) = ethereum::contracts(&client).await?;
        let secret = self.account.secret(&self.account.passphrase()?)?;
        let wallet = self.ethereum.wallet(&secret, &genesis)?;
        let account = self.account_for.unwrap_or_else(|| wallet.address());
        let before = balance(&client, account, self.asset).await?;
        let (input, wei) = match ethereum::token(self.asset)? {
            None => {
                let call = abi::Vault::depositEtherCall { account: account.0.into() };
                (call.abi_encode(), self.amount.0)
            }
            Some(token) => {
                ethereum::approve(&wallet, token, contracts.vault, self.amount.0).await?;
                let (token, account) = (token.0.into(), account.0.into());
                let amount = self.amount.0.try_into().context("an amount fits 256 bits")?;
                (abi::Vault::depositCall { token, amount, account }.abi_encode(), 0)
            }
        };
        let sent = wallet.send(contracts.vault, input, wei).await.context("depositing")?;
        if !json {
            println!("deposited in block {}; waiting until it's final and credited…", sent.block);
        }
        let credited = if self.no_wait {
            None
        } else {
            let wanted = before.saturating_add(self.amount.0);
            let credited =
                async || Ok((balance(&client, account, self.asset).await? >= wanted).then_some(()));
            wait_for(self.wait, "the ledger hasn't credited the deposit yet", credited).await?;
            Some(balance(&client, account, self.asset).await?)
        };
        let view = json!({
            "account": account, "asset": self.asset, "amount": self.amount, "transaction": sent.transaction,
            "block": sent.block, "gas_used": sent.gas_used, "credited": credited.is_some(),
            "balance": credited.map(Amount),
        });
        print(json, &view, || {
            fields(&[
                ("account", account.to_string()),
                ("amount", format!("{} {}", self.amount, self.asset)),
                ("transaction", sent.transaction.to_string()),
                ("gas used", sent.gas_used.to_string()),
                (
                    "balance",
                    credited.map_or_else(|| "not credited yet".to_owned(), |b| b.to_string()),
                ),
            ])
        });
        Ok(())
    }
}

/// `lamina withdraw`.
#[derive(Debug, Args)]
pub(crate) struct Withdraw {
    /// How much, in the asset's smallest unit.
    amount: Amount,
    /// Of what: `ether` or `erc20:0x…`.
    #[arg(long, default_value = "ether")]
    asset: Asset,
    /// Who is paid on Ethereum; by default the account itself.
    #[arg(long)]
    to: Option<Address>,
    /// Only sign the withdrawal; `lamina claim pay` has it paid later.
    #[arg(long)]
    no_pay: bool,
    /// How long to wait for a checkpoint on Ethereum that proves it, in seconds.
    #[arg(long, default_value_t = 1800)]
    wait_anchor: u64,
    #[command(flatten)]
    options: SubmitOptions,
    #[command(flatten)]
    ethereum: Optional,
}

/// Where Ethereum is, if it's needed.
#[derive(Debug, Args)]
pub(crate) struct Optional {
    /// HTTP endpoints of the Ethereum chain, the preferred one first.
    #[arg(long = "rpc", value_name = "URL", env = "LAMINA_ETHEREUM_RPC", value_delimiter = ',')]
    rpc: Vec<String>,
    /// Most that is paid for a unit of gas, in gwei.
    #[arg(long, default_value_t = 100)]
    fee_max_gwei: u64,
}

impl Withdraw {
    pub(crate) async fn run(self, json: bool) -> anyhow::Result<()> {
        let client = self.options.client()?;
        ethereum::token(self.asset)?;
        let secret = self.options.account().secret(&self.options.account().passphrase()?)?;
        let account = self.options.account().key_of(&secret)?;
        let recipient = self.to.unwrap_or_else(|| account.address());
        let (asset, amount) = (self.asset, self.amount);
        let payer = match self.ethereum.rpc.is_empty() || self.no_pay {
            true => None,
            false => {
                let (genesis, _) = ethereum::contracts(&client).await?;
                let Optional { rpc, fee_max_gwei } = self.ethereum;
                let options = EthereumOptions { rpc, fee_max_gwei };
                Some(options.wallet(&secret, &genesis)?)
            }
        };
        anyhow::ensure!(
            payer.is_some() || self.no_pay,
            "to be paid on Ethereum it takes an endpoint: --rpc URL, or --no-pay to sign only"
        );
        let view = self
            .options
            .send(&client, account, Action::Withdraw { recipient, asset, amount })
            .await?;
        operation::check(&view)?;
        let operation = plain(&view["id"]);
        let claims = claims_of(&client, Some(recipient)).await?;
        let record =
            claims.into_iter().rev().find(|record| record.operation.to_string() == operation);
        let record = record.context("the node has no claim of this withdrawal")?;
        let index = record.claim.index;
        let Some(wallet) = payer else {
            let view = json!({ "operation": operation, "claim": record.claim, "paid": false });
            print(json, &view, || {
                format!(
                    "claim {index}; `lamina claim pay {index}` has it paid once a checkpoint is anchored"
                )
            });
            return Ok(());
        };
        if !json {
            println!(
                "claim {index} is final in checkpoint {}; waiting for an anchor…",
                record.height
            );
        }
        let paid = pay(&client, &wallet, &[record], self.wait_anchor).await?;
        print(json, &paid, || paid_text(&paid));
        Ok(())
    }
}

/// `lamina claim`.
#[derive(Debug, Subcommand)]
pub(crate) enum ClaimVerb {
    /// List claims on Ethereum, and whether the vault has paid them.
    List {
        /// Only those that pay this account.
        #[arg(long)]
        recipient: Option<Address>,
        #[command(flatten)]
        ethereum: EthereumOptions,
        #[command(flatten)]
        api: ApiOptions,
    },
    /// Have claims paid, by proof against an anchored checkpoint; any account may, and pays the gas.
    Pay {
        /// Which ones: their indices.
        #[arg(required = true)]
        claims: Vec<u64>,
        /// How long to wait for a checkpoint on Ethereum that proves them, in seconds.
        #[arg(long, default_value_t = 0)]
        wait: u64,
        #[command(flatten)]
        ethereum: EthereumOptions,
        #[command(flatten)]
        account: AccountOptions,
        #[command(flatten)]
        api: ApiOptions,
    },
}

impl ClaimVerb {
    pub(crate) async fn run(self, json: bool) -> anyhow::Result<()> {
        match self {
            Self::List { recipient, ethereum, api } => {
                let client = api.client()?;
                let (_, contracts) = ethereum::contracts(&client).await?;
                let endpoints = ethereum.endpoints()?;
                let anchored =
                    endpoints.call(contracts.checkpoints, &abi::Checkpoints::latestCall {}).await?;
                let mut rows = Vec::new();
                for record in claims_of(&client, recipient).await? {
                    let index = record.claim.index;
                    let paid =
                        endpoints.call(contracts.vault, &abi::Vault::isPaidCall { index }).await?;
                    let status = match (paid, record.height.0 <= anchored.height) {
                        (true, _) => "paid",
                        (false, true) => "payable",
                        (false, false) => "waits for an anchor",
                    };
                    rows.push(json!({
                        "claim": record.claim, "operation": record.operation, "height": record.height, "status": status,
                    }));
                }
                let view = json!(rows);
                print(json, &view, || claims_table(&rows));
                Ok(())
            }
            Self::Pay { claims, wait, ethereum, account, api } => {
                let client = api.client()?;
                let (genesis, _) = ethereum::contracts(&client).await?;
                let secret = account.secret(&account.passphrase()?)?;
                let wallet = ethereum.wallet(&secret, &genesis)?;
                let known = claims_of(&client, None).await?;
                let find = |index: &u64| {
                    let found = known.iter().find(|record| record.claim.index == *index).copied();
                    found.with_context(|| format!("there's no claim {index}"))
                };
                let records = claims.iter().map(find).collect::<anyhow::Result<Vec<_>>>()?;
                let paid = pay(&client, &wallet, &records, wait).await?;
                print(json, &paid, || paid_text(&paid));
                Ok(())
            }
        }
    }
}

/// `lamina reward`.
#[derive(Debug, Subcommand)]
pub(crate) enum RewardVerb {
    /// List what has accrued to an account: by its commitments, and as an operator by service.
    List {
        /// Whose.
        account: Address,
        #[command(flatten)]
        api: ApiOptions,
    },
    /// Get what has accrued into the account's balance; `lamina withdraw` takes it on to Ethereum.
    Claim {
        /// Of this commitment.
        #[arg(long, conflicts_with = "service", required_unless_present = "service")]
        commitment: Option<CommitmentId>,
        /// As an operator of this service.
        #[arg(long)]
        service: Option<String>,
        /// In which asset.
        #[arg(long, default_value = "ether")]
        asset: Asset,
        #[command(flatten)]
        options: SubmitOptions,
    },
}

impl RewardVerb {
    pub(crate) async fn run(self, json: bool) -> anyhow::Result<()> {
        match self {
            Self::List { account, api } => {
                let view = api.client()?.get(&format!("/v1/rewards?account={account}")).await?;
                print(json, &view, || rewards_table(&view));
                Ok(())
            }
            Self::Claim { commitment, service, asset, options } => {
                let client = options.client()?;
                let source = match (commitment, service) {
                    (Some(commitment), _) => RewardSource::Commitment { commitment },
                    (None, Some(name)) => {
                        let service = service::find(&client, &name).await?;
                        RewardSource::Participation { service }
                    }
                    (None, None) => anyhow::bail!("name a --commitment or a --service"),
                };
                options.submit(json, Action::ClaimRewards { source, asset }).await
            }
        }
    }
}

async fn claims_of(
    client: &Client,
    recipient: Option<Address>,
) -> anyhow::Result<Vec<ClaimRecord>> {
    let filter = recipient.map(|account| format!("&recipient={account}")).unwrap_or_default();
    let (mut all, mut from) = (Vec::<ClaimRecord>::new(), 0);
    loop {
        let page = client.get(&format!("/v1/claims?limit=1000&from={from}{filter}")).await?;
        let page: Vec<ClaimRecord> = serde_json::from_value(page).context("a list of claims")?;
        let Some(last) = page.last() else { return Ok(all) };
        from = last.claim.index + 1;
        all.extend(page);
    }
}

/// A claim's proof as the node gives it.
#[derive(Deserialize)]
struct Proof {
    claim: Claim,
    siblings: Vec<Digest>,
    header: CheckpointHeader,
}

/// Has claims paid that aren't, once the last anchor proves them all. What the node says is checked before it costs gas.
async fn pay(
    client: &Client,
    wallet: &Wallet,
    records: &[ClaimRecord],
    wait_s: u64,
) -> anyhow::Result<Value> {
    let (genesis, contracts) = ethereum::contracts(client).await?;
    let mut open = Vec::new();
    for record in records {
        let index = record.claim.index;
        if !wallet.call(contracts.vault, &abi::Vault::isPaidCall { index }).await? {
            open.push(*record);
        }
    }
    let Some(height) = open.iter().map(|record| record.height).max() else {
        return Ok(
            json!({ "paid": records.iter().map(|r| r.claim).collect::<Vec<_>>(), "transaction": null }),
        );
    };
    let anchored = async || {
        let latest = wallet.call(contracts.checkpoints, &abi::Checkpoints::latestCall {}).await?;
        Ok((latest.height >= height.0)
            .then_some((Height(latest.height), HeaderId(latest.header.0))))
    };
    let missing = format!("no checkpoint from {height} on is anchored yet");
    let (at, header) = wait_for(wait_s, &missing, anchored).await?;
    let mut proven = Vec::new();
    let mut shown = None;
    for ClaimRecord { claim, .. } in &open {
        let path = format!("/v1/claims/{}/proof?height={at}", claim.index);
        let proof: Proof =
            serde_json::from_value(client.get(&path).await?).context("a claim's proof")?;
        let siblings = proof.siblings.try_into().ok().context("a proof has 32 siblings")?;
        anyhow::ensure!(
            proof.header.id(&genesis.chain_id) == header,
            "the node's checkpoint {at} isn't the one that is anchored: its ledger is another one than Ethereum knows"
        );
        anyhow::ensure!(
            proof.claim == *claim && claim.is_proven(&siblings, &proof.header.claims),
            "the node's proof of claim {} doesn't hold",
            claim.index
        );
        let Claim { index, recipient, asset, amount } = *claim;
        proven.push(calls::ProvenClaim { index, recipient, asset, amount, siblings });
        shown = Some(proof.header);
    }
    let header = shown.context("at least one claim is open")?;
    let input = calls::withdraw(&proven, &calls::HeaderProof { header, through: None });
    let sent = wallet.send(contracts.vault, input, 0).await.context("having claims paid")?;
    Ok(json!({
        "paid": records.iter().map(|r| r.claim).collect::<Vec<_>>(), "anchor": at,
        "transaction": sent.transaction, "block": sent.block, "gas_used": sent.gas_used,
    }))
}

fn paid_text(paid: &Value) -> String {
    let claims = paid["paid"].as_array().map(Vec::as_slice).unwrap_or_default();
    let line = |claim: &Value| {
        format!(
            "claim {}: {} {} to {}",
            plain(&claim["index"]),
            plain(&claim["amount"]),
            plain(&claim["asset"]),
            plain(&claim["recipient"]),
        )
    };
    let mut lines: Vec<String> = claims.iter().map(line).collect();
    lines.push(match paid["transaction"].as_str() {
        Some(transaction) => format!("paid by {transaction}, {} gas", plain(&paid["gas_used"])),
        None => "paid before".to_owned(),
    });
    lines.join("\n")
}

fn claims_table(rows: &[Value]) -> String {
    let row = |row: &Value| {
        let claim = &row["claim"];
        vec![
            plain(&claim["index"]),
            plain(&claim["recipient"]),
            plain(&claim["asset"]),
            plain(&claim["amount"]),
            plain(&row["height"]),
            plain(&row["status"]),
        ]
    };
    table(
        &["claim", "recipient", "asset", "amount", "checkpoint", "status"],
        rows.iter().map(row).collect(),
    )
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

async fn balance(client: &Client, account: Address, asset: Asset) -> anyhow::Result<u128> {
    let view = client.get(&format!("/v1/accounts/{account}")).await?;
    let balances = view["balances"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = balances.iter().find(|balance| balance["asset"] == json!(asset));
    let amount = found.map(|balance| serde_json::from_value::<Amount>(balance["amount"].clone()));
    Ok(amount.transpose()?.unwrap_or_default().0)
}

/// Looks until there's something, for so many seconds.
async fn wait_for<T>(
    seconds: u64,
    missing: &str,
    look: impl AsyncFn() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        anyhow::ensure!(Instant::now() < deadline, "{missing}; waited {seconds} s");
        sleep(POLL).await;
    }
}
