/// Why endpoints can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// None is given.
    #[error("no endpoint of Ethereum is configured")]
    NoEndpoint,
    /// Not the address of an HTTP endpoint.
    #[error("{url:?} is no http or https address of an endpoint")]
    Url {
        /// What is configured.
        url: String,
    },
    /// There's no HTTP client: no certificate authorities, say.
    #[error("making an HTTP client")]
    Client(#[source] reqwest::Error),
}
