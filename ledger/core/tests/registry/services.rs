use std::collections::BTreeMap;

use lamina_ledger::state::Refusal;
use lamina_ledger::state::services::{self, NOBODY};
use lamina_types::{
    Action, Canonical as _, Height, MANIFEST_BYTES_MAX, Manifest, PARAMETERS_MAX, ParameterName,
    ParameterValue, ServiceChange, ServiceId,
};

use crate::network::{Network, UNKNOWN, address, manifest, reason, register_service};

fn update_service(service: ServiceId, manifest: Manifest) -> Action {
    Action::UpdateService { service, manifest: Box::new(manifest) }
}

fn name(text: &str) -> ParameterName {
    text.to_owned().try_into().unwrap()
}

fn parameters(values: &[(&str, Option<&str>)]) -> ServiceChange {
    let value = |text: &str| ParameterValue::new(text).unwrap();
    let values = values.iter().map(|(key, text)| (name(key), text.map(value))).collect();
    ServiceChange::Parameters { values }
}

fn vote(network: &mut Network, service: ServiceId, change: &ServiceChange) -> Result<(), Refusal> {
    network.change(|scope, env| services::apply_change(scope, env, service, change))
}

fn parameters_at(
    network: &Network,
    service: ServiceId,
    height: u64,
) -> Option<BTreeMap<String, String>> {
    let manifest = services::manifest_at(&network.scope(), service, Height(height)).unwrap()?;
    let text = |(key, value): (ParameterName, ParameterValue)| {
        (key.as_str().to_owned(), value.as_str().to_owned())
    };
    Some(manifest.parameters.into_iter().map(text).collect())
}

