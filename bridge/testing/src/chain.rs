use std::time::Duration;

use alloy::network::TransactionBuilder as _;
use alloy::primitives::{Address, TxHash, U256};
use alloy::providers::{Provider as _, RootProvider};
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::sol_types::SolCall;
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

/// What a transaction came to.
pub type Receipt = TransactionReceipt;

/// A client of a development chain, whose accounts it uses without keys.
#[derive(Debug, Clone)]
pub struct Chain {
    provider: RootProvider,
}

impl Chain {
    /// A client of the endpoint.
    ///
    /// # Errors
    /// If the URL isn't one.
    pub fn connect(url: &str) -> Result<Self> {
        let url = url.parse().with_context(|| format!("{url} is no URL"))?;
        Ok(Self { provider: RootProvider::new_http(url) })
    }

    /// alloy's client.
    #[must_use]
    pub const fn provider(&self) -> &RootProvider {
        &self.provider
    }

    /// Its identifier (EIP-155).
    ///
    /// # Errors
    /// If the chain doesn't answer.
    pub async fn chain_id(&self) -> Result<u64> {
        Ok(self.provider.get_chain_id().await?)
    }

    /// The accounts that it signs for.
    ///
    /// # Errors
    /// If the chain doesn't answer.
    pub async fn accounts(&self) -> Result<Vec<Address>> {
        Ok(self.provider.get_accounts().await?)
    }

    /// Creates a contract and returns its address.
    ///
    /// # Errors
    /// If the chain doesn't answer, or the constructor reverts.
    pub async fn create(&self, from: Address, code: Vec<u8>) -> Result<Address> {
        let transaction = TransactionRequest::default().with_from(from).with_deploy_code(code);
        let receipt = self.transact(transaction).await?;
        receipt.contract_address.context("no contract was created")
    }

    /// Calls a function in a transaction.
    ///
    /// # Errors
    /// If the chain doesn't answer, or the call reverts.
    pub async fn send(&self, from: Address, to: Address, call: &impl SolCall) -> Result<Receipt> {
        self.pay(from, to, call.abi_encode(), U256::ZERO).await
    }

    /// Calls with these bytes and ether in a transaction.
    ///
    /// # Errors
    /// If the chain doesn't answer, or the call reverts.
    pub async fn pay(
        &self,
        from: Address,
        to: Address,
        input: Vec<u8>,
        value_wei: U256,
    ) -> Result<Receipt> {
        let transaction = TransactionRequest::default()
            .with_from(from)
            .with_to(to)
            .with_input(input)
            .with_value(value_wei);
        self.transact(transaction).await
    }

    /// Calls a function as of the latest block.
    ///
    /// # Errors
    /// If the chain doesn't answer, or the call reverts.
    pub async fn call<C: SolCall>(&self, to: Address, call: &C) -> Result<C::Return> {
        let request = TransactionRequest::default().with_to(to).with_input(call.abi_encode());
        let answer = self
            .provider
            .call(request)
            .await
            .with_context(|| format!("calling {}", C::SIGNATURE))?;
        Ok(C::abi_decode_returns(&answer)?)
    }

    /// Makes `count` empty blocks.
    ///
    /// # Errors
    /// If the chain doesn't answer.
    pub async fn mine(&self, count: u64) -> Result<()> {
        self.request::<Value>("anvil_mine", json!([format!("0x{count:x}")])).await.map(drop)
    }

    /// Sets a balance, and lets the account send without a key.
    ///
    /// # Errors
    /// If the chain doesn't answer.
    pub async fn endow(&self, account: Address, wei: U256) -> Result<()> {
        self.request::<Value>("anvil_setBalance", json!([account, wei])).await?;
        self.request::<Value>("anvil_impersonateAccount", json!([account])).await.map(drop)
    }

    /// Any method of the endpoint.
    ///
    /// # Errors
    /// If the chain doesn't answer, or refuses.
    pub async fn request<T: alloy::rpc::json_rpc::RpcRecv>(
        &self,
        method: &'static str,
        parameters: Value,
    ) -> Result<T> {
        self.provider
            .raw_request(method.into(), parameters)
            .await
            .with_context(|| format!("asking {method}"))
    }

    async fn transact(&self, transaction: TransactionRequest) -> Result<Receipt> {
        let transaction = transaction.with_gas_limit(GAS_LIMIT);
        let hash: TxHash = self.request("eth_sendTransaction", json!([transaction])).await?;
        let receipt = self.receipt(hash).await?;
        if !receipt.status() {
            // Asked again as a call, the chain tells why.
            let why = self.provider.call(transaction).await;
            bail!("{hash} reverted: {why:?}");
        }
        Ok(receipt)
    }

    async fn receipt(&self, hash: TxHash) -> Result<Receipt> {
        for _ in 0..RECEIPT_POLLS {
            if let Some(receipt) = self.provider.get_transaction_receipt(hash).await? {
                return Ok(receipt);
            }
            tokio::time::sleep(RECEIPT_POLL).await;
        }
        bail!("{hash} isn't in a block after {:?}", RECEIPT_POLL * RECEIPT_POLLS)
    }
}

/// What a transaction may use at most: the cap of EIP-7825.
const GAS_LIMIT: u64 = 1 << 24;
const RECEIPT_POLL: Duration = Duration::from_millis(5);
const RECEIPT_POLLS: u32 = 6_000;
