//! Files that only their owner may read, written whole or not at all.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Reads a file that nobody but its owner may access.
pub(crate) fn read_private(path: &Path, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
    let failed = |source| Error::reading(path, source);
    let mut file = File::open(path).map_err(failed)?;
    // Of what was opened, not of what the path may lead to by now.
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(Error::Directory { path: path.into() });
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        return Err(Error::OpenToOthers { path: path.into(), mode });
    }
    read_bounded(&mut file, bytes_max)
        .map_err(failed)?
        .ok_or_else(|| Error::TooLong { path: path.into(), bytes_max })
}

/// Reads to the end; `None` if there are more than `bytes_max` bytes.
pub(crate) fn read_bounded(
    source: &mut File,
    bytes_max: usize,
) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    // All at once: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(bytes_max + 1));
    source.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= bytes_max).then_some(bytes))
}

/// Writes a new file that only its owner may read; it's on the disk, whole, when this returns.
pub(crate) fn write_new(path: &Path, contents: &[u8]) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.into(), source };
    let folder = parent(path);
    let mut draft = tempfile::Builder::new()
        .prefix(".lamina-")
        .suffix(".tmp")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(folder)
        .map_err(failed)?;
    draft.write_all(contents).map_err(failed)?;
    draft.as_file().sync_all().map_err(failed)?;
    draft.persist_noclobber(path).map_err(|e| match e.error.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists { path: path.into() },
        _ => failed(e.error),
    })?;
    sync_directory(folder).map_err(failed)
}

/// Makes a folder that only its owner may enter, unless it exists.
pub(crate) fn create_directory(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.into(), source };
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    sync_directory(parent(path)).map_err(failed)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Permissions of all but the owner.
const OTHERS: u32 = 0o077;

/// What can be wrong with a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There's no such file.
    #[error("{} doesn't exist", path.display())]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// It's a folder.
    #[error("{} is a folder; name the file in it", path.display())]
    Directory {
        /// The folder.
        path: PathBuf,
    },
    /// Others than the owner may access it.
    #[error("{p} is open to other users (mode {mode:03o}): run `chmod 600 {p}`, and replace what it holds if they aren't trusted", p = path.display())]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// More than such a file can hold.
    #[error("{} is longer than {bytes_max} bytes; is it the right file?", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        bytes_max: usize,
    },
    /// It couldn't be read.
    #[error("reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A new file would take the place of another, perhaps of the only copy of a key.
    #[error("{} exists and is kept; move it away first if a new key is to take its place", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It couldn't be written.
    #[error("writing {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    fn reading(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path: path.into() },
            _ => Self::Read { path: path.into(), source },
        }
    }
}
