use std::time::Duration;

use alloy::consensus::BlockHeader as _;
use alloy::eips::BlockId;
use alloy::eips::eip2718::Encodable2718 as _;
use alloy::network::{EthereumWallet, NetworkTransactionBuilder as _, TransactionBuilder as _};
use alloy::providers::{Provider as _, RootProvider};
use alloy::rpc::json_rpc::RpcError;
use alloy::rpc::types::TransactionRequest;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{SolCall, SolInterface as _};
use lamina_ethereum_core::abi::Errors::ErrorsErrors;
use lamina_ethereum_core::{Failure, SubmitAnswer};
use lamina_types::{Address, Digest};

use crate::Endpoints;
use crate::endpoints::{failure, request, shortened};

/// How long a transaction is waited for until it's in a block.
const INCLUSION_MAX: Duration = Duration::from_secs(600);
/// Time between two looks.
const POLL: Duration = Duration::from_millis(500);
/// Gas above the estimate, in percent: what is between may change.
const GAS_MARGIN_PERCENT: u64 = 20;

/// Sends a person's transactions, one at a time, and waits for each. What a node sends by itself goes through
/// [`submit`](crate::submit), which fights for it; here, somebody looks on and decides.
#[derive(Debug)]
pub struct Wallet {
    endpoints: Endpoints,
    wallet: EthereumWallet,
    address: Address,
    ethereum_chain: u64,
    fee_per_gas_max: u128,
}

/// A transaction in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Its hash.
    pub transaction: Digest,
    /// The block's number.
    pub block: u64,
    /// The gas that it used.
    pub gas_used: u64,
    /// The contract that it created.
    pub contract: Option<Address>,
}

/// Why there's no transaction in a block.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalletError {
    /// The endpoints don't answer as they should.
    #[error("no Ethereum endpoint answers as it should: {0}")]
    Endpoint(#[from] Failure),
    /// They are of another chain.
    #[error("the endpoint is of Ethereum chain {found}, the network's is {expected}")]
    WrongChain {
        /// Theirs.
        found: u64,
        /// The one that was expected.
        expected: u64,
    },
    /// The contract doesn't take it.
    #[error("the contract refuses: {reason}")]
    Reverts {
        /// Its error.
        reason: String,
    },
    /// The account lacks ether for it.
    #[error("account {account} has {balance_wei} wei, too little for this and its gas")]
    OutOfFunds {
        /// Which account.
        account: Address,
        /// What it has.
        balance_wei: u128,
    },
    /// The chain asks for more than is allowed.
    #[error("Ethereum asks for {needed} wei a unit of gas, more than the {cap} that are allowed")]
    FeeCap {
        /// What it asks for.
        needed: u128,
        /// What's allowed.
        cap: u128,
    },
    /// Another transaction of the account is on its way.
    #[error(
        "another transaction of account {account} is on its way, and has taken this one's place; try again once it's in a block"
    )]
    Busy {
        /// Which account.
        account: Address,
    },
    /// It was sent and isn't in a block; it may get there yet.
    #[error(
        "transaction {transaction} isn't in a block after {INCLUSION_MAX:?}; it may get there yet"
    )]
    Pending {
        /// Which one.
        transaction: Digest,
    },
}

impl Wallet {
    /// The wallet of this key on the chain with this id (EIP-155), which pays at most so many wei for a unit of gas.
    #[must_use]
    pub fn new(
        endpoints: Endpoints,
        key: PrivateKeySigner,
        ethereum_chain: u64,
        fee_per_gas_max: u128,
    ) -> Self {
        let address = Address(key.address().into());
        let wallet = EthereumWallet::from(key);
        Self { endpoints, wallet, address, ethereum_chain, fee_per_gas_max }
    }

