use unicode_normalization::UnicodeNormalization as _;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory as _};

use super::Error;
use super::blob::{self, Blob};

/// Most tokens of a text, with those for its beginning and its end; what exceeds them is dropped.
///
/// `MiniLM` was trained on 128 and is used with 256.
pub const TOKENS_MAX: usize = 256;

/// The tokeniser of BERT without capitals: words are split into the longest pieces that the vocabulary has.
///
/// As `BertNormalizer`, `BertPreTokenizer` and `WordPiece` of the crate `tokenizers` do it, but for one thing: `[SEP]` and
/// its like, written in a text, are words like others.
#[derive(Debug)]
pub struct WordPiece {
    /// One piece a line; the number of its line is its token.
    text: String,
    /// Where each piece is in `text`, with its token; sorted by piece.
    pieces: Vec<(std::ops::Range<usize>, u32)>,
    unknown: u32,
    begin: u32,
    end: u32,
}

/// The tokens of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// The tokens, with those for the beginning and the end of a text.
    pub ids: Vec<u32>,
    /// Whether they're the whole text: it had no more than [`TOKENS_MAX`] and no word of more than 100 characters.
    pub complete: bool,
}

impl WordPiece {
    /// Reads a vocabulary: text with one piece a line.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it's too long, isn't UTF-8, or lacks `[UNK]`, `[CLS]` or `[SEP]`; what reading gives.
    pub fn load(blob: &impl Blob) -> Result<Self, Error> {
        if blob.size() > VOCABULARY_BYTES_MAX {
            return Err(malformed(format!("it has {} bytes", blob.size())));
        }
        let bytes = blob::bytes(blob, 0, blob.size())?;
        let text = String::from_utf8(bytes).map_err(|error| malformed(error.to_string()))?;
        let mut pieces = Vec::new();
        let mut start = 0;
        for (token, line) in (0..).zip(text.split_inclusive('\n')) {
            let piece = line.trim_end_matches(['\n', '\r']);
            pieces.push((start..start + piece.len(), token));
            start += line.len();
        }
        // Of equal pieces the first one is found.
        pieces.sort_by(|a, b| text[a.0.clone()].cmp(&text[b.0.clone()]).then(a.1.cmp(&b.1)));
        pieces.dedup_by(|b, a| text[b.0.clone()] == text[a.0.clone()]);

        let mut this = Self { text, pieces, unknown: 0, begin: 0, end: 0 };
        let special = |name| {
            let token = this.token(name);
            token.ok_or_else(|| malformed(format!("{name} isn't in the vocabulary")))
        };
        (this.unknown, this.begin, this.end) =
            (special("[UNK]")?, special("[CLS]")?, special("[SEP]")?);
        Ok(this)
    }

    /// The tokens of `text`.
    #[must_use]
    pub fn tokens(&self, text: &str) -> Tokens {
        let mut ids = vec![self.begin];
        let mut complete = true;
        for word in words(text) {
            complete &= self.push_word(&word, &mut ids);
            if ids.len() >= TOKENS_MAX {
                complete = false;
                break;
            }
        }
        ids.truncate(TOKENS_MAX - 1);
        ids.push(self.end);
        Tokens { ids, complete }
    }

    /// The token of a word or of `##` and the rest of one. The lower it is, the more frequent is the word.
    #[must_use]
    pub fn token(&self, piece: &str) -> Option<u32> {
        let at = self.pieces.binary_search_by(|(range, _)| self.text[range.clone()].cmp(piece));
        at.ok().map(|at| self.pieces[at].1)
    }

    /// Whether the word wasn't too long.
    fn push_word(&self, word: &str, ids: &mut Vec<u32>) -> bool {
        if word.chars().count() > CHARS_MAX {
            ids.push(self.unknown);
            return false;
        }
        let before = ids.len();
        let mut start = 0;
        while start < word.len() {
            match self.longest_piece(word, start) {
                Some((end, token)) => {
                    ids.push(token);
                    start = end;
                }
                None => {
                    ids.truncate(before);
                    ids.push(self.unknown);
                    return true;
                }
            }
        }
        true
    }

