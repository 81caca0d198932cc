//! The whole way over Ethereum, with real stake: registration, epoch, anchor, deposit, claim, slashing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may, their helpers included")]

mod harness;

use alloy::primitives::U256;
use anyhow::{Context as _, Result};
use harness::{ETHER, Following, Submitting, World, lamina_chain, while_mining};
use lamina_certificate::{Checkpoint, Evidence, FeeSchedule, OperatorSet, Signature, SignedTwice};
use lamina_ethereum_core::{Fact, Job, JobId, Snapshot, abi, calls};
use lamina_ledger::state::claims::{self, Claims};
use lamina_ledger::state::{Env, Module as _, Origin, Scope};
use lamina_ledger::testing::MemoryState;
use lamina_types::account::SigningContext;
use lamina_types::{
    Action, Address, Amount, Asset, CheckpointHeader, Digest, HeaderId, Height, OperationId,
    OperatorIndex, Timestamp, signing,
};

#[tokio::test]
async fn value_and_stake_take_the_whole_way() -> Result<()> {
    let world = World::new(4).await?;
    let (chain, contracts) = (&world.chain, world.lamina_contracts());
    let owner = world.eigenlayer.owner;
    world.roll().await?;

    // The epoch's snapshot is what the project's own set of these operators would be.
    let mut following = world.follow();
    let snapshot = while_mining(chain, following.find(snapshot_of)).await?;
    let set =
        OperatorSet::of_operators(lamina_chain(), snapshot.epoch, snapshot.operators.clone())?;
    assert_eq!(set.root(), snapshot.root);
    assert_eq!(set.consensus_set().root(), snapshot.consensus_root);
    let stakes: Vec<_> = set.iter().map(|(_, operator)| operator.stake_gwei).collect();
    assert_eq!(stakes, [100, 200, 300, 400].map(|ether| ether * 1_000_000_000));
    let accounts: Vec<_> = set.iter().map(|(_, operator)| operator.address).collect();
    assert_eq!(accounts, world.operators.iter().map(|o| o.account).collect::<Vec<_>>());
    let proven = |fact: &Fact| match fact {
        Fact::OperatorRegistered(registration) => Some(registration.peer_is_proven),
        _ => None,
    };
    assert_eq!(following.facts().filter_map(proven).collect::<Vec<_>>(), [true; 4]);

    // A deposit is seen, and credited on a ledger.
    let account = Address([7; 20]);
    let deposit = abi::Vault::depositEtherCall { account: account.0.into() };
    let wei = U256::from(5 * ETHER);
    let deposit = alloy::sol_types::SolCall::abi_encode(&deposit);
    chain.pay(owner, world.contracts.vault, deposit, wei).await?;
    let deposit = while_mining(chain, following.find(deposit_of)).await?;
    assert_eq!((deposit.account, deposit.asset), (account, Asset::Ether));
    assert_eq!(deposit.amount, Amount(5 * ETHER));
    let state = MemoryState::default();
    let mut scope = Scope::new(&state);
    claims::credit_deposit(&mut scope, account, deposit.asset, deposit.amount, &deposit.id())
        .unwrap();

    // The account withdraws to Ethereum, and the checkpoint that holds it is signed by all but the first.
    let recipient = Address([8; 20]);
    let amount = Amount(2 * ETHER);
    let context = SigningContext { chain: lamina_chain(), ethereum_chain: harness::ETHEREUM_CHAIN };
    let fees = FeeSchedule::default();
    let ethereum = following.cursor.last.context("it has followed")?;
    let env = Env {
        height: Height(9),
        time: Timestamp(1),
        epoch: set.epoch(),
        ethereum,
        context: &context,
        fees: &fees,
    };
    let withdraw = Action::Withdraw { recipient, asset: Asset::Ether, amount };
    let origin = Origin { operation: OperationId([1; 32]), account };
    Claims.apply(&mut scope, &env, &origin, &withdraw).unwrap();
    let header = CheckpointHeader {
        epoch: set.epoch(),
        height: env.height,
        previous: HeaderId([3; 32]),
        history: Digest([4; 32]),
        cut: Digest([5; 32]),
        state: Digest([6; 32]),
        claims: claims::root(&scope)?,
        results: Digest([0; 32]),
        ethereum,
        time: env.time,
        operators: set.root(),
        next_operators: set.root(),
    };
    let checkpoint = world.sign(header);
    checkpoint.verify(&set.consensus_set())?;

    // It's anchored by someone whom no operator knows, read back, and final.
    let mut submitting =
        Submitting::new(world.submit_config(), &[world.anvil.url()], world.key(50, ETHER).await?);
    let job = Job {
        id: JobId(1),
        contract: contracts.checkpoints,
        input: calls::anchor(&checkpoint.certificate),
        value_wei: 0,
        done: calls::is_anchored(contracts.checkpoints, checkpoint.header.height),
        rank: 0,
    };
    submitting.commands.send(lamina_ethereum::Command::Submit(job)).await?;
    assert!(while_mining(chain, submitting.done(JobId(1))).await?);
    let anchored = while_mining(chain, following.find(anchor_of)).await?;
    assert_eq!(anchored, (Height(9), checkpoint.certificate.header));
    let latest = chain.call(world.contracts.checkpoints, &abi::Checkpoints::latestCall {}).await?;
    assert_eq!(latest.header.0, checkpoint.certificate.header.0);
    let id = abi::Checkpoints::headerIdCall { header: calls::solidity_header(&checkpoint.header) };
    let id = chain.call(world.contracts.checkpoints, &id).await?;
    assert_eq!(id.0, checkpoint.header.id(&lamina_chain()).0);
    verified_elsewhere(&world, &checkpoint)?;
    read_by_cast(&world, &checkpoint)?;

    // The claim is paid by proof.
    let record = claims::claim(&scope, 0)?.context("there's a claim")?;
    let siblings = claims::claim_proof(&scope, 0)?.context("it has a proof")?;
    let claim = calls::ProvenClaim {
        index: 0,
        recipient: record.claim.recipient,
        asset: record.claim.asset,
        amount: record.claim.amount,
        siblings,
    };
    let proof = calls::HeaderProof { header: checkpoint.header.clone(), through: None };
    let job = Job {
        id: JobId(2),
        contract: contracts.vault,
        input: calls::withdraw(&[claim], &proof),
        value_wei: 0,
        done: calls::is_paid(contracts.vault, 0),
        rank: 0,
    };
    submitting.commands.send(lamina_ethereum::Command::Submit(job)).await?;
    assert!(while_mining(chain, submitting.done(JobId(2))).await?);
    let balance: U256 = chain
        .request("eth_getBalance", serde_json::json!([recipient.to_string(), "latest"]))
        .await?;
    assert_eq!(balance, U256::from(2 * ETHER));

    // The third operator signs two headers in one round, and loses half of its stake in EigenLayer's own numbers.
    let offender = &world.operators[2];
    let stake = || async {
        let account = offender.account.0.into();
        world.eigenlayer.slashable_stake(chain, account, world.contracts.authority).await
    };
    let before = stake().await?;
    let votes = two_precommits(&set, offender);
    let evidence = Evidence::Precommits {
        epoch: set.epoch(),
        height: Height(9),
        round: 0,
        operator: OperatorIndex(2),
        votes,
    };
    let sets = std::sync::Arc::new(set.clone());
    assert_eq!(evidence.verify(|_| Some(sets.clone()))?, offender.account);
    let offence = evidence.place(&lamina_chain(), &offender.account);
    let job = Job {
        id: JobId(3),
        contract: contracts.slasher,
        input: calls::slash_precommits(set.epoch(), Height(9), 0, 2, &votes),
        value_wei: 0,
        done: calls::is_slashed(contracts.slasher, &offence),
        rank: 0,
    };
    submitting.commands.send(lamina_ethereum::Command::Submit(job)).await?;
    assert!(while_mining(chain, submitting.done(JobId(3))).await?);
    let slashed = while_mining(chain, following.find(slashed_of)).await?;
    assert_eq!(slashed, (offender.account, offence));
    let after = stake().await?;
    assert!(after <= before / U256::from(2), "{before} before, {after} after");
    assert!(after > before / U256::from(3), "{before} before, {after} after");

    // The next epoch has the smaller stake; a follower that begins now is told the same.
    chain.mine(2).await?;
    world.roll().await?;
    let second = |fact: &Fact| snapshot_of(fact).filter(|snapshot| snapshot.epoch.0 == 1);
    let second = while_mining(chain, following.find(second)).await?;
    assert!(second.operators[2].stake_gwei <= 150_000_000_000);
    following.reach(second_block(&following)).await?;
    let mut late = world.follow();
    late.reach(following.cursor.last.context("it has followed")?.number).await?;
    let facts: Vec<_> = following.facts().collect();
    assert_eq!(late.facts().take(facts.len()).collect::<Vec<_>>(), facts);
    Ok(())
}

