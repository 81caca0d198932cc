//! What the ledger keeps of itself in the state, so that whoever has a checkpoint's state can go on from it.
//!
//! `system/history` holds the accumulator of all headers before the checkpoint's own; `system/books/` and the book's bytes
//! how far its open volume is final.

use borsh::{BorshDeserialize, BorshSerialize};
use lamina_types::BookId;

use crate::book::FinalLane;
use crate::history::Mmr;
use crate::state::Writes;
use crate::{StateReader, StorageError};

const HISTORY: &[u8] = b"system/history";
const BOOKS: &[u8] = b"system/books/";
/// After all keys of books.
const BOOKS_END: &[u8] = b"system/books0";
/// Books that are read at once.
const PAGE: usize = 256;

/// How far the open volume of a book is final.
#[derive(Debug, Clone, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct FinalVolume {
    /// Its number.
    pub volume: u32,
    /// The lanes' ends, ascending by author.
    pub lanes: Vec<FinalLane>,
}

/// What a checkpoint writes about the ledger itself.
#[must_use]
pub fn writes(history: &Mmr, books: &[(BookId, FinalVolume)]) -> Writes {
    let book = |(book, volume): &(BookId, FinalVolume)| (book_key(book), Some(encode(volume)));
    let mut writes: Writes = books.iter().map(book).collect();
    writes.insert(HISTORY.to_vec(), Some(encode(history)));
    writes
}

/// The accumulator of all headers before the one of the reader's checkpoint.
///
/// # Errors
/// [`StorageError`].
pub fn history(reader: &dyn StateReader) -> Result<Mmr, StorageError> {
    reader.get(HISTORY)?.map_or_else(|| Ok(Mmr::default()), |bytes| decode(&bytes))
}

/// The open volumes of all books that anything final stands in.
///
/// # Errors
/// [`StorageError`].
pub fn books(reader: &dyn StateReader) -> Result<Vec<(BookId, FinalVolume)>, StorageError> {
    let mut books = Vec::new();
    let mut start = BOOKS.to_vec();
    loop {
        let page = reader.range(&start, BOOKS_END, PAGE)?;
        for (key, value) in &page {
            books.push((decode(&key[BOOKS.len()..])?, decode(value)?));
        }
        match page.last() {
            Some((key, _)) if page.len() == PAGE => start = [key.as_slice(), &[0]].concat(),
            _ => return Ok(books),
        }
    }
}

/// The open volume of one book.
///
/// # Errors
/// [`StorageError`].
pub fn book(reader: &dyn StateReader, book: &BookId) -> Result<Option<FinalVolume>, StorageError> {
    reader.get(&book_key(book))?.map(|bytes| decode(&bytes)).transpose()
}

fn book_key(book: &BookId) -> Vec<u8> {
    [BOOKS, &encode(book)].concat()
}

fn encode<T: BorshSerialize>(value: &T) -> Vec<u8> {
    borsh::to_vec(value).expect("writing to memory doesn't fail")
}

fn decode<T: BorshDeserialize>(bytes: &[u8]) -> Result<T, StorageError> {
    borsh::from_slice(bytes).map_err(|error| StorageError(format!("system state: {error}")))
}
