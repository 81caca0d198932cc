//! Lamina's contracts on a development chain.

use alloy::primitives::{Address, U256};
use anyhow::{Context as _, Result};
use lamina_deploy::{Artifacts, Config, Deployment, OPERATOR_SET, Progress, Sender, Strategy};
use serde_json::json;

use crate::command::{cache, lock};
use crate::{Chain, EigenLayer, Tools};

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

    /// Compiles the contracts if they aren't, and creates them for the Lamina network with this name, padded with zeros: as
    /// `lamina-deploy` does it on any chain.
    ///
    /// # Errors
    /// If they don't compile, or the chain fails.
    pub async fn deploy(
        chain: &Chain,
        tools: &Tools,
        eigenlayer: &EigenLayer,
        name: [u8; 32],
    ) -> Result<Self> {
        let start: U256 = chain.request("eth_blockNumber", json!([])).await?;
        let start = start.try_into().context("block numbers fit 64 bits")?;
        let config = config(eigenlayer, name)?;
        let artifacts = {
            let _lock = lock("contracts")?;
            Artifacts::build(tools.contracts(), &cache()?.join("contracts"))?
        };
        let deployer = eigenlayer.owner;
        let deployment = Deployment {
            config: &config,
            first_epoch: Self::FIRST_EPOCH,
            deployer: lamina_types::Address(deployer.into()),
        };
        let sender = Unlocked { chain, deployer };
        let mut progress = Progress::default();
        let made =
            lamina_deploy::deploy(&deployment, &artifacts, &sender, &mut progress, &mut |_, _| {
                Ok(())
            })
            .await?;
        let of = |address: lamina_types::Address| address.0.into();
        Ok(Self {
            authority: of(made.authority),
            registrar: of(made.registrar),
            checkpoints: of(made.checkpoints),
            vault: of(made.vault),
            tasks: of(made.tasks),
            slasher: of(made.slasher),
            start,
        })
    }
}

fn config(eigenlayer: &EigenLayer, name: [u8; 32]) -> Result<Config> {
    let of = |address: Address| lamina_types::Address(address.into());
    let text = std::str::from_utf8(&name).context("a network's name is text")?;
    Ok(Config {
        network: text.trim_end_matches('\0').parse()?,
        ethereum_chain_id: 31_337,
        stride: 4,
        eigenlayer: lamina_deploy::EigenLayer {
            allocation_manager: of(eigenlayer.allocation_manager),
            permission_controller: of(eigenlayer.permission_controller),
            delegation_manager: of(eigenlayer.delegation_manager),
            strategy_manager: of(eigenlayer.strategy_manager),
        },
        strategies: vec![Strategy {
            strategy: of(eigenlayer.strategy),
            wei_per_share_e18: 1_000_000_000_000_000_000,
        }],
        stake_gwei_min: 1,
        metadata: "https://lamina.invalid/avs.json".to_owned(),
        open: true,
        consensus_operators_max: 100,
        epoch_seconds_min: 1,
        stake_blocks: STAKE_BLOCKS,
        anchor_age_max_s: WEEK_S,
        exit_delay_s: WEEK_S,
        slashed_ppm: SLASHED_PPM,
        administrators: vec![of(eigenlayer.owner)],
        administrator_delay_s: 1,
        guardians: Vec::new(),
    })
}

/// An account that the chain signs for.
struct Unlocked<'a> {
    chain: &'a Chain,
    deployer: Address,
}

impl Sender for Unlocked<'_> {
    async fn create(&self, code: Vec<u8>) -> Result<lamina_types::Address> {
        let address = self.chain.create(self.deployer, code).await?;
        Ok(lamina_types::Address(address.into()))
    }

    async fn send(&self, to: lamina_types::Address, input: Vec<u8>) -> Result<()> {
        self.chain.pay(self.deployer, to.0.into(), input, U256::ZERO).await.map(drop)
    }
}

/// The operator set is the one that `EigenLayer` registers for.
const _: () = assert!(OPERATOR_SET == crate::OPERATOR_SET);
/// How far ahead stake must be slashable to count. Below EigenLayer's delay on the development chain.
const STAKE_BLOCKS: u32 = 20;
const WEEK_S: u32 = 7 * 86_400;
/// What an offence costs: half of the allocation.
const SLASHED_PPM: u32 = 500_000;
