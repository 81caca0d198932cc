//! What connects the service with its host.

#![allow(missing_docs, reason = "generated from the contract, which is documented")]

use lamina::service::log::{self, Level};
use lamina::service::{blobs, parameters};

use crate::Host;
use crate::model::{Blob, Error};

wit_bindgen::generate!({ world: "service", path: "../../wit" });

struct Service;

impl Guest for Service {
    fn run(input: Vec<u8>) -> Result<Vec<u8>, String> {
        crate::run(&input, &Self).map_err(|error| {
            if error.is_the_owners() {
                log::log(Level::Error, &error.to_string());
            }
            error.to_string()
        })
    }
}

impl Host for Service {
    type Blob = HostBlob;

    fn parameter(&self, name: &str) -> Option<String> {
        parameters::get(name)
    }

    fn blob(&self, name: &str) -> Option<HostBlob> {
        let size = blobs::size(name)?;
        Some(HostBlob { name: name.to_owned(), size })
    }
}

/// A blob of the manifest.
struct HostBlob {
    name: String,
    size: u64,
}

impl Blob for HostBlob {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let mut offset = offset;
        for piece in buffer.chunks_mut(CALL_BYTES) {
            let length = u32::try_from(piece.len()).expect("a call carries 1 MiB");
            let refused = |reason: &str| Error::Read {
                offset,
                length: length.into(),
                reason: reason.to_owned(),
            };
            let bytes = blobs::read(&self.name, offset, length);
            let bytes = bytes.ok_or_else(|| refused("the host doesn't have it"))?;
            if bytes.len() != piece.len() {
                return Err(refused("the file ends there"));
            }
            piece.copy_from_slice(&bytes);
            offset += u64::from(length);
        }
        Ok(())
    }
}

/// Most that a call of `blobs::read` gives.
const CALL_BYTES: usize = 1 << 20;

export!(Service);
