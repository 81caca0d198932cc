use std::fmt;

use lamina_certificate::{FeeSchedule, Genesis};
use lamina_types::account::SigningContext;
use lamina_types::{
    Action, Address, Amount, Asset, EpochNumber, EthereumBlock, Height, OperationId, Timestamp,
};

use super::{Refusal, Scope};
use crate::StorageError;

/// A part of the state machine: the actions that it carries out, and the keys that it owns.
///
/// A module's keys begin with its name and a slash. It reads other modules' state through their functions, and moves value
/// through [`super::bank`] alone.
pub trait Module: fmt::Debug + Send + Sync {
    /// Its name, in lower case.
    fn name(&self) -> &'static str;

    /// Whether it carries out this action.
    fn handles(&self, action: &Action) -> bool;

    /// Carries an action out. On an error, nothing that it did counts.
    ///
    /// # Errors
    /// [`Stop::Refused`] with the reason; [`Stop::Fault`] if the storage fails.
    fn apply(
        &self,
        scope: &mut Scope<'_>,
        env: &Env<'_>,
        origin: &Origin,
        action: &Action,
    ) -> Result<(), Stop>;

    /// Something that it scheduled is due. On a refusal, nothing that it did counts, and the timer is gone.
    ///
    /// # Errors
    /// As [`Module::apply`].
    fn timer(&self, scope: &mut Scope<'_>, env: &Env<'_>, key: &[u8]) -> Result<(), Stop> {
        let _ = (scope, env, key);
        Ok(())
    }

    /// Called once, for checkpoint 0, after its deposits and before [`Module::begin`].
    ///
    /// # Errors
    /// [`Stop::Refused`] if a network can't begin like this; [`Stop::Fault`] if the storage fails.
    fn genesis(&self, scope: &mut Scope<'_>, genesis: &Genesis) -> Result<(), Stop> {
        let _ = (scope, genesis);
        Ok(())
    }

    /// Called once in each checkpoint, before its timers and operations.
    ///
    /// # Errors
    /// [`StorageError`].
    fn begin(&self, scope: &mut Scope<'_>, env: &Env<'_>) -> Result<(), StorageError> {
        let _ = (scope, env);
        Ok(())
    }
}

/// The checkpoint that's being made, as modules see it.
#[derive(Debug, Clone)]
pub struct Env<'a> {
    /// Its height.
    pub height: Height,
    /// Its time.
    pub time: Timestamp,
    /// The operator set that signs it.
    pub epoch: EpochNumber,
    /// The finalised block of Ethereum that it names.
    pub ethereum: EthereumBlock,
    /// What accounts sign for.
    pub context: &'a SigningContext,
    /// What operations cost.
    pub fees: &'a FeeSchedule,
}

/// The operation that's being carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Its identifier.
    pub operation: OperationId,
    /// Its account, whose signature holds.
    pub account: Address,
}

/// Why a module stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The operation can't be done. It gets a receipt with the reason.
    Refused(Refusal),
    /// The node can't go on.
    Fault(StorageError),
}

/// How much of an asset is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortfall {
    /// Of what.
    pub asset: Asset,
    /// What there is.
    pub available: Amount,
    /// What's needed.
    pub needed: Amount,
}
