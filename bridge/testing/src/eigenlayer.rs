//! EigenLayer's core contracts v1.4 on a development chain, and what operators and stakers do with them.

use std::fs;

use alloy::primitives::{Address, B256, U256};
use alloy::sol_types::{SolCall, SolValue};
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::artifacts::{self, Artifacts};
use crate::command::{cache, lock, write};
use crate::{Chain, Tools, solidity};

mod abi {
    #![allow(missing_docs, reason = "EigenLayer's own names; its documentation has them")]
    #![allow(clippy::too_many_arguments, reason = "generated from Solidity")]

    alloy::sol! {
        struct OperatorSet { address avs; uint32 id; }
        struct AllocateParams { OperatorSet operatorSet; address[] strategies; uint64[] newMagnitudes; }
        struct CreateSetParams { uint32 operatorSetId; address[] strategies; }
        struct RegisterParams { address avs; uint32[] operatorSetIds; bytes data; }
        struct SignatureWithExpiry { bytes signature; uint256 expiry; }
        struct RewardsParams {
            address delegationManager;
            address strategyManager;
            address allocationManager;
            address pauserRegistry;
            address permissionController;
            uint32 CALCULATION_INTERVAL_SECONDS;
            uint32 MAX_REWARDS_DURATION;
            uint32 MAX_RETROACTIVE_LENGTH;
            uint32 MAX_FUTURE_LENGTH;
            uint32 GENESIS_REWARDS_TIMESTAMP;
            string version;
        }

        // Proxies.
        function upgrade(address proxy, address implementation) external;
        function upgradeAndCall(address proxy, address implementation, bytes data) external;
        // What all of them have, and those that differ.
        function initialize(address owner, uint256 paused) external;
        interface StrategyManager {
            function initialize(address owner, address whitelister, uint256 paused) external;
            function depositIntoStrategy(address strategy, address token, uint256 amount) external;
        }
        interface RewardsCoordinator {
            function initialize(
                address owner, uint256 paused, address updater, uint32 activationDelay, uint16 splitBips
            ) external;
        }
        interface StrategyFactory {
            function initialize(address owner, uint256 paused, address beacon) external;
            function deployNewStrategy(address token) external;
            function deployedStrategies(address token) external view returns (address);
        }

        function registerAsOperator(address approver, uint32 allocationDelay, string metadata) external;
        function delegateTo(address operator, SignatureWithExpiry approval, bytes32 salt) external;
        function updateAVSMetadataURI(address avs, string uri) external;
        function setAVSRegistrar(address avs, address registrar) external;
        function createOperatorSets(address avs, CreateSetParams[] sets) external;
        function setAppointee(address account, address appointee, address target, bytes4 selector) external;
        function registerForOperatorSets(address operator, RegisterParams params) external;
        function modifyAllocations(address operator, AllocateParams[] params) external;
        function slashOperator(address avs, SlashingParams params) external;
        function getMinimumSlashableStake(
            OperatorSet set, address[] operators, address[] strategies, uint32 futureBlock
        ) external view returns (uint256[][]);
        struct SlashingParams {
            address operator;
            uint32 operatorSetId;
            address[] strategies;
            uint256[] wadsToSlash;
            string description;
        }

        // The test token.
        function mint(address to, uint256 value) external;
        function approve(address spender, uint256 value) external;
    }
}

/// The operator set that operators are registered for.
pub const OPERATOR_SET: u32 = 0;

/// EigenLayer on a development chain: its contracts' addresses, and a strategy for a token that anyone may mint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EigenLayer {
    /// Who deployed it, and owns it.
    pub owner: Address,
    /// Operators, and who delegates to them.
    pub delegation_manager: Address,
    /// Operator sets, allocations, slashing.
    pub allocation_manager: Address,
    /// Deposits of tokens.
    pub strategy_manager: Address,
    /// Who may call for whom.
    pub permission_controller: Address,
    /// Rewards.
    pub rewards_coordinator: Address,
    /// Makes strategies.
    pub strategy_factory: Address,
    /// A token that anyone may mint.
    pub token: Address,
    /// The token's strategy.
    pub strategy: Address,
}

