//! How nodes find each other, stay connected and stay apart.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod harness;

use std::time::Duration;

use harness::{Node, QUIC, TCP, chain, config, eventually, fixed, secret};
use lamina_p2p::Verdict;
use lamina_p2p_net::{Config, Error, start};

/// Starts `count` nodes that know the first one's address only, and waits until each is connected to all others.
async fn all_find_each_other(
    count: u8,
    config_of: impl Fn(&[lamina_p2p_net::Multiaddr]) -> Config,
) {
    let first = Node::start(1, &config_of(&[]), Some(Verdict::Accept)).await;
    let bootstrap = [first.address()];
    let mut nodes = vec![first];
    for seed in 2..=count {
        nodes.push(Node::start(seed, &config_of(&bootstrap), Some(Verdict::Accept)).await);
    }
    for node in &nodes {
        eventually("connected to all", async || {
            node.handle.status().await.unwrap().peers.len() == usize::from(count) - 1
        })
        .await;
        let connected = node.see(|seen| seen.connected.len());
        assert!(connected >= usize::from(count) - 1, "told of {connected}");
    }
}

#[tokio::test]
async fn all_nodes_find_each_other_from_one_address() {
    all_find_each_other(8, config).await;
}

#[tokio::test]
async fn tcp_is_enough_where_udp_is_dropped() {
    all_find_each_other(4, |bootstrap| Config {
        listen: vec![TCP.parse().unwrap()],
        ..config(bootstrap)
    })
    .await;
}

#[tokio::test]
async fn bootstrap_address_needs_no_peer_id() {
    let a = Node::start(1, &config(&[]), None).await;
    let address = a.see(|seen| seen.listening[0].clone());
    let b = Node::start(2, &config(&[address]), None).await;
    b.wait_for(a.key()).await;
    a.wait_for(b.key()).await;
}

#[tokio::test]
async fn a_node_that_starts_before_its_bootstrap_node_finds_it() {
    let probe = Node::start(1, &config(&[]), None).await;
    let address = probe.address();
    let listen = probe.see(|seen| seen.listening[0].clone());
    probe.stop().await;
    let b = Node::start(2, &config(&[address]), None).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let a = Node::start(1, &Config { listen: vec![listen], ..config(&[]) }, None).await;
    b.wait_for(a.key()).await;
}

#[tokio::test]
async fn peers_of_another_chain_stay_apart() {
    let ours = Node::start(1, &config(&[]), None).await;
    let other = "lamina-test-2".parse().unwrap();
    let theirs = Node::start_on(&other, 2, &config(&[ours.address()]), None).await;
    // Whoever learns it first hangs up, and the other may never learn whom it spoke to.
    eventually("refused", async || {
        [&ours, &theirs].iter().any(|node| node.handle.metrics().peers_foreign > 0)
    })
    .await;
    eventually("gone", async || {
        ours.handle.metrics().connections_in == 0 && theirs.handle.metrics().connections_out == 0
    })
    .await;
    assert!(ours.see(|seen| seen.connected.is_empty()));
    assert!(theirs.see(|seen| seen.connected.is_empty()));
    assert_eq!(ours.handle.known_addresses().await.unwrap(), []);
}

#[tokio::test]
async fn a_restarted_node_keeps_its_identity_and_comes_back() {
    let a = Node::start(1, &config(&[]), None).await;
    let b = Node::start(2, &config(&[a.address()]), None).await;
    a.wait_for(b.key()).await;
    let (key, listen) = (b.key(), b.see(|seen| seen.listening[0].clone()));
    let known = b.handle.known_addresses().await.unwrap();
    assert_eq!(known, [a.address()]);
    b.stop().await;
    eventually("gone", async || a.see(|seen| seen.disconnected.contains(&key))).await;

    // It dials nobody: the other one remembers it.
    let b = Node::start(2, &Config { listen: vec![listen], ..config(&[]) }, None).await;
    assert_eq!(b.key(), key);
    b.wait_for(a.key()).await;
    eventually("told twice", async || {
        a.see(|seen| seen.connected.iter().filter(|peer| **peer == key).count() == 2)
    })
    .await;
}

#[tokio::test]
async fn known_addresses_lead_back_into_the_network() {
    let a = Node::start(1, &config(&[]), None).await;
    let b = Node::start(2, &config(&[a.address()]), None).await;
    let c = Node::start(3, &config(&[a.address()]), None).await;
    c.wait_for(b.key()).await;
    let known = c.handle.known_addresses().await.unwrap();
    c.stop().await;
    a.stop().await;
    let c = Node::start(3, &config(&known), None).await;
    c.wait_for(b.key()).await;
}

#[tokio::test]
async fn a_banned_peer_is_out_until_its_ban_ends() {
    let a = Node::start(1, &fixed(&[]), None).await;
    let b = Node::start(2, &fixed(&[a.address()]), None).await;
    a.wait_for(b.key()).await;
    a.handle.ban(b.key(), Duration::from_secs(600)).unwrap();
    eventually("out", async || a.see(|seen| seen.disconnected == [b.key()])).await;
    // It tries again, and is refused.
    eventually("refused", async || a.handle.metrics().connections_failed > 0).await;
    let status = a.handle.status().await.unwrap();
    assert_eq!((status.peers.len(), status.peers_banned), (0, 1));
    a.handle.ban(b.key(), Duration::from_millis(1)).unwrap();
    a.wait_for(b.key()).await;
    assert_eq!(a.handle.status().await.unwrap().peers_banned, 0);
}

#[tokio::test]
async fn only_so_many_connections_are_taken() {
    let full = Config { connections_in_max: 2, ..fixed(&[]) };
    let a = Node::start(1, &full, None).await;
    let mut others = Vec::new();
    for seed in 2..7 {
        others.push(Node::start(seed, &fixed(&[a.address()]), None).await);
    }
    eventually("refused", async || a.handle.metrics().connections_failed >= 3).await;
    assert!(a.handle.metrics().connections_in <= 2);
    assert!(a.handle.status().await.unwrap().peers.len() <= 2);
}

#[tokio::test]
async fn a_taken_port_is_named() {
    for listen in [QUIC, TCP] {
        let config = Config { listen: vec![listen.parse().unwrap()], ..config(&[]) };
        let a = Node::start(1, &config, None).await;
        let taken = Config { listen: vec![a.see(|seen| seen.listening[0].clone())], ..config };
        let error = start(&taken, &secret(2), &chain()).unwrap_err();
        assert!(matches!(error, Error::PortTaken { .. }), "{error:?}");
        assert!(error.to_string().ends_with("is taken; choose another with --p2p.listen"));
    }
}

#[tokio::test]
async fn other_transports_are_refused() {
    let listen = vec!["/ip4/127.0.0.1/tcp/0/ws".parse().unwrap()];
    let error = start(&Config { listen, ..config(&[]) }, &secret(1), &chain()).unwrap_err();
    assert!(matches!(error, Error::Transport { .. }), "{error:?}");
}

#[tokio::test]
async fn the_network_ends_with_its_last_handle() {
    let (handle, mut events, task) = start(&config(&[]), &secret(1), &chain()).unwrap();
    drop(handle);
    task.await.unwrap();
    while events.recv().await.is_some() {}
}
