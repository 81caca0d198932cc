use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use lamina_certificate::{Genesis, LedgerGenesis, OperatorRecord};
use lamina_types::{ChainId, Timestamp};
use serde::de::DeserializeOwned;

use super::output::{fields, print, table};
use crate::daemon::{now, read_genesis};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Join operators' records, made with `lamina keys new --record`, to a genesis file.
    New {
        /// The network's name.
        #[arg(long)]
        chain_id: ChainId,
        /// The Ethereum chain (EIP-155) that accounts sign for.
        #[arg(long)]
        ethereum_chain_id: u64,
        /// An operator's record; once for each, in the order that the set will have.
        #[arg(long = "operator", value_name = "FILE", required = true)]
        operators: Vec<PathBuf>,
        /// Lamina's contracts on that chain, as JSON: `contracts` with the addresses of `registrar`, `checkpoints`,
        /// `vault`, `tasks` and `slasher`; `start`, the first block to read; `stride`, checkpoints name every so-many-th
        /// block; `first_epoch`, the contracts' first one. Records must be made for this registrar.
        #[arg(long, value_name = "FILE")]
        ethereum: Option<PathBuf>,
        /// What the ledger begins with, as JSON: time, intervals, fees, deposits. By default it begins now, with
        /// nothing in it and without fees.
        #[arg(long, value_name = "FILE")]
        ledger: Option<PathBuf>,
        /// The file to write.
        #[arg(long, default_value = "genesis.json")]
        output: PathBuf,
    },
    /// Check a genesis file and show its operators.
    Show {
        /// The file.
        #[arg(default_value = "genesis.json")]
        file: PathBuf,
    },
}

impl Verb {
    pub(crate) fn run(self, json: bool) -> anyhow::Result<()> {
        match self {
            Self::New { chain_id, ethereum_chain_id, operators, ethereum, ledger, output } => {
                let mut ledger: LedgerGenesis = match ledger {
                    Some(path) => read(&path, "a ledger's beginning")?,
                    None => LedgerGenesis::default(),
                };
                let ethereum = ethereum
                    .map(|path| read(&path, "what Ethereum has of a network"))
                    .transpose()?;
                if ledger.time == Timestamp(0) {
                    ledger.time = now();
                }
                let operators = operators
                    .iter()
                    .map(|path| read::<OperatorRecord>(path, "an operator's record"))
                    .collect::<anyhow::Result<_>>()?;
                let genesis = Genesis {
                    chain_id,
                    ethereum_chain_id,
                    ethereum,
                    runtime: lamina_components::runtime(),
                    operators,
                    ledger,
                };
                genesis.epochs()?;
                let file = std::fs::File::create_new(&output)
                    .with_context(|| format!("creating {}", output.display()))?;
                serde_json::to_writer_pretty(file, &genesis)?;
                show(json, &genesis)
            }
            Self::Show { file } => {
                let genesis = read_genesis(&file)?;
                genesis.epochs()?;
                show(json, &genesis)
            }
        }
    }
}

fn read<T: DeserializeOwned>(path: &Path, what: &str) -> anyhow::Result<T> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {shown}"))?;
    serde_json::from_str(&text).with_context(|| format!("{shown} isn't {what}"))
}

fn show(json: bool, genesis: &Genesis) -> anyhow::Result<()> {
    let value = serde_json::to_value(genesis)?;
    print(json, &value, || {
        let rows = genesis.operators.iter().enumerate().map(|(i, operator)| {
            vec![i.to_string(), operator.address.to_string(), operator.stake_gwei.to_string()]
        });
        let head = fields(&[
            ("chain", genesis.chain_id.to_string()),
            ("Ethereum chain", genesis.ethereum_chain_id.to_string()),
        ]);
        format!("{head}\n\n{}", table(&["operator", "account", "stake (gwei)"], rows.collect()))
    });
    Ok(())
}