impl EigenLayer {
    /// Puts EigenLayer onto a chain that has nothing yet: from a dump of an earlier deployment if there's one.
    ///
    /// # Errors
    /// If the crate with the bytecode can't be had, or the chain fails.
    pub async fn install(chain: &Chain, tools: &Tools) -> Result<Self> {
        let token = solidity::compile(tools, "TestToken")?;
        let made_of = Sha256::new()
            .chain_update(artifacts::fingerprint())
            .chain_update(&token)
            .chain_update(include_str!("eigenlayer.rs"))
            .finalize();
        let name = format!("eigenlayer-{}", &hex::encode(made_of)[..16]);
        let _lock = lock(&name)?;
        let (addresses, state) =
            (cache()?.join(format!("{name}.json")), cache()?.join(format!("{name}.state")));
        if let (Ok(addresses), Ok(state)) = (fs::read(&addresses), fs::read_to_string(&state)) {
            chain.request::<bool>("anvil_loadState", json!([state])).await?;
            return serde_json::from_slice(&addresses).context("addresses of EigenLayer");
        }
        let deployed = Self::deploy(chain, &Artifacts::fetch()?, token).await?;
        let dump: String = chain.request("anvil_dumpState", json!([])).await?;
        write(&state, dump.as_bytes())?;
        write(&addresses, &serde_json::to_vec(&deployed)?)?;
        Ok(deployed)
    }

    async fn deploy(chain: &Chain, artifacts: &Artifacts, token: Vec<u8>) -> Result<Self> {
        let owner = *chain.accounts().await?.first().context("the chain has no account")?;
        let deployment = Deployment { chain, artifacts, owner };
        deployment.all(token).await
    }

    /// Makes `avs` a service with one operator set over the strategy, whose registrations `registrar` decides on.
    ///
    /// `avs` must be an account that the chain signs for ([`Chain::endow`]).
    ///
    /// # Errors
    /// If the chain doesn't answer, or refuses.
    pub async fn create_service(
        &self,
        chain: &Chain,
        avs: Address,
        registrar: Option<Address>,
    ) -> Result<()> {
        let to = self.allocation_manager;
        let uri = "https://lamina.invalid/avs.json".to_owned();
        chain.send(avs, to, &abi::updateAVSMetadataURICall { avs, uri }).await?;
        if let Some(registrar) = registrar {
            chain.send(avs, to, &abi::setAVSRegistrarCall { avs, registrar }).await?;
        }
        let strategies = vec![self.strategy];
        let set = abi::CreateSetParams { operatorSetId: OPERATOR_SET, strategies };
        chain.send(avs, to, &abi::createOperatorSetsCall { avs, sets: vec![set] }).await?;
        Ok(())
    }

    /// Lets `slasher` slash operators of `avs`.
    ///
    /// # Errors
    /// If the chain doesn't answer, or refuses.
    pub async fn appoint_slasher(
        &self,
        chain: &Chain,
        avs: Address,
        slasher: Address,
    ) -> Result<()> {
        let call = abi::setAppointeeCall {
            account: avs,
            appointee: slasher,
            target: self.allocation_manager,
            selector: abi::slashOperatorCall::SELECTOR.into(),
        };
        chain.send(avs, self.permission_controller, &call).await.map(drop)
    }

    /// Makes `operator` one, with a stake of its own: tokens minted, deposited, and so delegated to itself.
    ///
    /// # Errors
    /// If the chain doesn't answer, or refuses.
    pub async fn add_operator(
        &self,
        chain: &Chain,
        operator: Address,
        stake_wei: u128,
    ) -> Result<()> {
        let call = abi::registerAsOperatorCall {
            approver: Address::ZERO,
            allocationDelay: 0,
            metadata: "https://lamina.invalid/operator.json".to_owned(),
        };
        chain.send(operator, self.delegation_manager, &call).await?;
        self.deposit(chain, operator, stake_wei).await
    }

    /// Mints tokens for `staker` and deposits them in the strategy.
    ///
    /// # Errors
    /// If the chain doesn't answer, or refuses.
    pub async fn deposit(&self, chain: &Chain, staker: Address, amount_wei: u128) -> Result<()> {
        let (amount, token) = (U256::from(amount_wei), self.token);
        chain.send(staker, token, &abi::mintCall { to: staker, value: amount }).await?;
        let approve = abi::approveCall { spender: self.strategy_manager, value: amount };
        chain.send(staker, token, &approve).await?;
        let deposit = abi::StrategyManager::depositIntoStrategyCall {
            strategy: self.strategy,
            token,
            amount,
        };
        chain.send(staker, self.strategy_manager, &deposit).await.map(drop)
    }

    /// Delegates what `staker` has deposited, and will, to `operator`.
    ///
    /// # Errors
    /// If the chain doesn't answer, or refuses.
    pub async fn delegate(&self, chain: &Chain, staker: Address, operator: Address) -> Result<()> {
        let approval =
            abi::SignatureWithExpiry { signature: Vec::new().into(), expiry: U256::ZERO };
        let call = abi::delegateToCall { operator, approval, salt: B256::ZERO };
        chain.send(staker, self.delegation_manager, &call).await.map(drop)
    }