fn second_block(following: &Following) -> u64 {
    following.blocks.last().map_or(0, |block| block.block.number)
}

fn two_precommits(
    set: &OperatorSet,
    offender: &harness::Operator,
) -> SignedTwice<Option<HeaderId>, Signature> {
    let vote = |header: Option<HeaderId>| {
        let message =
            signing::precommit(&lamina_chain(), set.epoch(), Height(9), 0, header.as_ref());
        (header, offender.bls.sign(&message))
    };
    let (first, first_signature) = vote(Some(HeaderId([1; 32])));
    let (second, second_signature) = vote(Some(HeaderId([2; 32])));
    SignedTwice { first, first_signature, second, second_signature }
}

fn snapshot_of(fact: &Fact) -> Option<Snapshot> {
    match fact {
        Fact::EpochStarted(snapshot) => Some(snapshot.clone()),
        _ => None,
    }
}

fn deposit_of(fact: &Fact) -> Option<lamina_ethereum_core::Deposit> {
    match fact {
        Fact::Deposited(deposit) => Some(*deposit),
        _ => None,
    }
}

fn anchor_of(fact: &Fact) -> Option<(Height, HeaderId)> {
    match fact {
        Fact::Anchored { height, header, .. } => Some((*height, *header)),
        _ => None,
    }
}

