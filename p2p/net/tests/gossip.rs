//! Gossip: what is spread, what isn't, and who is blamed.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod harness;

use std::time::Duration;

use futures::StreamExt as _;
use harness::rogue::Rogue;
use harness::{Node, chain, config, eventually, fixed, secret};
use lamina_p2p::{Offence, Request, Topic, Verdict};
use lamina_p2p_net::{EVENTS_MAX, Event, RequestError, start};

#[tokio::test]
async fn a_published_message_reaches_all() {
    let first = Node::start(1, &config(&[]), Some(Verdict::Accept)).await;
    let bootstrap = [first.address()];
    let mut nodes = vec![first];
    for seed in 2..=6 {
        nodes.push(Node::start(seed, &config(&bootstrap), Some(Verdict::Accept)).await);
    }
    for node in &nodes {
        node.wait_for_mesh(Topic::Tasks, 1).await;
    }
    nodes[3].handle.publish(Topic::Tasks, b"task".to_vec()).unwrap();
    for (place, node) in nodes.iter().enumerate().filter(|(place, _)| *place != 3) {
        eventually(&format!("at {place}"), async || node.has_gossip(b"task")).await;
    }
    let metrics = nodes[3].handle.metrics();
    assert_eq!(
        (metrics.topic(Topic::Tasks).published, metrics.topic(Topic::Tasks).published_bytes),
        (1, 4)
    );
    assert!(!nodes[3].has_gossip(b"task"), "a node isn't told its own");
}

/// Three nodes in a line, A – B – C; B judges as it's told.
async fn line(verdict: Option<Verdict>) -> [Node; 3] {
    let b = Node::start(2, &fixed(&[]), verdict).await;
    let a = Node::start(1, &fixed(&[b.address()]), Some(Verdict::Accept)).await;
    let c = Node::start(3, &fixed(&[b.address()]), Some(Verdict::Accept)).await;
    b.wait_for_mesh(Topic::Attestations, 2).await;
    a.wait_for_mesh(Topic::Attestations, 1).await;
    c.wait_for_mesh(Topic::Attestations, 1).await;
    [a, b, c]
}

#[tokio::test]
async fn nothing_is_forwarded_before_its_verdict() {
    let [a, b, c] = line(None).await;
    a.handle.publish(Topic::Attestations, b"held".to_vec()).unwrap();
    eventually("at B", async || b.has_gossip(b"held")).await;
    // Long enough for a few heartbeats, in which digests are sent, too.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!c.has_gossip(b"held"));
    let delivery = b.see(|seen| seen.gossip[0].0);
    b.handle.judge(delivery, Verdict::Accept).unwrap();
    eventually("at C", async || c.has_gossip(b"held")).await;
    assert_eq!(c.see(|seen| seen.gossip[0].1), b.key());
    assert_eq!(b.handle.metrics().topic(Topic::Attestations).accepted, 1);
}

#[tokio::test]
async fn a_rejected_message_ends_there_and_costs_its_sender() {
    let [a, b, c] = line(Some(Verdict::Reject)).await;
    let before = b.score(a.key()).await.unwrap();
    for i in 0..3 {
        a.handle.publish(Topic::Attestations, vec![i]).unwrap();
    }
    eventually("scored", async || b.score(a.key()).await.unwrap() < before - 10.0).await;
    assert!(b.score(c.key()).await.unwrap() > -1.0, "only the sender is blamed");
    assert_eq!(b.handle.metrics().topic(Topic::Attestations).rejected, 3);
    assert!(c.see(|seen| seen.gossip.is_empty()));
}

#[tokio::test]
async fn an_unjudged_message_is_ignored_in_the_end() {
    let [a, b, c] = line(None).await;
    a.handle.publish(Topic::Attestations, b"held".to_vec()).unwrap();
    eventually("ignored", async || b.handle.metrics().verdicts_missed == 1).await;
    let delivery = b.see(|seen| seen.gossip[0].0);
    b.handle.judge(delivery, Verdict::Accept).unwrap();
    a.handle.publish(Topic::Attestations, b"next".to_vec()).unwrap();
    eventually("next", async || b.has_gossip(b"next")).await;
    assert!(c.see(|seen| seen.gossip.is_empty()));
    assert!(b.score(a.key()).await.unwrap() >= 0.0, "nobody's fault");
}