    /// Registers `operator` for the operator set of `avs`; the registrar gets `data`.
    ///
    /// # Errors
    /// If the chain doesn't answer, or EigenLayer or the registrar refuses.
    pub async fn register(
        &self,
        chain: &Chain,
        operator: Address,
        avs: Address,
        data: Vec<u8>,
    ) -> Result<()> {
        let params =
            abi::RegisterParams { avs, operatorSetIds: vec![OPERATOR_SET], data: data.into() };
        let call = abi::registerForOperatorSetsCall { operator, params };
        chain.send(operator, self.allocation_manager, &call).await.map(drop)
    }

    /// Makes a share of the operator's stake slashable by the operator set of `avs`: 1e18 is all of it.
    ///
    /// Takes effect in the next block.
    ///
    /// # Errors
    /// If the chain doesn't answer, or refuses: in the block after the operator's registration, say.
    pub async fn allocate(
        &self,
        chain: &Chain,
        operator: Address,
        avs: Address,
        magnitude: u64,
    ) -> Result<()> {
        let params = abi::AllocateParams {
            operatorSet: abi::OperatorSet { avs, id: OPERATOR_SET },
            strategies: vec![self.strategy],
            newMagnitudes: vec![magnitude],
        };
        let call = abi::modifyAllocationsCall { operator, params: vec![params] };
        chain.send(operator, self.allocation_manager, &call).await.map(drop)
    }

    /// Takes a share of what the operator has allocated: 1e18 is all of it. `from` is `avs` or appointed by it.
    ///
    /// # Errors
    /// If the chain doesn't answer, or refuses.
    pub async fn slash(
        &self,
        chain: &Chain,
        from: Address,
        avs: Address,
        operator: Address,
        wad: u64,
    ) -> Result<()> {
        let params = abi::SlashingParams {
            operator,
            operatorSetId: OPERATOR_SET,
            strategies: vec![self.strategy],
            wadsToSlash: vec![U256::from(wad)],
            description: "test".to_owned(),
        };
        let call = abi::slashOperatorCall { avs, params };
        chain.send(from, self.allocation_manager, &call).await.map(drop)
    }

    /// What the operator set of `avs` can slash of the operator now, in wei of the token.
    ///
    /// # Errors
    /// If the chain doesn't answer.
    pub async fn slashable_stake(
        &self,
        chain: &Chain,
        operator: Address,
        avs: Address,
    ) -> Result<U256> {
        let block: U256 = chain.request("eth_blockNumber", json!([])).await?;
        let call = abi::getMinimumSlashableStakeCall {
            set: abi::OperatorSet { avs, id: OPERATOR_SET },
            operators: vec![operator],
            strategies: vec![self.strategy],
            futureBlock: block.try_into().context("block numbers fit 32 bits")?,
        };
        let stakes = chain.call(self.allocation_manager, &call).await?;
        stakes.first().and_then(|of| of.first()).copied().context("one stake was asked for")
    }
}

/// A deployment under way. Contracts refer to each other, so proxies come first.
struct Deployment<'a> {
    chain: &'a Chain,
    artifacts: &'a Artifacts,
    owner: Address,
}