    /// The longest piece of `word` that begins at `start`: where it ends, and its token.
    fn longest_piece(&self, word: &str, start: usize) -> Option<(usize, u32)> {
        let mut piece = String::from(if start > 0 { "##" } else { "" });
        let mark = piece.len();
        piece.push_str(&word[start..]);
        while piece.len() > mark {
            if let Some(token) = self.token(&piece) {
                return Some((start + piece.len() - mark, token));
            }
            piece.pop();
        }
        None
    }
}

/// The words and punctuation marks of a text: lower case, without accents, each ideograph a word.
fn words(text: &str) -> Vec<String> {
    let clean = text.chars().filter_map(|c| match c {
        '\0' | '\u{fffd}' => None,
        c if c.is_whitespace() => Some(' '),
        c if c.general_category_group() == GeneralCategoryGroup::Other => None,
        c => Some(c),
    });
    let spaced = clean.flat_map(|c| {
        let space = is_ideograph(c).then_some(' ');
        [space, Some(c), space].into_iter().flatten()
    });
    let unaccented =
        spaced.nfd().filter(|c| c.general_category() != GeneralCategory::NonspacingMark);
    let mut words = vec![String::new()];
    for c in unaccented.flat_map(char::to_lowercase) {
        if c.is_whitespace() {
            words.push(String::new());
        } else if is_punctuation(c) {
            words.extend([c.to_string(), String::new()]);
        } else if let Some(word) = words.last_mut() {
            word.push(c);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || c.general_category_group() == GeneralCategoryGroup::Punctuation
}

/// The blocks that BERT takes for Chinese: no kana, no hangul.
fn is_ideograph(c: char) -> bool {
    matches!(
        c,
        '\u{4e00}'..='\u{9fff}'
            | '\u{3400}'..='\u{4dbf}'
            | '\u{20000}'..='\u{2a6df}'
            | '\u{2a700}'..='\u{2b73f}'
            | '\u{2b740}'..='\u{2b81f}'
            | '\u{2b820}'..='\u{2ceaf}'
            | '\u{f900}'..='\u{faff}'
            | '\u{2f800}'..='\u{2fa1f}'
    )
}

fn malformed(reason: String) -> Error {
    Error::Malformed { format: "vocabulary", reason }
}

/// Longest word that is split, in characters; longer ones are unknown. `max_input_chars_per_word` of the model.
const CHARS_MAX: usize = 100;
/// A guess; that of BERT has 232 KB.
const VOCABULARY_BYTES_MAX: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokeniser() -> WordPiece {
        let vocabulary: &[u8] =
            "[UNK]\n[CLS]\n[SEP]\nun\n##able\n##ab\nunder\n!\ncafe\n漢\n".as_bytes();
        WordPiece::load(&vocabulary).unwrap()
    }

    fn ids(text: &str) -> Vec<u32> {
        let ids = tokeniser().tokens(text).ids;
        assert_eq!((ids[0], ids[ids.len() - 1]), (1, 2));
        ids[1..ids.len() - 1].to_vec()
    }

    #[test]
    fn longest_pieces_are_taken() {
        assert_eq!(ids("unable under unab!"), [3, 4, 6, 3, 5, 7]);
    }

    #[test]
    fn word_with_an_unknown_rest_is_unknown_as_a_whole() {
        assert_eq!(ids("unx un"), [0, 3]);
    }

    #[test]
    fn accents_controls_and_capitals_do_not_matter() {
        assert_eq!(ids("CAFÉ\u{200b} ca\u{7}fe\t漢漢"), [8, 8, 9, 9]);
    }

    #[test]
    fn special_tokens_cannot_be_written() {
        assert!(!ids("[SEP] [CLS]").contains(&2));
    }

    #[test]
    fn long_text_is_truncated() {
        let Tokens { ids, complete } = tokeniser().tokens(&"un ".repeat(TOKENS_MAX));
        assert_eq!((ids.len(), ids[TOKENS_MAX - 1], complete), (TOKENS_MAX, 2, false));
        assert!(tokeniser().tokens(&"un ".repeat(TOKENS_MAX - 3)).complete);
        assert!(!tokeniser().tokens(&"un".repeat(CHARS_MAX)).complete);
    }

    proptest! {
        #[test]
        fn foreign_vocabularies_never_panic(bytes: Vec<u8>) {
            let _ = WordPiece::load(&&bytes[..]);
        }

        #[test]
        fn foreign_texts_never_panic(text: String) {
            prop_assert!(tokeniser().tokens(&text).ids.len() <= TOKENS_MAX);
        }
    }
}
