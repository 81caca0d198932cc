use std::collections::VecDeque;
use std::time::Duration;

use lamina_types::{Address, Digest, EpochNumber, Hasher, Height, Timestamp};

use crate::endpoints::Endpoints;
use crate::{EndpointIndex, Failure, RequestId};

/// Most jobs that wait. One more is refused.
pub const JOBS_MAX: usize = 64;
/// How long an answer is waited for; longer than the shell's own limit, which should strike first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// A transaction that would revert is tried so often, with [`SubmitConfig::poll`] between, before its job is given up.
const REVERTS_MAX: u32 = 20;

/// Numbers jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId(pub u64);

/// The operator's turn to submit something: 0 is the first. Ordered by a hash of what it is and who it is, so that every node
/// knows, and each is the first as often as the others.
///
/// Of an operator that isn't among `operators`, it's their number: after all of them.
#[must_use]
pub fn rank(epoch: EpochNumber, height: Height, operators: &[Address], own: &Address) -> u32 {
    let place = |operator: &Address| {
        let mut hasher = Hasher::default();
        hasher.update(&epoch.0.to_be_bytes());
        hasher.update(&height.0.to_be_bytes());
        hasher.update(&operator.0);
        hasher.digest()
    };
    if !operators.contains(own) {
        return u32::try_from(operators.len()).unwrap_or(u32::MAX);
    }
    let mine: Digest = place(own);
    let before = operators.iter().filter(|other| place(other) < mine).count();
    u32::try_from(before).unwrap_or(u32::MAX)
}

/// How transactions are submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmitConfig {
    /// The Ethereum chain (EIP-155).
    pub ethereum_chain: u64,
    /// The account that signs and pays.
    pub account: Address,
    /// What each rank waits longer than the one before. A transaction should get into a block meanwhile: some blocks.
    pub slot: Duration,
    /// A transaction that isn't in a block after so long is replaced by one that pays more.
    pub stuck_after: Duration,
    /// Time between two looks at what became of it.
    pub poll: Duration,
    /// Most that is paid for a unit of gas, in wei.
    pub fee_per_gas_max: u128,
    /// Least tip for a unit of gas, in wei, for chains that suggest none.
    pub tip_per_gas_min: u128,
}

/// What shows that a job is done, whoever did it: a call that returns words, one of which has become large enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Whom to call.
    pub contract: Address,
    /// With what.
    pub input: Vec<u8>,
    /// Which word of the answer.
    pub word: usize,
    /// What it is at least.
    pub at_least: u64,
}

/// A transaction that is to be on the chain, once, from whomever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its number, which the caller chooses and doesn't use again.
    pub id: JobId,
    /// Whom to call.
    pub contract: Address,
    /// With what.
    pub input: Vec<u8>,
    /// Wei that go with it.
    pub value_wei: u128,
    /// What shows that it's done.
    pub done: Probe,
    /// How many slots to wait first: see [`rank`].
    pub rank: u32,
}

/// What a transaction pays for a unit of gas, in wei (EIP-1559).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fees {
    /// At most, in all.
    pub max: u128,
    /// To the block's proposer.
    pub tip: u128,
}

/// What the submitter wants of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmitQuery {
    /// How things stand.
    Survey {
        /// Of whom.
        account: Address,
        /// What shows that the job is done.
        probe: Probe,
    },
    /// What the call would use.
    Estimate {
        /// Who calls.
        account: Address,
        /// Whom.
        contract: Address,
        /// With what.
        input: Vec<u8>,
        /// Wei that go with it.
        value_wei: u128,
    },
    /// Sign this and pass it on. To all endpoints, best: whether one keeps it to itself isn't seen from outside.
    Send {
        /// The transaction's number.
        nonce: u64,
        /// Most gas that it may use.
        gas: u64,
        /// What it pays.
        fees: Fees,
        /// Whom to call.
        contract: Address,
        /// With what.
        input: Vec<u8>,
        /// Wei that go with it.
        value_wei: u128,
    },
}

