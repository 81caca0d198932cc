//! Making an operator of an account, one transaction after the other. Each step is looked at first, so that whoever does it
//! again pays for what lacks alone.

use std::time::Duration;

use alloy_sol_types::SolCall as _;
use anyhow::Context as _;
use ed25519_dalek::{Signer as _, SigningKey};
use lamina_certificate::{EthereumContracts, SecretKey};
use lamina_ethereum::{Endpoints, Wallet};
use lamina_ethereum_core::abi::EigenLayer as el;
use lamina_ethereum_core::{abi, calls, points};
use lamina_keystore::{KeyDirectory, KeyKind, Passphrase};
use lamina_types::{Address, ChainId, PeerKey, signing};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::cli::ethereum::{self, EigenLayer, advise};

/// Time between two looks at what Ethereum has.
const POLL: Duration = Duration::from_secs(2);

/// The keys that a node signs with.
pub(crate) struct NodeKeys {
    bls: SecretKey,
    peer: SigningKey,
}

impl NodeKeys {
    pub(crate) fn unlock(
        directory: &KeyDirectory,
        passphrase: &Passphrase,
    ) -> anyhow::Result<Self> {
        let bls = directory.read(KeyKind::Bls)?.decrypt(passphrase)?;
        let peer = directory.read(KeyKind::Peer)?.decrypt(passphrase)?;
        Ok(Self {
            bls: SecretKey::from_bytes(bls.expose())?,
            peer: SigningKey::from_bytes(peer.expose()),
        })
    }

    fn public(&self) -> PublicKeys {
        let peer = PeerKey(self.peer.verifying_key().to_bytes());
        PublicKeys { bls: self.bls.public_key().to_bytes(), peer }
    }
}

/// A node's keys as everyone may see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PublicKeys {
    /// Compressed.
    pub(super) bls: [u8; 48],
    pub(super) peer: PeerKey,
}

impl PublicKeys {
    /// As the key files say, which takes no passphrase; `None` if they aren't there or don't say.
    pub(super) fn in_directory(directory: &KeyDirectory) -> Option<Self> {
        let public = |kind| Some(directory.read(kind).ok()?.public_key()?.to_vec());
        let bls = public(KeyKind::Bls)?.try_into().ok()?;
        Some(Self { bls, peer: PeerKey(public(KeyKind::Peer)?.try_into().ok()?) })
    }

    /// As the registrar has them of the operator with this index.
    pub(super) async fn registered(
        endpoints: &Endpoints,
        registrar: Address,
        index: u64,
    ) -> anyhow::Result<Self> {
        let index = index.try_into().context("an index fits 256 bits")?;
        let found = endpoints.call(registrar, &abi::Registrar::operatorCall { index }).await?;
        let xy = found.blsKey.as_ref().try_into();
        let xy = xy.context("the registrar's key hasn't two coordinates")?;
        Ok(Self { bls: points::compress_key(&xy), peer: PeerKey(found.peerKey.0) })
    }
}

/// What it takes to become an operator.
pub(crate) struct Registration<'a> {
    pub(crate) chain: &'a ChainId,
    pub(crate) contracts: &'a EthereumContracts,
    pub(crate) eigenlayer: &'a EigenLayer,
    pub(crate) keys: &'a NodeKeys,
    /// What the account is to have deposited of its own, in the token's smallest unit.
    pub(crate) stake: Option<u128>,
    pub(crate) metadata: &'a str,
    /// How long to wait for EigenLayer's delays.
    pub(crate) wait: Duration,
}

