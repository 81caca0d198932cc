//! The example's sources, on answers of the form that the exchanges document.

use lamina_sdk::http::Response;
use lamina_sdk::testing;
use price_feed::{Sources, observe};

const SOURCES: &str = include_str!("../sources.toml");

#[test]
fn answers_of_the_exchanges_are_understood() {
    let manifest: toml::Table = include_str!("../service.toml").parse().unwrap();
    testing::set_parameter("sources", SOURCES);
    for name in ["sources_min", "deviation_max"] {
        testing::set_parameter(name, manifest["parameters"][name].as_str().unwrap());
    }
    for (url, answer) in [
        (
            "https://api.coinbase.com/v2/prices/ETH-USD/spot",
            r#"{"data":{"amount":"3012.165","base":"ETH","currency":"USD"}}"#,
        ),
        (
            "https://api.kraken.com/0/public/Ticker?pair=ETHUSD",
            r#"{"error":[],"result":{"XETHZUSD":{"a":["3012.6","1"],"c":["3012.59000","0.01"]}}}"#,
        ),
        (
            "https://www.bitstamp.net/api/v2/ticker/ethusd/",
            r#"{"timestamp":"1","last":"3013.1","volume":"1.2"}"#,
        ),
    ] {
        testing::set_response(url, Response::new(200, answer));
    }
    let observation = testing::run(observe, r#"{"pair": "ETH/USD"}"#).unwrap();
    let expected = r#"{"pair":"ETH/USD","price":"3012.59000000","sources_used":3}"#;
    assert_eq!(String::from_utf8(observation).unwrap(), expected);
    assert!(testing::log().is_empty());
}

#[test]
fn origins_of_the_sources_are_in_the_manifest() {
    let manifest: toml::Table = include_str!("../service.toml").parse().unwrap();
    let origins = manifest["oracle"]["origins"].as_array().unwrap();
    let Sources(sources) = SOURCES.parse().unwrap();
    for source in sources.values().flatten() {
        let in_origin = |origin: &toml::Value| {
            source.url.strip_prefix(origin.as_str().unwrap()).is_some_and(|p| p.starts_with('/'))
        };
        assert!(origins.iter().any(in_origin), "{}", source.url);
    }
}
