use std::time::Duration;

use alloy::consensus::BlockHeader as _;
use alloy::eips::eip2718::Encodable2718 as _;
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::network::{EthereumWallet, NetworkTransactionBuilder as _, TransactionBuilder as _};
use alloy::primitives::U256;
use alloy::providers::{Provider as _, RootProvider};
use alloy::rpc::client::RpcClient;
use alloy::rpc::json_rpc::{ErrorPayload, RpcError};
use alloy::rpc::types::{Filter, TransactionReceipt, TransactionRequest};
use alloy::sol_types::{SolCall as _, SolEvent as _};
use alloy::transports::{TransportError, TransportErrorKind};
use futures::future::{join_all, try_join_all};
use lamina_ethereum_core::{
    Answer, EndpointIndex, Failure, LOGS_MAX, Log, Probe, Query, SubmitAnswer, SubmitQuery, Survey,
    abi,
};
use lamina_types::{Address, Digest, EthereumBlock};
use reqwest::{Client, Url};

use crate::Error;
use crate::transport::{Bounded, TooLong};

/// Longest answer that is read. All events of one full block of 60 million gas take about 4 MB in JSON.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Longest answer where no events are asked for, some dozens of which come at a time: a block with the hashes of 10,000
/// transactions.
const SHORT_ANSWER_BYTES_MAX: usize = 1 << 20;
/// Longest time for one question.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Longest message of an endpoint that is kept.
const MESSAGE_CHARS_MAX: usize = 200;

/// HTTP endpoints of one Ethereum chain, in the order of preference.
#[derive(Debug, Clone)]
pub struct Endpoints(Vec<Endpoint>);

#[derive(Debug, Clone)]
struct Endpoint {
    /// For what can be long: events and members.
    long: RootProvider,
    /// For the rest.
    short: RootProvider,
}

