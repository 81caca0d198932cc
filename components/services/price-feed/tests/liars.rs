//! Whatever less than half of the stake says, the result is what honest operators could have said.

use lamina_sdk::testing;
use price_feed::{Decimal, reduce};
use proptest::collection::vec;
use proptest::prelude::*;

/// An operator's stake and what it signed.
type Observed = (u64, Vec<u8>);

fn observation(price: u64) -> Vec<u8> {
    let price = Decimal(price);
    format!(r#"{{"pair":"ETH/USD","price":"{price}","sources_used":3}}"#).into_bytes()
}

/// What a liar signs: a price of any size, or any bytes.
fn lie() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<u64>().prop_map(observation),
        (0..10_u64).prop_map(observation),
        (u64::MAX - 10..=u64::MAX).prop_map(observation),
        vec(any::<u8>(), 0..100),
        "[{}\\[\\]\":,a-z0-9.]{0,100}".prop_map(String::into_bytes),
    ]
}

/// Honest stakes and prices, and what liars sign, whose stakes together are less. In half of all cases just less.
fn observations() -> impl Strategy<Value = (Vec<(u64, u64)>, Vec<Observed>)> {
    let stake = 1..1_000_000_000_u64;
    let honest = vec((stake.clone(), 1..=u64::MAX), 1..20);
    let liars = vec((stake, lie()), 0..20);
    (honest, liars, any::<bool>()).prop_map(|(honest, mut liars, all_they_may)| {
        let mut left = honest.iter().map(|(stake, _)| stake).sum::<u64>() - 1;
        for (stake, _) in &mut liars {
            *stake = (*stake).min(left);
            left -= *stake;
        }
        if let Some((stake, _)) = liars.last_mut().filter(|_| all_they_may) {
            *stake += left;
        }
        (honest, liars)
    })
}

fn reduced(observed: &[Observed]) -> Result<serde_json::Value, String> {
    let observed = observed.iter().map(|(stake, value)| (0, *stake, value.clone()));
    let output = testing::reduce(reduce, r#"{"pair": "ETH/USD"}"#, observed)?;
    serde_json::from_slice(&output).map_err(|error| error.to_string())
}

proptest! {
    #[test]
    fn result_is_within_the_honest_range((honest, liars) in observations(), turn: usize) {
        let signed = honest.iter().map(|(stake, price)| (*stake, observation(*price)));
        let mut all: Vec<_> = signed.chain(liars).collect();
        let result = reduced(&all).unwrap();
        let number = |name: &str| result[name].as_str().unwrap().parse::<Decimal>().unwrap().0;

        let prices = || honest.iter().map(|(_, price)| *price);
        let (lowest, highest) = (prices().min().unwrap(), prices().max().unwrap());
        prop_assert!((lowest..=highest).contains(&number("price")));
        prop_assert!(number("spread") <= highest - lowest);

        let turn = turn % all.len();
        all.rotate_left(turn);
        prop_assert_eq!(Ok(result), reduced(&all), "the order mattered");
    }
}