#[tokio::test]
async fn the_applications_score_counts() {
    let [a, b, c] = line(Some(Verdict::Accept)).await;
    b.handle.set_score(a.key(), -90.0).unwrap();
    eventually("scored", async || b.score(a.key()).await.unwrap() < -80.0).await;
    a.handle.publish(Topic::Attestations, b"from the graylist".to_vec()).unwrap();
    c.handle.publish(Topic::Attestations, b"from a friend".to_vec()).unwrap();
    eventually("friend's", async || b.has_gossip(b"from a friend")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!b.has_gossip(b"from the graylist"));
}

#[tokio::test]
async fn an_oversized_message_is_an_offence() {
    let node = Node::start(1, &fixed(&[]), Some(Verdict::Accept)).await;
    let (mut rogue, _) = Rogue::start(9, &chain()).await;
    let topic = Topic::Attestations;
    let name = topic.wire_name(&chain());
    rogue.subscribe(&name);
    rogue.swarm.dial(node.address()).unwrap();
    let bytes = vec![7; topic.bytes_max() + 1];
    let mut published = false;
    eventually("offence", async || {
        published = published || rogue.publish(&name, bytes.clone());
        let some_time = tokio::time::sleep(Duration::from_millis(50));
        let _ = futures::future::select(Box::pin(some_time), rogue.swarm.next()).await;
        node.has_offence(rogue.key, Offence::Oversized)
    })
    .await;
    assert!(node.see(|seen| seen.gossip.is_empty()));
    assert_eq!(node.handle.metrics().topic(topic).rejected, 1);
}

#[tokio::test]
async fn own_messages_above_the_bound_are_not_sent() {
    let [a, _b, _c] = line(Some(Verdict::Accept)).await;
    let topic = Topic::Attestations;
    a.handle.publish(topic, vec![0; topic.bytes_max() + 1]).unwrap();
    eventually("failed", async || a.handle.metrics().topic(topic).publish_failed == 1).await;
    assert_eq!(a.handle.metrics().topic(topic).published, 0);
}

/// Nobody reads the second node's events: gossip is dropped and counted, requests are refused, peers stay connected, and once the application
/// reads again, all goes on.
#[tokio::test]
async fn a_slow_application_loses_gossip_but_no_peers() {
    let a = Node::start(1, &fixed(&[]), Some(Verdict::Accept)).await;
    let (slow, mut events, _task) = start(&fixed(&[a.address()]), &secret(2), &chain()).unwrap();
    a.wait_for(slow.local_key()).await;
    a.wait_for_mesh(Topic::Attestations, 1).await;
    let mut sent = 0u32;
    eventually("dropped", async || {
        for _ in 0..100 {
            let bytes = sent.to_le_bytes().to_vec();
            sent += u32::from(a.handle.publish(Topic::Attestations, bytes).is_ok());
        }
        slow.metrics().events_dropped > 0
    })
    .await;
    let metrics = slow.metrics();
    assert!(metrics.topic(Topic::Attestations).delivered <= EVENTS_MAX as u64);
    assert!(metrics.topic(Topic::Attestations).dropped > 0);
    assert_eq!(metrics.peers_connected, 1);
    assert!(a.is_connected(slow.local_key()).await);
    a.handle.ask(slow.local_key(), 1, Request::Inventory).unwrap();
    eventually("refused", async || a.response(1) == Some(Err(RequestError::Closed))).await;

    let mut read = 0;
    eventually("read", async || {
        while let Ok(event) = events.try_recv() {
            if let Event::Gossip { delivery, .. } = event {
                slow.judge(delivery, Verdict::Accept).unwrap();
                read += 1;
            }
        }
        a.handle.publish(Topic::Changes, read.to_string().into_bytes()).unwrap();
        slow.metrics().topic(Topic::Changes).delivered > 0
    })
    .await;
}
