use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use lamina_types::{Digest, EthereumBlock, Timestamp};

use crate::decode::{Account, Draft, Lie};
use crate::endpoints::Endpoints;
use crate::{
    Answer, Config, Cursor, EndpointIndex, Failure, FinalBlock, LOGS_MAX, Log, Query, RequestId,
};

/// Most strides in one step: so many blocks are asked for, one by one.
const STRIDES_MAX: u64 = 32;
/// Most blocks in one question for events, to begin with. Endpoints that allow fewer say so, and get fewer.
const LOG_RANGE_MAX: u64 = 2_000;
/// How long an answer is waited for; longer than the shell's own limit, which should strike first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// What the shell tells the follower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// A question was answered, or not.
    Answered {
        /// Which question.
        request: RequestId,
        /// With what.
        answer: Result<Answer, Failure>,
    },
}

/// What the shell must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask an endpoint.
    Ask {
        /// What the answer is to refer to.
        request: RequestId,
        /// Whom.
        endpoint: EndpointIndex,
        /// What.
        query: Query,
    },
    /// Tell the application.
    Output(Output),
}

/// What the application is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The chain is final up to the last of these blocks, and this is all that happened since the last time.
    Followed {
        /// Ascending; the last one's number is a multiple of the stride. Others are there because something happened in them,
        /// or because their number is such a multiple.
        blocks: Vec<FinalBlock>,
        /// To be stored together with what is made of the facts.
        cursor: Box<Cursor>,
    },
    /// Something for the operator to know.
    Notice(Notice),
}

/// Something for the operator to know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
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
    /// An endpoint has another block where one was final.
    Contradiction {
        /// Which one.
        endpoint: EndpointIndex,
        /// What was final.
        emitted: EthereumBlock,
        /// The hash that it has there.
        found: Digest,
    },
    /// What an endpoint says can't be.
    Lying {
        /// Which one.
        endpoint: EndpointIndex,
        /// Why not.
        lie: Lie,
    },
    /// An endpoint said something else than enough others did.
    Outvoted {
        /// Which one.
        endpoint: EndpointIndex,
    },
    /// No so many endpoints as must agree said the same.
    Disagreement {
        /// What they were asked for ends here.
        to: u64,
    },
}

/// Follows the finalised chain: see the head of this crate.
///
/// One question is open at a time. Each step asks one endpoint after the other for the same span of blocks, until as many
/// as configured gave the same account of it; only then it's emitted, and the next step begins where it ended.
#[derive(Debug)]
pub struct Follower {
    config: Config,
    cursor: Cursor,
    endpoints: Endpoints,
    step: Step,
    interview: Option<Interview>,
    open: Option<Open>,
    /// Strides in the next step.
    strides: u64,
    /// Blocks in the next question for events.
    log_range: u64,
    requests: u64,
    idle_until: Timestamp,
    actions: VecDeque<Action>,
}

/// What was said of the span that begins after the cursor.
#[derive(Debug, Default)]
struct Step {
    /// The span's last block, which the first endpoint determines.
    to: Option<u64>,
    asked: BTreeSet<EndpointIndex>,
    accounts: Vec<(EndpointIndex, Account)>,
}

#[derive(Debug)]
struct Open {
    request: RequestId,
    until: Timestamp,
}

/// How far an endpoint was asked.
#[derive(Debug)]
struct Interview {
    endpoint: EndpointIndex,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Status,
    Blocks { finalized: EthereumBlock, numbers: Vec<u64> },
    Logs { boundaries: Vec<EthereumBlock>, logs: Vec<Log>, from: u64, to: u64 },
    Members(Draft),
}

/// What comes of an answer.
enum Next {
    Ask(Stage, Query),
    /// The endpoint has nothing after the cursor.
    NothingNew,
    /// The endpoint hasn't all that another one has: the span could end here.
    Lagging(u64),
    Told(Account),
    Failed(Failure),
    /// The span has too many events to be told at once.
    TooLong,
    Distrusted(Notice),
}

impl Follower {
    /// A follower that goes on from `cursor`.
    ///
    /// # Panics
    /// If there are no endpoints, or the stride is zero.
    #[must_use]
    pub fn new(mut config: Config, endpoints: usize, cursor: Cursor) -> Self {
        assert!(config.stride > 0, "a stride has a block at least");
        config.agreement = config.agreement.clamp(1, endpoints.max(1));
        Self {
            config,
            cursor,
            endpoints: Endpoints::new(endpoints),
            step: Step::default(),
            interview: None,
            open: None,
            strides: STRIDES_MAX,
            log_range: LOG_RANGE_MAX,
            requests: 0,
            idle_until: Timestamp(0),
            actions: VecDeque::new(),
        }
    }

    /// Tells it what happened. Answers to questions that aren't open any more are ignored.
    pub fn handle(&mut self, now: Timestamp, event: Event) {
        match event {
            Event::Tick => {}
            Event::Answered { request, answer } => self.answered(now, request, answer),
        }
        if self.open.as_ref().is_some_and(|open| open.until <= now) {
            self.open = None;
            let failure = Failure::Unavailable("no answer".to_owned());
            self.conclude(now, Next::Failed(failure));
        }
        self.proceed(now);
    }

