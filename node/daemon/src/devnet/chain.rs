//! The devnet's Ethereum: a development chain with EigenLayer and Lamina's contracts, that a program of its own runs, and on
//! which the operators register with real stake.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use alloy_sol_types::SolCall as _;
use anyhow::Context as _;
use lamina_certificate::EthereumGenesis;
use lamina_ethereum::{Endpoints, PrivateKeySigner, Wallet};
use lamina_ethereum_core::{abi, calls};
use lamina_keystore::{KeyDirectory, KeyKind, Passphrase};
use lamina_types::{Address, ChainId};
use serde::Deserialize;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::cli::ethereum::EigenLayer;
use crate::cli::operator::{NodeKeys, Registration};

/// How long the chain may take: the first time, compilers and EigenLayer are fetched.
const START_MAX: Duration = Duration::from_secs(600);
/// What each operator stakes, in wei.
pub(super) const STAKE_WEI: u128 = 32_000_000_000_000_000_000;
/// What each account has on the chain for gas, in wei.
const GAS_WEI: u128 = 20_000_000_000_000_000_000;
/// What each account has in the ledger, from the vault, in wei.
const DEPOSIT_WEI: u128 = 50_000_000_000_000_000_000;
/// Most that is paid for a unit of gas, in wei: nothing here is worth anything.
const FEE_MAX_WEI: u128 = 1_000_000_000_000;
/// How long EigenLayer's delays may take: some blocks.
const DELAY_MAX: Duration = Duration::from_secs(60);

/// Where everything is, as `lamina-devchain` writes it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Place {
    pub(super) rpc: String,
    pub(super) chain_id: u64,
    faucet: String,
    pub(super) lamina: EthereumGenesis,
    token: Address,
    pub(super) eigenlayer: EigenLayer,
}

/// The running chain. It ends with this process, however that ends: its standard input does.
pub(super) struct DevChain {
    process: Child,
    pub(super) place: Place,
    faucet: Wallet,
}

impl DevChain {
    /// Starts the program and waits until all contracts are there.
    pub(super) async fn start(
        program: &Path,
        chain: &ChainId,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let file = folder.join("ethereum.json");
        let log = folder.join("ethereum-log");
        let mut process = Command::new(program)
            .arg(chain.as_str())
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let deadline = Instant::now() + START_MAX;
        while !file.exists() {
            if let Some(status) = process.try_wait()? {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                anyhow::bail!(
                    "the development chain ended ({status}):\n{said}\n`--no-ethereum` brings the network up without one"
                );
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "the development chain isn't up after {START_MAX:?}"
            );
            sleep(Duration::from_millis(100)).await;
        }
        let place: Place = serde_json::from_slice(&std::fs::read(&file)?)
            .with_context(|| format!("reading {}", file.display()))?;
        let key: PrivateKeySigner = place.faucet.parse().context("the faucet's key")?;
        let endpoints = Endpoints::new(&[&place.rpc])?;
        let faucet = Wallet::new(endpoints, key, place.chain_id, FEE_MAX_WEI);
        std::fs::write(
            folder.join("eigenlayer.json"),
            serde_json::to_vec_pretty(&place.eigenlayer)?,
        )?;
        Ok(Self { process, place, faucet })
    }

    /// Makes an operator of the account whose keys are in this folder, with stake.
    pub(super) async fn register(
        &self,
        chain: &ChainId,
        keys: &KeyDirectory,
        passphrase: &Passphrase,
    ) -> anyhow::Result<()> {
        let secret = keys.read(KeyKind::Account)?.decrypt(passphrase)?;
        let key = PrivateKeySigner::from_slice(secret.expose())?;
        let endpoints = self.faucet.endpoints().clone();
        let wallet = Wallet::new(endpoints, key, self.place.chain_id, FEE_MAX_WEI);
        self.give(wallet.address()).await?;
        let value = STAKE_WEI.try_into().context("an amount fits 256 bits")?;
        let mint = abi::Erc20::mintCall { to: wallet.address().0.into(), value };
        self.faucet.send(self.place.token, mint.abi_encode(), 0).await.context("minting stake")?;
        let keys = NodeKeys::unlock(keys, passphrase)?;
        let registration = Registration {
            chain,
            contracts: &self.place.lamina.contracts,
            eigenlayer: &self.place.eigenlayer,
            keys: &keys,
            stake: Some(STAKE_WEI),
            metadata: "",
            wait: DELAY_MAX,
        };
        registration.run(&wallet, &mut |_| {}).await
    }

    /// Gives an account ether for gas.
    pub(super) async fn give(&self, account: Address) -> anyhow::Result<()> {
        self.faucet.send(account, Vec::new(), GAS_WEI).await.context("giving ether")?;
        Ok(())
    }

    /// Deposits ether for an account into the vault.
    pub(super) async fn deposit(&self, account: Address) -> anyhow::Result<()> {
        let call = abi::Vault::depositEtherCall { account: account.0.into() };
        let vault = self.place.lamina.contracts.vault;
        self.faucet.send(vault, call.abi_encode(), DEPOSIT_WEI).await.context("depositing")?;
        Ok(())
    }

    /// Has the registered operators snapshotted: they are the ones of the genesis file.
    pub(super) async fn roll(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + DELAY_MAX;
        let checkpoints = self.place.lamina.contracts.checkpoints;
        // What was allocated last counts some blocks later.
        loop {
            match self.faucet.send(checkpoints, calls::roll(None), 0).await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= deadline => {
                    return Err(error).context("taking a snapshot of the operators");
                }
                Err(_) => sleep(Duration::from_secs(1)).await,
            }
        }
    }

    /// Ends the chain, and waits until it's gone.
    pub(super) async fn stop(&mut self) {
        drop(self.process.stdin.take());
        if tokio::time::timeout(super::STOP_MAX, self.process.wait()).await.is_err() {
            let _ = self.process.kill().await;
        }
    }

    /// Fails if it has ended.
    pub(super) fn fail_if_ended(&mut self, log: &Path) -> anyhow::Result<()> {
        if let Some(status) = self.process.try_wait()? {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            anyhow::bail!("the development chain ended ({status}):\n{said}");
        }
        Ok(())
    }
}

/// The program that runs the chain.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ChainOptions {
    /// The program that runs a development chain with EigenLayer and Lamina's contracts (`lamina-devchain`): checkpoints are
    /// anchored there, and what accounts have is deposited there. `cargo xtask devnet` builds and names it.
    #[arg(long, value_name = "PROGRAM")]
    pub(super) devchain: Option<PathBuf>,
}
