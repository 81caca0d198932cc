use std::collections::BTreeMap;
use std::fmt;
use std::io;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::signing::{Domain, Preimage};
use crate::{Address, Canonical, ChainId, Digest, List, Origin, ServiceId, Text};

/// Longest manifest, in bytes: with its envelope it fits into one gossip message of 64 KiB.
pub const MANIFEST_BYTES_MAX: usize = 56 * 1024;
/// Largest component that's carried and compiled, in bytes. Components made from JavaScript have 12 MB, from Python 18 MB.
pub const COMPONENT_BYTES_MAX: u32 = 32 * 1024 * 1024;
/// Most parameters a manifest can have.
pub const PARAMETERS_MAX: usize = 64;
/// Most blobs a manifest can name.
pub const BLOBS_MAX: usize = 16;
/// Largest blob, in bytes: room for a model of a hundred million weights in single precision.
pub const BLOB_BYTES_MAX: u32 = 512 * 1024 * 1024;
/// Most that a service keeps from task to task, in bytes.
pub const STATE_BYTES_MAX: u32 = 4 * 1024 * 1024;
/// Most origins that an oracle can name.
pub const ORIGINS_MAX: usize = 16;

/// A short name: 1 to 64 of `a`–`z`, `0`–`9`, `-` and `_`, beginning with a letter.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);

/// The name under which a component reads a parameter; the same rules as for a service's name.
pub type ParameterName = ServiceName;
/// The name under which a component reads a blob; the same rules as for a service's name.
pub type BlobName = ServiceName;
/// A parameter's value.
pub type ParameterValue = Text<MANIFEST_BYTES_MAX>;

impl ServiceName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text isn't a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("name {0:?} must be 1 to 64 characters of a-z, 0-9, - and _, the first one a letter")]
pub struct InvalidName(String);

impl TryFrom<String> for ServiceName {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, InvalidName> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
        let begins = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        if !begins || name.len() > 64 || !name.bytes().all(plain) {
            return Err(InvalidName(name.chars().take(80).collect()));
        }
        Ok(Self(name))
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl BorshDeserialize for ServiceName {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        let name = Text::<64>::deserialize_reader(reader)?;
        name.as_str().to_owned().try_into().map_err(io::Error::other)
    }
}

/// What bounds one task of a service. Exceeding any is a certified failure, the same at every operator.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Fuel: about one unit for each WebAssembly instruction.
    pub fuel: u64,
    /// Linear memory of all the component's instances together, in bytes.
    pub memory_bytes: u64,
    /// Longest input, in bytes; at most [`crate::INPUT_BYTES_MAX`].
    pub input_bytes: u32,
    /// Longest output, in bytes; at most [`crate::OUTPUT_BYTES_MAX`].
    pub output_bytes: u32,
    /// Most that the service keeps from task to task, in bytes; at most [`STATE_BYTES_MAX`]. Zero: it keeps nothing.
    #[serde(default)]
    pub state_bytes: u32,
}

/// Large data that a component reads by its name, and that is known by its hash.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Blob {
    /// SHA-256 of all of it.
    pub digest: Digest,
    /// Its size in bytes; 1 to [`BLOB_BYTES_MAX`].
    pub bytes: u32,
}

/// What an oracle wants of the outside world while it observes.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oracle {
    /// Where it may send HTTP requests to.
    #[serde(default)]
    pub origins: List<Origin, ORIGINS_MAX>,
    /// The language model that it asks.
    #[serde(default)]
    pub llm: Option<Llm>,
}

/// A language model, pinned as far as it can be.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Llm {
    /// The model's name, as endpoints know it.
    pub model: Text<128>,
    /// The seed that every request names.
    pub seed: u64,
}

/// What a service is. Its hash is the service's identifier.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Manifest {
    /// The account that registers and manages the service.
    pub owner: Address,
    /// What people call it; not unique.
    pub name: ServiceName,
    /// A few sentences for those who choose a service.
    pub description: Text<1024>,
    /// SHA-256 of the component.
    pub component: Digest,
    /// The component's size in bytes; 1 to [`COMPONENT_BYTES_MAX`].
    pub component_bytes: u32,
    /// What bounds each task.
    pub limits: Limits,
    /// What the component reads through `lamina:service/parameters`; at most [`PARAMETERS_MAX`].
    pub parameters: BTreeMap<ParameterName, ParameterValue>,
    /// What the component reads through `lamina:service/blobs`; at most [`BLOBS_MAX`].
    pub blobs: BTreeMap<BlobName, Blob>,
    /// What an oracle wants; absent for a deterministic service.
    pub oracle: Option<Oracle>,
}

