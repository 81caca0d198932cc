//! Operations: what accounts do in the ledger, each signed with a wallet as EIP-712 typed data.
//!
//! Every operation names its account, a sequence number and an end. An account's operations take effect in the order of
//! their numbers, without gaps; one that hasn't taken effect by its end never does. `docs/operations.md` lists each with
//! its fields and what it does.

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::account::{self, AccountKey, AccountSignature, SigningContext, typed_data};
use crate::service::Error as ManifestError;
use crate::task::RequestFields;
use crate::{
    Address, Amount, Asset, Bytes, Canonical, ChainId, CommitmentId, Digest, INPUT_BYTES_MAX,
    Input, MANIFEST_BYTES_MAX, Manifest, OperationId, ParameterName, ParameterValue, PeerKey,
    ProposalId, ServiceId, SignedTaskRequest, TaskId, Text, Timestamp, VaultId,
};

/// Longest signed operation, in bytes: a manifest and its envelope.
pub const OPERATION_BYTES_MAX: usize = MANIFEST_BYTES_MAX + 1024;
/// Longest certificate, evidence or datagram within an operation, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 32 * 1024;
/// Longest time that a commitment can take to unbond, in seconds: a year.
pub const UNBONDING_S_MAX: u64 = 365 * 24 * 3600;

/// One thing that an account wants done.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Operation {
    /// Who wants it, and pays for it.
    pub account: Address,
    /// The account's operations in order, from 0.
    pub sequence: u64,
    /// It takes effect in a checkpoint of this time at the latest.
    pub valid_until: Timestamp,
    /// Most that it may cost, in the network's fee asset.
    pub fee_max: Amount,
    /// What.
    pub action: Action,
}

/// What operations do.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Action {
    /// Give an asset to somebody.
    Transfer {
        /// Who gets it.
        to: Address,
        /// Of what.
        asset: Asset,
        /// How much.
        amount: Amount,
    },
    /// Take an asset out to Ethereum: it becomes a claim, which the vault contract pays once it's proven.
    Withdraw {
        /// Who is paid on Ethereum.
        recipient: Address,
        /// Of what.
        asset: Asset,
        /// How much.
        amount: Amount,
    },
    /// Make a service known.
    RegisterService {
        /// What it is. Its owner is the account.
        manifest: Box<Manifest>,
    },
    /// Replace a service's manifest; its identifier stays.
    UpdateService {
        /// Which service.
        service: ServiceId,
        /// What it becomes.
        manifest: Box<Manifest>,
    },
    /// Bind an operator's keys to its account.
    RegisterOperator {
        /// Its keys, with proof that the account's holder has them.
        keys: Box<OperatorKeys>,
    },
    /// Serve a service from the next checkpoint on.
    OptIn {
        /// Which one.
        service: ServiceId,
    },
    /// Serve it no longer.
    OptOut {
        /// Which one.
        service: ServiceId,
    },
    /// Pledge an asset to a service and an operator.
    Commit {
        /// Whose asset: the account's own, or of a vault that it manages.
        vault: Option<VaultId>,
        /// To which service.
        service: ServiceId,
        /// To which operator.
        operator: Address,
        /// Of what.
        asset: Asset,
        /// How much.
        amount: Amount,
        /// How long it stays bound after it's taken back, in seconds; 1 to [`UNBONDING_S_MAX`].
        unbonding_s: u64,
        /// What for.
        purpose: Purpose,
    },
    /// Add to a commitment.
    Increase {
        /// Which one.
        commitment: CommitmentId,
        /// How much.
        amount: Amount,
    },
    /// Take a commitment back, in part or whole; it's bound until its unbonding ends.
    Uncommit {
        /// Which one.
        commitment: CommitmentId,
        /// How much.
        amount: Amount,
    },
    /// Get back what has unbonded.
    Release {
        /// Of which commitment.
        commitment: CommitmentId,
    },
    /// Pay for rewards of those who back and serve a service.
    FundRewards {
        /// Which service.
        service: ServiceId,
        /// In what.
        asset: Asset,
        /// How much in all.
        amount: Amount,
        /// Over how long it's paid out, evenly, in seconds; at least 1.
        duration_s: u64,
    },
    /// Get what has accrued.
    ClaimRewards {
        /// To what.
        source: RewardSource,
        /// In which asset.
        asset: Asset,
    },
    /// Put a change of a service to the vote of those who committed for votes.
    Propose {
        /// Which service.
        service: ServiceId,
        /// What is to be done.
        change: Box<ServiceChange>,
        /// Why, in a few sentences.
        reason: Text<4096>,
    },
    /// Vote on a proposal, with the weight that the account had when it was made. A later vote replaces it.
    Vote {
        /// Which one.
        proposal: ProposalId,
        /// For it, or against.
        approve: bool,
    },
    /// Open a vault: a purse that many fill and one manages.
    CreateVault {
        /// What people call it; not unique.
        name: Text<64>,
        /// What it holds.
        asset: Asset,
    },
    /// Put an asset into a vault, for shares.
    DepositIntoVault {
        /// Which vault.
        vault: VaultId,
        /// How much.
        amount: Amount,
    },
    /// Give shares back for what they are worth of what the vault has at hand.
    RedeemFromVault {
        /// Which vault.
        vault: VaultId,
        /// How many shares.
        shares: Amount,
    },
    /// Have a service run, in the order of the ledger.
    RequestTask {
        /// Which service.
        service: ServiceId,
        /// On what.
        input: Input,
    },
    /// Have a certified task written down, so that who took part earns from it.
    RecordTask {
        /// What was asked, and who answered.
        record: Box<TaskRecord>,
    },
    /// Prove that an operator signed what it mustn't.
    SubmitEvidence {
        /// Canonical bytes of the evidence (`lamina-certificate`).
        evidence: Bytes<PAYLOAD_BYTES_MAX>,
    },
    /// Hand over a message of another chain.
    DeliverDatagram {
        /// An `Any` of IBC's protobuf.
        datagram: Bytes<PAYLOAD_BYTES_MAX>,
    },
}

