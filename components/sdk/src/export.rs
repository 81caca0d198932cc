use std::fmt::Display;

use crate::{FromInput, IntoOutput};

/// Makes the crate a service whose `run` is the given function.
///
/// It takes any [`FromInput`] and returns `Result<O, E>` with an [`IntoOutput`] and an error that can be displayed. An
/// input that isn't what it takes is answered with an error that begins with "the input". Once in a crate.
///
/// ```
/// fn greet(name: String) -> Result<String, &'static str> {
///     if name.is_empty() { Err("nobody is there") } else { Ok(format!("Hello, {name}!")) }
/// }
///
/// lamina_sdk::service!(greet);
/// ```
#[macro_export]
macro_rules! service {
    ($run:expr $(,)?) => {
        $crate::__export_service!($run);
    };
}

#[cfg(target_family = "wasm")]
#[doc(hidden)]
#[macro_export]
macro_rules! __export_service {
    ($run:expr) => {
        const _: () = {
            struct Exported;

            impl $crate::__private::service::Guest for Exported {
                fn run(input: ::std::vec::Vec<u8>) -> $crate::__result!() {
                    $crate::__private::run($run, input)
                }
            }

            $crate::__private::service::export_service!(
                Exported with_types_in $crate::__private::service
            );
        };
    };
}

/// Natively there's nobody to export to, but the types must fit all the same.
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export_service {
    ($run:expr) => {
        const _: fn(::std::vec::Vec<u8>) -> $crate::__result!() =
            |input| $crate::__private::run($run, input);
    };
}

/// What the contract's functions return.
#[doc(hidden)]
#[macro_export]
macro_rules! __result {
    () => {
        ::std::result::Result<::std::vec::Vec<u8>, ::std::string::String>
    };
}

/// A service's function, from bytes to bytes.
pub fn run<I, O, E>(
    function: impl FnOnce(I) -> Result<O, E>,
    input: Vec<u8>,
) -> Result<Vec<u8>, String>
where
    I: FromInput,
    O: IntoOutput,
    E: Display,
{
    returned(function(decode_input(input)?), "the output")
}

pub(crate) fn decode_input<I: FromInput>(input: Vec<u8>) -> Result<I, String> {
    I::from_input(input).map_err(|error| format!("the input {error}"))
}

pub(crate) fn returned<O, E>(result: Result<O, E>, what: &str) -> Result<Vec<u8>, String>
where
    O: IntoOutput,
    E: Display,
{
    let value = result.map_err(|error| error.to_string())?;
    value.into_output().map_err(|error| format!("{what} {error}"))
}
