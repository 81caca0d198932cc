//! Requests and responses: what passes, what is refused, and who is blamed.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod harness;

use std::time::Duration;

use futures::StreamExt as _;
use harness::rogue::{self, Rogue};
use harness::{Node, chain, eventually, fixed};
use lamina_p2p::{Offence, RESPONSE_BYTES_MAX, Request, Response};
use lamina_p2p_net::{Config, RequestError};
use lamina_types::account::SigningContext;
use lamina_types::{
    AccountKey, Bytes, Canonical, Digest, Height, INPUT_BYTES_MAX, Input, List, PeerKey, ServiceId,
    SignedTaskRequest, TaskRequest, Timestamp,
};

/// Two nodes, connected; the second one answers.
async fn pair(config: Config) -> [Node; 2] {
    let b = Node::start(2, &config, None).await;
    let a = Node::start(1, &fixed(&[b.address()]), None).await;
    a.wait_for(b.key()).await;
    b.wait_for(a.key()).await;
    [a, b]
}

/// Waits for a request at `node` and answers it.
async fn answer(node: &Node, response: Response) {
    eventually("request", async || node.see(|seen| !seen.requests.is_empty())).await;
    let id = node.see(|seen| seen.requests[0].1);
    node.handle.answer(id, response).unwrap();
}

fn request(nonce: u64) -> SignedTaskRequest {
    let key = AccountKey::from_bytes(&[1; 32]).unwrap();
    let request = TaskRequest {
        service: ServiceId([1; 32]),
        input: Input::new([7; INPUT_BYTES_MAX]).unwrap(),
        requester: key.address(),
        nonce,
        height: Height(0),
        valid_until: Timestamp(1),
    };
    request.sign(&key, &SigningContext { chain: chain(), ethereum_chain: 31337 })
}

#[tokio::test]
async fn a_question_is_answered() {
    let [a, b] = pair(fixed(&[])).await;
    a.handle.ask(b.key(), 7, Request::Inventory).unwrap();
    let inventory = Response::Inventory {
        open_tasks: List::truncated([]),
        certified_tasks: List::truncated([]),
    };
    answer(&b, inventory.clone()).await;
    eventually("answer", async || a.response(7).is_some()).await;
    assert_eq!(a.response(7), Some(Ok(inventory)));
    assert_eq!(
        b.see(|seen| (seen.requests[0].0, seen.requests[0].2.clone())),
        (a.key(), Request::Inventory)
    );
    eventually("sent", async || b.handle.metrics().answers_sent == 1).await;
}

#[tokio::test]
async fn the_largest_answer_passes() {
    let [a, b] = pair(fixed(&[])).await;
    a.handle.ask(b.key(), 1, Request::Tasks(List::truncated([]))).unwrap();
    let response = Response::Tasks(List::truncated((0..16).map(request)));
    let bytes = response.to_bytes().len();
    assert!(bytes > RESPONSE_BYTES_MAX / 2, "{bytes}");
    answer(&b, response.clone()).await;
    eventually("answer", async || a.response(1).is_some()).await;
    assert_eq!(a.response(1), Some(Ok(response)));
}

/// Asks a rogue that answers with these bytes.
async fn ask_rogue(bytes: Vec<u8>) -> (Node, PeerKey, Result<Response, RequestError>) {
    let (mut rogue, address) = Rogue::start(9, &chain()).await;
    let key = rogue.key;
    tokio::spawn(async move {
        loop {
            let event = rogue.swarm.select_next_some().await;
            rogue::answer(&mut rogue, event, &bytes);
        }
    });
    let node = Node::start(1, &fixed(&[address]), None).await;
    node.wait_for(key).await;
    node.handle.ask(key, 1, Request::Inventory).unwrap();
    eventually("answer", async || node.response(1).is_some()).await;
    let response = node.response(1).unwrap();
    (node, key, response)
}

fn frame(length: usize, bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(length).unwrap().to_le_bytes()[..], bytes].concat()
}

#[tokio::test]
async fn an_answer_above_the_bound_is_an_offence() {
    let (node, key, response) = ask_rogue(frame(RESPONSE_BYTES_MAX + 1, &[0; 100])).await;
    assert_eq!(response, Err(RequestError::Oversized));
    eventually("offence", async || node.has_offence(key, Offence::Oversized)).await;
}

#[tokio::test]
async fn an_answer_of_a_mebibyte_is_read_and_if_it_is_nonsense_an_offence() {
    let nonsense = frame(RESPONSE_BYTES_MAX, &vec![0xff; RESPONSE_BYTES_MAX]);
    let (node, key, response) = ask_rogue(nonsense).await;
    assert_eq!(response, Err(RequestError::Malformed));
    eventually("offence", async || node.has_offence(key, Offence::Malformed)).await;
}

#[tokio::test]
async fn an_answer_that_ends_early_is_no_offence() {
    let (node, _, response) = ask_rogue(frame(100, &[0; 50])).await;
    assert_eq!(response, Err(RequestError::Closed));
    assert_eq!(node.handle.metrics().offences, 0);
}

/// Sends a request of these bytes to a node and waits for the offence.
async fn rogue_asks(bytes: Vec<u8>, offence: Offence) {
    let node = Node::start(1, &fixed(&[]), None).await;
    let (mut rogue, _) = Rogue::start(9, &chain()).await;
    rogue.swarm.dial(node.address()).unwrap();
    node_sees(&node, &mut rogue, "connected", |node, key| node.see(|s| s.connected.contains(&key)))
        .await;
    rogue.ask(node.key(), bytes);
    node_sees(&node, &mut rogue, "offence", |node, key| node.has_offence(key, offence)).await;
    assert!(node.see(|seen| seen.requests.is_empty()));
}

