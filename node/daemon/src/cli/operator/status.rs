//! What Ethereum knows of an operator.

use lamina_certificate::EthereumContracts;
use lamina_ethereum::Endpoints;
use lamina_ethereum_core::abi;
use lamina_ethereum_core::abi::EigenLayer as el;
use lamina_types::{Address, PeerKey};
use serde::Serialize;

use super::registration::{PublicKeys, operator_set, registration_index};
use crate::cli::ethereum::EigenLayer;
use crate::cli::output::fields;

/// All of an operator's magnitude at a strategy (EigenLayer's `WAD`).
const WHOLE: u64 = 1_000_000_000_000_000_000;

/// An operator at EigenLayer and at the network's contracts, as of the latest block.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    operator: Address,
    eigenlayer_operator: bool,
    /// Of the strategy, all that's delegated included.
    shares: String,
    /// What of the stake other services or this one have slashed, in millionths.
    slashed_ppm: u64,
    registered: bool,
    registration: Option<u64>,
    registered_bls_key: Option<String>,
    registered_peer_key: Option<PeerKey>,
    /// Whether these are the key folder's, if there's one.
    keys_match: Option<bool>,
    /// Of [`WHOLE`], what this network can slash.
    magnitude: u64,
    /// How that changes, and at which block; zero if it doesn't.
    allocation_pending: String,
    allocation_effect_block: u32,
    /// The last epoch that was snapshotted.
    epoch: Option<u64>,
    next_epoch: u64,
    in_epoch: bool,
    /// The operator's place in that epoch's set: what stands in certificates' bitmaps.
    index: Option<usize>,
    stake_gwei: Option<u64>,
}

impl Status {
    /// `keys` are the key folder's.
    pub(super) async fn read(
        endpoints: &Endpoints,
        contracts: &EthereumContracts,
        eigenlayer: &EigenLayer,
        operator: Address,
        keys: Option<PublicKeys>,
    ) -> anyhow::Result<Self> {
        let EigenLayer { allocation_manager, delegation_manager, strategy, .. } = *eigenlayer;
        let (account, strategy) = (operator.0.into(), strategy.0.into());
        let set = operator_set(endpoints, contracts).await?;
        let is_operator = el::isOperatorCall { operator: account };
        let eigenlayer_operator = endpoints.call(delegation_manager, &is_operator).await?;
        let shares = el::operatorSharesCall { operator: account, strategy };
        let shares = endpoints.call(delegation_manager, &shares).await?;
        let left = el::getMaxMagnitudeCall { operator: account, strategy };
        let left = endpoints.call(allocation_manager, &left).await?;
        let member = el::isMemberOfOperatorSetCall { operator: account, set: set.clone() };
        let registered = endpoints.call(allocation_manager, &member).await?;
        let allocation = el::getAllocationCall { operator: account, set, strategy };
        let allocation = endpoints.call(allocation_manager, &allocation).await?;
        let next = abi::Checkpoints::nextEpochCall {};
        let next_epoch = endpoints.call(contracts.checkpoints, &next).await?;
        let registration = match registered {
            true => Some(registration_index(endpoints, contracts.registrar, operator).await?),
            false => None,
        };
        let found = match registration {
            Some(index) => {
                Some(PublicKeys::registered(endpoints, contracts.registrar, index).await?)
            }
            None => None,
        };
        let epoch = next_epoch.checked_sub(1);
        let place = match (epoch, registration) {
            (Some(epoch), Some(index)) => place(endpoints, contracts, epoch, index).await,
            _ => None,
        };
        Ok(Self {
            operator,
            eigenlayer_operator,
            shares: shares.to_string(),
            slashed_ppm: WHOLE.saturating_sub(left) / (WHOLE / 1_000_000),
            registered,
            registration,
            registered_bls_key: found.map(|keys| format!("0x{}", hex::encode(keys.bls))),
            registered_peer_key: found.map(|keys| keys.peer),
            keys_match: found.zip(keys).map(|(found, keys)| found == keys),
            magnitude: allocation.currentMagnitude,
            allocation_pending: allocation.pendingDiff.to_string(),
            allocation_effect_block: allocation.effectBlock,
            epoch,
            next_epoch,
            in_epoch: place.is_some(),
            index: place.map(|(index, _)| index),
            stake_gwei: place.map(|(_, stake)| stake),
        })
    }

    pub(super) fn text(&self) -> String {
        let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
        let share = |of: u64, whole: u64| format!("{:.1}%", of as f64 / whole as f64 * 100.0);
        let allocated = match (share(self.magnitude, WHOLE), self.allocation_effect_block) {
            (share, 0) => share,
            (share, block) => format!("{share}, changes at block {block}"),
        };
        let registered = match (self.registration, self.keys_match) {
            (None, _) => yes(false),
            (Some(number), Some(true)) => format!("yes, number {number}, with the folder's keys"),
            (Some(number), Some(false)) => {
                format!(
                    "yes, number {number}, with OTHER keys than the folder's: its node can't sign with these"
                )
            }
            (Some(number), None) => format!("yes, number {number}"),
        };
        let epoch = match (self.epoch, self.index, self.stake_gwei) {
            (Some(epoch), Some(index), Some(stake)) => {
                format!("in epoch {epoch} as operator {index} with {stake} gwei")
            }
            (Some(epoch), ..) => format!(
                "not in epoch {epoch}; epoch {} takes in who is registered then, with stake",
                self.next_epoch
            ),
            (None, ..) => "no snapshot was taken yet".to_owned(),
        };
        fields(&[
            ("operator", self.operator.to_string()),
            ("at EigenLayer", yes(self.eigenlayer_operator)),
            ("shares", self.shares.clone()),
            ("slashed", share(self.slashed_ppm, 1_000_000)),
            ("registered", registered),
            ("allocated", allocated),
            ("epoch", epoch),
        ])
    }
}

/// The operator's place in the epoch's set, and its stake in gwei.
async fn place(
    endpoints: &Endpoints,
    contracts: &EthereumContracts,
    number: u64,
    registration: u64,
) -> Option<(usize, u64)> {
    let asked = abi::Checkpoints::membersCall { number, consensus: false };
    // Before the first snapshot there's none to ask for.
    let members = endpoints.call(contracts.checkpoints, &asked).await.ok()?;
    let mut places = members.registrations.iter().zip(&members.stakesGwei).enumerate();
    let (index, (_, stake)) = places.find(|(_, (of, _))| u64::try_from(*of) == Ok(registration))?;
    Some((index, *stake))
}
