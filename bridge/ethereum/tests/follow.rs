//! Following a real chain, over endpoints that fail, lie, or are of another chain.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may, their helpers included")]

mod harness;

use alloy::primitives::U256;
use anyhow::{Context as _, Result};
use harness::{Following, World, while_mining};
use lamina_bridge_testing::{Anvil, AnvilOptions};
use lamina_ethereum_core::{Cursor, Fact, Failure, Notice, abi, calls};
use lamina_types::{Address, Canonical as _, CheckpointHeader, Digest, Height, ServiceId};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

fn deposits(following: &Following) -> Vec<(u64, u8)> {
    let deposit = |fact: &Fact| match fact {
        Fact::Deposited(deposit) => Some((deposit.index, deposit.account.0[0])),
        _ => None,
    };
    following.facts().filter_map(deposit).collect()
}

async fn told(following: &mut Following, count: usize) -> Result<()> {
    while deposits(following).len() < count {
        following.next().await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_a_reorganisation_takes_away_was_never_told() -> Result<()> {
    let world = World::new(0).await?;
    let mut following = world.follow();
    world.deposit(1).await?;
    world.chain.mine(4).await?;
    told(&mut following, 1).await?;
    // Not final yet, and gone with its block.
    world.deposit(2).await?;
    let (depth, no_transactions) = (1, json!([]));
    world.chain.request::<Value>("anvil_reorg", json!([depth, no_transactions])).await?;
    world.deposit(3).await?;
    while_mining(&world.chain, told(&mut following, 2)).await?;
    assert_eq!(deposits(&following), [(0, 1), (1, 3)]);
    assert_eq!(following.notices, []);
    Ok(())
}

#[tokio::test]
async fn requests_and_a_freeze_are_told() -> Result<()> {
    let world = World::new(4).await?;
    world.roll().await?;
    let (chain, owner) = (&world.chain, world.eigenlayer.owner);
    let service = [9; 32];
    let request =
        abi::TaskResults::requestCall { service: service.into(), input: vec![1, 2].into() };
    chain.send(owner, world.contracts.tasks, &request).await?;
    let header =
        |claims: u8| CheckpointHeader { claims: Digest([claims; 32]), ..World::header(Height(5)) };
    let (one, other) = (world.sign(header(1)), world.sign(header(2)));
    let freeze = calls::freeze(&one.certificate, &other.certificate);
    chain.pay(owner, world.contracts.checkpoints, freeze, U256::ZERO).await?;

    let mut following = world.follow();
    let frozen = |fact: &Fact| matches!(fact, Fact::Frozen { .. }).then(|| fact.clone());
    let frozen = while_mining(chain, following.find(frozen)).await?;
    let (first, second) = (one.certificate.header, other.certificate.header);
    assert_eq!(frozen, Fact::Frozen { height: Height(5), first, second });
    let request = Fact::TaskRequested {
        index: 0,
        service: ServiceId(service),
        requester: Address(owner.into()),
        input: vec![1, 2],
    };
    assert!(following.facts().any(|fact| *fact == request));
    assert_eq!(following.notices, []);
    Ok(())
}

#[tokio::test]
async fn a_follower_goes_on_where_it_was_stopped() -> Result<()> {
    let world = World::new(0).await?;
    let mut first = world.follow();
    world.deposit(1).await?;
    while_mining(&world.chain, told(&mut first, 1)).await?;
    let bytes = first.cursor.to_bytes();
    first.stop().await?;
    // Many blocks pass meanwhile, some with deposits.
    for account in 2..5 {
        world.deposit(account).await?;
        world.chain.mine(150).await?;
    }
    let cursor = Cursor::from_bytes(&bytes)?;
    let mut second = Following::new(world.config(), &[world.anvil.url()], cursor);
    told(&mut second, 3).await?;
    assert_eq!(deposits(&second), [(1, 2), (2, 3), (3, 4)]);
    Ok(())
}

#[tokio::test]
async fn dead_endless_and_foreign_endpoints_are_passed_over() -> Result<()> {
    let world = World::new(0).await?;
    let foreign = AnvilOptions { chain_id: Some(5), ..AnvilOptions::default() };
    let foreign = Anvil::start(&world.tools, &foreign)?;
    let endless = endless_endpoint().await?;
    let urls = ["http://127.0.0.1:1".to_owned(), endless, foreign.url(), world.anvil.url()];
    let mut following = Following::new(world.config(), &urls, Cursor::start());
    world.deposit(1).await?;
    while_mining(&world.chain, told(&mut following, 1)).await?;
    let failing = |endpoint: usize| {
        let failure = following.notices.iter().find_map(|notice| match notice {
            Notice::Failing { endpoint: failing, failure } if *failing == endpoint => Some(failure),
            _ => None,
        });
        failure.context("the endpoint fails")
    };
    assert!(matches!(failing(0)?, Failure::Unavailable(_)));
    assert!(matches!(failing(1)?, Failure::TooMany(_)));
    assert!(following.notices.contains(&Notice::WrongChain { endpoint: 2, found: 5 }));
    Ok(())
}

#[tokio::test]
async fn an_endpoint_with_another_past_is_refused() -> Result<()> {
    let world = World::new(0).await?;
    let mut following = world.follow();
    world.chain.mine(4).await?;
    following.reach(world.contracts.start).await?;
    let cursor = following.cursor.clone();
    let last = cursor.last.context("it has followed")?;
    following.stop().await?;
    let other = Anvil::start(&world.tools, &AnvilOptions::default())?;
    other.chain()?.mine(last.number + 10).await?;
    let urls = [other.url(), world.anvil.url()];
    let mut following = Following::new(world.config(), &urls, cursor);
    world.deposit(1).await?;
    while_mining(&world.chain, told(&mut following, 1)).await?;
    let contradicts = |notice: &Notice| matches!(notice, Notice::Contradiction { endpoint: 0, emitted, .. } if *emitted == last);
    following.notice(contradicts).await
}

/// Answers with a body that doesn't end.
async fn endless_endpoint() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";
                let mut sent = stream.write_all(head.as_bytes()).await;
                while sent.is_ok() {
                    sent = stream.write_all(&[b'['; 65_536]).await;
                }
            });
        }
    });
    Ok(url)
}
