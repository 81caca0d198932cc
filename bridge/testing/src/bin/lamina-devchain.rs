//! A development chain with EigenLayer and Lamina's contracts, for a development network: `lamina-devchain NETWORK FILE`.
//!
//! Writes where everything is to FILE, as JSON, once it's there; makes a block a second; and ends when standard input does.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use alloy::primitives::U256;
use alloy::signers::local::PrivateKeySigner;
use anyhow::{Context as _, Result};
use lamina_bridge_testing::{Anvil, AnvilOptions, Chain, Contracts, EigenLayer, Tools};
use serde_json::json;
use tokio::sync::oneshot;

/// What the faucet's account has, in ether.
const FAUCET_ETHER: u64 = 1_000_000;
/// Time between two blocks; each transaction makes one besides.
const BLOCK_INTERVAL: Duration = Duration::from_secs(1);
/// Checkpoints name every so-many-th block.
const STRIDE: u64 = 4;

fn main() -> ExitCode {
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a runtime")
        .and_then(|runtime| runtime.block_on(run()));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let usage = "usage: lamina-devchain NETWORK FILE";
    let network = arguments.next().context(usage)?.into_string().ok().context(usage)?;
    let file = PathBuf::from(arguments.next().context(usage)?);
    let mut ended = end_of_input();
    tokio::select! {
        result = serve(&network, &file) => result,
        _ = &mut ended => Ok(()),
    }
}

async fn serve(network: &str, file: &std::path::Path) -> Result<()> {
    let mut name = [0; 32];
    let bytes = network.as_bytes();
    name.get_mut(..bytes.len())
        .context("a network's name has at most 32 bytes")?
        .copy_from_slice(bytes);
    eprintln!("installing anvil and the Solidity compiler, if they aren't there");
    let tools = Tools::install()?;
    let anvil = Anvil::start(&tools, &AnvilOptions::default())?;
    let chain = anvil.chain()?;
    let faucet = faucet(&chain).await?;
    eprintln!("deploying EigenLayer");
    let eigenlayer = EigenLayer::install(&chain, &tools).await?;
    eprintln!("deploying Lamina's contracts");
    let contracts = Contracts::deploy(&chain, &tools, &eigenlayer, name).await?;
    let place = json!({
        "rpc": anvil.url(),
        "chain_id": chain.chain_id().await?,
        "faucet": faucet,
        "lamina": {
            "contracts": {
                "registrar": contracts.registrar,
                "checkpoints": contracts.checkpoints,
                "vault": contracts.vault,
                "tasks": contracts.tasks,
                "slasher": contracts.slasher,
            },
            "start": contracts.start,
            "stride": STRIDE,
            "first_epoch": Contracts::FIRST_EPOCH,
        },
        "token": eigenlayer.token,
        "eigenlayer": {
            "allocation_manager": eigenlayer.allocation_manager,
            "delegation_manager": eigenlayer.delegation_manager,
            "strategy_manager": eigenlayer.strategy_manager,
            "strategy": eigenlayer.strategy,
        },
    });
    // Whoever waits for the file finds all of it.
    let draft = file.with_extension("draft");
    std::fs::write(&draft, serde_json::to_vec_pretty(&place)?)
        .and_then(|()| std::fs::rename(&draft, file))
        .with_context(|| format!("writing {}", file.display()))?;
    loop {
        tokio::time::sleep(BLOCK_INTERVAL).await;
        chain.mine(1).await?;
    }
}

/// The key of a new account that is rich on this chain, in hexadecimal.
async fn faucet(chain: &Chain) -> Result<String> {
    let mut key = [0; 32];
    std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut key))?;
    let account = PrivateKeySigner::from_slice(&key)?.address();
    let wei = U256::from(FAUCET_ETHER) * U256::from(1_000_000_000_000_000_000_u64);
    chain.request::<serde_json::Value>("anvil_setBalance", json!([account, wei])).await?;
    Ok(format!("0x{}", hex::encode(key)))
}

/// Completes at the end of standard input: whoever started this is gone.
fn end_of_input() -> oneshot::Receiver<()> {
    let (ended, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        while std::io::stdin().read(&mut buffer).is_ok_and(|count| count > 0) {}
        let _ = ended.send(());
    });
    receiver
}
