use std::num::NonZeroU64;

use lamina_types::account::SigningContext;
use lamina_types::{Address, Amount, Asset, ChainId, EpochNumber, Height, Runtime, Timestamp};
use serde::{Deserialize, Serialize};

use crate::operator_set::{Error as OperatorSetError, NO_REGISTRAR, OperatorRecord, OperatorSet};

/// Longest genesis file, in bytes: 10,000 operators take about 6 MB.
pub const GENESIS_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// What a network begins with, and what everyone trusts who verifies its certificates. A JSON file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// The network's name.
    pub chain_id: ChainId,
    /// The Ethereum chain (EIP-155) that accounts sign for.
    pub ethereum_chain_id: u64,
    /// Lamina's contracts on that chain, if the network has any: its ledger credits then what's deposited there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ethereum: Option<EthereumGenesis>,
    /// The rules by which all operators run components.
    pub runtime: Runtime,
    /// The operators of epoch 0.
    pub operators: Vec<OperatorRecord>,
    /// What the ledger begins with.
    #[serde(default)]
    pub ledger: LedgerGenesis,
}

/// What of Ethereum belongs to the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EthereumGenesis {
    /// The contracts.
    pub contracts: EthereumContracts,
    /// The first block to read: the one that created the contracts, or an earlier one.
    pub start: u64,
    /// Checkpoints name blocks whose number is a multiple of this, so that each node knows the hash of every block that
    /// another one may name.
    pub stride: NonZeroU64,
    /// The first epoch that the contracts snapshot: 0 if the operators of this file are the first snapshot, as they should be
    /// in a network whose checkpoints are to be anchored from the start; else 1.
    pub first_epoch: EpochNumber,
}

/// Where Lamina's contracts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EthereumContracts {
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

impl EthereumContracts {
    /// All of them.
    #[must_use]
    pub const fn all(&self) -> [Address; 5] {
        [self.registrar, self.checkpoints, self.vault, self.tasks, self.slasher]
    }
}

/// What the ledger begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LedgerGenesis {
    /// The time of checkpoint 0, in microseconds since 1970.
    pub time: Timestamp,
    /// Time between two checkpoints while operations come, in milliseconds.
    pub interval_ms: u64,
    /// Longest time between two checkpoints while nothing happens, in milliseconds.
    pub idle_interval_ms: u64,
    /// What operations cost.
    pub fees: FeeSchedule,
    /// What accounts have from the start.
    pub deposits: Vec<Deposit>,
    /// The operator sets of later epochs, ascending by height; none if they come from Ethereum.
    pub epochs: Vec<EpochStart>,
}

/// What operations cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeeSchedule {
    /// What is paid with.
    pub asset: Asset,
    /// For each operation.
    pub base: Amount,
    /// For each byte of it.
    pub per_byte: Amount,
}

/// What an account has from the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deposit {
    /// Whose.
    pub account: Address,
    /// Of what.
    pub asset: Asset,
    /// How much.
    pub amount: Amount,
}

/// The operator set of a later epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochStart {
    /// The first checkpoint that it signs; at least 2, so that the one before announces it.
    pub height: Height,
    /// The operators.
    pub operators: Vec<OperatorRecord>,
}

impl Default for LedgerGenesis {
    fn default() -> Self {
        Self {
            time: Timestamp(0),
            interval_ms: 1_000,
            idle_interval_ms: 60_000,
            fees: FeeSchedule::default(),
            deposits: Vec::new(),
            epochs: Vec::new(),
        }
    }
}

/// No fees: whoever starts a network for others sets them.
impl Default for FeeSchedule {
    fn default() -> Self {
        Self { asset: Asset::Ether, base: Amount::ZERO, per_byte: Amount::ZERO }
    }
}

impl Genesis {
    /// Checks the operators' keys and proofs of possession.
    ///
    /// # Errors
    /// [`Error`] names the operator that doesn't hold.
    pub fn operator_set(&self) -> Result<OperatorSet, Error> {
        self.set_of(EpochNumber(0), &self.operators)
    }

    /// The operator sets of all epochs, each with the first checkpoint that it signs, ascending. Checks keys and proofs.
    ///
    /// # Errors
    /// [`Error`] names what doesn't hold.
    pub fn epochs(&self) -> Result<Vec<(Height, OperatorSet)>, Error> {
        if self.ethereum.is_some() && !self.ledger.epochs.is_empty() {
            return Err(Error::EpochsTwice);
        }
        let mut epochs = vec![(Height(0), self.operator_set()?)];
        for (epoch, start) in (1..).map(EpochNumber).zip(&self.ledger.epochs) {
            let (before, _) = epochs.last().expect("one was put in");
            if start.height <= (*before).max(Height(1)) {
                return Err(Error::EpochOrder { epoch, height: start.height });
            }
            epochs.push((start.height, self.set_of(epoch, &start.operators)?));
        }
        Ok(epochs)
    }

    fn set_of(&self, epoch: EpochNumber, records: &[OperatorRecord]) -> Result<OperatorSet, Error> {
        let (chain, registrar) = (self.chain_id.clone(), self.registrar());
        Ok(OperatorSet::for_registrar(chain, &registrar, epoch, records)?)
    }

    /// The contract that operators' proofs of possession are bound to; [`NO_REGISTRAR`] without one.
    #[must_use]
    pub fn registrar(&self) -> Address {
        self.ethereum.as_ref().map_or(NO_REGISTRAR, |ethereum| ethereum.contracts.registrar)
    }

    /// How many operators an epoch has whose operators this file names.
    #[must_use]
    pub fn operator_count(&self, epoch: EpochNumber) -> Option<usize> {
        let later = || self.ledger.epochs.get(usize::try_from(epoch.0.checked_sub(1)?).ok()?);
        if epoch.0 == 0 { Some(self.operators.len()) } else { Some(later()?.operators.len()) }
    }

    /// What accounts sign for.
    #[must_use]
    pub fn signing_context(&self) -> SigningContext {
        SigningContext { chain: self.chain_id.clone(), ethereum_chain: self.ethereum_chain_id }
    }
}

/// Why a genesis file can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Its operators don't make a set.
    #[error("the genesis file's operators don't hold")]
    Operators(#[from] OperatorSetError),
    /// Later epochs come from Ethereum, and from the file, too.
    #[error("the contracts on Ethereum tell later epochs' operators: leave out `ledger.epochs`")]
    EpochsTwice,
    /// An epoch that begins before the one before it, or before anyone could announce it.
    #[error(
        "epoch {epoch} begins at height {height}: epochs begin one after the other, from height 2 on"
    )]
    EpochOrder {
        /// Which one.
        epoch: EpochNumber,
        /// Where it begins.
        height: Height,
    },
}
