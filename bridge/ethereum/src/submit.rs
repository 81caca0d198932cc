use alloy::network::EthereumWallet;
use alloy::signers::local::PrivateKeySigner;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use lamina_ethereum_core::{
    Job, JobId, SubmitAction, SubmitConfig, SubmitEvent, SubmitNotice, SubmitOutput, Submitter,
};
use lamina_types::Address;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::Endpoints;
use crate::clock::{now, sleep_until};

/// What a submitter is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Get this onto the chain.
    Submit(Job),
    /// Not any more.
    Cancel(JobId),
}

/// Submits what it's asked for with transactions that `key` signs, and tells what comes of it, until either end of the two
/// channels is gone. `config.account` becomes the key's.
pub async fn submit(
    mut config: SubmitConfig,
    endpoints: Endpoints,
    key: PrivateKeySigner,
    mut commands: mpsc::Receiver<Command>,
    outputs: mpsc::Sender<SubmitOutput>,
) {
    config.account = Address(key.address().into());
    let ethereum_chain = config.ethereum_chain;
    let wallet = EthereumWallet::from(key);
    let mut submitter = Submitter::new(config, endpoints.count());
    let mut asking = FuturesUnordered::new();
    loop {
        while let Some(action) = submitter.poll() {
            match action {
                SubmitAction::Ask { request, endpoint, query } => {
                    let (endpoints, wallet) = (&endpoints, &wallet);
                    asking.push(async move {
                        let answer =
                            endpoints.submit_answer(endpoint, query, wallet, ethereum_chain).await;
                        SubmitEvent::Answered { request, answer }
                    });
                }
                SubmitAction::Output(output) => {
                    log(&output);
                    if outputs.send(output).await.is_err() {
                        return;
                    }
                }
            }
        }
        tokio::select! {
            biased;
            () = outputs.closed() => return,
            Some(event) = asking.next() => submitter.handle(now(), event),
            command = commands.recv() => match command {
                Some(Command::Submit(job)) => submitter.handle(now(), SubmitEvent::Submit(job)),
                Some(Command::Cancel(job)) => submitter.handle(now(), SubmitEvent::Cancel(job)),
                None => return,
            },
            () = sleep_until(submitter.next_deadline()) => {
                submitter.handle(now(), SubmitEvent::Tick);
            }
        }
    }
}

fn log(output: &SubmitOutput) {
    match output {
        SubmitOutput::InBlock { job } => debug!(job = job.0, "transaction in a block"),
        SubmitOutput::Done { job, sent } => info!(job = job.0, sent, "transaction final"),
        SubmitOutput::GivenUp { job, reason } => {
            warn!(job = job.0, reason, "transaction would revert");
        }
        SubmitOutput::Notice(notice) => match notice {
            SubmitNotice::Failing { endpoint, failure } => {
                warn!(endpoint, error = %failure, "endpoint of Ethereum fails");
            }
            SubmitNotice::WrongChain { endpoint, found } => {
                warn!(endpoint, found, "endpoint is of another Ethereum chain");
            }
            SubmitNotice::OutOfFunds { account, balance_wei, needed_wei } => {
                warn!(%account, balance_wei, needed_wei, "the account can't pay; send ether to it");
            }
            SubmitNotice::FeeCap { needed, cap } => {
                warn!(needed, cap, "Ethereum asks for more than the fee cap allows");
            }
            SubmitNotice::Reorganised { job } => {
                warn!(job = job.0, "the block with the transaction was replaced");
            }
            SubmitNotice::Replaced { job, fees } => {
                info!(job = job.0, fee = fees.max, "transaction replaced");
            }
            other => warn!(?other, "submitting to Ethereum"),
        },
    }
}
