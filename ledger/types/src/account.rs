//! What people sign: EIP-712 typed data, so that any wallet shows and signs it.
//!
//! The domain is `{name: "Lamina", version: "1", chainId: <the Ethereum chain>, salt: <the chain id, padded>}`: a
//! signature for one Lamina network holds on no other, even if both are secured by one Ethereum chain.

use std::borrow::Cow;
use std::fmt;
use std::io;

use alloy_primitives::{B256, Signature, U256};
use alloy_sol_types::{Eip712Domain, SolStruct};
use borsh::{BorshDeserialize, BorshSerialize};
use k256::ecdsa::SigningKey;

use crate::{Address, ChainId, Digest};

pub(crate) mod typed_data {
    #![allow(missing_docs, reason = "generated from the Solidity types, which are documented")]

    alloy_sol_types::sol! {
        // Operations; all begin with the same four fields. `asset` is `Asset::to_word`, digests are SHA-256.

        struct Transfer {
            address account;
            uint64 sequence;
            uint64 validUntil;
            uint128 feeMax;
            address to;
            bytes32 asset;
            uint128 amount;
        }
        struct Withdraw {
            address account;
            uint64 sequence;
            uint64 validUntil;
            uint128 feeMax;
            address recipient;
            bytes32 asset;
            uint128 amount;
        }
        struct RegisterService {
            address account;
            uint64 sequence;
            uint64 validUntil;
            uint128 feeMax;
            bytes32 service;
            string name;
            bytes32 component;
        }
        struct UpdateService {
            address account;
            uint64 sequence;
            uint64 validUntil;
            uint128 feeMax;
            bytes32 service;
            bytes32 manifest;
            string name;
            bytes32 component;
        }
        struct RegisterOperator {
            address account;
            uint64 sequence;
            uint64 validUntil;
            uint128 feeMax;
            bytes32 peerKey;
            bytes blsPublicKey;
            bytes proofOfPossession;
            bytes peerSignature;
        }
        struct OptIn {
            address account;
            uint64 sequence;
            uint64 validUntil;
            uint128 feeMax;
            bytes32 service;
        }
        struct OptOut {
            address account;
            uint64 sequence;
            uint64 validUntil;
            uint128 feeMax;
            bytes32 service;
        }
        struct Commit {
            address account;
            uint64 sequence;
            uint64 validUntil;
            uint128 feeMax;
            bytes32 vault;
            bytes32 service;
            address operator;
            bytes32 asset;
            uint128 amount;
            uint64 unbondingSeconds;
            string purpose;
        }
        struct Increase {
            address account;
            uint64 sequence;
            uint64 validUntil;
            uint128 feeMax;
            bytes32 commitment;
            uint128 amount;
        }
        struct Uncommit {
            address account;
            uint64 sequence;
            uint64 validUntil;
            uint128 feeMax;
            bytes32 commitment;
            uint128 amount;
        }
        struct Release {
            address account;
            uint64 sequence;
            uint64 validUntil;
            uint128 feeMax;
            bytes32 commitment;
        }
        struct FundRewards {
            address account;
            uint64 sequence;
            uint64 validUntil;
            uint128 feeMax;
            bytes32 service;
            bytes32 asset;
            uint128 amount;
            uint64 durationSeconds;
        }
        struct ClaimRewards {
            address account;
            uint64 sequence;
            uint64 validUntil;
            uint128 feeMax;
            bytes32 commitment;
            bytes32 asset;
        }
        struct ClaimParticipation {
            address account;
            uint64 sequence;
            uint64 validUntil;
            uint128 feeMax;
            bytes32 service;
            bytes32 asset;
        }
        struct Propose {
            address account;
            uint64 sequence;
            uint64 validUntil;
            uint128 feeMax;
            bytes32 service;
            string change;
            bytes32 changeDigest;
            string reason;
        }
        struct Vote {
            address account;
            uint64 sequence;
            uint64 validUntil;
            uint128 feeMax;
            bytes32 proposal;
            bool approve;
        }
        struct CreateVault {
            address account;
            uint64 sequence;
            uint64 validUntil;
            uint128 feeMax;
            string name;
            bytes32 asset;
        }
        struct DepositIntoVault {
            address account;
            uint64 sequence;
            uint64 validUntil;
            uint128 feeMax;
            bytes32 vault;
            uint128 amount;
        }
        struct RedeemFromVault {
            address account;
            uint64 sequence;
            uint64 validUntil;
            uint128 feeMax;
            bytes32 vault;
            uint128 shares;
        }
        struct RequestLedgerTask {
            address account;
            uint64 sequence;
            uint64 validUntil;
            uint128 feeMax;
            bytes32 service;
            bytes32 inputDigest;
        }
        struct RecordTask {
            address account;
            uint64 sequence;
            uint64 validUntil;
            uint128 feeMax;
            bytes32 record;
        }
        struct SubmitEvidence {
            address account;
            uint64 sequence;
            uint64 validUntil;
            uint128 feeMax;
            bytes32 evidence;
        }
        struct DeliverDatagram {
            address account;
            uint64 sequence;
            uint64 validUntil;
            uint128 feeMax;
            bytes32 datagram;
        }

        /// Asks for a run of a service; `inputDigest` is the SHA-256 of the input.
        struct RequestTask {
            bytes32 service;
            bytes32 inputDigest;
            address requester;
            uint64 nonce;
            uint64 height;
            uint64 validUntil;
        }
    }
}
pub(crate) use typed_data::RequestTask;

