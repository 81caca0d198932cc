use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use lamina_ethereum_core::{Action, Config, Cursor, Event, Follower, Notice, Output};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::Endpoints;
use crate::clock::{now, sleep_until};

/// Follows the finalised chain from `cursor` on, and tells of it, until nobody listens any more.
///
/// While `outputs` is full it waits: nothing is lost, and nothing piles up.
pub async fn follow(
    config: Config,
    endpoints: Endpoints,
    cursor: Cursor,
    outputs: mpsc::Sender<Output>,
) {
    let mut follower = Follower::new(config, endpoints.count(), cursor);
    let mut asking = FuturesUnordered::new();
    follower.handle(now(), Event::Tick);
    loop {
        while let Some(action) = follower.poll() {
            match action {
                Action::Ask { request, endpoint, query } => {
                    let endpoints = &endpoints;
                    asking.push(async move {
                        let answer = endpoints.answer(endpoint, query).await;
                        Event::Answered { request, answer }
                    });
                }
                Action::Output(output) => {
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
            Some(event) = asking.next() => follower.handle(now(), event),
            () = sleep_until(follower.next_deadline()) => follower.handle(now(), Event::Tick),
        }
    }
}

fn log(output: &Output) {
    match output {
        Output::Followed { blocks, .. } => {
            let block = blocks.last().map_or(0, |last| last.block.number);
            let facts = blocks.iter().map(|block| block.facts.len()).sum::<usize>();
            info!(block, facts, "Ethereum followed");
        }
        Output::Notice(notice) => match notice {
            Notice::Failing { endpoint, failure } => {
                warn!(endpoint, error = %failure, "endpoint of Ethereum fails");
            }
            Notice::WrongChain { endpoint, found } => {
                warn!(endpoint, found, "endpoint is of another Ethereum chain");
            }
            Notice::Contradiction { endpoint, emitted, found } => {
                let block = emitted.number;
                warn!(endpoint, block, %found, "endpoint contradicts a final block");
            }
            Notice::Lying { endpoint, lie } => {
                warn!(endpoint, error = %lie, "endpoint says what can't be");
            }
            Notice::Outvoted { endpoint } => {
                warn!(endpoint, "endpoint says something else than others");
            }
            Notice::Disagreement { to } => {
                warn!(block = to, "endpoints of Ethereum don't agree");
            }
            other => warn!(?other, "following Ethereum"),
        },
    }
}