/// What a commitment gets in exchange.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[borsh(use_discriminant = false)]
pub enum Purpose {
    /// A share of what the service pays out.
    Rewards,
    /// A vote in what the service does.
    Votes,
    /// The service's tasks, paid from it.
    Credit,
}

/// What rewards accrue to.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum RewardSource {
    /// A commitment; its holder claims.
    Commitment {
        /// Which one.
        commitment: CommitmentId,
    },
    /// An operator's part in a service's tasks; the operator claims.
    Participation {
        /// Which service.
        service: ServiceId,
    },
}

/// What a proposal changes.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ServiceChange {
    /// Sets parameters; those that aren't named stay.
    Parameters {
        /// Names and what they become; `None` removes one.
        values: BTreeMap<ParameterName, Option<ParameterValue>>,
    },
    /// Replaces the manifest.
    Manifest {
        /// What it becomes.
        manifest: Box<Manifest>,
    },
    /// Stops taking tasks, or takes them again.
    Pause {
        /// Whether it stops.
        paused: bool,
    },
}

/// An operator's keys and proofs that whoever registers them has them.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct OperatorKeys {
    /// Its node's ed25519 key.
    pub peer_key: PeerKey,
    /// Its BLS12-381 public key: a compressed point of G1, 48 bytes.
    pub bls_public_key: Bytes<48>,
    /// The BLS key's signature on [`crate::signing::proof_of_possession`]: a compressed point of G2, 96 bytes.
    pub proof_of_possession: Bytes<96>,
    /// The node key's signature on [`crate::signing::peer_possession`]: 64 bytes.
    pub peer_signature: Bytes<64>,
}

/// A task, and the certificate of its outcome.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct TaskRecord {
    /// The service that was run.
    pub service: ServiceId,
    /// SHA-256 of the input.
    pub input: Digest,
    /// Who asked.
    pub requester: Address,
    /// The request's nonce.
    pub nonce: u64,
    /// The checkpoint that the task is pinned to.
    pub height: crate::Height,
    /// The end of the request.
    pub valid_until: Timestamp,
    /// The requester's signature on the request: `r ‖ s ‖ v`.
    pub request_signature: Bytes<65>,
    /// Fuel that the task used.
    pub fuel_used: u64,
    /// Canonical bytes of the certificate (`lamina-certificate`).
    pub certificate: Bytes<2048>,
}

impl TaskRecord {
    /// What is recorded of a request.
    #[must_use]
    pub fn new(signed: &SignedTaskRequest, fuel_used: u64, certificate: Bytes<2048>) -> Self {
        let request = &signed.request;
        Self {
            service: request.service,
            input: Digest::of(request.input.as_slice()),
            requester: request.requester,
            nonce: request.nonce,
            height: request.height,
            valid_until: request.valid_until,
            request_signature: Bytes::new(signed.signature.to_bytes())
                .expect("a signature has 65 bytes"),
            fuel_used,
            certificate,
        }
    }

