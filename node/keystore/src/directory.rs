use std::path::{Path, PathBuf};

use crate::{Error, KeyKind, Keystore, file};

/// A node's keys: a folder with one keystore for each [`KeyKind`].
#[derive(Debug, Clone)]
pub struct KeyDirectory(PathBuf);

impl KeyDirectory {
    /// The folder at `path`, which need not exist before the first key is written.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where the folder is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where the key of this kind is.
    #[must_use]
    pub fn path_of(&self, kind: KeyKind) -> PathBuf {
        self.0.join(kind.file_name())
    }

    /// Reads the keystore of this kind.
    ///
    /// # Errors
    /// As [`Keystore::read`]; [`Error::WrongKind`] if a key of another kind has this one's name.
    pub fn read(&self, kind: KeyKind) -> Result<Keystore, Error> {
        let path = self.path_of(kind);
        let keystore = Keystore::read(&path)?;
        if keystore.kind() != kind {
            return Err(Error::WrongKind { path, found: keystore.kind(), wanted: kind });
        }
        Ok(keystore)
    }

    /// Writes a new key under its kind's name, and says where. Makes the folder (mode 0700) if it's absent.
    ///
    /// # Errors
    /// As [`Keystore::write_new`].
    pub fn write_new(&self, keystore: &Keystore) -> Result<PathBuf, Error> {
        file::create_directory(&self.0)?;
        let path = self.path_of(keystore.kind());
        keystore.write_new(&path)?;
        Ok(path)
    }
}
