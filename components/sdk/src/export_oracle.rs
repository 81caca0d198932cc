use std::fmt::Display;

use crate::export::{decode_input, returned};
use crate::oracle::Observation;
use crate::{FromInput, IntoOutput};

/// Makes the crate an oracle whose `observe` and `reduce` are the given functions.
///
/// `observe` is as a service's function ([`crate::service!`]). `reduce` takes the input and the observations, which are what
/// `observe` returned at each operator of a quorum, or whatever a lying one made up: see [`Observation`]. Once in a crate.
///
/// ```
/// use lamina_sdk::Json;
/// use lamina_sdk::oracle::{Observation, decoded, median_by_stake};
///
/// fn observe(city: String) -> Result<Json<i64>, String> {
///     // Would ask a weather station.
///     Ok(Json(city.len() as i64))
/// }
///
/// fn reduce(_city: String, seen: Vec<Observation<Json<i64>>>) -> Result<Json<i64>, &'static str> {
///     let values: Vec<_> = decoded(seen).map(|(stake, Json(value))| (stake, value)).collect();
///     median_by_stake(&values).map(Json).ok_or("nobody saw anything")
/// }
///
/// lamina_sdk::oracle!(observe = observe, reduce = reduce);
/// ```
#[macro_export]
macro_rules! oracle {
    (observe = $observe:expr, reduce = $reduce:expr $(,)?) => {
        $crate::__export_oracle!($observe, $reduce);
    };
}

#[cfg(target_family = "wasm")]
#[doc(hidden)]
#[macro_export]
macro_rules! __export_oracle {
    ($observe:expr, $reduce:expr) => {
        const _: () = {
            struct Exported;

            impl $crate::__private::oracle::Guest for Exported {
                fn observe(input: ::std::vec::Vec<u8>) -> $crate::__result!() {
                    $crate::__private::observe($observe, input)
                }

                fn reduce(
                    input: ::std::vec::Vec<u8>,
                    observations: ::std::vec::Vec<$crate::__private::oracle::Observation>,
                ) -> $crate::__result!() {
                    let seen = observations.into_iter().map(|o| (o.operator, o.stake, o.value));
                    $crate::__private::reduce($reduce, input, seen)
                }
            }

            $crate::__private::oracle::export_oracle!(
                Exported with_types_in $crate::__private::oracle
            );
        };
    };
}

/// Natively there's nobody to export to, but the types must fit all the same.
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export_oracle {
    ($observe:expr, $reduce:expr) => {
        const _: fn(::std::vec::Vec<u8>) -> $crate::__result!() =
            |input| $crate::__private::observe($observe, input);
        const _: fn(
            ::std::vec::Vec<u8>,
            ::std::vec::Vec<(u16, u64, ::std::vec::Vec<u8>)>,
        ) -> $crate::__result!() =
            |input, observations| $crate::__private::reduce($reduce, input, observations);
    };
}

/// An oracle's `observe`, from bytes to bytes.
pub fn observe<I, O, E>(
    function: impl FnOnce(I) -> Result<O, E>,
    input: Vec<u8>,
) -> Result<Vec<u8>, String>
where
    I: FromInput,
    O: IntoOutput,
    E: Display,
{
    returned(function(decode_input(input)?), "the observation")
}

/// An oracle's `reduce`, from bytes to bytes. Observations are operator, stake and value.
pub fn reduce<I, T, O, E>(
    function: impl FnOnce(I, Vec<Observation<T>>) -> Result<O, E>,
    input: Vec<u8>,
    observations: impl IntoIterator<Item = (u16, u64, Vec<u8>)>,
) -> Result<Vec<u8>, String>
where
    I: FromInput,
    T: FromInput,
    O: IntoOutput,
    E: Display,
{
    let input = decode_input(input)?;
    let decode = |(operator, stake, value)| {
        let value = T::from_input(value);
        Observation { operator, stake, value }
    };
    let observations = observations.into_iter().map(decode).collect();
    returned(function(input, observations), "the output")
}

#[cfg(test)]
mod tests {
    use crate::oracle::{Observation, decoded};
    use crate::{Json, testing};

    fn sum(extra: String, seen: Vec<Observation<Json<u64>>>) -> Result<Json<u64>, String> {
        if !extra.is_empty() {
            return Err(format!("{extra} isn't expected"));
        }
        Ok(Json(decoded(seen).map(|(stake, Json(value))| stake * value).sum()))
    }

    #[test]
    fn garbage_of_an_operator_is_the_authors_to_handle() {
        let seen = [(0, 2, b"3".to_vec()), (1, 5, b"garbage".to_vec()), (4, 1, b"1".to_vec())];
        assert_eq!(testing::reduce(sum, "", seen).unwrap(), b"7");
    }

    #[test]
    fn error_of_reduce_is_the_text_that_is_certified() {
        assert_eq!(testing::reduce(sum, "this", []).unwrap_err(), "this isn't expected");
    }
}
