//! Claims on Ethereum: what withdrawals come to, and how the vault pays them, by proof against an anchored checkpoint.

use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;
use lamina_ethereum::{Endpoints, Wallet};
use lamina_ethereum_core::{abi, calls};
use lamina_ledger::state::claims::{Claim, ClaimRecord};
use lamina_types::{Address, CheckpointHeader, Digest, HeaderId, Height};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ethereum::{self, EthereumOptions, advise, wait_for};
use super::output::{plain, print, table};
use super::{AccountOptions, ApiOptions};
use crate::client::Client;

/// How long to wait until a payment is final: Ethereum takes some 13 minutes.
const FINALITY_MAX: Duration = Duration::from_secs(3600);
/// Most claims that are paid at once. One takes about a hundred thousand gas.
const CLAIMS_MAX: usize = 64;

/// `lamina claim`.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
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

impl Verb {
    pub(crate) async fn run(self, json: bool) -> anyhow::Result<()> {
        match self {
            Self::List { recipient, ethereum, api } => {
                let client = api.client()?;
                let (_, contracts) = ethereum::contracts(&client).await?;
                let endpoints = ethereum.endpoints()?;
                let latest = abi::Checkpoints::latestCall {};
                let anchored = endpoints.call(contracts.checkpoints, &latest).await?;
                let mut rows = Vec::new();
                for record in of_recipient(&client, recipient).await? {
                    let index = record.claim.index;
                    let is_anchored = record.height.0 <= anchored.height;
                    let status = match payment(&endpoints, contracts.vault, index).await? {
                        Payment::Final => "paid",
                        Payment::Latest => "paid, not final yet",
                        Payment::None if is_anchored => "payable",
                        Payment::None => "waits for an anchor",
                    };
                    rows.push(json!({
                        "claim": record.claim, "operation": record.operation, "height": record.height, "status": status,
                    }));
                }
                print(json, &json!(rows), || claims_table(&rows));
                Ok(())
            }
            Self::Pay { mut claims, wait, ethereum, account, api } => {
                claims.sort_unstable();
                claims.dedup();
                anyhow::ensure!(
                    claims.len() <= CLAIMS_MAX,
                    "{} claims are too many for one transaction; name {CLAIMS_MAX} at most",
                    claims.len()
                );
                let client = api.client()?;
                let (genesis, _) = ethereum::contracts(&client).await?;
                let mut records = Vec::new();
                for index in claims {
                    let page = page(&client, None, index, 1).await?.claims;
                    let found = page.first().copied().filter(|r| r.claim.index == index);
                    records.push(found.with_context(|| format!("there's no claim {index}"))?);
                }
                let secret = account.secret(&account.passphrase()?)?;
                let wallet = ethereum.wallet(&secret, &genesis)?;
                let paid = pay(json, &client, &wallet, &records, Duration::from_secs(wait)).await?;
                print(json, &paid, || paid_text(&paid));
                Ok(())
            }
        }
    }
}

/// Whether the vault has paid a claim.
enum Payment {
    None,
    /// In a block that may still be replaced.
    Latest,
    Final,
}

async fn payment(endpoints: &Endpoints, vault: Address, index: u64) -> anyhow::Result<Payment> {
    let call = abi::Vault::isPaidCall { index };
    if !endpoints.call(vault, &call).await? {
        return Ok(Payment::None);
    }
    let is_final = endpoints.call_final(vault, &call).await?;
    Ok(if is_final { Payment::Final } else { Payment::Latest })
}

/// Some of the claims, and where to go on.
#[derive(Deserialize)]
struct Page {
    claims: Vec<ClaimRecord>,
    next: Option<u64>,
}

async fn page(
    client: &Client,
    recipient: Option<Address>,
    from: u64,
    limit: usize,
) -> anyhow::Result<Page> {
    let filter = recipient.map(|account| format!("&recipient={account}")).unwrap_or_default();
    let page = client.get(&format!("/v1/claims?limit={limit}&from={from}{filter}")).await?;
    let page: Page = serde_json::from_value(page).context("a list of claims")?;
    anyhow::ensure!(
        page.next.is_none_or(|next| next > from),
        "the node's list of claims has no end"
    );
    Ok(page)
}

async fn of_recipient(
    client: &Client,
    recipient: Option<Address>,
) -> anyhow::Result<Vec<ClaimRecord>> {
    let (mut all, mut from) = (Vec::new(), Some(0));
    while let Some(first) = from {
        let page = page(client, recipient, first, 1000).await?;
        all.extend(page.claims);
        from = page.next;
    }
    Ok(all)
}

