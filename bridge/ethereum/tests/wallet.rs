//! A person's wallet on a real chain: what it refuses to do, and what it says of contracts that refuse.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may, their helpers included")]

mod harness;

use alloy::sol_types::SolCall as _;
use anyhow::Result;
use harness::{ETHER, ETHEREUM_CHAIN, World};
use lamina_ethereum::{Endpoints, Wallet, WalletError};
use lamina_ethereum_core::abi;
use lamina_types::Address;
use serde_json::{Value, json};

const FEE_MAX_WEI: u128 = 1_000_000_000_000;

impl World {
    async fn wallet(&self, chain: u64, fee_max_wei: u128, wei: u128) -> Result<Wallet> {
        let key = self.key(50, wei).await?;
        Ok(Wallet::new(Endpoints::new(&[self.anvil.url()])?, key, chain, fee_max_wei))
    }

    fn vault(&self) -> Address {
        Address(self.contracts.vault.into())
    }
}

fn deposit(account: u8) -> Vec<u8> {
    abi::Vault::depositEtherCall { account: [account; 20].into() }.abi_encode()
}

#[tokio::test]
async fn a_deposit_is_known_by_its_transaction() -> Result<()> {
    let world = World::new(0).await?;
    world.deposit(7).await?;
    let wallet = world.wallet(ETHEREUM_CHAIN, FEE_MAX_WEI, ETHER).await?;
    let sent = wallet.send(world.vault(), deposit(8), 5).await?;
    let index = wallet.endpoints().deposit_index(world.vault(), &sent.transaction).await?;
    assert_eq!(index, Some(1));
    let other = Address(world.contracts.tasks.into());
    assert_eq!(wallet.endpoints().deposit_index(other, &sent.transaction).await?, None);
    Ok(())
}

#[tokio::test]
async fn what_is_not_final_is_not_read_as_final() -> Result<()> {
    let world = World::new(0).await?;
    let wallet = world.wallet(ETHEREUM_CHAIN, FEE_MAX_WEI, ETHER).await?;
    let count = abi::Vault::depositCountCall {};
    wallet.send(world.vault(), deposit(8), 5).await?;
    assert_eq!(wallet.call(world.vault(), &count).await?, 1);
    assert_eq!(wallet.endpoints().call_final(world.vault(), &count).await?, 0);
    world.chain.mine(4).await?;
    assert_eq!(wallet.endpoints().call_final(world.vault(), &count).await?, 1);
    Ok(())
}

