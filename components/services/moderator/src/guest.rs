//! What connects the service with its host.

#![allow(missing_docs, reason = "generated from the contract, which is documented")]

use lamina::service::log::{self, Level};
use lamina::service::parameters;

wit_bindgen::generate!({ world: "service", path: "../../wit" });

struct Moderator;

impl Guest for Moderator {
    fn run(input: Vec<u8>) -> Result<Vec<u8>, String> {
        let rules = parameters::get("rules");
        crate::run(&input, rules.as_deref()).map_err(|error| {
            if error.is_the_owners() {
                log::log(Level::Error, &error.to_string());
            }
            error.to_string()
        })
    }
}

export!(Moderator);
