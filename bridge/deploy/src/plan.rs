use std::collections::BTreeMap;

use alloy_primitives::{Address as SolAddress, B256, U256, Uint};
use alloy_sol_types::{SolCall, SolValue as _};
use anyhow::{Context as _, Result};
use lamina_types::Address;
use serde::{Deserialize, Serialize};

use crate::{Artifacts, Config, EigenLayer, abi};

/// The operator set that operators are registered for.
pub const OPERATOR_SET: u32 = 0;
/// The role of administrators (`AccessManager`).
const ADMIN: u64 = 0;
/// Who may pause.
const GUARDIAN: u64 = 1;

/// Sends the transactions of a deployment.
pub trait Sender {
    /// Creates a contract and returns its address.
    ///
    /// # Errors
    /// If it isn't created.
    async fn create(&self, code: Vec<u8>) -> Result<Address>;

    /// Calls a function in a transaction.
    ///
    /// # Errors
    /// If the call reverts, or isn't in a block.
    async fn send(&self, to: Address, input: Vec<u8>) -> Result<()>;
}

/// What is fixed when the contracts are created.
#[derive(Debug, Clone)]
pub struct Deployment<'a> {
    /// What the file says.
    pub config: &'a Config,
    /// The first epoch that the contracts snapshot: 0 if its operators are the ones that the genesis file will have.
    pub first_epoch: u64,
    /// Who sends the transactions, and administers until the end of them.
    pub deployer: Address,
}

/// Where the contracts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// Steps that are done, by name: the contract that was created, or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress(pub BTreeMap<String, Option<Address>>);

/// Carries out what isn't done. `keep` is told after each step, and stores it before the next one.
///
/// # Errors
/// The step that failed; those before it are kept.
pub async fn deploy(
    deployment: &Deployment<'_>,
    artifacts: &Artifacts,
    sender: &impl Sender,
    progress: &mut Progress,
    keep: &mut impl FnMut(&str, &Progress) -> Result<()>,
) -> Result<Contracts> {
    let mut run = Run { deployment, artifacts, sender, progress, keep };
    let contracts = run.create_all().await?;
    run.set_up(&contracts).await?;
    run.join_eigenlayer(&contracts).await?;
    run.hand_over(&contracts).await?;
    Ok(contracts)
}

struct Run<'a, S, K> {
    deployment: &'a Deployment<'a>,
    artifacts: &'a Artifacts,
    sender: &'a S,
    progress: &'a mut Progress,
    keep: &'a mut K,
}

