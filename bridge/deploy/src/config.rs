use anyhow::{Result, ensure};
use lamina_types::{Address, ChainId};
use serde::{Deserialize, Serialize};

/// A deployment, as its file describes it. TOML.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The Lamina network's name.
    pub network: ChainId,
    /// The Ethereum chain (EIP-155); an endpoint of another one is refused.
    pub ethereum_chain_id: u64,
    /// Checkpoints name every so-many-th block.
    #[serde(default = "stride")]
    pub stride: u64,
    /// EigenLayer's contracts on that chain: its documentation lists them.
    pub eigenlayer: EigenLayer,
    /// What counts as stake.
    pub strategies: Vec<Strategy>,
    /// Least stake that puts an operator into a set, in gwei.
    #[serde(default = "one")]
    pub stake_gwei_min: u64,
    /// Where the service describes itself: the address of a JSON file, as EigenLayer has it.
    pub metadata: String,
    /// Whether any operator may register; else administrators admit them.
    #[serde(default = "yes")]
    pub open: bool,
    /// Most operators that sign checkpoints.
    #[serde(default = "hundred")]
    pub consensus_operators_max: u16,
    /// Least time between two snapshots of operators, in seconds.
    #[serde(default = "hour")]
    pub epoch_seconds_min: u32,
    /// For how many blocks stake must stay slashable to count: less than it takes to leave EigenLayer.
    pub stake_blocks: u32,
    /// How long after its snapshot an epoch's operators can sign anchors, and be slashed, in seconds: less than their stake
    /// takes to leave EigenLayer.
    pub anchor_age_max_s: u32,
    /// How long after the last anchor holders may leave by proof, in seconds.
    pub exit_delay_s: u32,
    /// What an offence costs: a share of the operator's allocation, in millionths.
    pub slashed_ppm: u32,
    /// Who administers, after `administrator_delay_s`. The deployer keeps no role.
    pub administrators: Vec<Address>,
    /// How long administrators' calls wait, in seconds.
    pub administrator_delay_s: u32,
    /// Who may pause vault, results and slashing, at once.
    #[serde(default)]
    pub guardians: Vec<Address>,
}

/// EigenLayer's contracts, v1.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EigenLayer {
    /// Operator sets, allocations, slashing.
    pub allocation_manager: Address,
    /// Who may call for whom.
    pub permission_controller: Address,
    /// Operators, and who delegates to them.
    pub delegation_manager: Address,
    /// Deposits of tokens.
    pub strategy_manager: Address,
}

/// A strategy of EigenLayer that counts as stake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strategy {
    /// Its contract.
    pub strategy: Address,
    /// Wei of stake that 10¹⁸ shares count for.
    pub wei_per_share_e18: u64,
}

impl Config {
    /// Checks what no contract would.
    ///
    /// # Errors
    /// What doesn't make sense.
    pub fn check(&self) -> Result<()> {
        ensure!(
            !self.administrators.is_empty(),
            "`administrators` is empty: nobody could mend anything"
        );
        ensure!(
            self.administrator_delay_s > 0,
            "`administrator_delay_s` is 0: nobody could leave before a change"
        );
        ensure!(!self.strategies.is_empty(), "`strategies` is empty: nothing would count as stake");
        let ascend = self.strategies.is_sorted_by(|a, b| a.strategy < b.strategy);
        ensure!(ascend, "`strategies` don't ascend by address");
        ensure!(self.stride > 0, "`stride` is 0");
        ensure!(self.slashed_ppm <= 1_000_000, "`slashed_ppm` is above a million: more than all");
        Ok(())
    }
}

const fn stride() -> u64 {
    32
}

const fn one() -> u64 {
    1
}

const fn yes() -> bool {
    true
}

const fn hundred() -> u16 {
    100
}

const fn hour() -> u32 {
    3_600
}