fn slashed_of(fact: &Fact) -> Option<(Address, Digest)> {
    match fact {
        Fact::Slashed { operator, offence } => Some((*operator, *offence)),
        _ => None,
    }
}

/// `@noble/curves`, which shares no code with blst, verifies the certificate from its bytes.
fn verified_elsewhere(world: &World, checkpoint: &Checkpoint) -> Result<()> {
    let certificate = &checkpoint.certificate;
    let message = signing::precommit(
        &lamina_chain(),
        certificate.epoch,
        certificate.height,
        certificate.round,
        Some(&certificate.header),
    );
    let signers = certificate.signers.iter().map(|i| &world.operators[usize::from(i.0)]);
    let keys: Vec<_> = signers.map(|o| hex(&o.bls.public_key().to_bytes())).collect();
    let output = std::process::Command::new("node")
        .args(["--input-type=module", "-e", VERIFY])
        .args([hex(&certificate.signature.to_bytes()), hex(&message.0)])
        .args(keys)
        .current_dir(world.tools.contracts())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said.trim(), "true false", "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Says whether the signature holds, and whether it holds with the first of the keys twice.
const VERIFY: &str = r#"
import { bls12_381 } from "@noble/curves/bls12-381.js";
import { hexToBytes } from "@noble/curves/utils.js";
const [signature, message, ...keys] = process.argv.slice(1).map(hexToBytes);
const bls = bls12_381.longSignatures;
const hashed = bls.hash(message, "BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_");
const holds = (keys) => bls.verify(signature, hashed, bls.aggregatePublicKeys(keys));
console.log(holds(keys), holds([keys[0], ...keys]));
"#;

/// `cast` reads the anchor back, and it's the header's hash.
fn read_by_cast(world: &World, checkpoint: &Checkpoint) -> Result<()> {
    let output = std::process::Command::new(world.tools.cast())
        .args(["call", "--rpc-url", &world.anvil.url()])
        .arg(world.contracts.checkpoints.to_string())
        .arg("latest()(bytes32,uint64,uint64,uint40)")
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let id = checkpoint.header.id(&lamina_chain());
    assert_eq!(said.lines().next(), Some(id.to_string().as_str()), "{said}");
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
