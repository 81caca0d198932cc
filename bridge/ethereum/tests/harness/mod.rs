//! A development chain with EigenLayer, Lamina's contracts and operators with real stake.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may, their helpers included")]
#![allow(dead_code, reason = "each test uses a part")]

use std::time::Duration;

use alloy::primitives::U256;
use alloy::sol_types::SolCall;
use anyhow::{Context as _, Result, bail};
use ed25519_dalek::{Signer as _, SigningKey};
use lamina_bridge_testing::{Anvil, AnvilOptions, Chain, Contracts, EigenLayer, Tools};
use lamina_certificate::{Checkpoint, CheckpointCertificate, SecretKey, Signature, SignerBitmap};
use lamina_ethereum::{Command, Endpoints, PrivateKeySigner, follow, submit};
use lamina_ethereum_core::{
    Config, Cursor, Fact, FinalBlock, Job, JobId, Notice, Output, SubmitConfig, SubmitNotice,
    SubmitOutput, abi, calls,
};
use lamina_types::{
    Address, ChainId, CheckpointHeader, Digest, EpochNumber, EthereumBlock, HeaderId, Height,
    OperatorIndex, PeerKey, Timestamp, signing,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub(crate) const ETHER: u128 = 1_000_000_000_000_000_000;
/// anvil's.
pub(crate) const ETHEREUM_CHAIN: u64 = 31_337;
const WAIT: Duration = Duration::from_secs(60);

pub(crate) fn lamina_chain() -> ChainId {
    "lamina-test-1".parse().unwrap()
}

pub(crate) struct Operator {
    pub(crate) account: Address,
    pub(crate) bls: SecretKey,
    pub(crate) peer: SigningKey,
}

pub(crate) struct World {
    pub(crate) tools: Tools,
    pub(crate) anvil: Anvil,
    pub(crate) chain: Chain,
    pub(crate) eigenlayer: EigenLayer,
    pub(crate) contracts: Contracts,
    pub(crate) operators: Vec<Operator>,
}

impl World {
    /// All contracts, and so many operators, of which each has 100 ether more at stake than the one before.
    pub(crate) async fn new(operators: u8) -> Result<Self> {
        let tools = Tools::install()?;
        let anvil = Anvil::start(&tools, &AnvilOptions::default())?;
        let chain = anvil.chain()?;
        let eigenlayer = EigenLayer::install(&chain, &tools).await?;
        let name = lamina_chain().to_bytes32();
        let contracts = Contracts::deploy(&chain, &tools, &eigenlayer, name).await?;
        let mut world = Self { tools, anvil, chain, eigenlayer, contracts, operators: Vec::new() };
        for _ in 0..operators {
            world.add_operator().await?;
        }
        world.chain.mine(2).await?;
        Ok(world)
    }

    /// Stakes with EigenLayer and registers through Lamina's registrar.
    pub(crate) async fn add_operator(&mut self) -> Result<()> {
        let i = u8::try_from(self.operators.len())?;
        let account = self.chain.accounts().await?[usize::from(i) + 1];
        let operator = Operator {
            account: Address(account.into()),
            bls: SecretKey::derive(&[i + 1; 32]),
            peer: SigningKey::from_bytes(&[i + 1; 32]),
        };
        let (chain, avs) = (&self.chain, self.contracts.authority);
        let stake = 100 * ETHER * (u128::from(i) + 1);
        self.eigenlayer.add_operator(chain, account, stake).await?;
        chain.mine(2).await?;
        let data = operator.registration(&Address(self.contracts.registrar.into()));
        self.eigenlayer.register(chain, account, avs, data).await?;
        self.eigenlayer.allocate(chain, account, avs, 1_000_000_000_000_000_000).await?;
        self.operators.push(operator);
        Ok(())
    }

    /// Snapshots the next epoch.
    pub(crate) async fn roll(&self) -> Result<()> {
        let checkpoints = self.contracts.checkpoints;
        let input = calls::roll(None);
        self.chain.pay(self.eigenlayer.owner, checkpoints, input, Default::default()).await?;
        Ok(())
    }

    /// The certificate of a checkpoint of the first epoch, by all operators but the first.
    pub(crate) fn sign(&self, header: CheckpointHeader) -> Checkpoint {
        let id = header.id(&lamina_chain());
        let message =
            signing::precommit(&lamina_chain(), header.epoch, header.height, 0, Some(&id));
        let mut signers = SignerBitmap::empty(u16::try_from(self.operators.len()).unwrap());
        let mut signatures = Vec::new();
        for (index, operator) in (0..).map(OperatorIndex).zip(&self.operators).skip(1) {
            signers.insert(index);
            signatures.push(operator.bls.sign(&message));
        }
        let certificate = CheckpointCertificate {
            epoch: header.epoch,
            height: header.height,
            round: 0,
            header: id,
            signers,
            signature: Signature::aggregate(&signatures).unwrap(),
        };
        Checkpoint { header, certificate }
    }

    /// A header of the first epoch.
    pub(crate) fn header(height: Height) -> CheckpointHeader {
        CheckpointHeader {
            epoch: EpochNumber(Contracts::FIRST_EPOCH),
            height,
            previous: HeaderId([1; 32]),
            history: Digest([2; 32]),
            cut: Digest([3; 32]),
            state: Digest([4; 32]),
            claims: Digest([5; 32]),
            results: Digest([6; 32]),
            ethereum: EthereumBlock::default(),
            time: Timestamp(height.0),
            operators: Digest([7; 32]),
            next_operators: Digest([8; 32]),
        }
    }

    /// A job that anchors a checkpoint of this height.
    pub(crate) fn anchor(&self, id: u64, height: u64, rank: u32) -> Job {
        let checkpoint = self.sign(Self::header(Height(height)));
        let contract = Address(self.contracts.checkpoints.into());
        Job {
            id: JobId(id),
            contract,
            input: calls::anchor(&checkpoint.certificate),
            value_wei: 0,
            done: calls::is_anchored(contract, checkpoint.header.height),
            rank,
        }
    }

    /// Deposits an ether for the account.
    pub(crate) async fn deposit(&self, account: u8) -> Result<()> {
        let call = abi::Vault::depositEtherCall { account: [account; 20].into() };
        let (input, wei) = (SolCall::abi_encode(&call), U256::from(ETHER));
        self.chain.pay(self.eigenlayer.owner, self.contracts.vault, input, wei).await.map(drop)
    }

    pub(crate) fn lamina_contracts(&self) -> lamina_ethereum_core::Contracts {
        let of = |address: alloy::primitives::Address| Address(address.into());
        lamina_ethereum_core::Contracts {
            registrar: of(self.contracts.registrar),
            checkpoints: of(self.contracts.checkpoints),
            vault: of(self.contracts.vault),
            tasks: of(self.contracts.tasks),
            slasher: of(self.contracts.slasher),
        }
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            chain: lamina_chain(),
            ethereum_chain: ETHEREUM_CHAIN,
            contracts: self.lamina_contracts(),
            start: self.contracts.start,
            first_epoch: Contracts::FIRST_EPOCH,
            stride: 1,
            agreement: 1,
            poll: Duration::from_millis(50),
        }
    }

    pub(crate) fn follow(&self) -> Following {
        Following::new(self.config(), &[self.anvil.url()], Cursor::start())
    }

    pub(crate) fn submit_config(&self) -> SubmitConfig {
        SubmitConfig {
            ethereum_chain: ETHEREUM_CHAIN,
            account: Address::default(),
            slot: Duration::from_secs(1),
            stuck_after: Duration::from_millis(700),
            poll: Duration::from_millis(50),
            fee_per_gas_max: 1_000_000_000_000,
            tip_per_gas_min: 1_000_000,
        }
    }

    /// A submitter with a key of its own, whose account has so much to spend.
    pub(crate) async fn submit(&self, seed: u8, wei: u128) -> Result<Submitting> {
        let key = self.key(seed, wei).await?;
        Ok(Submitting::new(self.submit_config(), &[self.anvil.url()], key))
    }

    /// A key that isn't one of anvil's, with so much to spend.
    pub(crate) async fn key(&self, seed: u8, wei: u128) -> Result<PrivateKeySigner> {
        let key = PrivateKeySigner::from_bytes(&[seed; 32].into())?;
        self.chain
            .request::<serde_json::Value>(
                "anvil_setBalance",
                serde_json::json!([key.address(), U256::from(wei)]),
            )
            .await?;
        Ok(key)
    }
}

