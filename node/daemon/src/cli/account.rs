use clap::Subcommand;
use lamina_types::{Action, Address, Amount, Asset};
use serde_json::Value;

use super::ApiOptions;
use super::operation::SubmitOptions;
use super::output::{fields, plain, print, table};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show what an account has, and the number of its next operation.
    Show {
        /// Which one.
        account: Address,
        #[command(flatten)]
        api: ApiOptions,
    },
    /// Give an asset to somebody.
    Transfer {
        /// Who gets it.
        to: Address,
        /// How much, in the asset's smallest unit.
        amount: Amount,
        /// Of what: `ether`, `erc20:0x…` or `ibc:0x…`.
        #[arg(long, default_value = "ether")]
        asset: Asset,
        #[command(flatten)]
        options: SubmitOptions,
    },
}

impl Verb {
    pub(crate) async fn run(self, json: bool) -> anyhow::Result<()> {
        match self {
            Self::Show { account, api } => {
                let view = api.client()?.get(&format!("/v1/accounts/{account}")).await?;
                print(json, &view, || text(&view));
                Ok(())
            }
            Self::Transfer { to, amount, asset, options } => {
                options.submit(json, Action::Transfer { to, asset, amount }).await
            }
        }
    }
}

fn text(view: &Value) -> String {
    let head = fields(&[
        ("account", plain(&view["account"])),
        ("next sequence", plain(&view["next_sequence"])),
        ("checkpoint", plain(&view["height"])),
    ]);
    let balances = view["balances"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows = balances.iter().map(|b| vec![plain(&b["asset"]), plain(&b["amount"])]);
    format!("{head}\n\n{}", table(&["asset", "amount"], rows.collect()))
}
