//! Says what a number on the web is: the median, by stake, of what operators read there.
//!
//! The parameter `url` says where to look, and `field` which field of the JSON there is the number. The input is appended
//! to the URL, and the output is `{"value":101.5,"deviation":0.25,"outliers":1}`.

use lamina_sdk::oracle::{Observation, decoded, spread_by_stake};
use lamina_sdk::{Json, http, log, parameters};
use serde::Serialize;
use serde_json::Value;

lamina_sdk::oracle!(observe = observe, reduce = reduce);

/// What operators agree on.
#[derive(Debug, PartialEq, Serialize)]
pub struct Answer {
    /// The median of what they read.
    pub value: f64,
    /// The median distance from it.
    pub deviation: f64,
    /// How many operators read something else altogether.
    pub outliers: usize,
}

/// Reads the number, at one operator.
///
/// # Errors
/// If a parameter is missing, or the number isn't there.
pub fn observe(query: String) -> Result<Json<f64>, String> {
    let url: String = parameters::parse("url").map_err(|error| error.to_string())?;
    let field: String = parameters::parse("field").map_err(|error| error.to_string())?;
    let response = http::get(url + &query).and_then(http::Response::ok);
    let response = response.map_err(|error| error.to_string())?;
    let fields: Value = response.json().map_err(|error| error.to_string())?;
    let number = fields.get(&field).and_then(Value::as_f64);
    number.map(Json).ok_or_else(|| format!("there's no number `{field}`"))
}

/// Makes one answer of all that was read. Every operator does, from the same observations.
///
/// # Errors
/// If nobody read a number.
pub fn reduce(
    _query: String,
    observations: Vec<Observation<Json<f64>>>,
) -> Result<Json<Answer>, &'static str> {
    let count = observations.len();
    let values: Vec<_> = decoded(observations).map(|(stake, Json(value))| (stake, value)).collect();
    let spread = spread_by_stake(&values).ok_or("nobody read a number")?;
    let near = values.iter().filter(|(_, value)| !spread.is_outlier(*value, 5.0)).count();
    if near < count {
        log::warn(format_args!("{} of {count} operators read something else", count - near));
    }
    Ok(Json(Answer { value: spread.median, deviation: spread.deviation, outliers: count - near }))
}

#[cfg(test)]
mod tests {
    use lamina_sdk::http::Response;
    use lamina_sdk::testing;

    use super::*;

    #[test]
    fn number_is_read_from_its_field() {
        testing::set_parameter("url", "https://api.example/price?of=");
        testing::set_parameter("field", "price");
        testing::set_response(
            "https://api.example/price?of=tea",
            Response::new(200, r#"{"name":"tea","price":4.5}"#),
        );
        assert_eq!(testing::run(observe, "tea").unwrap(), b"4.5");
    }

    #[test]
    fn liars_do_not_move_the_answer() {
        let seen = [
            (0, 40, b"4.5".to_vec()),
            (1, 20, b"4.6".to_vec()),
            (2, 30, b"1000000".to_vec()),
            (3, 9, b"garbage".to_vec()),
        ];
        let output = testing::reduce(reduce, "tea", seen).unwrap();
        let output = String::from_utf8(output).unwrap();
        assert!(output.starts_with(r#"{"value":4.6,"#), "{output}");
        assert!(output.ends_with(r#","outliers":2}"#), "{output}");
    }
}