    /// Whose it is.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.address
    }

    /// By which endpoints it reaches the chain.
    #[must_use]
    pub const fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// What a function returns, as of the latest block.
    ///
    /// # Errors
    /// [`WalletError`].
    pub async fn call<C: SolCall>(&self, to: Address, call: &C) -> Result<C::Return, WalletError> {
        self.endpoints.call(to, call).await
    }

    /// Calls a contract, or only sends ether, and waits until that's in a block.
    ///
    /// # Errors
    /// [`WalletError`]; nothing was sent unless it's [`WalletError::Pending`].
    pub async fn send(
        &self,
        to: Address,
        input: Vec<u8>,
        value_wei: u128,
    ) -> Result<Sent, WalletError> {
        self.transact(request(to, input, value_wei)).await
    }

    /// Creates a contract from its creation bytecode with the constructor's arguments, and waits until that's in a block.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn create(&self, code: Vec<u8>) -> Result<(Address, Sent), WalletError> {
        let sent = self.transact(TransactionRequest::default().with_deploy_code(code)).await?;
        let missing = || Failure::Malformed("a receipt without the contract".to_owned());
        Ok((sent.contract.ok_or_else(missing)?, sent))
    }

    async fn transact(&self, request: TransactionRequest) -> Result<Sent, WalletError> {
        let from = self.address.0.into();
        let asked = self.endpoints.ask(async |provider| {
            futures::try_join!(
                async { provider.get_chain_id().await },
                async { provider.get_transaction_count(from).await },
                async { provider.get_block(BlockId::latest()).await },
            )
        });
        let (chain, nonce, block) = asked.await.map_err(failure)?;
        if chain != self.ethereum_chain {
            return Err(WalletError::WrongChain { found: chain, expected: self.ethereum_chain });
        }
        let request = request.with_from(from);
        let gas = self.estimate(request.clone()).await?;
        let base = block.and_then(|block| block.header.base_fee_per_gas()).unwrap_or_default();
        // Endpoints that suggest no tip don't need one.
        let suggested =
            async |provider: &RootProvider| provider.get_max_priority_fee_per_gas().await;
        let tip = self.endpoints.ask(suggested).await.unwrap_or(0);
        // The base fee may double within some blocks.
        let needed = 2 * u128::from(base) + tip;
        if needed > self.fee_per_gas_max {
            return Err(WalletError::FeeCap { needed, cap: self.fee_per_gas_max });
        }
        let signed = request
            .with_chain_id(self.ethereum_chain)
            .with_nonce(nonce)
            .with_gas_limit(gas + gas * GAS_MARGIN_PERCENT / 100)
            .with_max_fee_per_gas(needed)
            .with_max_priority_fee_per_gas(tip)
            .build(&self.wallet)
            .await
            .map_err(|e| Failure::Refused(shortened(&e.to_string())))?;
        let transaction = Digest(signed.tx_hash().0);
        match self.endpoints.broadcast(&signed.encoded_2718()).await? {
            SubmitAnswer::Sent => self.wait(transaction).await,
            SubmitAnswer::OutOfFunds => Err(self.out_of_funds().await),
            SubmitAnswer::NonceTooLow | SubmitAnswer::Underpriced => {
                Err(WalletError::Busy { account: self.address })
            }
            other => {
                let why = format!("the endpoint doesn't take the transaction: {other:?}");
                Err(Failure::Refused(why).into())
            }
        }
    }

    async fn estimate(&self, request: TransactionRequest) -> Result<u64, WalletError> {
        let estimated = self.endpoints.ask(async |provider| {
            provider.estimate_gas(request.clone()).block(BlockId::latest()).await
        });
        match estimated.await {
            Ok(gas) => Ok(gas),
            Err(RpcError::ErrorResp(payload)) => {
                if payload.message.to_lowercase().contains("insufficient funds") {
                    return Err(self.out_of_funds().await);
                }
                let data = payload.as_revert_data().unwrap_or_default();
                Err(WalletError::Reverts { reason: explain(&data, &payload.message) })
            }
            Err(error) => Err(failure(error).into()),
        }
    }

    async fn wait(&self, transaction: Digest) -> Result<Sent, WalletError> {
        let deadline = tokio::time::Instant::now() + INCLUSION_MAX;
        while tokio::time::Instant::now() < deadline {
            // Endpoints that fail for a moment don't undo what was sent.
            if let Ok(Some(receipt)) = self.endpoints.receipt(&transaction).await {
                let block = receipt.block_number.unwrap_or_default();
                if receipt.status() {
                    let contract = receipt.contract_address.map(|address| Address(address.into()));
                    let gas_used = receipt.gas_used;
                    return Ok(Sent { transaction, block, gas_used, contract });
                }
                let reason = format!("transaction {transaction} failed in block {block}");
                return Err(WalletError::Reverts { reason });
            }
            tokio::time::sleep(POLL).await;
        }
        Err(WalletError::Pending { transaction })
    }

    async fn out_of_funds(&self) -> WalletError {
        let account = self.address;
        let balance = self.endpoints.balance_wei(account).await;
        WalletError::OutOfFunds { account, balance_wei: balance.unwrap_or_default() }
    }
}

