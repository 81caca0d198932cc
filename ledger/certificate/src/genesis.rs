use lamina_types::account::SigningContext;
use lamina_types::{ChainId, EpochNumber, Runtime};
use serde::{Deserialize, Serialize};

use crate::operator_set::{Error as OperatorSetError, OperatorRecord, OperatorSet};

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
    /// The rules by which all operators run components.
    pub runtime: Runtime,
    /// The operators of epoch 0.
    pub operators: Vec<OperatorRecord>,
}

impl Genesis {
    /// Checks the operators' keys and proofs of possession.
    ///
    /// # Errors
    /// [`Error`] names the operator that doesn't hold.
    pub fn operator_set(&self) -> Result<OperatorSet, Error> {
        Ok(OperatorSet::new(self.chain_id.clone(), EpochNumber(0), &self.operators)?)
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
}
