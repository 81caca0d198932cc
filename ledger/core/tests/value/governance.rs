//! Governance: who votes with how much, what is accepted, and what becomes of it.

use lamina_ledger::state::bank::{self, Holder};
use lamina_ledger::state::governance::{self, Proposal, Status};
use lamina_ledger::state::{Env, Refusal, Scope, commitments};
use lamina_types::{
    Action, Address, Amount, Asset, CommitmentId, Height, ProposalId, Purpose, ServiceChange, Text,
};

use crate::world::{SERVICE, World, account};

const DAY: u64 = 24 * 3600;

fn propose(world: &mut World, who: Address, paused: bool) -> Result<ProposalId, Refusal> {
    let change = Box::new(ServiceChange::Pause { paused });
    let reason = Text::truncated("it needs a rest");
    world.act(who, &Action::Propose { service: SERVICE, change, reason }).map(ProposalId)
}

fn vote(world: &mut World, who: u8, proposal: ProposalId, approve: bool) -> Result<(), Refusal> {
    world.act(account(who), &Action::Vote { proposal, approve }).map(drop)
}

fn get(world: &World, id: ProposalId) -> Proposal {
    world.read(|s| governance::get(s, id)).expect("a proposal")
}

/// Accounts 1, 2 and 3 have committed 100, 200 and 700 for votes, a while ago.
fn voters() -> (World, Vec<CommitmentId>) {
    let mut world = World::new();
    let ids = [(1, 100), (2, 200), (3, 700)].map(|(who, amount)| {
        world.commit(account(who), 0, (amount, Purpose::Votes)).expect("there's enough")
    });
    world.wait(1);
    (world, ids.to_vec())
}

#[test]
fn what_is_accepted_is_carried_out_after_the_delay() {
    let (mut world, _) = voters();
    let id = propose(&mut world, account(1), true).unwrap();
    vote(&mut world, 1, id, true).unwrap();
    vote(&mut world, 2, id, true).unwrap();
    assert_eq!(get(&world, id).total, Amount(1_000));
    world.wait(3 * DAY);
    assert!(matches!(get(&world, id).status, Status::Accepted { .. }));
    assert_eq!(world.keys(b"services/paused/"), 0);
    assert!(vote(&mut world, 3, id, false).is_err(), "too late");
    world.wait(DAY);
    assert_eq!(get(&world, id).status, Status::Executed { height: Height(world.height) });
    assert_eq!(world.keys(b"services/paused/"), 1);
    assert_eq!(world.keys(b"timers/"), 0);
    assert_eq!(world.read(|s| governance::ballots(s, id, None, 10)).len(), 2);
    let motion = world.read(|s| governance::motion(s, id)).unwrap();
    assert_eq!(motion.change, ServiceChange::Pause { paused: true });
    assert_eq!(motion.reason.as_str(), "it needs a rest");
    let listed = world.read(|s| governance::by_service(s, SERVICE, None, 10));
    assert_eq!(listed, [(Height(2), id)]);
}

#[test]
fn too_few_or_no_more_than_half_decide_nothing() {
    let (mut world, _) = voters();
    let id = propose(&mut world, account(1), true).unwrap();
    vote(&mut world, 1, id, true).unwrap();
    world.wait(3 * DAY);
    assert_eq!(get(&world, id).status, Status::NoQuorum);
    let id = propose(&mut world, account(1), true).unwrap();
    vote(&mut world, 2, id, true).unwrap();
    vote(&mut world, 2, id, false).unwrap();
    assert_eq!((get(&world, id).approve, get(&world, id).reject), (Amount(0), Amount(200)));
    world.wait(3 * DAY);
    assert_eq!(get(&world, id).status, Status::Rejected);
    world.wait(10 * DAY);
    assert_eq!(world.keys(b"services/paused/"), 0);
}

#[test]
fn what_could_not_be_carried_out_says_why_and_leaves_nothing_behind() {
    let (mut world, _) = voters();
    let id = propose(&mut world, account(3), false).unwrap();
    vote(&mut world, 3, id, true).unwrap();
    world.wait(3 * DAY);
    world.wait(DAY);
    assert!(matches!(get(&world, id).status, Status::Failed { .. }));
    assert_eq!(world.keys(b"services/paused/"), 0, "half of the change was undone");
    assert_eq!(world.keys(b"timers/"), 0);
}