/// What an endpoint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmitAnswer {
    /// To [`SubmitQuery::Survey`].
    Survey(Survey),
    /// To [`SubmitQuery::Estimate`]: units of gas.
    Gas(u64),
    /// To [`SubmitQuery::Estimate`]: the call would fail, and what it would return.
    Reverts(String),
    /// The transaction was taken, or was there already.
    Sent,
    /// Another one with its number pays too much to be replaced by it.
    Underpriced,
    /// Its number was used.
    NonceTooLow,
    /// The account can't pay it, or what is estimated.
    OutOfFunds,
}

/// How things stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Survey {
    /// The chain's id (EIP-155).
    pub ethereum_chain: u64,
    /// The number of the account's next transaction, as of the latest block.
    pub nonce: u64,
    /// What the account has, in wei; `u128::MAX` if it's more.
    pub balance_wei: u128,
    /// The latest block's base fee, in wei.
    pub base_fee: u128,
    /// The tip that the endpoint suggests, in wei.
    pub tip: u128,
    /// The probe's word as of the latest block.
    pub latest: u64,
    /// The same as of the last finalised one.
    pub finalized: u64,
}

/// What the shell tells the submitter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmitEvent {
    /// Time has passed.
    Tick,
    /// There's something to submit.
    Submit(Job),
    /// A job isn't wanted any more. What was sent of it may still get onto the chain.
    Cancel(JobId),
    /// A question was answered, or not.
    Answered {
        /// Which question.
        request: RequestId,
        /// With what.
        answer: Result<SubmitAnswer, Failure>,
    },
}

/// What the shell must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmitAction {
    /// Ask an endpoint.
    Ask {
        /// What the answer is to refer to.
        request: RequestId,
        /// Whom.
        endpoint: EndpointIndex,
        /// What.
        query: SubmitQuery,
    },
    /// Tell the application.
    Output(SubmitOutput),
}

/// What the application is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmitOutput {
    /// The latest block has it, by whomever. It isn't final yet. Told again after a reorganisation.
    InBlock {
        /// Which one.
        job: JobId,
    },
    /// The job is done, by whomever, and final.
    Done {
        /// Which one.
        job: JobId,
        /// Whether a transaction was sent from here for it.
        sent: bool,
    },
    /// The job was given up.
    GivenUp {
        /// Which one.
        job: JobId,
        /// Why.
        reason: String,
    },
    /// Something for the operator to know.
    Notice(SubmitNotice),
}

/// Something for the operator to know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubmitNotice {
    /// An endpoint doesn't answer as it should; it's asked again later. Told once until it answers.
    Failing {
        /// Which one.
        endpoint: EndpointIndex,
        /// Why.
        failure: Failure,
    },
    /// An endpoint is of another chain than the configuration says.
    WrongChain {
        /// Which one.
        endpoint: EndpointIndex,
        /// Its chain.
        found: u64,
    },
    /// The account can't pay. Told once for each job; it's tried on.
    OutOfFunds {
        /// Which account.
        account: Address,
        /// What it has.
        balance_wei: u128,
        /// What is needed.
        needed_wei: u128,
    },
    /// The chain asks for more than the configuration allows. Told once for each job; it's tried on.
    FeeCap {
        /// What a transaction would have to offer for a unit of gas, in wei.
        needed: u128,
        /// What is allowed.
        cap: u128,
    },
    /// A block with the transaction was replaced by one without it.
    Reorganised {
        /// Which job's.
        job: JobId,
    },
    /// A transaction was replaced by one that pays more.
    Replaced {
        /// Which job's.
        job: JobId,
        /// What it pays now.
        fees: Fees,
    },
    /// There are too many jobs: this one was refused.
    Full {
        /// Which one.
        job: JobId,
    },
}

/// Gets transactions onto the chain, one after the other, from an account of its own, while others try the same: see the
/// head of this crate.
///
/// A job is done when the contract says so as of the `finalized` block; a receipt is never asked for. Until it's
/// in the latest block the number of its transaction is the account's next one by that block, so that whatever is
/// stuck is replaced, and nothing is remembered that could be wrong.
#[derive(Debug)]
pub struct Submitter {
    config: SubmitConfig,
    endpoints: Endpoints,
    /// The first that is ready is worked on.
    jobs: VecDeque<Progress>,
    sent: Option<Sent>,
    open: Option<Open>,
    requests: u64,
    actions: VecDeque<SubmitAction>,
}

