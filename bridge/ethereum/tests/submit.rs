//! Submitting to a real chain: stuck transactions, races, reorganisations, empty accounts.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may, their helpers included")]

mod harness;

use anyhow::Result;
use harness::{ETHER, Submitting, World, while_mining};
use lamina_ethereum::Command;
use lamina_ethereum_core::{Fact, JobId, SubmitNotice, SubmitOutput};
use serde_json::{Value, json};

async fn world() -> Result<World> {
    let world = World::new(4).await?;
    world.roll().await?;
    Ok(world)
}

/// Blocks come only when asked for.
async fn by_hand(world: &World) -> Result<()> {
    world.chain.request::<Value>("evm_setAutomine", json!([false])).await.map(drop)
}

#[tokio::test]
async fn a_stuck_transaction_is_replaced_by_one_that_pays_more() -> Result<()> {
    let world = world().await?;
    by_hand(&world).await?;
    let mut submitting = world.submit(50, ETHER).await?;
    submitting.commands.send(Command::Submit(world.anchor(1, 5, 0))).await?;
    submitting.notice(|notice| matches!(notice, SubmitNotice::Replaced { .. })).await?;
    assert!(while_mining(&world.chain, submitting.done(JobId(1))).await?);
    let key = world.key(50, ETHER).await?;
    let count: String =
        world.chain.request("eth_getTransactionCount", json!([key.address(), "latest"])).await?;
    assert_eq!(count, "0x1", "one of them counts");
    Ok(())
}

#[tokio::test]
async fn of_two_that_race_one_anchors_and_both_are_done() -> Result<()> {
    let world = world().await?;
    by_hand(&world).await?;
    let (mut one, mut two) = (world.submit(50, ETHER).await?, world.submit(51, ETHER).await?);
    for submitting in [&one, &two] {
        submitting.commands.send(Command::Submit(world.anchor(1, 5, 0))).await?;
    }
    // Both have sent before there's a block.
    for submitting in [&mut one, &mut two] {
        submitting.notice(|notice| matches!(notice, SubmitNotice::Replaced { .. })).await?;
    }
    assert!(while_mining(&world.chain, one.done(JobId(1))).await?);
    assert!(while_mining(&world.chain, two.done(JobId(1))).await?);
    let mut following = world.follow();
    let anchors = |fact: &Fact| matches!(fact, Fact::Anchored { .. }).then_some(());
    while_mining(&world.chain, following.find(anchors)).await?;
    assert_eq!(following.facts().filter_map(anchors).count(), 1);
    Ok(())
}

#[tokio::test]
async fn whoever_is_later_in_rank_sends_nothing() -> Result<()> {
    let world = world().await?;
    let (mut first, mut second) = (world.submit(50, ETHER).await?, world.submit(51, 0).await?);
    first.commands.send(Command::Submit(world.anchor(1, 5, 0))).await?;
    second.commands.send(Command::Submit(world.anchor(1, 5, 1))).await?;
    assert!(while_mining(&world.chain, first.done(JobId(1))).await?);
    assert!(!while_mining(&world.chain, second.done(JobId(1))).await?);
    Ok(())
}

#[tokio::test]
async fn an_anchor_that_is_reorganised_away_is_submitted_again() -> Result<()> {
    let world = world().await?;
    let mut submitting = world.submit(50, ETHER).await?;
    submitting.commands.send(Command::Submit(world.anchor(1, 5, 0))).await?;
    submitting.find(|output| matches!(output, SubmitOutput::InBlock { .. })).await?;
    world.chain.request::<Value>("anvil_reorg", json!([1, []])).await?;
    submitting.notice(|notice| matches!(notice, SubmitNotice::Reorganised { .. })).await?;
    assert!(while_mining(&world.chain, submitting.done(JobId(1))).await?);
    Ok(())
}

#[tokio::test]
async fn an_empty_account_and_a_low_cap_are_told_and_waited_out() -> Result<()> {
    let world = world().await?;
    let mut poor = world.submit(50, 1).await?;
    poor.commands.send(Command::Submit(world.anchor(1, 5, 0))).await?;
    poor.notice(|notice| matches!(notice, SubmitNotice::OutOfFunds { balance_wei: 1, .. })).await?;
    let mut config = world.submit_config();
    config.fee_per_gas_max = 1;
    let key = world.key(51, ETHER).await?;
    let mut thrifty = Submitting::new(config, &[world.anvil.url()], key);
    thrifty.commands.send(Command::Submit(world.anchor(1, 5, 0))).await?;
    thrifty.notice(|notice| matches!(notice, SubmitNotice::FeeCap { cap: 1, .. })).await?;
    world.key(50, ETHER).await?;
    assert!(while_mining(&world.chain, poor.done(JobId(1))).await?);
    assert!(!while_mining(&world.chain, thrifty.done(JobId(1))).await?);
    Ok(())
}

#[tokio::test]
async fn a_dead_endpoint_does_not_stop_a_transaction() -> Result<()> {
    let world = world().await?;
    let urls = ["http://127.0.0.1:1".to_owned(), world.anvil.url()];
    let key = world.key(50, ETHER).await?;
    let mut submitting = Submitting::new(world.submit_config(), &urls, key);
    submitting.commands.send(Command::Submit(world.anchor(1, 5, 0))).await?;
    assert!(while_mining(&world.chain, submitting.done(JobId(1))).await?);
    submitting.notice(|notice| matches!(notice, SubmitNotice::Failing { endpoint: 0, .. })).await
}