    /// Checks the requester's signature.
    ///
    /// # Errors
    /// [`account::Error`].
    pub fn verify(&self, context: &SigningContext) -> Result<TaskId, account::Error> {
        let bytes: [u8; 65] = self
            .request_signature
            .as_slice()
            .try_into()
            .map_err(|_| account::Error::NotCanonical)?;
        self.fields().verify(&AccountSignature::from_bytes(bytes)?, context)
    }

    /// The task that it says it's of.
    #[must_use]
    pub fn task_id(&self, chain: &ChainId) -> TaskId {
        self.fields().task_id(chain)
    }

    const fn fields(&self) -> RequestFields {
        RequestFields {
            service: self.service,
            input: self.input,
            requester: self.requester,
            nonce: self.nonce,
            height: self.height,
            valid_until: self.valid_until,
        }
    }
}

impl Operation {
    /// The operation's identifier, which is what its account signs: its EIP-712 digest.
    #[must_use]
    pub fn id(&self, context: &SigningContext) -> OperationId {
        OperationId(self.action.digest(self, context).0)
    }

    /// The operation with its account's consent.
    #[must_use]
    pub fn sign(self, key: &AccountKey, context: &SigningContext) -> SignedOperation {
        let signature = key.sign(&Digest(self.id(context).0));
        SignedOperation { operation: self, signature }
    }

    /// Checks what the types don't hold by themselves and what needs no state.
    ///
    /// # Errors
    /// [`Error`] names the field.
    pub fn check(&self) -> Result<(), Error> {
        let something = |amount: &Amount| {
            if amount.is_zero() { Err(Error::Nothing) } else { Ok(()) }
        };
        match &self.action {
            Action::Transfer { amount, .. }
            | Action::Withdraw { amount, .. }
            | Action::Increase { amount, .. }
            | Action::Uncommit { amount, .. }
            | Action::DepositIntoVault { amount, .. }
            | Action::RedeemFromVault { shares: amount, .. } => something(amount),
            Action::Commit { vault: Some(VaultId(id)), .. } if *id == [0; 32] => {
                // A wallet signs the same for it as for no vault.
                Err(Error::NoVault)
            }
            Action::Commit { amount, unbonding_s, .. } => {
                something(amount)?;
                within("unbonding_s", *unbonding_s, 1, UNBONDING_S_MAX)
            }
            Action::FundRewards { amount, duration_s, .. } => {
                something(amount)?;
                within("duration_s", *duration_s, 1, UNBONDING_S_MAX)
            }
            Action::RegisterService { manifest } if manifest.owner != self.account => {
                Err(Error::OtherOwner)
            }
            Action::RegisterService { manifest } | Action::UpdateService { manifest, .. } => {
                Ok(manifest.check()?)
            }
            Action::Propose { change, .. } => match change.as_ref() {
                ServiceChange::Manifest { manifest } => Ok(manifest.check()?),
                ServiceChange::Parameters { values } => {
                    let count = values.len() as u64;
                    within("parameters", count, 1, crate::PARAMETERS_MAX as u64)
                }
                ServiceChange::Pause { .. } => Ok(()),
            },
            Action::RegisterOperator { keys } => {
                let sizes = [
                    keys.bls_public_key.as_slice().len() == 48,
                    keys.proof_of_possession.as_slice().len() == 96,
                    keys.peer_signature.as_slice().len() == 64,
                ];
                if sizes == [true; 3] { Ok(()) } else { Err(Error::KeySize) }
            }
            Action::OptIn { .. }
            | Action::OptOut { .. }
            | Action::Release { .. }
            | Action::ClaimRewards { .. }
            | Action::Vote { .. }
            | Action::CreateVault { .. }
            | Action::RequestTask { .. }
            | Action::RecordTask { .. }
            | Action::SubmitEvidence { .. }
            | Action::DeliverDatagram { .. } => Ok(()),
        }
    }
}

fn within(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), Error> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(Error::Bound { field, value, min, max }) }
}