impl Manifest {
    /// The identifier of the service that begins with this manifest.
    #[must_use]
    pub fn service_id(&self, chain: &ChainId) -> ServiceId {
        let digest = Preimage::new(Domain::Service, chain).variable(&self.to_bytes()).digest();
        ServiceId(digest.0)
    }

    /// SHA-256 of its canonical bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// Checks what the types don't hold by themselves.
    ///
    /// # Errors
    /// [`Error::Bound`] names the first field out of bounds.
    pub fn check(&self) -> Result<(), Error> {
        let within = |field, value: u64, max: u64| {
            if value <= max { Ok(()) } else { Err(Error::Bound { field, value, max }) }
        };
        within("component_bytes", self.component_bytes.into(), COMPONENT_BYTES_MAX.into())?;
        within(
            "limits.input_bytes",
            self.limits.input_bytes.into(),
            crate::INPUT_BYTES_MAX as u64,
        )?;
        let output_bytes = self.limits.output_bytes.into();
        within("limits.output_bytes", output_bytes, crate::OUTPUT_BYTES_MAX as u64)?;
        within("limits.state_bytes", self.limits.state_bytes.into(), STATE_BYTES_MAX.into())?;
        within("parameters", self.parameters.len() as u64, PARAMETERS_MAX as u64)?;
        within("blobs", self.blobs.len() as u64, BLOBS_MAX as u64)?;
        for blob in self.blobs.values() {
            within("a blob's bytes", blob.bytes.into(), BLOB_BYTES_MAX.into())?;
        }
        let mut sizes = self.blobs.values().map(|blob| blob.bytes);
        if self.component_bytes == 0 || sizes.any(|bytes| bytes == 0) {
            return Err(Error::Empty);
        }
        if self.oracle.is_some() && self.limits.state_bytes > 0 {
            return Err(Error::OracleWithState);
        }
        within("manifest bytes", self.to_bytes().len() as u64, MANIFEST_BYTES_MAX as u64)
    }
}

impl Canonical for Manifest {
    const BYTES_MAX: usize = MANIFEST_BYTES_MAX;
}

/// Why a manifest doesn't hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field is larger than the network allows.
    #[error("{field} is {value}, at most {max} is allowed")]
    Bound {
        /// Which one.
        field: &'static str,
        /// What it is.
        value: u64,
        /// What it may be.
        max: u64,
    },
    /// Nothing can be fetched that has no bytes.
    #[error("the component and each blob have at least one byte")]
    Empty,
    /// An oracle's tasks run at the same time, so there's no order in which it could keep something.
    #[error("an oracle keeps no state: set limits.state_bytes to 0")]
    OracleWithState,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            owner: Address([1; 20]),
            name: "moderator".to_owned().try_into().unwrap(),
            description: Text::default(),
            component: Digest::of(b"component"),
            component_bytes: 9,
            limits: Limits {
                fuel: 1,
                memory_bytes: 1,
                input_bytes: 1,
                output_bytes: 1,
                state_bytes: 0,
            },
            parameters: BTreeMap::new(),
            blobs: BTreeMap::new(),
            oracle: None,
        }
    }

    #[test]
    fn fields_out_of_bounds_are_named() {
        let mut manifest = manifest();
        manifest.component_bytes = COMPONENT_BYTES_MAX + 1;
        let error = manifest.check().unwrap_err();
        assert!(error.to_string().starts_with("component_bytes is 33554433"), "{error}");
    }

    #[test]
    fn oracle_keeps_no_state() {
        let mut manifest = manifest();
        manifest.oracle = Some(Oracle { origins: List::default(), llm: None });
        assert_eq!(manifest.check(), Ok(()));
        manifest.limits.state_bytes = 1;
        assert_eq!(manifest.check(), Err(Error::OracleWithState));
    }

    #[test]
    fn another_manifest_is_another_service() {
        let (first, mut second) = (manifest(), manifest());
        second.limits.fuel += 1;
        let chain = "lamina-test-1".parse().unwrap();
        assert_ne!(first.service_id(&chain), second.service_id(&chain));
    }
}