#[test]
fn nothing_votes_twice_by_going_to_another_account() {
    let (mut world, ids) = voters();
    let id = propose(&mut world, account(3), true).unwrap();
    vote(&mut world, 3, id, true).unwrap();
    world.uncommit(account(3), ids[2], 700).unwrap();
    world.wait(100);
    world.release(account(3), ids[2]).unwrap();
    world.commit(account(4), 0, (700, Purpose::Votes)).unwrap();
    world.wait(1);
    assert!(matches!(vote(&mut world, 4, id, true), Err(Refusal::Forbidden { .. })));
    assert_eq!(get(&world, id).approve, Amount(700));
}

#[test]
fn what_comes_with_or_after_the_proposal_does_not_vote() {
    let (mut world, ids) = voters();
    world.commit(account(4), 0, (5_000, Purpose::Votes)).unwrap();
    let id = propose(&mut world, account(1), true).unwrap();
    assert_eq!(get(&world, id).total, Amount(1_000), "nor does it count for the quorum");
    assert!(vote(&mut world, 4, id, true).is_err());
    world.wait(1);
    let add = Action::Increase { commitment: ids[0], amount: Amount(900) };
    world.act(account(1), &add).unwrap();
    vote(&mut world, 1, id, true).unwrap();
    assert_eq!(get(&world, id).approve, Amount(100));
    world.uncommit(account(1), ids[0], 900).unwrap();
    vote(&mut world, 1, id, true).unwrap();
    assert_eq!(get(&world, id).approve, Amount(100), "the newest part goes first");
    world.uncommit(account(1), ids[0], 60).unwrap();
    vote(&mut world, 1, id, false).unwrap();
    assert_eq!((get(&world, id).approve, get(&world, id).reject), (Amount(0), Amount(40)));
}

#[test]
fn many_additions_count_late_rather_than_early() {
    let (mut world, ids) = voters();
    for _ in 0..20 {
        world.wait(1);
        let add = Action::Increase { commitment: ids[0], amount: Amount(10) };
        world.act(account(1), &add).unwrap();
    }
    let weight = |height| {
        world.read(|s| commitments::voting_weight(s, SERVICE, account(1), Height(height))).0
    };
    assert_eq!(weight(world.height + 1), 300);
    for height in 1..=world.height {
        assert!(weight(height) <= 100 + 10 * u128::from(height.saturating_sub(3)), "{height}");
    }
}

#[test]
fn proposals_are_for_those_with_weight_and_bounded() {
    let (mut world, _) = voters();
    world.commit(account(5), 0, (1, Purpose::Votes)).unwrap();
    world.wait(1);
    assert!(propose(&mut world, account(4), true).is_err(), "no weight");
    assert!(propose(&mut world, account(5), true).is_err(), "too little");
    propose(&mut world, account(1), true).unwrap();
    assert!(propose(&mut world, account(1), true).is_err(), "one at a time");
    world.wait(3 * DAY);
    propose(&mut world, account(1), true).unwrap();
}

#[test]
fn a_service_has_so_many_open_proposals_and_no_more() {
    let mut world = World::new();
    let voters: Vec<_> = (0..17).map(|number| account(100 + number)).collect();
    for voter in &voters {
        let (from, to) =
            (Holder::Account { account: account(1) }, Holder::Account { account: *voter });
        let give = |scope: &mut Scope<'_>, _: &Env<'_>| {
            bank::transfer(scope, &from, &to, Asset::Ether, Amount(10))
        };
        world.write(give).unwrap();
        world.commit(*voter, 0, (10, Purpose::Votes)).unwrap();
    }
    world.wait(1);
    for voter in &voters[..governance::OPEN_MAX] {
        propose(&mut world, *voter, true).unwrap();
    }
    assert!(matches!(propose(&mut world, voters[16], true), Err(Refusal::Invalid { .. })));
    world.wait(3 * DAY);
    propose(&mut world, voters[16], true).unwrap();
}

#[test]
fn slashed_weight_does_not_vote() {
    let (mut world, _) = voters();
    let id = propose(&mut world, account(3), true).unwrap();
    world.slash(0, 500_000);
    vote(&mut world, 3, id, true).unwrap();
    assert_eq!(get(&world, id).approve, Amount(350));
}
