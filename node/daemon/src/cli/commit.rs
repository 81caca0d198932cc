use clap::{Subcommand, ValueEnum};
use lamina_types::{Action, Address, Amount, Asset, CommitmentId, Purpose, VaultId};
use serde_json::Value;

use super::operation::SubmitOptions;
use super::output::{plain, print, short, table};
use super::{ApiOptions, service};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Pledge an asset to a service and an operator.
    Add {
        /// The service: its identifier, or its name if only one has it.
        service: String,
        /// How much, in the asset's smallest unit.
        amount: Amount,
        /// The operator's account; by default the one that most serve with, the first of the operator set.
        #[arg(long)]
        operator: Option<Address>,
        /// Of what: `ether`, `erc20:0x…` or `ibc:0x…`.
        #[arg(long, default_value = "ether")]
        asset: Asset,
        /// In exchange for what.
        #[arg(long = "for", value_enum, default_value_t = PurposeOption::Rewards)]
        purpose: PurposeOption,
        /// How long it stays bound after it's taken back, in seconds.
        #[arg(long, default_value_t = 7 * 24 * 3600)]
        unbonding: u64,
        /// A vault that the account manages, whose asset it is.
        #[arg(long)]
        vault: Option<VaultId>,
        #[command(flatten)]
        options: SubmitOptions,
    },
    /// List commitments: those that are final, and those that are pending.
    List {
        /// Only this account's.
        #[arg(long)]
        account: Option<Address>,
        /// Only to this service.
        #[arg(long)]
        service: Option<String>,
        #[command(flatten)]
        api: ApiOptions,
    },
    /// Add to a commitment.
    Increase {
        /// Which one.
        commitment: CommitmentId,
        /// How much.
        amount: Amount,
        #[command(flatten)]
        options: SubmitOptions,
    },
    /// Take a commitment back, in part or whole; it's bound until its unbonding ends.
    Withdraw {
        /// Which one.
        commitment: CommitmentId,
        /// How much.
        amount: Amount,
        #[command(flatten)]
        options: SubmitOptions,
    },
    /// Get back what has unbonded.
    Release {
        /// Of which commitment.
        commitment: CommitmentId,
        #[command(flatten)]
        options: SubmitOptions,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum PurposeOption {
    /// A share of what the service pays out.
    Rewards,
    /// A vote in what it does.
    Votes,
    /// Its tasks, paid from it.
    Credit,
}

impl From<PurposeOption> for Purpose {
    fn from(option: PurposeOption) -> Self {
        match option {
            PurposeOption::Rewards => Self::Rewards,
            PurposeOption::Votes => Self::Votes,
            PurposeOption::Credit => Self::Credit,
        }
    }
}

impl Verb {
    pub(crate) async fn run(self, json: bool) -> anyhow::Result<()> {
        match self {
            Self::Add { service, amount, operator, asset, purpose, unbonding, vault, options } => {
                let client = options.client()?;
                let service = service::find(&client, &service).await?;
                let operator = match operator {
                    Some(operator) => operator,
                    None => {
                        let genesis = client.genesis().await?;
                        let first = genesis.operators.first();
                        first.map(|operator| operator.address).unwrap_or_default()
                    }
                };
                let (unbonding_s, purpose) = (unbonding, purpose.into());
                let action = Action::Commit {
                    vault,
                    service,
                    operator,
                    asset,
                    amount,
                    unbonding_s,
                    purpose,
                };
                options.submit(json, action).await
            }
            Self::List { account, service, api } => {
                let client = api.client()?;
                let mut query = Vec::new();
                if let Some(account) = account {
                    query.push(format!("account={account}"));
                }
                if let Some(service) = service {
                    let service = service::find(&client, &service).await?;
                    query.push(format!("service={service}"));
                }
                let path = format!("/v1/commitments?{}", query.join("&"));
                let commitments = client.get(&path).await?;
                print(json, &commitments, || list_table(&commitments));
                Ok(())
            }
            Self::Increase { commitment, amount, options } => {
                options.submit(json, Action::Increase { commitment, amount }).await
            }
            Self::Withdraw { commitment, amount, options } => {
                options.submit(json, Action::Uncommit { commitment, amount }).await
            }
            Self::Release { commitment, options } => {
                options.submit(json, Action::Release { commitment }).await
            }
        }
    }
}

fn list_table(commitments: &Value) -> String {
    let rows = commitments.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(|c| {
        vec![
            plain(&c["id"]),
            plain(&c["status"]),
            short(&c["account"]),
            short(&c["service"]),
            short(&c["operator"]),
            plain(&c["amount"]),
            plain(&c["asset"]),
            plain(&c["purpose"]),
        ]
    });
    let head = ["commitment", "status", "account", "service", "operator", "amount", "asset", "for"];
    table(&head, rows.collect())
}
