//! The development chain as a process.

use alloy::primitives::{Address, U256};
use alloy::providers::Provider as _;
use anyhow::Result;
use lamina_bridge_testing::{Anvil, AnvilOptions, Tools};

#[tokio::test]
async fn a_chain_goes_on_from_the_state_that_it_was_stopped_with() -> Result<()> {
    let tools = Tools::install()?;
    let folder = std::env::temp_dir().join(format!("lamina-anvil-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let options = AnvilOptions { state: Some(folder.join("state.json")), ..Default::default() };
    let account = Address::repeat_byte(7);

    let anvil = Anvil::start(&tools, &options)?;
    let chain = anvil.chain()?;
    let owner = chain.accounts().await?[0];
    chain.pay(owner, account, Vec::new(), U256::from(5)).await?;
    chain.mine(3).await?;
    anvil.stop()?;

    let anvil = Anvil::start(&tools, &options)?;
    let provider = anvil.chain()?.provider().clone();
    assert_eq!(provider.get_balance(account).await?, U256::from(5));
    assert_eq!(provider.get_block_number().await?, 4);
    anvil.stop()?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