/// What was sent last, for whichever job.
#[derive(Debug, Clone, Copy)]
struct Sent {
    nonce: u64,
    fees: Fees,
    at: Timestamp,
    job: JobId,
}

#[derive(Debug)]
struct Progress {
    job: Job,
    /// When to look at it again.
    next: Timestamp,
    was_sent: bool,
    was_in_block: bool,
    reverts: u32,
    told_funds: bool,
    told_fees: bool,
    /// What is needed to build its transaction.
    survey: Option<Survey>,
    gas: Option<u64>,
    /// It was refused as too cheap: the next one pays more, whatever else is known.
    underpriced: bool,
}

#[derive(Debug)]
struct Open {
    request: RequestId,
    endpoint: EndpointIndex,
    job: JobId,
    until: Timestamp,
    sends: Option<(u64, Fees)>,
}

impl Submitter {
    /// # Panics
    /// If there are no endpoints.
    #[must_use]
    pub fn new(config: SubmitConfig, endpoints: usize) -> Self {
        Self {
            config,
            endpoints: Endpoints::new(endpoints),
            jobs: VecDeque::new(),
            sent: None,
            open: None,
            requests: 0,
            actions: VecDeque::new(),
        }
    }

    /// Tells it what happened. Answers to questions that aren't open any more are ignored.
    pub fn handle(&mut self, now: Timestamp, event: SubmitEvent) {
        match event {
            SubmitEvent::Tick => {}
            SubmitEvent::Submit(job) => self.submit(now, job),
            SubmitEvent::Cancel(job) => self.jobs.retain(|progress| progress.job.id != job),
            SubmitEvent::Answered { request, answer } => self.answered(now, request, answer),
        }
        if self.open.as_ref().is_some_and(|open| open.until <= now) {
            let failure = Failure::Unavailable("no answer".to_owned());
            self.failed(now, failure);
        }
        self.proceed(now);
    }

    /// What to do next; `None` until there's another event.
    pub fn poll(&mut self) -> Option<SubmitAction> {
        self.actions.pop_front()
    }