impl<S: Sender, K: FnMut(&str, &Progress) -> Result<()>> Run<'_, S, K> {
    async fn create_all(&mut self) -> Result<Contracts> {
        let Deployment { config, first_epoch, deployer } = self.deployment;
        let manager = word(&config.eigenlayer.allocation_manager);
        let authority = self.create("Authority", word(deployer).abi_encode()).await?;
        let name = B256::from(config.network.to_bytes32());
        let arguments = (word(&authority), manager, word(&authority), OPERATOR_SET, name);
        let registrar = self.create("Registrar", arguments.abi_encode_params()).await?;
        let settings = abi::Settings {
            epochs: abi::EpochSettings {
                firstEpoch: *first_epoch,
                consensusOperatorsMax: config.consensus_operators_max,
                epochSecondsMin: config.epoch_seconds_min,
                stakeBlocks: config.stake_blocks,
            },
            anchorAgeMax: config.anchor_age_max_s,
            exitDelay: config.exit_delay_s,
        };
        let arguments = (word(&authority), word(&registrar), manager, settings);
        let checkpoints = self.create("Checkpoints", arguments.abi_encode_params()).await?;
        let arguments = (word(&authority), word(&checkpoints)).abi_encode_params();
        let vault = self.create("Vault", arguments.clone()).await?;
        let tasks = self.create("TaskResults", arguments).await?;
        let age = U256::from(config.anchor_age_max_s);
        let wad = U256::from(u64::from(config.slashed_ppm) * 1_000_000_000_000);
        let arguments = (word(&authority), word(&checkpoints), word(&registrar), manager, age, wad);
        let slasher = self.create("Slasher", arguments.abi_encode_params()).await?;
        Ok(Contracts { authority, registrar, checkpoints, vault, tasks, slasher })
    }

    async fn set_up(&mut self, contracts: &Contracts) -> Result<()> {
        let config = self.deployment.config;
        let open = abi::setOpenCall { open: config.open };
        self.send("open registration", contracts.registrar, &open).await?;
        let strategy = |s: &crate::Strategy| abi::Strategy {
            strategy: word(&s.strategy),
            weiPerShareE18: Uint::from(s.wei_per_share_e18),
        };
        let strategies = config.strategies.iter().map(strategy).collect();
        let call = abi::setStrategiesCall { strategies, stakeGweiMin: config.stake_gwei_min };
        self.send("name strategies", contracts.checkpoints, &call).await
    }

    /// EigenLayer's administrative calls, made as the authority.
    async fn join_eigenlayer(&mut self, contracts: &Contracts) -> Result<()> {
        let Config { metadata, eigenlayer, strategies, .. } = self.deployment.config;
        let EigenLayer { allocation_manager, permission_controller, .. } = *eigenlayer;
        let avs = word(&contracts.authority);
        let uri = metadata.clone();
        let call = abi::updateAVSMetadataURICall { avs, uri };
        self.execute("describe the service", contracts, allocation_manager, &call).await?;
        let call = abi::setAVSRegistrarCall { avs, registrar: word(&contracts.registrar) };
        self.execute("name the registrar", contracts, allocation_manager, &call).await?;
        let strategies = strategies.iter().map(|s| word(&s.strategy)).collect();
        let sets = vec![abi::CreateSetParams { operatorSetId: OPERATOR_SET, strategies }];
        let call = abi::createOperatorSetsCall { avs, sets };
        self.execute("make the operator set", contracts, allocation_manager, &call).await?;
        let call = abi::setAppointeeCall {
            account: avs,
            appointee: word(&contracts.slasher),
            target: word(&allocation_manager),
            selector: abi::slashOperatorCall::SELECTOR.into(),
        };
        self.execute("appoint the slasher", contracts, permission_controller, &call).await
    }

    /// From here on the deployer has no say, unless it's among the administrators.
    async fn hand_over(&mut self, contracts: &Contracts) -> Result<()> {
        let Deployment { config, deployer, .. } = self.deployment;
        let authority = contracts.authority;
        let pausable = [
            ("vault", contracts.vault),
            ("results", contracts.tasks),
            ("slasher", contracts.slasher),
        ];
        for (name, target) in pausable {
            let selectors = vec![abi::pauseCall::SELECTOR.into()];
            let call =
                abi::setTargetFunctionRoleCall { target: word(&target), selectors, role: GUARDIAN };
            self.send(&format!("let guardians pause the {name}"), authority, &call).await?;
        }
        for guardian in &config.guardians {
            let account = word(guardian);
            let call = abi::grantRoleCall { role: GUARDIAN, account, executionDelay: 0 };
            self.send(&format!("make {guardian} a guardian"), authority, &call).await?;
        }
        for administrator in config.administrators.iter().filter(|a| *a != deployer) {
            let call = administration(administrator, config.administrator_delay_s);
            self.send(&format!("make {administrator} an administrator"), authority, &call).await?;
        }
        if config.administrators.contains(deployer) {
            // From now on with the delay, as the others.
            let call = administration(deployer, config.administrator_delay_s);
            return self.send("delay the deployer's role", authority, &call).await;
        }
        let call = abi::renounceRoleCall { role: ADMIN, account: word(deployer) };
        self.send("renounce the deployer's role", authority, &call).await
    }

    async fn create(&mut self, name: &str, arguments: Vec<u8>) -> Result<Address> {
        if let Some(Some(address)) = self.progress.0.get(name) {
            return Ok(*address);
        }
        let code = [self.artifacts.bytecode(name)?, arguments].concat();
        let created = self.sender.create(code).await;
        let address = created.with_context(|| format!("creating {name}"))?;
        self.progress.0.insert(name.to_owned(), Some(address));
        (self.keep)(name, self.progress)?;
        Ok(address)
    }

    async fn send(&mut self, step: &str, to: Address, call: &impl SolCall) -> Result<()> {
        if self.progress.0.contains_key(step) {
            return Ok(());
        }
        self.sender.send(to, call.abi_encode()).await.with_context(|| step.to_owned())?;
        self.progress.0.insert(step.to_owned(), None);
        (self.keep)(step, self.progress)
    }

    async fn execute(
        &mut self,
        step: &str,
        contracts: &Contracts,
        target: Address,
        call: &impl SolCall,
    ) -> Result<()> {
        let call = abi::executeCall { target: word(&target), data: call.abi_encode().into() };
        self.send(step, contracts.authority, &call).await
    }
}

/// Makes an administrator, whose calls wait so many seconds.
fn administration(administrator: &Address, delay_s: u32) -> abi::grantRoleCall {
    abi::grantRoleCall { role: ADMIN, account: word(administrator), executionDelay: delay_s }
}

fn word(address: &Address) -> SolAddress {
    address.0.into()
}
