//! Lamina's contracts on a development chain.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use alloy::primitives::{Address, B256, U256};
use alloy::sol_types::SolValue;
use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::command::{cache, lock, output};
use crate::{Chain, EigenLayer, OPERATOR_SET, Tools};

mod abi {
    #![allow(missing_docs, reason = "the contracts' own names; they document them")]

    alloy::sol! {
        struct EpochSettings {
            uint64 firstEpoch;
            uint16 consensusOperatorsMax;
            uint32 epochSecondsMin;
            uint32 stakeBlocks;
        }
        struct Settings { EpochSettings epochs; uint32 anchorAgeMax; uint32 exitDelay; }
        struct Strategy { address strategy; uint96 weiPerShareE18; }

        function setOpen(bool open) external;
        function setStrategies(Strategy[] strategies, uint64 stakeGweiMin) external;
    }
}

/// Lamina's contracts, over EigenLayer's, on a development chain: with open registration, short epochs, and EigenLayer's
/// strategy as what counts as stake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contracts {
    /// Who may administer the others; also the service (AVS) for EigenLayer.
    pub authority: Address,
    /// Operators and their keys.
    pub registrar: Address,
    /// Epochs and anchors.
    pub checkpoints: Address,
    /// Deposits and claims.
    pub vault: Address,
    /// Task requests and results.
    pub tasks: Address,
    /// Slashing.
    pub slasher: Address,
    /// The block before the first of them.
    pub start: u64,
}

impl Contracts {
    /// The number of the first epoch: its operators are the ones that a genesis file has.
    pub const FIRST_EPOCH: u64 = 0;

    /// Compiles the contracts if they aren't, and creates them for the Lamina network with this name, padded with zeros.
    ///
    /// # Errors
    /// If they don't compile, or the chain fails.
    pub async fn deploy(
        chain: &Chain,
        tools: &Tools,
        eigenlayer: &EigenLayer,
        name: [u8; 32],
    ) -> Result<Self> {
        let built = Built::new(tools)?;
        let owner = eigenlayer.owner;
        let manager = eigenlayer.allocation_manager;
        let start: U256 = chain.request("eth_blockNumber", json!([])).await?;
        let create = async |name, arguments: Vec<u8>| {
            let code = [built.bytecode(name)?, arguments].concat();
            chain.create(owner, code).await.with_context(|| format!("creating {name}"))
        };
        let authority = create("Authority", owner.abi_encode()).await?;
        let registrar = (authority, manager, authority, OPERATOR_SET, B256::from(name));
        let registrar = create("Registrar", registrar.abi_encode_params()).await?;
        let settings = abi::Settings {
            epochs: abi::EpochSettings {
                firstEpoch: Self::FIRST_EPOCH,
                consensusOperatorsMax: 100,
                epochSecondsMin: 1,
                stakeBlocks: STAKE_BLOCKS,
            },
            anchorAgeMax: WEEK_S,
            exitDelay: WEEK_S,
        };
        let checkpoints = (authority, registrar, manager, settings);
        let checkpoints = create("Checkpoints", checkpoints.abi_encode_params()).await?;
        let vault = create("Vault", (authority, checkpoints).abi_encode_params()).await?;
        let tasks = create("TaskResults", (authority, checkpoints).abi_encode_params()).await?;
        let (age, wad) = (U256::from(WEEK_S), U256::from(SLASHED_WAD));
        let slasher = (authority, checkpoints, registrar, manager, age, wad);
        let slasher = create("Slasher", slasher.abi_encode_params()).await?;

        chain.send(owner, registrar, &abi::setOpenCall { open: true }).await?;
        let strategy = abi::Strategy {
            strategy: eigenlayer.strategy,
            weiPerShareE18: alloy::primitives::Uint::from(1_000_000_000_000_000_000u64),
        };
        let strategies = abi::setStrategiesCall { strategies: vec![strategy], stakeGweiMin: 1 };
        chain.send(owner, checkpoints, &strategies).await?;
        // Elsewhere administrators do this through the authority's `execute`.
        chain.endow(authority, U256::from(SLASHED_WAD)).await?;
        eigenlayer.create_service(chain, authority, Some(registrar)).await?;
        eigenlayer.appoint_slasher(chain, authority, slasher).await?;
        let start = start.try_into().context("block numbers fit 64 bits")?;
        Ok(Self { authority, registrar, checkpoints, vault, tasks, slasher, start })
    }
}

/// What forge made of `bridge/contracts`.
struct Built {
    folder: PathBuf,
}

impl Built {
    fn new(tools: &Tools) -> Result<Self> {
        let folder = cache()?.join("contracts");
        let _lock = lock("contracts")?;
        let mut forge = Command::new(tools.forge());
        forge
            .args(["build", "--offline", "--skip", "test", "--out"])
            .arg(folder.join("out"))
            .arg("--cache-path")
            .arg(folder.join("cache"))
            .current_dir(tools.contracts());
        output(&mut forge, "the contracts don't compile")?;
        Ok(Self { folder: folder.join("out") })
    }

    fn bytecode(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.folder.join(format!("{name}.sol/{name}.json"));
        let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let artifact: Value = serde_json::from_slice(&text)?;
        let code = artifact["bytecode"]["object"].as_str().context("an artifact has bytecode")?;
        Ok(hex::decode(code.trim_start_matches("0x"))?)
    }
}

/// How far ahead stake must be slashable to count. Below EigenLayer's delay on the development chain.
const STAKE_BLOCKS: u32 = 20;
const WEEK_S: u32 = 7 * 86_400;
/// What an offence costs: half of the allocation.
const SLASHED_WAD: u64 = 500_000_000_000_000_000;