fn pairs(values: &[(&str, &str)]) -> Option<BTreeMap<String, String>> {
    Some(values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
}

#[test]
fn service_is_registered_once_and_by_its_owner() {
    let mut network = Network::new();
    let foreign = network.apply(address(2), register_service(manifest(1)));
    assert!(matches!(foreign, Err(Refusal::Forbidden { .. })));
    let service = network.register(1);
    let found = services::service(&network.scope(), service).unwrap().unwrap();
    assert_eq!((found.id, found.manifest), (service, manifest(1)));
    assert_eq!((found.record.registered, found.record.versions), (Height(2), 1));
    let again = network.apply(address(1), register_service(manifest(1)));
    assert_eq!(again, Err(Refusal::exists("service")));
    assert_eq!(services::service(&network.scope(), UNKNOWN).unwrap(), None);
}

#[test]
fn manifest_out_of_bounds_is_refused() {
    let mut network = Network::new();
    let mut empty = manifest(1);
    empty.component_bytes = 0;
    let refused = network.apply(address(1), register_service(empty.clone()));
    assert!(matches!(refused, Err(Refusal::Invalid { .. })));
    let service = network.register(1);
    assert!(network.apply(address(1), update_service(service, empty)).is_err());
}

#[test]
fn only_the_owner_updates() {
    let mut network = Network::new();
    let service = network.register(1);
    let update = update_service(service, manifest(1));
    assert_eq!(
        reason(network.apply(address(2), update.clone())),
        "only the service's owner may do this"
    );
    assert_eq!(network.apply(address(1), update), Ok(()));
    let unknown = network.apply(address(1), update_service(UNKNOWN, manifest(1)));
    assert_eq!(unknown, Err(Refusal::unknown("service")));
}

#[test]
fn owner_hands_over_and_leaves_the_service_to_votes_for_good() {
    let mut network = Network::new();
    let service = network.register(1);
    network.apply(address(1), update_service(service, manifest(2))).unwrap();
    assert_eq!(services::owner(&network.scope(), service).unwrap(), Some(address(2)));
    assert!(network.apply(address(1), update_service(service, manifest(1))).is_err());
    let mut nobody_s = manifest(2);
    nobody_s.owner = NOBODY;
    network.apply(address(2), update_service(service, nobody_s.clone())).unwrap();
    for account in [address(2), NOBODY] {
        let update = network.apply(account, update_service(service, manifest(2)));
        assert_eq!(reason(update), "only a vote may do this");
    }
    let change = ServiceChange::Manifest { manifest: Box::new(manifest(1)) };
    assert_eq!(
        reason(vote(&mut network, service, &change)),
        "votes don't change a service's owner"
    );
    nobody_s.limits.fuel += 1;
    let change = ServiceChange::Manifest { manifest: Box::new(nobody_s) };
    assert_eq!(vote(&mut network, service, &change), Ok(()));
}

#[test]
fn each_height_has_its_manifest() {
    let mut network = Network::new();
    network.skip_to(9);
    let service = network.register(1);
    let fuel = |fuel| {
        let mut manifest = manifest(1);
        manifest.limits.fuel = fuel;
        manifest
    };
    network.skip_to(19);
    network.apply(address(1), update_service(service, fuel(2))).unwrap();
    network.skip_to(299);
    network.apply(address(1), update_service(service, fuel(3))).unwrap();
    let at = |height| {
        let found = services::manifest_at(&network.scope(), service, Height(height)).unwrap();
        found.map(|manifest| manifest.limits.fuel)
    };
    let heights = [0, 9, 10, 19, 20, 299, 300, 301, u64::MAX];
    let fuels = [None, None, Some(1), Some(1), Some(2), Some(2), Some(3), Some(3), Some(3)];
    assert_eq!(heights.map(at), fuels);
    assert_eq!(services::manifest_at(&network.scope(), UNKNOWN, Height(300)).unwrap(), None);
}

#[test]
fn of_two_updates_in_one_checkpoint_the_later_one_counts() {
    let mut network = Network::new();
    let service = network.register(1);
    let updates = [2, 3].map(|bytes| {
        let mut manifest = manifest(1);
        manifest.component_bytes = bytes;
        (address(1), update_service(service, manifest))
    });
    assert_eq!(network.apply_all(updates.to_vec()), [Ok(()), Ok(())]);
    let found = services::service(&network.scope(), service).unwrap().unwrap();
    assert_eq!((found.manifest.component_bytes, found.record.versions), (3, 3));
}

#[test]
fn parameters_count_from_their_checkpoint_on() {
    let mut network = Network::new();
    let service = network.register(1);
    let change = parameters(&[("prompt", Some("be kind")), ("limit", Some("3"))]);
    vote(&mut network, service, &change).unwrap();
    let first = network.height().0;
    let change = parameters(&[("limit", None), ("absent", None), ("tone", Some("dry"))]);
    vote(&mut network, service, &change).unwrap();
    assert_eq!(parameters_at(&network, service, first - 1), pairs(&[]));
    assert_eq!(
        parameters_at(&network, service, first),
        pairs(&[("limit", "3"), ("prompt", "be kind")])
    );
    let last = pairs(&[("prompt", "be kind"), ("tone", "dry")]);
    assert_eq!(parameters_at(&network, service, first + 1), last);
    assert_eq!(parameters_at(&network, service, first + 2), last);
}

#[test]
fn parameters_do_not_outgrow_the_manifest() {
    let mut network = Network::new();
    let service = network.register(1);
    let half = "x".repeat(MANIFEST_BYTES_MAX / 2);
    vote(&mut network, service, &parameters(&[("first", Some(half.as_str()))])).unwrap();
    let before = network.memory.entries.clone();
    let too_long = vote(&mut network, service, &parameters(&[("second", Some(half.as_str()))]));
    assert!(reason(too_long).starts_with("manifest bytes is"));
    let names: Vec<_> = (0..PARAMETERS_MAX).map(|i| format!("p{i}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), Some(""))).collect();
    let too_many = vote(&mut network, service, &parameters(&many));
    assert!(reason(too_many).starts_with("parameters is 65"));
    assert_eq!(network.memory.entries, before);
    // What takes its place fits again, up to the last byte.
    let used = {
        let found = services::service(&network.scope(), service).unwrap().unwrap();
        found.manifest.to_bytes().len()
    };
    let longest = "x".repeat(half.len() + MANIFEST_BYTES_MAX - used);
    vote(&mut network, service, &parameters(&[("first", Some(longest.as_str()))])).unwrap();
    let over = format!("{longest}x");
    assert!(vote(&mut network, service, &parameters(&[("first", Some(over.as_str()))])).is_err());
}

#[test]
fn changes_of_unknown_services_are_refused() {
    let mut network = Network::new();
    let changes = [
        parameters(&[("a", None)]),
        ServiceChange::Manifest { manifest: Box::new(manifest(1)) },
        ServiceChange::Pause { paused: true },
    ];
    for change in changes {
        let refused = vote(&mut network, UNKNOWN, &change);
        assert_eq!(refused, Err(Refusal::unknown("service")));
    }
}

#[test]
fn pause_stays_until_it_is_taken_back() {
    let mut network = Network::new();
    let service = network.register(1);
    let paused =
        |network: &Network| services::record(&network.scope(), service).unwrap().unwrap().paused;
    vote(&mut network, service, &ServiceChange::Pause { paused: true }).unwrap();
    network.apply(address(1), update_service(service, manifest(1))).unwrap();
    assert!(paused(&network));
    vote(&mut network, service, &ServiceChange::Pause { paused: false }).unwrap();
    assert!(!paused(&network));
}

#[test]
fn services_are_listed_in_pages() {
    let mut network = Network::new();
    let mut ids = [1, 2, 3].map(|owner| network.register(owner));
    ids.sort();
    let page = |after, limit| -> Vec<_> {
        let found = services::services(&network.scope(), after, limit).unwrap();
        found.into_iter().map(|(id, _)| id).collect()
    };
    assert_eq!(page(None, 2), ids[..2]);
    assert_eq!(page(Some(ids[1]), 2), ids[2..]);
}