impl Operator {
    pub(crate) fn peer_key(&self) -> PeerKey {
        PeerKey(self.peer.verifying_key().to_bytes())
    }

    pub(crate) fn registration(&self, registrar: &Address) -> Vec<u8> {
        let (chain, peer) = (lamina_chain(), self.peer_key());
        let message = signing::peer_possession(&chain, &self.account, &peer);
        let proof = self.peer.sign(&message.0).to_bytes();
        calls::registration(&chain, &self.account, registrar, &self.bls, &peer, &proof)
    }
}

/// A follower that runs, and what it has told.
pub(crate) struct Following {
    outputs: mpsc::Receiver<Output>,
    task: JoinHandle<()>,
    pub(crate) blocks: Vec<FinalBlock>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) cursor: Cursor,
}

impl Following {
    pub(crate) fn new(config: Config, urls: &[String], cursor: Cursor) -> Self {
        let (sender, outputs) = mpsc::channel(4);
        let endpoints = Endpoints::new(urls).unwrap();
        let task = tokio::spawn(follow(config, endpoints, cursor.clone(), sender));
        Self { outputs, task, blocks: Vec::new(), notices: Vec::new(), cursor }
    }

    /// Waits for the next output.
    pub(crate) async fn next(&mut self) -> Result<()> {
        let output = tokio::time::timeout(WAIT, self.outputs.recv()).await;
        match output.context("nothing was told")?.context("the follower ended")? {
            Output::Followed { blocks, cursor } => {
                self.blocks.extend(blocks);
                self.cursor = *cursor;
            }
            Output::Notice(notice) => self.notices.push(notice),
        }
        Ok(())
    }