    /// What to do next; `None` until there's another event.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Self::handle`] with a tick at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        if let Some(open) = &self.open {
            return Some(open.until);
        }
        // Where all were asked, the next tick ends the step.
        let usable = self.endpoints.next_usable(&self.step.asked).unwrap_or_default();
        Some(self.idle_until.max(usable))
    }

    /// How far it is.
    #[must_use]
    pub const fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    fn answered(&mut self, now: Timestamp, request: RequestId, answer: Result<Answer, Failure>) {
        if self.open.as_ref().is_none_or(|open| open.request != request) {
            return;
        }
        self.open = None;
        let Some(Interview { endpoint, stage }) = self.interview.take() else { return };
        self.interview = Some(Interview { endpoint, stage: Stage::Status });
        let next = self.judge(endpoint, stage, answer);
        self.conclude(now, next);
    }

    /// Begins with the next endpoint, if it's time.
    fn proceed(&mut self, now: Timestamp) {
        if self.interview.is_some() || now < self.idle_until {
            return;
        }
        if let Some(endpoint) = self.endpoints.choose(now, &self.step.asked) {
            self.interview = Some(Interview { endpoint, stage: Stage::Status });
            self.ask(now, Query::Status);
        } else if !self.step.asked.is_empty() {
            self.give_up(now);
        }
    }

    /// Nobody is left to ask: begins the step anew after a while.
    fn give_up(&mut self, now: Timestamp) {
        let step = std::mem::take(&mut self.step);
        if let Some(to) = step.to
            && step.accounts.len() >= self.config.agreement
        {
            self.notice(Notice::Disagreement { to });
        }
        self.idle_until = now + self.config.poll;
    }

    fn ask(&mut self, now: Timestamp, query: Query) {
        let Some(interview) = &self.interview else { return };
        self.requests += 1;
        let request = RequestId(self.requests);
        self.open = Some(Open { request, until: now + ANSWER_TIMEOUT });
        self.actions.push_back(Action::Ask { request, endpoint: interview.endpoint, query });
    }

    fn judge(
        &mut self,
        endpoint: EndpointIndex,
        stage: Stage,
        answer: Result<Answer, Failure>,
    ) -> Next {
        let lying = |lie| Next::Distrusted(Notice::Lying { endpoint, lie });
        match (stage, answer) {
            (Stage::Logs { boundaries, logs, from, to }, Err(Failure::TooMany(why))) => {
                // The same in smaller portions, until a single block is too much.
                if from == to {
                    return Next::Failed(Failure::TooMany(why));
                }
                self.log_range = (to - from).div_ceil(2);
                self.ask_logs(boundaries, logs, from)
            }
            (_, Err(failure)) => Next::Failed(failure),
            (Stage::Status, Ok(Answer::Status { ethereum_chain, finalized })) => {
                if ethereum_chain == self.config.ethereum_chain {
                    self.judge_status(finalized)
                } else {
                    Next::Distrusted(Notice::WrongChain { endpoint, found: ethereum_chain })
                }
            }
            (Stage::Blocks { finalized, numbers }, Ok(Answer::Blocks(blocks))) => {
                self.judge_blocks(endpoint, finalized, &numbers, blocks)
            }
            (Stage::Logs { boundaries, mut logs, to, .. }, Ok(Answer::Logs(more))) => {
                logs.extend(more);
                if logs.len() > LOGS_MAX {
                    return Next::TooLong;
                }
                self.judge_logs(boundaries, logs, to).unwrap_or_else(lying)
            }
            (Stage::Members(mut draft), Ok(Answer::Members(members))) => {
                let filled = draft.fill(&self.config, &members);
                filled.map_or_else(lying, |()| self.next_members(draft))
            }
            (_, Ok(_)) => Next::Failed(Failure::Malformed("answer to another question".to_owned())),
        }
    }

    fn judge_status(&mut self, finalized: EthereumBlock) -> Next {
        let stride = self.config.stride;
        let first = self.first();
        let to = match self.step.to {
            Some(to) if finalized.number < to => {
                return Next::Lagging(finalized.number / stride * stride);
            }
            Some(to) => to,
            None => {
                let most = (first.saturating_sub(1) / stride).saturating_add(self.strides);
                most.saturating_mul(stride).min(finalized.number / stride * stride)
            }
        };
        let boundaries = (first.div_ceil(stride)..=to / stride).map(|i| i * stride);
        let last = self.cursor.last.map(|last| last.number);
        let numbers: Vec<_> =
            last.filter(|last| *last <= finalized.number).into_iter().chain(boundaries).collect();
        if numbers.is_empty() {
            return Next::NothingNew;
        }
        let query = Query::Blocks { numbers: numbers.clone() };
        Next::Ask(Stage::Blocks { finalized, numbers }, query)
    }

    fn judge_blocks(
        &mut self,
        endpoint: EndpointIndex,
        finalized: EthereumBlock,
        numbers: &[u64],
        mut blocks: Vec<EthereumBlock>,
    ) -> Next {
        let lying = |lie| Next::Distrusted(Notice::Lying { endpoint, lie });
        if !blocks.iter().map(|block| block.number).eq(numbers.iter().copied()) {
            return lying(Lie::OtherBlocks);
        }
        if blocks.iter().any(|b| b.number == finalized.number && b.hash != finalized.hash) {
            return lying(Lie::TwoHashes { block: finalized.number });
        }
        if let Some(last) = self.cursor.last
            && blocks[0].number == last.number
        {
            let found = blocks.remove(0).hash;
            if found != last.hash {
                let notice = Notice::Contradiction { endpoint, emitted: last, found };
                return Next::Distrusted(notice);
            }
        }
        let Some(end) = blocks.last() else { return Next::NothingNew };
        self.step.to = Some(end.number);
        self.ask_logs(blocks, Vec::new(), self.first())
    }

    fn ask_logs(&self, boundaries: Vec<EthereumBlock>, logs: Vec<Log>, from: u64) -> Next {
        let end = boundaries[boundaries.len() - 1].number;
        let to = from.saturating_add(self.log_range - 1).min(end);
        let contracts = self.config.contracts.all().to_vec();
        let stage = Stage::Logs { boundaries, logs, from, to };
        Next::Ask(stage, Query::Logs { contracts, from, to })
    }

    fn judge_logs(
        &self,
        boundaries: Vec<EthereumBlock>,
        logs: Vec<Log>,
        asked_to: u64,
    ) -> Result<Next, Lie> {
        if asked_to < boundaries[boundaries.len() - 1].number {
            return Ok(self.ask_logs(boundaries, logs, asked_to + 1));
        }
        let draft = Draft::new(&self.config, &self.cursor, &boundaries, &logs)?;
        Ok(self.next_members(draft))
    }

    fn next_members(&self, draft: Draft) -> Next {
        let checkpoints = self.config.contracts.checkpoints;
        match draft.pending() {
            Some(epoch) => Next::Ask(Stage::Members(draft), Query::Members { checkpoints, epoch }),
            None => Next::Told(draft.finish()),
        }
    }

    fn conclude(&mut self, now: Timestamp, next: Next) {
        let Some(endpoint) = self.interview.as_ref().map(|interview| interview.endpoint) else {
            return;
        };
        match next {
            Next::Ask(stage, query) => {
                self.interview = Some(Interview { endpoint, stage });
                self.ask(now, query);
                return;
            }
            Next::NothingNew => {
                self.endpoints.succeeded(endpoint);
                self.step.asked.insert(endpoint);
            }
            Next::Lagging(to) => {
                self.endpoints.succeeded(endpoint);
                if to >= self.first() {
                    // As far as it goes, all can be asked. It only gets shorter, so this ends.
                    self.step = Step { to: Some(to), ..Step::default() };
                } else {
                    self.step.asked.insert(endpoint);
                }
            }
            Next::Told(account) => {
                self.endpoints.succeeded(endpoint);
                self.step.asked.insert(endpoint);
                self.step.accounts.push((endpoint, account));
                self.emit_if_agreed(now);
            }
            Next::TooLong if self.strides > 1 => {
                self.strides /= 2;
                self.step = Step::default();
            }
            Next::TooLong => {
                let why = Lie::TooManyLogs { count: LOGS_MAX };
                self.distrust(now, endpoint, Notice::Lying { endpoint, lie: why });
            }
            Next::Failed(failure) => {
                if self.endpoints.failed(endpoint, now) == 1 {
                    self.notice(Notice::Failing { endpoint, failure });
                }
            }
            Next::Distrusted(notice) => self.distrust(now, endpoint, notice),
        }
        self.interview = None;
    }

    fn emit_if_agreed(&mut self, now: Timestamp) {
        let Some((_, account)) = self.step.accounts.last() else { return };
        let same = self.step.accounts.iter().filter(|(_, other)| other == account).count();
        if same < self.config.agreement {
            return;
        }
        let mut accounts = std::mem::take(&mut self.step).accounts;
        let Some((_, account)) = accounts.pop() else { return };
        for (endpoint, _) in accounts.into_iter().filter(|(_, other)| *other != account) {
            self.distrust(now, endpoint, Notice::Outvoted { endpoint });
        }
        self.cursor = account.cursor.clone();
        self.strides = (self.strides * 2).min(STRIDES_MAX);
        self.log_range = self.log_range.saturating_mul(2).min(LOG_RANGE_MAX);
        let cursor = Box::new(account.cursor);
        self.actions.push_back(Action::Output(Output::Followed { blocks: account.blocks, cursor }));
    }

    fn distrust(&mut self, now: Timestamp, endpoint: EndpointIndex, notice: Notice) {
        self.endpoints.distrust(endpoint, now);
        self.notice(notice);
    }

    fn notice(&mut self, notice: Notice) {
        self.actions.push_back(Action::Output(Output::Notice(notice)));
    }

    /// The first block that isn't followed.
    fn first(&self) -> u64 {
        self.cursor.last.map_or(self.config.start, |last| last.number.saturating_add(1))
    }
}
