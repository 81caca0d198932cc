//! EigenLayer's own contracts on anvil: stake, delegation, allocation and slashing are real.

use alloy::primitives::{Address, U256};
use anyhow::Result;
use lamina_bridge_testing::{Anvil, AnvilOptions, EigenLayer, Tools};

const ETHER: u128 = 1_000_000_000_000_000_000;

#[tokio::test]
async fn stake_is_slashed_in_eigenlayers_own_numbers() -> Result<()> {
    let tools = Tools::install()?;
    let anvil = Anvil::start(&tools, &AnvilOptions::default())?;
    let chain = anvil.chain()?;
    let eigenlayer = EigenLayer::install(&chain, &tools).await?;
    let accounts = chain.accounts().await?;
    let (avs, operator, staker) = (accounts[1], accounts[2], accounts[3]);
    let registrar = accepting_registrar(&chain, accounts[0]).await?;
    eigenlayer.create_service(&chain, avs, Some(registrar)).await?;

    eigenlayer.add_operator(&chain, operator, 100 * ETHER).await?;
    eigenlayer.deposit(&chain, staker, 60 * ETHER).await?;
    eigenlayer.delegate(&chain, staker, operator).await?;
    chain.mine(3).await?;
    eigenlayer.register(&chain, operator, avs, Vec::new()).await?;
    eigenlayer.allocate(&chain, operator, avs, 500_000_000_000_000_000).await?;
    chain.mine(1).await?;
    let stake = |who: Address| eigenlayer.slashable_stake(&chain, who, avs);
    assert_eq!(stake(operator).await?, U256::from(80 * ETHER));

    eigenlayer.slash(&chain, avs, avs, operator, 250_000_000_000_000_000).await?;
    // EigenLayer rounds shares down.
    let (left, exact) = (stake(operator).await?, U256::from(60 * ETHER));
    assert!(left <= exact && exact - left < U256::from(1_000), "{left} of {exact}");
    Ok(())
}

/// A contract that answers every call with the word 1: it accepts all registrations and supports every service.
async fn accepting_registrar(
    chain: &lamina_bridge_testing::Chain,
    from: Address,
) -> Result<Address> {
    // PUSH8 (PUSH1 1, PUSH0, MSTORE, PUSH1 32, PUSH0, RETURN), PUSH0, MSTORE, PUSH1 8, PUSH1 24, RETURN.
    chain.create(from, hex::decode("6760015f5260205ff35f5260086018f3")?).await
}