/// The claim that a withdrawal came to.
pub(super) async fn of_operation(
    client: &Client,
    recipient: Address,
    operation: &str,
) -> anyhow::Result<ClaimRecord> {
    let claims = of_recipient(client, Some(recipient)).await?;
    let found = claims.into_iter().rev().find(|record| record.operation.to_string() == operation);
    found.context("the node has no claim of this withdrawal")
}

/// A claim's proof as the node gives it.
#[derive(Deserialize)]
struct Proof {
    claim: Claim,
    siblings: Vec<Digest>,
    header: CheckpointHeader,
}

/// The last anchor, and what the node says of claims at its height.
struct Shown {
    height: Height,
    header: HeaderId,
    proofs: Vec<Proof>,
}

/// Has claims paid that aren't, once the last anchor proves them all, and waits until that's final. What the node says is
/// checked before it costs gas.
pub(super) async fn pay(
    json: bool,
    client: &Client,
    wallet: &Wallet,
    records: &[ClaimRecord],
    wait: Duration,
) -> anyhow::Result<Value> {
    let (genesis, contracts) = ethereum::contracts(client).await?;
    let (endpoints, vault) = (wallet.endpoints(), contracts.vault);
    let mut open = Vec::new();
    for record in records {
        if matches!(payment(endpoints, vault, record.claim.index).await?, Payment::None) {
            open.push(*record);
        }
    }
    let (mut anchor, mut sent) = (None, None);
    if let Some(height) = open.iter().map(|record| record.height).max() {
        let missing = format!("no checkpoint from {height} on is anchored yet");
        let look = async || show(client, endpoints, contracts.checkpoints, &open, height).await;
        let shown = wait_for(wait, &missing, look).await?;
        anchor = Some(shown.height);
        let (proven, header) = shown.verify(&genesis.chain_id, &open)?;
        let input = calls::withdraw(&proven, &calls::HeaderProof { header, through: None });
        let paying = wallet.send(vault, input, 0).await.map_err(advise);
        let paying = paying.context("having claims paid")?;
        if !json {
            println!(
                "paid by {} in block {}; waiting until it's final. Whoever stops here loses nothing…",
                paying.transaction, paying.block
            );
        }
        sent = Some(paying);
    }
    let missing = match &sent {
        Some(sent) => format!("transaction {} has paid, and isn't final yet", sent.transaction),
        None => "the claims are paid, which isn't final yet".to_owned(),
    };
    let look = async || {
        for record in records {
            match payment(endpoints, vault, record.claim.index).await? {
                Payment::Final => {}
                Payment::Latest | Payment::None => return Ok(None),
            }
        }
        Ok(Some(()))
    };
    wait_for(FINALITY_MAX, &missing, look).await?;
    Ok(json!({
        "paid": records.iter().map(|record| record.claim).collect::<Vec<_>>(), "anchor": anchor,
        "transaction": sent.map(|sent| sent.transaction), "block": sent.map(|sent| sent.block),
        "gas_used": sent.map(|sent| sent.gas_used),
    }))
}

/// Asks for proofs against the last anchor; `None` if it's below this height.
async fn show(
    client: &Client,
    endpoints: &Endpoints,
    checkpoints: Address,
    claims: &[ClaimRecord],
    height: Height,
) -> anyhow::Result<Option<Shown>> {
    let latest = endpoints.call(checkpoints, &abi::Checkpoints::latestCall {}).await?;
    let (at, header) = (Height(latest.height), HeaderId(latest.header.0));
    if at < height {
        return Ok(None);
    }
    let mut proofs = Vec::new();
    for ClaimRecord { claim, .. } in claims {
        // A node that's behind the anchor has none yet.
        let proof = client.get(&format!("/v1/claims/{}/proof?height={at}", claim.index)).await?;
        proofs.push(serde_json::from_value(proof).context("a claim's proof")?);
    }
    Ok(Some(Shown { height: at, header, proofs }))
}

impl Shown {
    fn verify(
        self,
        chain: &lamina_types::ChainId,
        claims: &[ClaimRecord],
    ) -> anyhow::Result<(Vec<calls::ProvenClaim>, CheckpointHeader)> {
        let (mut proven, mut shown) = (Vec::new(), None);
        for (proof, ClaimRecord { claim, .. }) in self.proofs.into_iter().zip(claims) {
            let siblings = proof.siblings.try_into().ok().context("a proof has 32 siblings")?;
            anyhow::ensure!(
                proof.header.id(chain) == self.header,
                "the node's checkpoint {} isn't the one that is anchored: its ledger is another one than Ethereum knows",
                self.height
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
        Ok((proven, shown.context("at least one claim is open")?))
    }
}

pub(super) fn paid_text(paid: &Value) -> String {
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