impl Action {
    /// What people call it: the variant's name in snake case.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Transfer { .. } => "transfer",
            Self::Withdraw { .. } => "withdraw",
            Self::RegisterService { .. } => "register_service",
            Self::UpdateService { .. } => "update_service",
            Self::RegisterOperator { .. } => "register_operator",
            Self::OptIn { .. } => "opt_in",
            Self::OptOut { .. } => "opt_out",
            Self::Commit { .. } => "commit",
            Self::Increase { .. } => "increase",
            Self::Uncommit { .. } => "uncommit",
            Self::Release { .. } => "release",
            Self::FundRewards { .. } => "fund_rewards",
            Self::ClaimRewards { .. } => "claim_rewards",
            Self::Propose { .. } => "propose",
            Self::Vote { .. } => "vote",
            Self::CreateVault { .. } => "create_vault",
            Self::DepositIntoVault { .. } => "deposit_into_vault",
            Self::RedeemFromVault { .. } => "redeem_from_vault",
            Self::RequestTask { .. } => "request_task",
            Self::RecordTask { .. } => "record_task",
            Self::SubmitEvidence { .. } => "submit_evidence",
            Self::DeliverDatagram { .. } => "deliver_datagram",
        }
    }

    /// The service that the operation names, in whose book it therefore stands; `None`: in the network's.
    #[must_use]
    pub const fn service(&self) -> Option<ServiceId> {
        match self {
            Self::UpdateService { service, .. }
            | Self::OptIn { service }
            | Self::OptOut { service }
            | Self::Commit { service, .. }
            | Self::FundRewards { service, .. }
            | Self::Propose { service, .. }
            | Self::RequestTask { service, .. } => Some(*service),
            _ => None,
        }
    }

    fn digest(&self, operation: &Operation, context: &SigningContext) -> Digest {
        let account = operation.account.0.into();
        let sequence = operation.sequence;
        let valid_until = operation.valid_until.0;
        let fee_max = operation.fee_max.0;
        /// A struct of [`typed_data`], with the fields that all have.
        macro_rules! digest {
            ($name:ident { $($field:ident: $value:expr),* $(,)? }) => {
                context.digest(&typed_data::$name {
                    account,
                    sequence,
                    validUntil: valid_until,
                    feeMax: fee_max,
                    $($field: $value),*
                })
            };
        }
        let vault = |vault: &Option<VaultId>| vault.map_or([0; 32], |id| id.0).into();
        match self {
            Self::Transfer { to, asset, amount } => digest!(Transfer {
                to: to.0.into(),
                asset: asset.to_word().into(),
                amount: amount.0,
            }),
            Self::Withdraw { recipient, asset, amount } => digest!(Withdraw {
                recipient: recipient.0.into(),
                asset: asset.to_word().into(),
                amount: amount.0,
            }),
            Self::RegisterService { manifest } => digest!(RegisterService {
                service: manifest.service_id(&context.chain).0.into(),
                name: manifest.name.to_string(),
                component: manifest.component.0.into(),
            }),
            Self::UpdateService { service, manifest } => digest!(UpdateService {
                service: service.0.into(),
                manifest: manifest.digest().0.into(),
                name: manifest.name.to_string(),
                component: manifest.component.0.into(),
            }),
            Self::RegisterOperator { keys } => digest!(RegisterOperator {
                peerKey: keys.peer_key.0.into(),
                blsPublicKey: keys.bls_public_key.as_slice().to_vec().into(),
                proofOfPossession: keys.proof_of_possession.as_slice().to_vec().into(),
                peerSignature: keys.peer_signature.as_slice().to_vec().into(),
            }),
            Self::OptIn { service } => digest!(OptIn { service: service.0.into() }),
            Self::OptOut { service } => digest!(OptOut { service: service.0.into() }),
            Self::Commit {
                vault: from,
                service,
                operator,
                asset,
                amount,
                unbonding_s,
                purpose,
            } => {
                digest!(Commit {
                    vault: vault(from),
                    service: service.0.into(),
                    operator: operator.0.into(),
                    asset: asset.to_word().into(),
                    amount: amount.0,
                    unbondingSeconds: *unbonding_s,
                    purpose: purpose.name().to_owned(),
                })
            }
            Self::Increase { commitment, amount } => {
                digest!(Increase { commitment: commitment.0.into(), amount: amount.0 })
            }
            Self::Uncommit { commitment, amount } => {
                digest!(Uncommit { commitment: commitment.0.into(), amount: amount.0 })
            }
            Self::Release { commitment } => digest!(Release { commitment: commitment.0.into() }),
            Self::FundRewards { service, asset, amount, duration_s } => digest!(FundRewards {
                service: service.0.into(),
                asset: asset.to_word().into(),
                amount: amount.0,
                durationSeconds: *duration_s,
            }),
            Self::ClaimRewards { source: RewardSource::Commitment { commitment }, asset } => {
                digest!(ClaimRewards {
                    commitment: commitment.0.into(),
                    asset: asset.to_word().into(),
                })
            }
            Self::ClaimRewards { source: RewardSource::Participation { service }, asset } => {
                digest!(ClaimParticipation {
                    service: service.0.into(),
                    asset: asset.to_word().into(),
                })
            }
            Self::Propose { service, change, reason } => digest!(Propose {
                service: service.0.into(),
                change: change.summary(),
                changeDigest: change.digest().0.into(),
                reason: reason.as_str().to_owned(),
            }),
            Self::Vote { proposal, approve } => {
                digest!(Vote { proposal: proposal.0.into(), approve: *approve })
            }
            Self::CreateVault { name, asset } => digest!(CreateVault {
                name: name.as_str().to_owned(),
                asset: asset.to_word().into(),
            }),
            Self::DepositIntoVault { vault, amount } => {
                digest!(DepositIntoVault { vault: vault.0.into(), amount: amount.0 })
            }
            Self::RedeemFromVault { vault, shares } => {
                digest!(RedeemFromVault { vault: vault.0.into(), shares: shares.0 })
            }
            Self::RequestTask { service, input } => digest!(RequestLedgerTask {
                service: service.0.into(),
                inputDigest: Digest::of(input.as_slice()).0.into(),
            }),
            Self::RecordTask { record } => digest!(RecordTask {
                record: Digest::of(&borsh::to_vec(record).expect("memory")).0.into(),
            }),
            Self::SubmitEvidence { evidence } => {
                digest!(SubmitEvidence { evidence: Digest::of(evidence.as_slice()).0.into() })
            }
            Self::DeliverDatagram { datagram } => {
                digest!(DeliverDatagram { datagram: Digest::of(datagram.as_slice()).0.into() })
            }
        }
    }
}