impl Endpoints {
    /// Which chain it is (EIP-155).
    ///
    /// # Errors
    /// [`WalletError`].
    pub async fn chain_id(&self) -> Result<u64, WalletError> {
        Ok(self.ask(async |provider| provider.get_chain_id().await).await.map_err(failure)?)
    }

    /// The number of the latest block.
    ///
    /// # Errors
    /// [`WalletError`].
    pub async fn block_number(&self) -> Result<u64, WalletError> {
        Ok(self.ask(async |provider| provider.get_block_number().await).await.map_err(failure)?)
    }

    /// What an account has, in wei.
    ///
    /// # Errors
    /// [`WalletError`].
    pub async fn balance_wei(&self, account: Address) -> Result<u128, WalletError> {
        let asked = self.ask(async |provider| provider.get_balance(account.0.into()).await);
        Ok(asked.await.map_err(failure)?.saturating_to())
    }

    /// Whether there's a contract.
    ///
    /// # Errors
    /// [`WalletError`].
    pub async fn has_code(&self, contract: Address) -> Result<bool, WalletError> {
        let asked = self.ask(async |provider| provider.get_code_at(contract.0.into()).await);
        Ok(!asked.await.map_err(failure)?.is_empty())
    }

    /// What a contract's function returns, as of the latest block.
    ///
    /// # Errors
    /// [`WalletError`].
    pub async fn call<C: SolCall>(&self, to: Address, call: &C) -> Result<C::Return, WalletError> {
        self.call_at(to, call, BlockId::latest()).await
    }

    /// The same as of the last block that's final.
    ///
    /// # Errors
    /// [`WalletError`].
    pub async fn call_final<C: SolCall>(
        &self,
        to: Address,
        call: &C,
    ) -> Result<C::Return, WalletError> {
        self.call_at(to, call, BlockId::finalized()).await
    }

    async fn call_at<C: SolCall>(
        &self,
        to: Address,
        call: &C,
        block: BlockId,
    ) -> Result<C::Return, WalletError> {
        let request = request(to, call.abi_encode(), 0);
        // Not of the pending block: what is in it may not come to be.
        match self.ask(async |provider| provider.call(request.clone()).block(block).await).await {
            Ok(answer) => C::abi_decode_returns(&answer).map_err(|_| {
                let what = format!("{} isn't the contract that it should be", to);
                Failure::Malformed(what).into()
            }),
            Err(RpcError::ErrorResp(payload)) => {
                let data = payload.as_revert_data().unwrap_or_default();
                Err(WalletError::Reverts { reason: explain(&data, &payload.message) })
            }
            Err(error) => Err(failure(error).into()),
        }
    }
}

/// A contract's error by its name with its arguments, if it's one that's known.
fn explain(data: &[u8], message: &str) -> String {
    match ErrorsErrors::abi_decode(data) {
        Ok(error) => {
            // `Name(Name { … })`: the inner one says it all.
            let text = format!("{error:?}");
            let inner = text.split_once('(').and_then(|(_, inner)| inner.strip_suffix(')'));
            inner.unwrap_or(&text).to_owned()
        }
        Err(_) if data.is_empty() => shortened(message),
        Err(_) => shortened(&format!("{message} (0x{})", alloy::primitives::hex::encode(data))),
    }
}