#[tokio::test]
async fn contracts_refuse_by_the_names_of_their_errors() -> Result<()> {
    let world = World::new(0).await?;
    let wallet = world.wallet(ETHEREUM_CHAIN, FEE_MAX_WEI, ETHER).await?;
    let reason = async |to: Address, input: Vec<u8>| match wallet.send(to, input, 0).await {
        Err(WalletError::Reverts { reason }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(world.vault(), deposit(8)).await, "NothingDeposited");
    let checkpoints = Address(world.contracts.checkpoints.into());
    let exit = reason(checkpoints, abi::Checkpoints::openExitCall {}.abi_encode()).await;
    assert!(exit.starts_with("ExitTooEarly { time: "), "{exit}");
    let manager = Address(world.eigenlayer.allocation_manager.into());
    let set = abi::EigenLayer::OperatorSet { avs: world.contracts.authority, id: 0 };
    let params = vec![abi::EigenLayer::AllocateParams {
        operatorSet: set,
        strategies: vec![world.eigenlayer.strategy],
        newMagnitudes: vec![1],
    }];
    let operator = wallet.address().0.into();
    let call = abi::EigenLayer::modifyAllocationsCall { operator, params };
    assert_eq!(reason(manager, call.abi_encode()).await, "UninitializedAllocationDelay");
    Ok(())
}

#[tokio::test]
async fn nothing_is_sent_that_cannot_be_right() -> Result<()> {
    let world = World::new(0).await?;
    let vault = world.vault();
    let wallet = world.wallet(1, FEE_MAX_WEI, ETHER).await?;
    let error = wallet.send(vault, deposit(8), 5).await.unwrap_err();
    assert!(matches!(error, WalletError::WrongChain { found: ETHEREUM_CHAIN, expected: 1 }));
    let wallet = world.wallet(ETHEREUM_CHAIN, 1, ETHER).await?;
    let error = wallet.send(vault, deposit(8), 5).await.unwrap_err();
    assert!(matches!(error, WalletError::FeeCap { cap: 1, .. }), "{error}");
    let wallet = world.wallet(ETHEREUM_CHAIN, FEE_MAX_WEI, 3).await?;
    let error = wallet.send(vault, deposit(8), 5).await.unwrap_err();
    assert!(matches!(error, WalletError::OutOfFunds { .. }), "{error}");
    assert_eq!(wallet.call(vault, &abi::Vault::depositCountCall {}).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_transaction_that_is_on_its_way_is_not_replaced() -> Result<()> {
    let world = World::new(0).await?;
    let wallet = world.wallet(ETHEREUM_CHAIN, FEE_MAX_WEI, ETHER).await?;
    world.chain.request::<Value>("evm_setAutomine", json!([false])).await?;
    // Whoever gives up waiting leaves it there.
    let waiting = wallet.send(world.vault(), deposit(8), 5);
    let given_up = tokio::time::timeout(std::time::Duration::from_secs(2), waiting).await;
    assert!(given_up.is_err());
    let error = wallet.send(world.vault(), deposit(8), 6).await.unwrap_err();
    assert!(matches!(error, WalletError::Busy { .. }), "{error}");
    Ok(())
}

#[tokio::test]
async fn another_endpoint_answers_for_one_that_is_down() -> Result<()> {
    let world = World::new(0).await?;
    let key = world.key(50, ETHER).await?;
    let urls = ["http://127.0.0.1:1".to_owned(), world.anvil.url()];
    let wallet = Wallet::new(Endpoints::new(&urls)?, key.clone(), ETHEREUM_CHAIN, FEE_MAX_WEI);
    let sent = wallet.send(world.vault(), deposit(8), 5).await?;
    let endpoints = wallet.endpoints();
    assert_eq!(endpoints.deposit_index(world.vault(), &sent.transaction).await?, Some(0));
    assert_eq!(endpoints.call(world.vault(), &abi::Vault::depositCountCall {}).await?, 1);
    // What the chain refuses isn't asked of another.
    let error = wallet.send(world.vault(), deposit(8), 0).await.unwrap_err();
    assert!(matches!(error, WalletError::Reverts { .. }), "{error}");
    let wallet = Wallet::new(Endpoints::new(&urls[..1])?, key, ETHEREUM_CHAIN, FEE_MAX_WEI);
    let error = wallet.send(world.vault(), deposit(8), 5).await.unwrap_err();
    assert!(error.to_string().starts_with("no Ethereum endpoint answers"), "{error}");
    Ok(())
}

/// What nobody can read helps nobody: each error that our contracts have is among those that are known by name.
#[test]
fn the_errors_of_all_contracts_are_known() -> Result<()> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let known = std::fs::read_to_string(root.join("core/src/abi.rs"))?;
    let mut found = 0;
    for folder in ["", "interfaces", "libraries"] {
        for entry in std::fs::read_dir(root.join("../contracts/src").join(folder))? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "sol") {
                continue;
            }
            let source = std::fs::read_to_string(&path)?;
            let errors = source.lines().filter_map(|line| line.trim_start().strip_prefix("error "));
            for error in errors.filter_map(|error| error.split_once('(')) {
                let name = format!("error {}(", error.0);
                assert!(known.contains(&name), "{} of {}", error.0, path.display());
                found += 1;
            }
        }
    }
    assert!(found > 50, "{found}");
    Ok(())
}
