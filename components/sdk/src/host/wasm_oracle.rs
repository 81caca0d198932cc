//! What only oracles have: the world `oracle`, as generated from the contract. What both worlds import is in `service`.

pub use generated::*;

use crate::llm::{Message, Role};
use lamina::service::llm;

pub(crate) fn complete(messages: &[Message], tokens_max: u32) -> Result<String, String> {
    let message = |message: &Message| llm::Message {
        role: match message.role {
            Role::System => llm::Role::System,
            Role::User => llm::Role::User,
            Role::Assistant => llm::Role::Assistant,
        },
        content: message.content.clone(),
    };
    llm::complete(&messages.iter().map(message).collect::<Vec<_>>(), tokens_max)
}

#[allow(missing_docs, missing_debug_implementations, reason = "the contract has the documentation")]
#[allow(clippy::all, unused_qualifications, unreachable_pub, reason = "generated")]
mod generated {
    wit_bindgen::generate!({
        world: "oracle",
        path: "wit",
        pub_export_macro: true,
        export_macro_name: "export_oracle",
        default_bindings_module: "lamina_sdk::__private::oracle",
        runtime_path: "wit_bindgen::rt",
        with: {
            "lamina:service/parameters@0.2.0": crate::host::service::lamina::service::parameters,
            "lamina:service/log@0.2.0": crate::host::service::lamina::service::log,
            "lamina:service/blobs@0.2.0": crate::host::service::lamina::service::blobs,
            "lamina:service/task@0.2.0": crate::host::service::lamina::service::task,
            "lamina:service/llm@0.2.0": generate,
            "lamina:service/observations@0.2.0": generate,
        },
    });
}