impl Deployment<'_> {
    async fn all(&self, token: Vec<u8>) -> Result<EigenLayer> {
        let owner = self.owner;
        let version = || VERSION.to_owned();
        let admin = self.create("proxy_admin", ()).await?;
        let empty = self.create("empty_contract", ()).await?;
        let pauser = self.create("pauser_registry", (vec![owner], owner)).await?;
        let delegation = self.proxy(empty, admin).await?;
        let strategies = self.proxy(empty, admin).await?;
        let allocation = self.proxy(empty, admin).await?;
        let directory = self.proxy(empty, admin).await?;
        let rewards = self.proxy(empty, admin).await?;
        let pods = self.proxy(empty, admin).await?;
        let permissions = self.proxy(empty, admin).await?;
        let factory = self.proxy(empty, admin).await?;
        let owned = abi::initializeCall { owner, paused: U256::ZERO }.abi_encode();

        let code = (
            strategies,
            pods,
            allocation,
            pauser,
            permissions,
            DEALLOCATION_DELAY_BLOCKS,
            version(),
        );
        let code = self.create("delegation_manager", code).await?;
        self.upgrade(admin, delegation, code, &owned).await?;

        let code = self.create("permission_controller", (version(),)).await?;
        let upgrade = abi::upgradeCall { proxy: permissions, implementation: code };
        self.chain.send(owner, admin, &upgrade).await?;

        let code = self.create("avs_directory", (delegation, pauser, version())).await?;
        self.upgrade(admin, directory, code, &owned).await?;

        let code = self.create("strategy_manager", (delegation, pauser, version())).await?;
        let initialize = abi::StrategyManager::initializeCall {
            owner,
            whitelister: factory,
            paused: U256::ZERO,
        };
        self.upgrade(admin, strategies, code, &initialize.abi_encode()).await?;

        let code = (
            delegation,
            pauser,
            permissions,
            DEALLOCATION_DELAY_BLOCKS,
            ALLOCATION_DELAY_BLOCKS,
            version(),
        );
        let code = self.create("allocation_manager", code).await?;
        self.upgrade(admin, allocation, code, &owned).await?;

        let params = abi::RewardsParams {
            delegationManager: delegation,
            strategyManager: strategies,
            allocationManager: allocation,
            pauserRegistry: pauser,
            permissionController: permissions,
            CALCULATION_INTERVAL_SECONDS: DAY_S,
            MAX_REWARDS_DURATION: 70 * DAY_S,
            MAX_RETROACTIVE_LENGTH: 84 * DAY_S,
            MAX_FUTURE_LENGTH: 28 * DAY_S,
            GENESIS_REWARDS_TIMESTAMP: 19_000 * DAY_S,
            version: version(),
        };
        let code = self.create("rewards_coordinator", (params,)).await?;
        let initialize = abi::RewardsCoordinator::initializeCall {
            owner,
            paused: U256::ZERO,
            updater: owner,
            activationDelay: 0,
            splitBips: 1_000,
        };
        self.upgrade(admin, rewards, code, &initialize.abi_encode()).await?;

        // Nobody stakes with the beacon chain here: its deposit contract is an empty one.
        let pod = self.create("eigen_pod", (empty, pods, 1_000u64, version())).await?;
        let beacon = self.create("upgradeable_beacon", (pod,)).await?;
        let code = self
            .create("eigen_pod_manager", (empty, beacon, delegation, pauser, version()))
            .await?;
        self.upgrade(admin, pods, code, &owned).await?;

        let base = self.create("strategy_base", (strategies, pauser, version())).await?;
        let beacon = self.create("upgradeable_beacon", (base,)).await?;
        let code = self.create("strategy_factory", (strategies, pauser, version())).await?;
        let initialize = abi::StrategyFactory::initializeCall { owner, paused: U256::ZERO, beacon };
        self.upgrade(admin, factory, code, &initialize.abi_encode()).await?;

        let token = self.chain.create(owner, token).await?;
        let deploy = abi::StrategyFactory::deployNewStrategyCall { token };
        self.chain.send(owner, factory, &deploy).await?;
        let find = abi::StrategyFactory::deployedStrategiesCall { token };
        let strategy = self.chain.call(factory, &find).await?;
        Ok(EigenLayer {
            owner,
            delegation_manager: delegation,
            allocation_manager: allocation,
            strategy_manager: strategies,
            permission_controller: permissions,
            rewards_coordinator: rewards,
            strategy_factory: factory,
            token,
            strategy,
        })
    }

    /// Creates a contract, its constructor's arguments as a tuple.
    async fn create<T>(&self, name: &str, arguments: T) -> Result<Address>
    where
        T: SolValue,
        for<'t> <T::SolType as alloy::sol_types::SolType>::Token<'t>:
            alloy::sol_types::abi::TokenSeq<'t>,
    {
        let mut code = self.artifacts.bytecode(name)?;
        code.extend(arguments.abi_encode_params());
        self.chain.create(self.owner, code).await.with_context(|| format!("creating {name}"))
    }

    async fn proxy(&self, implementation: Address, admin: Address) -> Result<Address> {
        let arguments = (implementation, admin, alloy::primitives::Bytes::new());
        self.create("transparent_upgradeable_proxy", arguments).await
    }

    async fn upgrade(
        &self,
        admin: Address,
        proxy: Address,
        implementation: Address,
        initialize: &[u8],
    ) -> Result<()> {
        let data = initialize.to_vec().into();
        let call = abi::upgradeAndCallCall { proxy, implementation, data };
        self.chain.send(self.owner, admin, &call).await.map(drop)
    }
}

const VERSION: &str = "1.4.0";
const DAY_S: u32 = 86_400;
/// How long stake stays slashable after an operator has taken it back. Mainnet has 14 days; tests can't wait.
const DEALLOCATION_DELAY_BLOCKS: u32 = 50;
/// How long before an operator's own allocation delay holds.
const ALLOCATION_DELAY_BLOCKS: u32 = 1;