/// Drives the rogue until the node has seen something.
async fn node_sees(
    node: &Node,
    rogue: &mut Rogue,
    what: &str,
    check: impl Fn(&Node, PeerKey) -> bool,
) {
    eventually(what, async || {
        let some_time = tokio::time::sleep(Duration::from_millis(50));
        let _ = futures::future::select(Box::pin(some_time), rogue.swarm.next()).await;
        check(node, rogue.key)
    })
    .await;
}

#[tokio::test]
async fn an_undecodable_request_is_an_offence() {
    rogue_asks(frame(3, &[99, 1, 2]), Offence::Malformed).await;
}

#[tokio::test]
async fn bytes_after_a_request_are_an_offence() {
    rogue_asks(frame(2, &[0, 0]), Offence::Malformed).await;
}

#[tokio::test]
async fn a_request_above_the_bound_is_an_offence() {
    rogue_asks(frame(usize::try_from(u32::MAX).unwrap(), &[0; 10]), Offence::Oversized).await;
}

#[tokio::test]
async fn asking_too_often_is_an_offence() {
    let config = Config {
        requests_per_peer_per_second: 1,
        requests_per_peer_burst: 3,
        requests_per_peer_open_max: 100,
        ..fixed(&[])
    };
    let [a, b] = pair(config).await;
    for id in 0..10 {
        a.handle.ask(b.key(), id, Request::Inventory).unwrap();
    }
    eventually("offence", async || b.has_offence(a.key(), Offence::TooMany)).await;
    eventually("refused", async || a.see(|seen| seen.responses.len() >= 5)).await;
    assert!(a.see(|seen| seen.responses.iter().all(|(_, _, r)| *r == Err(RequestError::Closed))));
    assert!(b.handle.metrics().requests_in_refused >= 5);
}

#[tokio::test]
async fn too_many_open_requests_are_an_offence() {
    let [a, b] = pair(Config { requests_per_peer_open_max: 2, ..fixed(&[]) }).await;
    for id in 0..3 {
        a.handle.ask(b.key(), id, Request::Inventory).unwrap();
    }
    eventually("offence", async || b.has_offence(a.key(), Offence::TooMany)).await;
    assert_eq!(b.see(|seen| seen.requests.len()), 2);
    // Room is made by answering.
    answer(&b, Response::Outcome(None)).await;
    eventually("sent", async || b.handle.metrics().answers_sent == 1).await;
    a.handle.ask(b.key(), 3, Request::Inventory).unwrap();
    eventually("third", async || b.see(|seen| seen.requests.len()) == 3).await;
}

#[tokio::test]
async fn a_question_without_answer_times_out() {
    let config = Config { request_timeout: Duration::from_millis(500), ..fixed(&[]) };
    let [a, b] = pair(config).await;
    a.handle.ask(b.key(), 1, Request::Inventory).unwrap();
    eventually("failed", async || a.response(1).is_some()).await;
    assert!(matches!(a.response(1), Some(Err(RequestError::Closed | RequestError::Timeout))));
    // Too late, and harmless.
    answer(&b, Response::Outcome(None)).await;
    a.handle.ask(b.key(), 2, Request::Inventory).unwrap();
    eventually("asked again", async || b.see(|seen| seen.requests.len()) == 2).await;
}

#[tokio::test]
async fn a_peer_that_is_not_there_is_unreachable() {
    let a = Node::start(1, &fixed(&[]), None).await;
    let nobody = lamina_p2p_net::peer_key(&harness::secret(200));
    a.handle.ask(nobody, 5, Request::Inventory).unwrap();
    eventually("failed", async || a.response(5).is_some()).await;
    assert_eq!(a.response(5), Some(Err(RequestError::Unreachable)));
}

#[tokio::test]
async fn every_question_gets_one_answer_even_if_there_are_too_many() {
    let [a, b] = pair(fixed(&[])).await;
    let nobody_answers = 200;
    for id in 0..nobody_answers {
        a.handle.ask(b.key(), id, Request::Outcome(lamina_types::TaskId([1; 32]))).unwrap();
    }
    eventually("refused", async || {
        a.see(|seen| {
            let refused =
                seen.responses.iter().filter(|(_, _, r)| *r == Err(RequestError::TooMany));
            refused.count() > 0
        })
    })
    .await;
    b.stop().await;
    eventually("all told", async || a.see(|seen| seen.responses.len()) == 200).await;
    let mut ids = a.see(|seen| seen.responses.iter().map(|(_, id, _)| *id).collect::<Vec<_>>());
    ids.sort_unstable();
    assert_eq!(ids, (0..nobody_answers).collect::<Vec<_>>());
}

#[tokio::test]
async fn blobs_come_in_parts() {
    let [a, b] = pair(fixed(&[])).await;
    a.handle.ask(b.key(), 1, Request::Blob { digest: Digest([1; 32]), offset: 0 }).unwrap();
    let part = vec![3; lamina_p2p::CHUNK_BYTES_MAX];
    answer(&b, Response::Blob(Some(Bytes::new(part.clone()).unwrap()))).await;
    eventually("answer", async || a.response(1).is_some()).await;
    assert_eq!(a.response(1), Some(Ok(Response::Blob(Some(Bytes::new(part).unwrap())))));
}