/// The network as wallets see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningContext {
    /// Lamina's network.
    pub chain: ChainId,
    /// The Ethereum chain (EIP-155) that secures it.
    pub ethereum_chain: u64,
}

impl SigningContext {
    /// The digest that a wallet signs for `data`. EIP-712, "Specification of the `eth_signTypedData` JSON RPC".
    pub(crate) fn digest<T: SolStruct>(&self, data: &T) -> Digest {
        let domain = Eip712Domain {
            name: Some(Cow::Borrowed("Lamina")),
            version: Some(Cow::Borrowed("1")),
            chain_id: Some(U256::from(self.ethereum_chain)),
            verifying_contract: None,
            salt: Some(B256::from(self.chain.to_bytes32())),
        };
        Digest(data.eip712_signing_hash(&domain).0)
    }
}

/// An account's secp256k1 key. Erased from memory when dropped; never printed.
#[derive(Clone)]
pub struct AccountKey(SigningKey);

impl AccountKey {
    /// The key with this scalar, big-endian; `None` if it's zero or not below the group's order.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        SigningKey::from_bytes(bytes.into()).ok().map(Self)
    }

    /// The account that this key controls.
    #[must_use]
    pub fn address(&self) -> Address {
        let address = alloy_primitives::Address::from_private_key(&self.0);
        Address(address.0.0)
    }

    /// Signs a digest that [`SigningContext`] made.
    pub(crate) fn sign(&self, digest: &Digest) -> AccountSignature {
        let (signature, recovery) =
            self.0.sign_prehash_recoverable(&digest.0).expect("a 32-byte digest can be signed");
        AccountSignature(Signature::from((signature, recovery)).normalized_s().as_bytes())
    }
}

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountKey({})", self.address())
    }
}

/// An account's signature: `r ‖ s ‖ v`, 65 bytes, `s` in the lower half and `v` 27 or 28 (one form only: EIP-2).
#[derive(Clone, Copy, PartialEq, Eq, BorshSerialize)]
pub struct AccountSignature([u8; 65]);

impl AccountSignature {
    /// The bytes as a signature, if they have the one accepted form.
    ///
    /// # Errors
    /// [`Error::NotCanonical`].
    pub fn from_bytes(bytes: [u8; 65]) -> Result<Self, Error> {
        let v_is_plain = matches!(bytes[64], 27 | 28);
        match Signature::from_raw_array(&bytes) {
            Ok(signature) if v_is_plain && signature.normalize_s().is_none() => Ok(Self(bytes)),
            _ => Err(Error::NotCanonical),
        }
    }

    /// `r ‖ s ‖ v`.
    #[must_use]
    pub const fn to_bytes(&self) -> [u8; 65] {
        self.0
    }