    /// Waits until there's a fact that `wanted` takes, and returns what it makes of it.
    pub(crate) async fn find<T>(&mut self, wanted: impl Fn(&Fact) -> Option<T>) -> Result<T> {
        loop {
            if let Some(found) = self.facts().find_map(&wanted) {
                return Ok(found);
            }
            self.next().await?;
        }
    }

    /// Waits until a notice that `wanted` takes.
    pub(crate) async fn notice(&mut self, wanted: impl Fn(&Notice) -> bool) -> Result<()> {
        while !self.notices.iter().any(&wanted) {
            self.next().await?;
        }
        Ok(())
    }

    pub(crate) async fn reach(&mut self, block: u64) -> Result<()> {
        while self.cursor.last.is_none_or(|last| last.number < block) {
            self.next().await?;
        }
        Ok(())
    }

    pub(crate) fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.blocks.iter().flat_map(|block| &block.facts)
    }

    pub(crate) async fn stop(self) -> Result<()> {
        drop(self.outputs);
        self.task.await?;
        Ok(())
    }
}

/// A submitter that runs.
pub(crate) struct Submitting {
    pub(crate) commands: mpsc::Sender<Command>,
    outputs: mpsc::Receiver<SubmitOutput>,
    pub(crate) told: Vec<SubmitOutput>,
}

impl Submitting {
    pub(crate) fn new(config: SubmitConfig, urls: &[String], key: PrivateKeySigner) -> Self {
        let (commands, received) = mpsc::channel(4);
        let (sender, outputs) = mpsc::channel(64);
        let endpoints = Endpoints::new(urls).unwrap();
        tokio::spawn(submit(config, endpoints, key, received, sender));
        Self { commands, outputs, told: Vec::new() }
    }

    /// Waits until an output that `wanted` takes.
    pub(crate) async fn find(
        &mut self,
        wanted: impl Fn(&SubmitOutput) -> bool,
    ) -> Result<SubmitOutput> {
        loop {
            if let Some(found) = self.told.iter().find(|output| wanted(output)) {
                return Ok(found.clone());
            }
            let output = tokio::time::timeout(WAIT, self.outputs.recv()).await;
            let Ok(output) = output else { bail!("nothing more than {:?}", self.told) };
            self.told.push(output.context("the submitter ended")?);
        }
    }

    /// Waits until a notice that `wanted` takes.
    pub(crate) async fn notice(&mut self, wanted: impl Fn(&SubmitNotice) -> bool) -> Result<()> {
        let is_wanted = |output: &SubmitOutput| match output {
            SubmitOutput::Notice(notice) => wanted(notice),
            _ => false,
        };
        self.find(is_wanted).await.map(drop)
    }

    /// Waits until the job is done; tells whether a transaction was sent from here.
    pub(crate) async fn done(&mut self, id: JobId) -> Result<bool> {
        let is_end = |output: &SubmitOutput| match output {
            SubmitOutput::Done { job, .. } | SubmitOutput::GivenUp { job, .. } => *job == id,
            SubmitOutput::InBlock { .. } | SubmitOutput::Notice(_) => false,
        };
        match self.find(is_end).await? {
            SubmitOutput::Done { sent, .. } => Ok(sent),
            other => bail!("{other:?} after {:?}", self.told),
        }
    }
}

/// Makes blocks until what is awaited is there: what's in a block becomes final by others.
pub(crate) async fn while_mining<T>(
    chain: &Chain,
    awaited: impl Future<Output = Result<T>>,
) -> Result<T> {
    let mut awaited = std::pin::pin!(awaited);
    loop {
        tokio::select! {
            result = &mut awaited => return result,
            () = tokio::time::sleep(Duration::from_millis(100)) => chain.mine(1).await?,
        }
    }
}