impl Purpose {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rewards => "rewards",
            Self::Votes => "votes",
            Self::Credit => "credit",
        }
    }
}

impl ServiceChange {
    /// SHA-256 of its canonical bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&borsh::to_vec(self).expect("writing to memory doesn't fail"))
    }

    /// What a wallet shows of it.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::Parameters { values } => {
                let names: Vec<_> = values.keys().map(ParameterName::as_str).collect();
                format!("set parameters: {}", names.join(", "))
            }
            Self::Manifest { manifest } => format!("component {}", manifest.component),
            Self::Pause { paused: true } => "pause".to_owned(),
            Self::Pause { paused: false } => "resume".to_owned(),
        }
    }
}

/// An operation, signed by its account.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SignedOperation {
    /// What.
    pub operation: Operation,
    /// The account's signature (EIP-712; the struct has the action's name).
    pub signature: AccountSignature,
}

impl SignedOperation {
    /// Checks the bounds and the account's signature. Takes about 0.1 ms.
    ///
    /// # Errors
    /// [`Error`].
    pub fn verify(&self, context: &SigningContext) -> Result<OperationId, Error> {
        self.operation.check()?;
        let id = self.operation.id(context);
        self.signature.verify(&Digest(id.0), self.operation.account)?;
        Ok(id)
    }
}

impl Canonical for SignedOperation {
    const BYTES_MAX: usize = OPERATION_BYTES_MAX;
}

const _: () = assert!(INPUT_BYTES_MAX + 512 < OPERATION_BYTES_MAX, "a request fits");

/// Why an operation can never take effect, whatever the state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A number is out of its bounds.
    #[error("{field} is {value}; it must be {min} to {max}")]
    Bound {
        /// Which one.
        field: &'static str,
        /// What it is.
        value: u64,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// An amount is zero.
    #[error("the amount is zero")]
    Nothing,
    /// A vault that can't be: no vault at all is meant.
    #[error("no vault has the identifier zero; leave it out")]
    NoVault,
    /// A service is registered by its owner.
    #[error("the manifest's owner isn't the account that signs")]
    OtherOwner,
    /// A key or proof of another size.
    #[error("an operator's keys are 32 and 48 bytes, its proofs 64 and 96")]
    KeySize,
    /// The manifest doesn't hold.
    #[error("the manifest doesn't hold: {0}")]
    Manifest(#[from] ManifestError),
    /// Not signed by the account.
    #[error("the account's signature doesn't hold: {0}")]
    Signature(#[from] account::Error),
}