    /// When to call [`Self::handle`] with a tick at the latest; `None` while there are no jobs.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        if let Some(open) = &self.open {
            return Some(open.until);
        }
        let next = self.jobs.iter().map(|progress| progress.next).min()?;
        Some(next.max(self.endpoints.next_usable(&[].into()).unwrap_or_default()))
    }

    fn submit(&mut self, now: Timestamp, job: Job) {
        if self.jobs.len() >= JOBS_MAX {
            self.notice(SubmitNotice::Full { job: job.id });
            return;
        }
        let next = now + self.config.slot.saturating_mul(job.rank);
        self.jobs.push_back(Progress {
            job,
            next,
            was_sent: false,
            was_in_block: false,
            reverts: 0,
            told_funds: false,
            told_fees: false,
            survey: None,
            gas: None,
            underpriced: false,
        });
    }

    /// Asks about the next job that is due.
    fn proceed(&mut self, now: Timestamp) {
        if self.open.is_some() {
            return;
        }
        let Some(endpoint) = self.endpoints.choose(now, &[].into()) else { return };
        let Some(i) = self.jobs.iter().position(|progress| progress.next <= now) else { return };
        let progress = &self.jobs[i];
        let job = progress.job.clone();
        let account = self.config.account;
        let Job { contract, input, value_wei, .. } = job.clone();
        let (query, sends) = match (progress.survey, progress.gas) {
            (None, _) => (SubmitQuery::Survey { account, probe: job.done }, None),
            (Some(_), None) => {
                (SubmitQuery::Estimate { account, contract, input, value_wei }, None)
            }
            (Some(survey), Some(gas)) => {
                let Some(fees) = self.fees(now, i, &survey, gas) else { return };
                let nonce = survey.nonce;
                let send = SubmitQuery::Send { nonce, gas, fees, contract, input, value_wei };
                (send, Some((nonce, fees)))
            }
        };
        self.requests += 1;
        let request = RequestId(self.requests);
        let until = now + ANSWER_TIMEOUT;
        self.open = Some(Open { request, endpoint, job: job.id, until, sends });
        self.actions.push_back(SubmitAction::Ask { request, endpoint, query });
    }

    fn answered(
        &mut self,
        now: Timestamp,
        request: RequestId,
        answer: Result<SubmitAnswer, Failure>,
    ) {
        if self.open.as_ref().is_none_or(|open| open.request != request) {
            return;
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) => return self.failed(now, failure),
        };
        let Some(Open { endpoint, job, sends, .. }) = self.open.take() else { return };
        self.endpoints.succeeded(endpoint);
        let Some(i) = self.jobs.iter().position(|progress| progress.job.id == job) else { return };
        match (answer, sends) {
            (SubmitAnswer::Survey(survey), None) => self.surveyed(now, i, endpoint, survey),
            // A fifth more than estimated: others' transactions may come in between.
            (SubmitAnswer::Gas(gas), None) => {
                self.jobs[i].gas = Some(gas.saturating_add(gas / 5));
            }
            (SubmitAnswer::Reverts(reason), None) => self.reverts(now, i, reason),
            (SubmitAnswer::Sent, Some((nonce, fees))) => {
                self.sent = Some(Sent { nonce, fees, at: now, job });
                self.jobs[i].was_sent = true;
                self.later(now, i);
            }
            (SubmitAnswer::Underpriced, Some((nonce, fees))) => {
                // Something of ours that isn't known here any more: after a restart, say.
                self.sent = Some(Sent { nonce, fees, at: now, job });
                self.jobs[i].underpriced = true;
                self.later(now, i);
            }
            (SubmitAnswer::NonceTooLow, Some(_)) => self.later(now, i),
            (SubmitAnswer::OutOfFunds, sends) => {
                let progress = &self.jobs[i];
                let fee = sends.map_or(0, |(_, fees)| fees.max);
                let gas = u128::from(progress.gas.unwrap_or_default());
                let needed = gas.saturating_mul(fee).saturating_add(progress.job.value_wei);
                let balance = progress.survey.map_or(0, |survey| survey.balance_wei);
                self.out_of_funds(now, i, balance, needed);
            }
            (_, _) => {
                let failure = Failure::Malformed("answer to another question".to_owned());
                self.count_failure(now, endpoint, failure);
                self.later(now, i);
            }
        }
    }

    fn surveyed(&mut self, now: Timestamp, i: usize, endpoint: EndpointIndex, survey: Survey) {
        if survey.ethereum_chain != self.config.ethereum_chain {
            self.endpoints.distrust(endpoint, now);
            let found = survey.ethereum_chain;
            return self.notice(SubmitNotice::WrongChain { endpoint, found });
        }
        let progress = &mut self.jobs[i];
        let id = progress.job.id;
        let enough = progress.job.done.at_least;
        if survey.finalized >= enough {
            let sent = progress.was_sent;
            self.jobs.remove(i);
            self.actions.push_back(SubmitAction::Output(SubmitOutput::Done { job: id, sent }));
            return;
        }
        if survey.latest >= enough {
            if !std::mem::replace(&mut progress.was_in_block, true) {
                let in_block = SubmitOutput::InBlock { job: id };
                self.actions.push_back(SubmitAction::Output(in_block));
            }
            return self.later(now, i);
        }
        if std::mem::take(&mut progress.was_in_block) {
            self.notice(SubmitNotice::Reorganised { job: id });
        }
        // What was sent and can still get into a block is waited for.
        let waits = self.sent.is_some_and(|sent| {
            sent.job == id
                && sent.nonce >= survey.nonce
                && now.since(sent.at) < self.config.stuck_after
                && !self.jobs[i].underpriced
        });
        if waits {
            return self.later(now, i);
        }
        // Another job's transaction is waited for as well, or its number would be taken from it.
        let others = self.sent.is_some_and(|sent| {
            sent.job != id
                && sent.nonce >= survey.nonce
                && now.since(sent.at) < self.config.stuck_after
                && self.jobs.iter().any(|progress| progress.job.id == sent.job)
        });
        if others {
            return self.later(now, i);
        }
        self.jobs[i].survey = Some(survey);
    }

    /// What the job's transaction pays; `None` if it can't be sent now.
    fn fees(&mut self, now: Timestamp, i: usize, survey: &Survey, gas: u64) -> Option<Fees> {
        let cap = self.config.fee_per_gas_max;
        let tip = survey.tip.max(self.config.tip_per_gas_min);
        let mut fees = Fees { max: survey.base_fee.saturating_mul(2).saturating_add(tip), tip };
        let replaced = self.sent.filter(|sent| sent.nonce >= survey.nonce);
        if let Some(sent) = replaced {
            fees.max = fees.max.max(bumped(sent.fees.max));
            fees.tip = fees.tip.max(bumped(sent.fees.tip));
        } else if survey.base_fee < cap {
            // A block would take it at the cap.
            fees.max = fees.max.min(cap);
            fees.tip = fees.tip.min(fees.max);
        }
        if fees.max > cap {
            if !std::mem::replace(&mut self.jobs[i].told_fees, true) {
                self.notice(SubmitNotice::FeeCap { needed: fees.max, cap });
            }
            let Some(sent) = replaced else {
                self.later(now, i);
                return None;
            };
            // The same once more, in case that nodes have forgotten it.
            fees = sent.fees;
        }
        let needed =
            u128::from(gas).saturating_mul(fees.max).saturating_add(self.jobs[i].job.value_wei);
        if survey.balance_wei < needed {
            self.out_of_funds(now, i, survey.balance_wei, needed);
            return None;
        }
        if replaced.is_some_and(|sent| sent.fees != fees) {
            let job = self.jobs[i].job.id;
            self.notice(SubmitNotice::Replaced { job, fees });
        }
        self.jobs[i].underpriced = false;
        Some(fees)
    }

    fn out_of_funds(&mut self, now: Timestamp, i: usize, balance_wei: u128, needed_wei: u128) {
        let tell = !std::mem::replace(&mut self.jobs[i].told_funds, true);
        self.later(now, i);
        if tell {
            let account = self.config.account;
            self.notice(SubmitNotice::OutOfFunds { account, balance_wei, needed_wei });
        }
    }

    fn reverts(&mut self, now: Timestamp, i: usize, reason: String) {
        self.jobs[i].reverts += 1;
        if self.jobs[i].reverts < REVERTS_MAX {
            return self.later(now, i);
        }
        if let Some(Progress { job, .. }) = self.jobs.remove(i) {
            let given_up = SubmitOutput::GivenUp { job: job.id, reason };
            self.actions.push_back(SubmitAction::Output(given_up));
        }
    }

    /// Looks at the job anew, after a while.
    fn later(&mut self, now: Timestamp, i: usize) {
        let poll = self.config.poll;
        let progress = &mut self.jobs[i];
        progress.survey = None;
        progress.gas = None;
        progress.next = now + poll;
    }

    fn failed(&mut self, now: Timestamp, failure: Failure) {
        let Some(Open { endpoint, job, sends, .. }) = self.open.take() else { return };
        self.count_failure(now, endpoint, failure);
        if let Some(i) = self.jobs.iter().position(|progress| progress.job.id == job) {
            // It may have been passed on all the same; then the next try is "already known", or replaces it.
            self.jobs[i].was_sent |= sends.is_some();
            self.later(now, i);
            // Another endpoint is asked at once.
            self.jobs[i].next = now;
        }
    }

    fn count_failure(&mut self, now: Timestamp, endpoint: EndpointIndex, failure: Failure) {
        if self.endpoints.failed(endpoint, now) == 1 {
            self.notice(SubmitNotice::Failing { endpoint, failure });
        }
    }

    fn notice(&mut self, notice: SubmitNotice) {
        self.actions.push_back(SubmitAction::Output(SubmitOutput::Notice(notice)));
    }
}

/// An eighth more: nodes ask for a tenth to replace a transaction.
const fn bumped(fee: u128) -> u128 {
    fee.saturating_add(fee / 8).saturating_add(1)
}