impl Registration<'_> {
    /// Does what isn't done; tells each step.
    ///
    /// # Errors
    /// Says which step failed, and what to do. What was done before stays.
    pub(crate) async fn run(
        &self,
        wallet: &Wallet,
        tell: &mut impl FnMut(&Value),
    ) -> anyhow::Result<()> {
        self.become_operator(wallet, tell).await?;
        self.deposit_stake(wallet, tell).await?;
        let set = operator_set(wallet.endpoints(), self.contracts).await?;
        self.register_keys(wallet, &set, tell).await?;
        self.allocate(wallet, set, tell).await
    }

    async fn become_operator(
        &self,
        wallet: &Wallet,
        tell: &mut impl FnMut(&Value),
    ) -> anyhow::Result<()> {
        let manager = self.eigenlayer.delegation_manager;
        let operator = wallet.address().0.into();
        if wallet.call(manager, &el::isOperatorCall { operator }).await? {
            return Ok(());
        }
        let call = el::registerAsOperatorCall {
            approver: Address::default().0.into(),
            allocationDelay: 0,
            metadata: self.metadata.to_owned(),
        };
        let sent = wallet.send(manager, call.abi_encode(), 0).await.map_err(advise);
        let sent = sent.context("becoming an operator at EigenLayer")?;
        tell(&ethereum::sent("operator at EigenLayer", &sent));
        Ok(())
    }

    /// Deposits what lacks of the stake. Compared are shares, which rounding can't leave one short of the amount.
    async fn deposit_stake(
        &self,
        wallet: &Wallet,
        tell: &mut impl FnMut(&Value),
    ) -> anyhow::Result<()> {
        let Some(stake) = self.stake else { return Ok(()) };
        let (manager, strategy) = (self.eigenlayer.strategy_manager, self.eigenlayer.strategy);
        let staker = wallet.address().0.into();
        let asked = el::stakerDepositSharesCall { staker, strategy: strategy.0.into() };
        let shares = wallet.call(manager, &asked).await?;
        let amount = stake.try_into().context("an amount fits 256 bits")?;
        if shares >= wallet.call(strategy, &el::underlyingToSharesViewCall { amount }).await? {
            return Ok(());
        }
        let held = wallet.call(strategy, &el::sharesToUnderlyingViewCall { shares }).await?;
        let lacking = stake.saturating_sub(held.saturating_to());
        let token = wallet.call(strategy, &el::underlyingTokenCall {}).await;
        let token = token.context("asking the strategy for its token")?;
        let approved = ethereum::approve(wallet, Address(token.into()), manager, lacking).await;
        if let Some(sent) = approved.context("approving the stake")? {
            tell(&ethereum::sent("stake approved", &sent));
        }
        let amount = lacking.try_into().context("an amount fits 256 bits")?;
        let call = el::depositIntoStrategyCall { strategy: strategy.0.into(), token, amount };
        let sent = wallet.send(manager, call.abi_encode(), 0).await.map_err(advise);
        tell(&ethereum::sent("stake deposited", &sent.context("depositing the stake")?));
        Ok(())
    }

    async fn register_keys(
        &self,
        wallet: &Wallet,
        set: &el::OperatorSet,
        tell: &mut impl FnMut(&Value),
    ) -> anyhow::Result<()> {
        let manager = self.eigenlayer.allocation_manager;
        let (account, registrar) = (wallet.address(), self.contracts.registrar);
        let operator = account.0.into();
        let member = el::isMemberOfOperatorSetCall { operator, set: set.clone() };
        if wallet.call(manager, &member).await? {
            let index = registration_index(wallet.endpoints(), registrar, account).await?;
            let found = PublicKeys::registered(wallet.endpoints(), registrar, index).await?;
            anyhow::ensure!(
                found == self.keys.public(),
                "account {account} is registered with other keys (BLS key 0x{}); run its node with those, or \
                 `lamina operator deregister` it first",
                hex::encode(found.bls)
            );
            return Ok(());
        }
        let peer_key = self.keys.public().peer;
        let possession = signing::peer_possession(self.chain, &account, &peer_key);
        let proof = self.keys.peer.sign(&possession.0).to_bytes();
        let data = calls::registration(
            self.chain,
            &account,
            &registrar,
            &self.keys.bls,
            &peer_key,
            &proof,
        );
        let params =
            el::RegisterParams { avs: set.avs, operatorSetIds: vec![set.id], data: data.into() };
        let call = el::registerForOperatorSetsCall { operator, params };
        let sent = wallet.send(manager, call.abi_encode(), 0).await.map_err(advise);
        let sent = sent.context("registering for the operator set")?;
        tell(&ethereum::sent("registered with the node's keys", &sent));
        Ok(())
    }

    /// Makes all of the stake slashable that isn't allocated to other services.
    async fn allocate(
        &self,
        wallet: &Wallet,
        set: el::OperatorSet,
        tell: &mut impl FnMut(&Value),
    ) -> anyhow::Result<()> {
        let EigenLayer { allocation_manager: manager, strategy, .. } = *self.eigenlayer;
        let deadline = Instant::now() + self.wait;
        let (operator, strategy) = (wallet.address().0.into(), strategy.0.into());
        let asked = el::getAllocationCall { operator, set: set.clone(), strategy };
        let found = wallet.call(manager, &asked).await?;
        if found.currentMagnitude == 0 && found.effectBlock == 0 {
            self.wait_for_delay(wallet, deadline).await?;
            let free = el::getAllocatableMagnitudeCall { operator, strategy };
            let free = wallet.call(manager, &free).await?;
            anyhow::ensure!(
                free > 0,
                "all of the account's stake is allocated to other services, or was slashed; deallocate some at EigenLayer"
            );
            let params = vec![el::AllocateParams {
                operatorSet: set,
                strategies: vec![strategy],
                newMagnitudes: vec![free],
            }];
            let call = el::modifyAllocationsCall { operator, params };
            let sent = wallet.send(manager, call.abi_encode(), 0).await.map_err(advise);
            tell(&ethereum::sent("stake allocated", &sent.context("allocating the stake")?));
        }
        // The operator's own delay; the status shows its end to whoever doesn't wait.
        while wallet.call(manager, &asked).await?.currentMagnitude == 0 && Instant::now() < deadline
        {
            sleep(POLL).await;
        }
        Ok(())
    }

    /// A new operator's allocation delay holds only after a while.
    async fn wait_for_delay(&self, wallet: &Wallet, deadline: Instant) -> anyhow::Result<()> {
        loop {
            let asked = el::getAllocationDelayCall { operator: wallet.address().0.into() };
            if wallet.call(self.eigenlayer.allocation_manager, &asked).await?.isSet {
                return Ok(());
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "EigenLayer lets a new operator allocate stake after its configuration delay only (17.5 days on mainnet): run \
                 this again then, or wait with --wait SECONDS"
            );
            sleep(POLL).await;
        }
    }
}

/// The operator set that secures the network.
pub(super) async fn operator_set(
    endpoints: &Endpoints,
    contracts: &EthereumContracts,
) -> anyhow::Result<el::OperatorSet> {
    let avs = endpoints.call(contracts.registrar, &abi::Registrar::avsCall {}).await?;
    let id = endpoints.call(contracts.registrar, &abi::Registrar::operatorSetIdCall {}).await?;
    Ok(el::OperatorSet { avs, id })
}

/// The number of a registered operator's registration.
pub(super) async fn registration_index(
    endpoints: &Endpoints,
    registrar: Address,
    operator: Address,
) -> anyhow::Result<u64> {
    let asked = abi::Registrar::indexOfCall { operator: operator.0.into() };
    Ok(endpoints.call(registrar, &asked).await?.saturating_to())
}
