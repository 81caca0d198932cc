use lamina_types::{BlobName, Digest, Origin};

/// Why there's no engine, or why a component or a manifest isn't taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field of the configuration is out of its range.
    #[error("{field} is {value}; choose {min} to {max}")]
    Config {
        /// Which one.
        field: &'static str,
        /// What it is.
        value: u64,
        /// The least it can be.
        min: u64,
        /// The most it can be.
        max: u64,
    },
    /// wasmtime can't work on this machine as configured.
    #[error("starting the WebAssembly engine: {reason} (pooled = false needs less address space)")]
    Engine {
        /// In wasmtime's words.
        reason: String,
    },
    /// The component has more bytes than the network carries.
    #[error("the component has {bytes} bytes, at most {max} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The bytes aren't those that the manifest names.
    #[error("the component's SHA-256 is {found}, not {expected}")]
    WrongDigest {
        /// What the manifest names.
        expected: Digest,
        /// What the bytes have.
        found: Digest,
    },
    /// The bytes don't begin like a component; a core module is none, either.
    #[error("not a WebAssembly component")]
    NotAComponent,
    /// The bytes begin like a component but aren't a valid one, or use a feature that's off.
    #[error("invalid component: {reason}")]
    Invalid {
        /// What's wrong, and where.
        reason: String,
    },
    /// The component has more parts than an instance may have.
    #[error("the component has {count} {what}, at most {max} are allowed")]
    TooManyParts {
        /// Which parts.
        what: &'static str,
        /// How many there are.
        count: u64,
        /// How many there may be.
        max: u64,
    },
    /// The component wants something that services aren't given.
    #[error("the component imports {name}, which isn't granted")]
    ImportNotGranted {
        /// The import.
        name: String,
    },
    /// The component doesn't fit to the world `lamina:service/service`.
    #[error("the component isn't a lamina:service@0.2.0: {reason}")]
    WrongWorld {
        /// What doesn't fit.
        reason: String,
    },
    /// The manifest asks for more fuel than the operator gives.
    #[error("the manifest asks for {asked} units of fuel, this operator gives at most {max}")]
    FuelNotAdmitted {
        /// The manifest's figure.
        asked: u64,
        /// The operator's.
        max: u64,
    },
    /// The manifest asks for more memory than the operator gives.
    #[error("the manifest asks for {asked} bytes of memory, this operator gives at most {max}")]
    MemoryNotAdmitted {
        /// The manifest's figure.
        asked: u64,
        /// The operator's.
        max: u64,
    },
    /// The manifest names an origin that this operator doesn't let services reach.
    #[error(
        "the manifest asks for {origin}, which this operator doesn't allow (components.http.origins)"
    )]
    OriginNotAdmitted {
        /// Which one.
        origin: Origin,
    },
    /// The manifest names a language model that this operator doesn't give.
    #[error("{reason}")]
    LlmNotAdmitted {
        /// Which one, and why.
        reason: String,
    },
    /// The component observes but the manifest has no `oracle`, or the other way round.
    #[error("{}", if *manifest_says_oracle {
        "the manifest is an oracle's, but the component exports run, not observe and reduce"
    } else {
        "the component is an oracle, but its manifest has no [oracle]"
    })]
    WrongKind {
        /// What the manifest says.
        manifest_says_oracle: bool,
    },
    /// A blob that the manifest names isn't there, or has another size.
    #[error("the blob {name} isn't here with {bytes} bytes")]
    WrongBlob {
        /// Its name.
        name: BlobName,
        /// Its size by the manifest.
        bytes: u32,
    },
    /// What oracles reach can't be set up.
    #[error("{reason}")]
    Network {
        /// What failed.
        reason: String,
    },
}
