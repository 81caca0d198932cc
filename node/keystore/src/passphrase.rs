//! Passphrases: where they come from, and the one form that goes into the key derivation.
//!
//! They come from a file, an open file descriptor or the terminal; never from arguments or the environment, which other
//! processes can read.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;

use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

use crate::file;

/// A passphrase, normalised as EIP-2335 says ("Password requirements"): NFKD, without control codes. Erased from memory
/// when dropped; never printed.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// The passphrase that someone typed as `text`.
    ///
    /// # Errors
    /// [`Error::Empty`].
    pub fn new(text: &str) -> Result<Self, Error> {
        // Twice, so that the text is allocated once: one that grows leaves copies behind.
        let bytes = normal_form(text).map(char::len_utf8).sum();
        let mut normal = Zeroizing::new(String::with_capacity(bytes));
        normal.extend(normal_form(text));
        if normal.is_empty() { Err(Error::Empty) } else { Ok(Self(normal)) }
    }

    /// The one line of a file that only its owner may read.
    ///
    /// # Errors
    /// [`Error::File`], also if others may read it; [`Error::Empty`], [`Error::NotText`], [`Error::SeveralLines`].
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        Self::from_line(&file::read_private(path, PASSPHRASE_BYTES_MAX)?)
    }

    /// The one line that can be read from an open file descriptor, to its end.
    ///
    /// It's opened anew through `/dev/fd`, so it can be a pipe or a file, but not a socket; a file is read from its start.
    ///
    /// # Errors
    /// [`Error::Descriptor`], [`Error::Empty`], [`Error::NotText`], [`Error::SeveralLines`], [`Error::TooLong`].
    pub fn from_descriptor(descriptor: u32) -> Result<Self, Error> {
        let failed = |source| Error::Descriptor { descriptor, source };
        let mut file = File::open(format!("/dev/fd/{descriptor}")).map_err(failed)?;
        let bytes = file::read_bounded(&mut file, PASSPHRASE_BYTES_MAX).map_err(failed)?;
        Self::from_line(&bytes.ok_or(Error::TooLong)?)
    }

    /// Asks on the terminal, without showing what is typed.
    ///
    /// # Errors
    /// [`Error::Terminal`] if there's none; [`Error::Empty`].
    pub fn prompt(question: &str) -> Result<Self, Error> {
        Self::new(&ask(question)?)
    }

    /// Asks on the terminal for a new passphrase, twice.
    ///
    /// # Errors
    /// [`Error::Terminal`] if there's none; [`Error::Empty`]; [`Error::Different`] if the two aren't the same.
    pub fn prompt_new(question: &str) -> Result<Self, Error> {
        let first = Self::new(&ask(question)?)?;
        let second = Self::new(&ask("The same again: ")?)?;
        if first.0 == second.0 { Ok(first) } else { Err(Error::Different) }
    }

    fn from_line(bytes: &[u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(bytes).map_err(|_| Error::NotText)?;
        let line = text.strip_suffix('\n').unwrap_or(text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        // They'd be joined by the normalisation, which nobody expects.
        if line.contains(['\n', '\r']) {
            return Err(Error::SeveralLines);
        }
        Self::new(line)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

/// C0, C1 and Delete are just what `is_control` knows.
fn normal_form(text: &str) -> impl Iterator<Item = char> {
    text.nfkd().filter(|c| !c.is_control())
}

fn ask(question: &str) -> Result<Zeroizing<String>, Error> {
    rpassword::prompt_password(question)
        .map(Zeroizing::new)
        .map_err(|source| Error::Terminal { source })
}

/// Longest passphrase, in bytes, with its line end. A guess at what nobody exceeds.
const PASSPHRASE_BYTES_MAX: usize = 4096;

/// Why there's no passphrase.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing, or control codes only.
    #[error("the passphrase is empty")]
    Empty,
    /// Not UTF-8.
    #[error("the passphrase isn't UTF-8 text; is it the right file?")]
    NotText,
    /// A passphrase is one line.
    #[error("the passphrase has more than one line; is it the right file?")]
    SeveralLines,
    /// The descriptor gives more than a passphrase.
    #[error("the passphrase is longer than {PASSPHRASE_BYTES_MAX} bytes")]
    TooLong,
    /// Typed differently the second time.
    #[error("the two passphrases differ; try again")]
    Different,
    /// The passphrase's file couldn't be read.
    #[error(transparent)]
    File(#[from] file::Error),
    /// The descriptor couldn't be read.
    #[error("reading the passphrase from file descriptor {descriptor}; is it open and readable?")]
    Descriptor {
        /// Its number.
        descriptor: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody can be asked.
    #[error("no passphrase could be read from the terminal; give one by file or file descriptor")]
    Terminal {
        /// Why.
        #[source]
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// EIP-2335, "Test Cases": 𝔱𝔢𝔰𝔱𝔭𝔞𝔰𝔰𝔴𝔬𝔯𝔡🔑.
    #[test]
    fn compatible_characters_are_one() {
        let fraktur = "𝔱𝔢𝔰𝔱𝔭𝔞𝔰𝔰𝔴𝔬𝔯𝔡🔑";
        assert_eq!(Passphrase::new(fraktur).unwrap().as_bytes(), "testpassword🔑".as_bytes());
    }

    #[test]
    fn control_codes_are_dropped() {
        let passphrase = Passphrase::new("\u{1}a\u{7f}b\u{80}\u{9f} c\t").unwrap();
        assert_eq!(passphrase.as_bytes(), b"ab c");
    }

    #[test]
    fn nothing_is_no_passphrase() {
        assert!(matches!(Passphrase::new("\t\n"), Err(Error::Empty)));
    }

    #[test]
    fn one_line_end_is_stripped_and_two_lines_are_refused() {
        for text in ["open sesame", "open sesame\n", "open sesame\r\n"] {
            let passphrase = Passphrase::from_line(text.as_bytes()).unwrap();
            assert_eq!(passphrase.as_bytes(), b"open sesame");
        }
        assert!(matches!(Passphrase::from_line(b"open\nsesame\n"), Err(Error::SeveralLines)));
    }

    #[test]
    fn debug_output_tells_nothing() {
        let passphrase = Passphrase::new("open sesame").unwrap();
        assert_eq!(format!("{passphrase:?}"), "Passphrase(…)");
    }

    proptest! {
        #[test]
        fn normalising_again_changes_nothing(text in "\\PC{1,40}") {
            let once = Passphrase::new(&text).unwrap();
            let again = Passphrase::new(&once.0).unwrap();
            prop_assert_eq!(once.as_bytes(), again.as_bytes());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Passphrase::from_line(&bytes);
        }
    }
}