impl Endpoints {
    /// Takes the endpoints at these addresses. None is asked yet.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn new<T: AsRef<str>>(urls: &[T]) -> Result<Self, Error> {
        if urls.is_empty() {
            return Err(Error::NoEndpoint);
        }
        let client = Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(Error::Client)?;
        let provider = |url: &T| {
            let text = url.as_ref();
            let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            let url = url.ok_or_else(|| Error::Url { url: text.to_owned() })?;
            let bounded_by = |bytes_max| {
                let transport = Bounded { client: client.clone(), url: url.clone(), bytes_max };
                RootProvider::new(RpcClient::new(transport, false))
            };
            Ok(Endpoint {
                long: bounded_by(ANSWER_BYTES_MAX),
                short: bounded_by(SHORT_ANSWER_BYTES_MAX),
            })
        };
        urls.iter().map(provider).collect::<Result<_, _>>().map(Self)
    }

    /// Asks one after the other until one answers. That a contract or the endpoint refuses is an answer.
    pub(crate) async fn ask<T>(
        &self,
        question: impl AsyncFn(&RootProvider) -> Result<T, TransportError>,
    ) -> Result<T, TransportError> {
        let mut last = TransportErrorKind::custom_str("no endpoint");
        for Endpoint { short: provider, .. } in &self.0 {
            let timed_out =
                |_| Err(TransportErrorKind::custom_str(&format!("no answer within {TIMEOUT:?}")));
            let asked = tokio::time::timeout(TIMEOUT, question(provider));
            match asked.await.unwrap_or_else(timed_out) {
                Err(error) if !error.is_error_resp() => last = error,
                answer => return answer,
            }
        }
        Err(last)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The gas that a transaction used, as the first endpoint that answers says; `None` if it knows no such transaction.
    ///
    /// # Errors
    /// The last endpoint's [`Failure`].
    pub async fn gas_used(&self, transaction: &Digest) -> Result<Option<u64>, Failure> {
        Ok(self.receipt(transaction).await?.map(|receipt| receipt.gas_used))
    }

    /// The number of the deposit that a transaction made at the vault, as the first endpoint that answers says; `None` if it
    /// knows none: the transaction may have left the chain again.
    ///
    /// # Errors
    /// The last endpoint's [`Failure`].
    pub async fn deposit_index(
        &self,
        vault: Address,
        transaction: &Digest,
    ) -> Result<Option<u64>, Failure> {
        let Some(receipt) = self.receipt(transaction).await? else { return Ok(None) };
        let logs = receipt.logs().iter().filter(|log| Address(log.address().into()) == vault);
        let mut deposits =
            logs.filter_map(|log| abi::Vault::Deposited::decode_log(&log.inner).ok());
        Ok(deposits.next().map(|deposit| deposit.index))
    }

    /// Not by [`Self::ask`]: the compiler can't tell that what closures return may go to another thread.
    pub(crate) async fn receipt(
        &self,
        transaction: &Digest,
    ) -> Result<Option<TransactionReceipt>, Failure> {
        let mut last = Failure::Unavailable("no endpoint".to_owned());
        for Endpoint { short: provider, .. } in &self.0 {
            let asked = provider.get_transaction_receipt(transaction.0.into());
            match within(async { asked.await.map_err(failure) }).await {
                Ok(receipt) => return Ok(receipt),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    pub(crate) async fn answer(
        &self,
        endpoint: EndpointIndex,
        query: Query,
    ) -> Result<Answer, Failure> {
        let Endpoint { long, short } = &self.0[endpoint];
        within(async {
            match query {
                Query::Status => status(short).await,
                Query::Blocks { numbers } => {
                    let blocks = numbers.into_iter().map(|number| block(short, number.into()));
                    try_join_all(blocks).await.map(Answer::Blocks)
                }
                Query::Logs { contracts, from, to } => logs(long, contracts, from, to).await,
                Query::Members { checkpoints, epoch } => {
                    let call = abi::Checkpoints::membersCall { number: epoch.0, consensus: false };
                    members(long, checkpoints, &call).await
                }
            }
        })
        .await
    }

    pub(crate) async fn submit_answer(
        &self,
        endpoint: EndpointIndex,
        query: SubmitQuery,
        wallet: &EthereumWallet,
        ethereum_chain: u64,
    ) -> Result<SubmitAnswer, Failure> {
        let provider = &self.0[endpoint].short;
        match query {
            SubmitQuery::Survey { account, probe } => {
                within(survey(provider, account, &probe)).await.map(SubmitAnswer::Survey)
            }
            SubmitQuery::Estimate { account, contract, input, value_wei } => {
                let request = request(contract, input, value_wei).with_from(account.0.into());
                within(async { estimate(provider, request).await }).await
            }
            SubmitQuery::Send { nonce, gas, fees, contract, input, value_wei } => {
                let request = request(contract, input, value_wei)
                    .with_chain_id(ethereum_chain)
                    .with_nonce(nonce)
                    .with_gas_limit(gas)
                    .with_max_fee_per_gas(fees.max)
                    .with_max_priority_fee_per_gas(fees.tip);
                let signed = request.build(wallet).await;
                let signed = signed.map_err(|e| Failure::Refused(shortened(&e.to_string())))?;
                self.broadcast(&signed.encoded_2718()).await
            }
        }
    }

    /// Hands a transaction to all endpoints: one that keeps it to itself doesn't stop it.
    pub(crate) async fn broadcast(&self, transaction: &[u8]) -> Result<SubmitAnswer, Failure> {
        let sends = self.0.iter().map(|Endpoint { short: provider, .. }| {
            within(async {
                match provider.send_raw_transaction(transaction).await {
                    Ok(_) => Ok(SubmitAnswer::Sent),
                    Err(RpcError::ErrorResp(payload)) => refused_transaction(&payload),
                    Err(error) => Err(failure(error)),
                }
            })
        });
        let mut answers = join_all(sends).await;
        // Whoever took it counts, then whoever said why not.
        answers.sort_by_key(|answer| match answer {
            Ok(SubmitAnswer::Sent) => 0,
            Ok(_) => 1,
            Err(_) => 2,
        });
        answers.swap_remove(0)
    }
}

async fn status(provider: &RootProvider) -> Result<Answer, Failure> {
    let (ethereum_chain, finalized) = futures::try_join!(
        async { provider.get_chain_id().await.map_err(failure) },
        block(provider, BlockNumberOrTag::Finalized),
    )?;
    Ok(Answer::Status { ethereum_chain, finalized })
}

async fn block(provider: &RootProvider, at: BlockNumberOrTag) -> Result<EthereumBlock, Failure> {
    let block = provider.get_block_by_number(at).await.map_err(failure)?;
    let block = block.ok_or_else(|| Failure::Refused(format!("there's no block {at}")))?;
    let number = block.header.number;
    if at.as_number().is_some_and(|asked| asked != number) {
        return Err(Failure::Malformed(format!("block {number} in place of {at}")));
    }
    Ok(EthereumBlock { number, hash: Digest(block.header.hash.0) })
}

async fn logs(
    provider: &RootProvider,
    contracts: Vec<Address>,
    from: u64,
    to: u64,
) -> Result<Answer, Failure> {
    let contracts: Vec<_> = contracts.iter().map(|contract| contract.0.into()).collect();
    let filter = Filter::new().address(contracts).from_block(from).to_block(to);
    let logs = match provider.get_logs(&filter).await {
        Ok(logs) => logs,
        Err(RpcError::ErrorResp(payload)) if is_too_many(&payload) => {
            return Err(Failure::TooMany(shortened(&payload.message)));
        }
        Err(error) => return Err(failure(error)),
    };
    if logs.len() > LOGS_MAX {
        return Err(Failure::TooMany(format!("{} events", logs.len())));
    }
    let malformed = || Failure::Malformed("an event without its block".to_owned());
    let logs = logs.into_iter().map(|log| {
        let block = EthereumBlock {
            number: log.block_number?,
            hash: Digest(log.block_hash.filter(|_| !log.removed)?.0),
        };
        Some(Log {
            contract: Address(log.address().into()),
            topics: log.topics().iter().map(|topic| topic.0).collect(),
            data: log.data().data.to_vec(),
            block,
            index: log.log_index?,
            transaction: Digest(log.transaction_hash?.0),
        })
    });
    logs.collect::<Option<_>>().map(Answer::Logs).ok_or_else(malformed)
}

async fn members(
    provider: &RootProvider,
    checkpoints: Address,
    call: &abi::Checkpoints::membersCall,
) -> Result<Answer, Failure> {
    let request = request(checkpoints, call.abi_encode(), 0);
    let answer = provider.call(request).block(BlockId::finalized()).await.map_err(failure)?;
    let malformed = || Failure::Malformed("members that don't decode".to_owned());
    let members = abi::Checkpoints::membersCall::abi_decode_returns_validate(&answer)
        .map_err(|_| malformed())?;
    if members.registrations.len() != members.stakesGwei.len() {
        return Err(malformed());
    }
    let registrations = members.registrations.iter().map(|index| u64::try_from(*index).ok());
    let pairs = registrations.zip(members.stakesGwei).map(|(index, stake)| Some((index?, stake)));
    pairs.collect::<Option<_>>().map(Answer::Members).ok_or_else(malformed)
}

async fn survey(
    provider: &RootProvider,
    account: Address,
    probe: &Probe,
) -> Result<Survey, Failure> {
    let account = account.0.into();
    let latest_block =
        provider.get_block_by_number(BlockNumberOrTag::Latest).await.map_err(failure)?;
    let latest_block =
        latest_block.ok_or_else(|| Failure::Refused("there's no latest block".to_owned()))?;
    // All as of one block: a number that's used up by what the probe doesn't see yet would be taken for a failure.
    let at = BlockId::number(latest_block.header.number);
    let (ethereum_chain, nonce, balance, tip, latest, finalized) = futures::try_join!(
        async { provider.get_chain_id().await.map_err(failure) },
        async { provider.get_transaction_count(account).block_id(at).await.map_err(failure) },
        async { provider.get_balance(account).block_id(at).await.map_err(failure) },
        async { provider.get_max_priority_fee_per_gas().await.map_err(failure) },
        read_probe(provider, probe, at),
        read_probe(provider, probe, BlockId::finalized()),
    )?;
    Ok(Survey {
        ethereum_chain,
        nonce,
        balance_wei: balance.saturating_to(),
        base_fee: latest_block.header.base_fee_per_gas().unwrap_or_default().into(),
        tip,
        latest,
        finalized,
    })
}

/// The probe's word. Zero where there's none: the contract may not be final yet.
async fn read_probe(provider: &RootProvider, probe: &Probe, at: BlockId) -> Result<u64, Failure> {
    let request = request(probe.contract, probe.input.clone(), 0);
    let answer = provider.call(request).block(at).await.map_err(failure)?;
    let word = answer.chunks_exact(32).nth(probe.word);
    Ok(word.map_or(0, |word| U256::from_be_slice(word).saturating_to()))
}

async fn estimate(
    provider: &RootProvider,
    request: TransactionRequest,
) -> Result<SubmitAnswer, Failure> {
    // Not of the pending block, which may have our own transaction: once that counts, doing it again is cheap.
    match provider.estimate_gas(request).block(BlockId::latest()).await {
        Ok(gas) => Ok(SubmitAnswer::Gas(gas)),
        Err(RpcError::ErrorResp(payload)) => {
            let message = payload.message.to_lowercase();
            let data = payload.as_revert_data();
            if message.contains("insufficient funds") {
                Ok(SubmitAnswer::OutOfFunds)
            } else if data.is_some() || message.contains("revert") || payload.code == 3 {
                let data = data.unwrap_or_default();
                Ok(SubmitAnswer::Reverts(shortened(&format!("{} {data}", payload.message))))
            } else {
                Err(Failure::Refused(shortened(&payload.message)))
            }
        }
        Err(error) => Err(failure(error)),
    }
}

pub(crate) fn request(contract: Address, input: Vec<u8>, value_wei: u128) -> TransactionRequest {
    TransactionRequest::default()
        .with_to(contract.0.into())
        .with_input(input)
        .with_value(U256::from(value_wei))
}

/// Clients have no codes for these, only words that are much the same everywhere.
fn refused_transaction(payload: &ErrorPayload) -> Result<SubmitAnswer, Failure> {
    let message = payload.message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&["already known", "already imported", "known transaction"]) {
        Ok(SubmitAnswer::Sent)
    } else if says(&["nonce too low"]) {
        Ok(SubmitAnswer::NonceTooLow)
    } else if says(&["underpriced", "less than block base fee", "fee too low"]) {
        Ok(SubmitAnswer::Underpriced)
    } else if says(&["insufficient funds"]) {
        Ok(SubmitAnswer::OutOfFunds)
    } else {
        Err(Failure::Refused(shortened(&payload.message)))
    }
}

/// Endpoints say in their own words that a range is too wide, and some have a code for it.
fn is_too_many(payload: &ErrorPayload) -> bool {
    const WORDS: [&str; 8] = [
        "too many",
        "limit",
        "range",
        "more than",
        "exceed",
        "too large",
        "response size",
        "timeout",
    ];
    let message = payload.message.to_lowercase();
    payload.code == -32_005 || WORDS.iter().any(|word| message.contains(word))
}

pub(crate) fn failure(error: TransportError) -> Failure {
    match error {
        RpcError::ErrorResp(payload) => Failure::Refused(shortened(&payload.message)),
        RpcError::NullResp => Failure::Malformed("null".to_owned()),
        RpcError::DeserError { err, .. } => Failure::Malformed(shortened(&err.to_string())),
        RpcError::Transport(TransportErrorKind::Custom(error)) => {
            if error.downcast_ref::<TooLong>().is_some() {
                Failure::TooMany(error.to_string())
            } else {
                Failure::Unavailable(shortened(&error.to_string()))
            }
        }
        other => Failure::Unavailable(shortened(&other.to_string())),
    }
}

/// All of one question's requests in time.
pub(crate) async fn within<T>(
    answer: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let timed_out = |_| Err(Failure::Unavailable(format!("no answer within {TIMEOUT:?}")));
    tokio::time::timeout(TIMEOUT, answer).await.unwrap_or_else(timed_out)
}

pub(crate) fn shortened(message: &str) -> String {
    message.chars().take(MESSAGE_CHARS_MAX).collect()
}
