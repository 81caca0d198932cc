use crate::model::Blob;

/// What the service is given: the parameters and the blobs of its manifest.
pub trait Host {
    /// A blob.
    type Blob: Blob;

    /// The value of a parameter, if it's set.
    fn parameter(&self, name: &str) -> Option<String>;

    /// A blob, if the manifest names it.
    fn blob(&self, name: &str) -> Option<Self::Blob>;
}