    /// The account that signed `digest`.
    ///
    /// # Errors
    /// [`Error::Unrecoverable`].
    pub(crate) fn recover(&self, digest: &Digest) -> Result<Address, Error> {
        let signature = Signature::from_raw_array(&self.0).map_err(|_| Error::NotCanonical)?;
        let address = signature
            .recover_address_from_prehash(&B256::from(digest.0))
            .map_err(|_| Error::Unrecoverable)?;
        Ok(Address(address.0.0))
    }

    /// Checks that `account` signed `digest`.
    ///
    /// # Errors
    /// [`Error::OtherSigner`], [`Error::Unrecoverable`].
    pub(crate) fn verify(&self, digest: &Digest, account: Address) -> Result<(), Error> {
        let signer = self.recover(digest)?;
        if signer == account { Ok(()) } else { Err(Error::OtherSigner { account, signer }) }
    }
}

impl fmt::Debug for AccountSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountSignature({})", hex::encode(&self.0[..4]))
    }
}

impl BorshDeserialize for AccountSignature {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        Self::from_bytes(<[u8; 65]>::deserialize_reader(reader)?).map_err(io::Error::other)
    }
}

/// Why an account's signature doesn't count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another form than the one that's accepted.
    #[error("signature isn't in its canonical form")]
    NotCanonical,
    /// No key could have made it.
    #[error("no key can be recovered from the signature")]
    Unrecoverable,
    /// Made by another account, or over other fields, or for another network.
    #[error("signed by {signer}, not by {account} (or over other fields, or for another network)")]
    OtherSigner {
        /// The account that should have signed.
        account: Address,
        /// The account that the signature leads to.
        signer: Address,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of the first account of `anvil` and `hardhat`: public knowledge.
    fn key() -> AccountKey {
        let mut bytes = [0; 32];
        hex::decode_to_slice(
            "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
            &mut bytes,
        )
        .unwrap();
        AccountKey::from_bytes(&bytes).unwrap()
    }

    #[test]
    fn address_follows_from_the_key() {
        assert_eq!(key().address().to_string(), "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266");
    }

    #[test]
    fn signature_leads_back_to_its_account() {
        let digest = Digest([9; 32]);
        let signature = key().sign(&digest);
        assert_eq!(signature.verify(&digest, key().address()), Ok(()));
        assert!(signature.verify(&Digest([8; 32]), key().address()).is_err());
    }

    /// secp256k1 signatures come in pairs (s, n − s); only one of them is accepted.
    #[test]
    fn mirrored_signature_is_refused() {
        let AccountSignature(mut bytes) = key().sign(&Digest([9; 32]));
        let order = U256::from_str_radix(
            "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
            16,
        )
        .unwrap();
        let s = U256::from_be_slice(&bytes[32..64]);
        bytes[32..64].copy_from_slice(&(order - s).to_be_bytes::<32>());
        bytes[64] = 55 - bytes[64];
        assert_eq!(AccountSignature::from_bytes(bytes), Err(Error::NotCanonical));
    }

    #[test]
    fn recovery_byte_has_one_form() {
        let AccountSignature(mut bytes) = key().sign(&Digest([9; 32]));
        bytes[64] -= 27;
        assert_eq!(AccountSignature::from_bytes(bytes), Err(Error::NotCanonical));
    }

    /// The figures of EIP-712's example (`Mail` from Cow to Bob); ethereum/EIPs, assets/eip-712/Example.js.
    #[test]
    fn typed_data_hashes_as_in_the_eip() {
        alloy_sol_types::sol! {
            struct Person { string name; address wallet; }
            struct Mail { Person from; Person to; string contents; }
        }
        let address = |text: &str| text.parse::<alloy_primitives::Address>().unwrap();
        let mail = Mail {
            from: Person {
                name: "Cow".into(),
                wallet: address("0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"),
            },
            to: Person {
                name: "Bob".into(),
                wallet: address("0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB"),
            },
            contents: "Hello, Bob!".into(),
        };
        let domain = alloy_sol_types::eip712_domain! {
            name: "Ether Mail",
            version: "1",
            chain_id: 1,
            verifying_contract: address("0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC"),
        };
        assert_eq!(
            hex::encode(mail.eip712_signing_hash(&domain)),
            "be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2"
        );
    }
}
