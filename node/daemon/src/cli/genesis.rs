use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use lamina_certificate::{EthereumGenesis, Genesis, LedgerGenesis, OperatorRecord};
use lamina_ethereum::Endpoints;
use lamina_ethereum_core::abi;
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
        /// HTTP endpoints of that chain: operators get the order and the stake of the contracts' snapshot of epoch 0, which must
        /// have just these.
        #[arg(long = "rpc", value_name = "URL", value_delimiter = ',', requires = "ethereum")]
        rpc: Vec<String>,
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
    pub(crate) async fn run(self, json: bool) -> anyhow::Result<()> {
        match self {
            Self::New { chain_id, ethereum_chain_id, operators, ethereum, rpc, ledger, output } => {
                let mut ledger: LedgerGenesis = match ledger {
                    Some(path) => read(&path, "a ledger's beginning")?,
                    None => LedgerGenesis::default(),
                };
                let ethereum: Option<EthereumGenesis> = ethereum
                    .map(|path| read(&path, "what Ethereum has of a network"))
                    .transpose()?;
                if ledger.time == Timestamp(0) {
                    ledger.time = now();
                }
                let mut operators = operators
                    .iter()
                    .map(|path| read::<OperatorRecord>(path, "an operator's record"))
                    .collect::<anyhow::Result<Vec<_>>>()?;
                if let Some(ethereum) = ethereum.as_ref().filter(|_| !rpc.is_empty()) {
                    operators = as_snapshotted(&Endpoints::new(&rpc)?, ethereum, operators).await?;
                }
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

/// The operators in the order and with the stake of the contracts' snapshot of epoch 0.
async fn as_snapshotted(
    endpoints: &Endpoints,
    ethereum: &EthereumGenesis,
    records: Vec<OperatorRecord>,
) -> anyhow::Result<Vec<OperatorRecord>> {
    anyhow::ensure!(
        ethereum.first_epoch.0 == 0,
        "the contracts' first epoch is {}: there's no snapshot of epoch 0 to take operators from",
        ethereum.first_epoch
    );
    let snapshot = abi::Checkpoints::membersCall { number: 0, consensus: false };
    let snapshot = endpoints.call(ethereum.contracts.checkpoints, &snapshot).await.context(
        "reading the snapshot of epoch 0; take it with `lamina operator roll` once all operators are registered",
    )?;
    let mut by_registration = BTreeMap::new();
    for record in records {
        let asked = abi::Registrar::indexOfCall { operator: record.address.0.into() };
        let index = endpoints.call(ethereum.contracts.registrar, &asked).await;
        let index =
            index.with_context(|| format!("operator {} isn't registered", record.address))?;
        by_registration.insert(index, record);
    }
    let mut operators = Vec::new();
    for (registration, stake_gwei) in snapshot.registrations.iter().zip(snapshot.stakesGwei) {
        let record = by_registration.remove(registration);
        let record = record.with_context(|| {
            format!("the snapshot has the operator with registration {registration}: its record is missing")
        })?;
        operators.push(OperatorRecord { stake_gwei, ..record });
    }
    if let Some(left) = by_registration.values().next() {
        anyhow::bail!(
            "operator {} isn't in the snapshot: it has no stake there, or registered later",
            left.address
        );
    }
    Ok(operators)
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
