//! Finding peers by multicast. It runs in a network namespace of its own, so that nothing is sent to a real network.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod harness;

use std::process::Command;

use harness::{Node, config};
use lamina_p2p_net::Config;
use lamina_types::testing::skip;

const NAME: &str = "peers_on_the_local_network_are_found_without_any_address";
/// Set in the process that runs inside the namespace.
const INSIDE: &str = "LAMINA_INSIDE_NAMESPACE";
/// One cable whose both ends are here; what's multicast on it also comes back to the sockets of the same machine.
const SETUP: &str = "ip link set lo up && ip link add lamina0 type veth peer name lamina1 \
    && ip address add 10.77.0.1/24 dev lamina0 && ip link set lamina0 up && ip link set lamina1 up \
    && ip route add 224.0.0.0/4 dev lamina0";

#[test]
fn peers_on_the_local_network_are_found_without_any_address() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        return runtime.block_on(two_nodes_find_each_other());
    }
    if let Err(reason) = namespaces_work() {
        return skip(NAME, &reason);
    }
    let test = std::env::current_exe().unwrap();
    let script = format!("{SETUP} && exec \"$0\" --exact {NAME} --nocapture");
    let mut inside = Command::new("unshare");
    inside.args(["--net", "sh", "-c", &script]).arg(test).env(INSIDE, "1");
    assert!(inside.status().unwrap().success());
}

fn namespaces_work() -> Result<(), String> {
    let output = Command::new("unshare").args(["--net", "sh", "-c", SETUP]).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "no network namespace can be set up (it takes root and `ip`): {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Err(format!("`unshare` can't be run: {error}")),
    }
}

async fn two_nodes_find_each_other() {
    let config = Config {
        listen: vec!["/ip4/10.77.0.1/udp/0/quic-v1".parse().unwrap()],
        discovery: false,
        mdns: true,
        ..config(&[])
    };
    let a = Node::start(1, &config, None).await;
    let b = Node::start(2, &config, None).await;
    a.wait_for(b.key()).await;
    b.wait_for(a.key()).await;
}
