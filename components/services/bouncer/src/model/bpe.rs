use std::collections::BTreeMap;

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory as _};

use super::Error;

/// The byte-level tokeniser of `SmolLM2`: a text's pieces are joined from bytes, the most frequent pairs first.
///
/// Each digit is a piece of its own; else pieces are as in GPT-2: a contraction's end, or letters, digits, or other
/// signs, with one space before them, or white space.
#[derive(Debug)]
pub struct Bpe {
    /// The token of each byte. Some that aren't in UTF-8 text, and some controls, have none and are dropped.
    bytes: Vec<Option<u32>>,
    /// Two tokens that are joined: how early, and what they become.
    merges: BTreeMap<(u32, u32), (usize, u32)>,
    /// What only [`Self::tokens_of_prompt`] knows, such as `<|im_start|>`.
    controls: Vec<(String, u32)>,
}

impl Bpe {
    /// Builds the tokeniser of a vocabulary, in which bytes are written as printable characters, and of pairs with a
    /// space between them, the earliest first.
    ///
    /// # Errors
    /// [`Error::Malformed`] if a pair or what becomes of it isn't in the vocabulary.
    pub fn new(
        vocabulary: &[String],
        merges: &[String],
        controls: Vec<(String, u32)>,
    ) -> Result<Self, Error> {
        let mut sorted: Vec<(&str, u32)> = vocabulary.iter().map(String::as_str).zip(0..).collect();
        sorted.sort_unstable();
        let token = |piece: &str| {
            let at = sorted.binary_search_by(|(other, _)| (*other).cmp(piece));
            let reason = || format!("{piece:?} isn't in the vocabulary");
            at.map(|at| sorted[at].1).map_err(|_| malformed(reason()))
        };
        let bytes = (0..=u8::MAX).map(|b| token(&letter(b).to_string()).ok()).collect();
        let pair = |(rank, merge): (usize, &String)| {
            let reason = || malformed(format!("{merge:?} isn't a pair"));
            let (left, right) = merge.split_once(' ').ok_or_else(reason)?;
            Ok(((token(left)?, token(right)?), (rank, token(&format!("{left}{right}"))?)))
        };
        // Of equal pairs the earliest counts.
        let merges = merges.iter().enumerate().rev().map(pair).collect::<Result<_, Error>>()?;
        Ok(Self { bytes, merges, controls })
    }

    /// The tokens of a text, in which nothing is a control token: what strangers write can't end a turn.
    #[must_use]
    pub fn tokens(&self, text: &str) -> Vec<u32> {
        pieces(text).into_iter().flat_map(|piece| self.joined(piece)).collect()
    }

    /// The tokens of a text by the service's owner, in which control tokens are known.
    #[must_use]
    pub fn tokens_of_prompt(&self, text: &str) -> Vec<u32> {
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some((at, name, control)) = self.first_control(rest) {
            tokens.extend(self.tokens(&rest[..at]));
            tokens.push(control);
            rest = &rest[at + name.len()..];
        }
        tokens.extend(self.tokens(rest));
        tokens
    }

    /// The first control token of a text; the longest of those at one place.
    fn first_control(&self, text: &str) -> Option<(usize, &str, u32)> {
        let found = self.controls.iter().filter_map(|(name, control)| {
            text.find(name.as_str()).map(|at| (at, name.as_str(), *control))
        });
        found.min_by_key(|(at, name, _)| (*at, usize::MAX - name.len()))
    }

    fn joined(&self, piece: &str) -> Vec<u32> {
        let mut tokens: Vec<u32> =
            piece.bytes().filter_map(|b| self.bytes[usize::from(b)]).collect();
        let join = |pair: &[u32]| self.merges.get(&(pair[0], pair[1])).copied();
        // What becomes of each token and the next one.
        let mut joins: Vec<_> = tokens.windows(2).map(join).collect();
        loop {
            let ranks = joins.iter().enumerate().filter_map(|(i, j)| j.map(|(rank, _)| (rank, i)));
            let Some((_, i)) = ranks.min() else { return tokens };
            let Some((_, token)) = joins.remove(i) else { return tokens };
            tokens.remove(i + 1);
            tokens[i] = token;
            for at in [i.checked_sub(1), Some(i)].into_iter().flatten() {
                if let Some(pair) = tokens.get(at..at + 2) {
                    joins[at] = join(pair);
                }
            }
        }
    }
}

/// What is joined for itself.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let is_digit = |c: char| c.general_category_group() == GeneralCategoryGroup::Number;
    for run in text.split_inclusive(is_digit) {
        let digit = run.char_indices().next_back().filter(|(_, c)| is_digit(*c));
        let (mut rest, digit) = run.split_at(digit.map_or(run.len(), |(at, _)| at));
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(piece_length(rest));
            pieces.push(piece);
            rest = after;
        }
        if !digit.is_empty() {
            pieces.push(digit);
        }
    }
    pieces
}

/// How many bytes of a text without digits its first piece has:
/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}]+|\s+(?!\S)|\s+`.
fn piece_length(text: &str) -> usize {
    if let Some(ending) = CONTRACTIONS.iter().find(|ending| text.starts_with(**ending)) {
        return ending.len();
    }
    let word = text.strip_prefix(' ').unwrap_or(text);
    if let Some(kind) = word.chars().next().map(Kind::of).filter(|kind| *kind != Kind::Space) {
        let rest = word.trim_start_matches(|c| Kind::of(c) == kind);
        return text.len() - rest.len();
    }
    let rest = text.trim_start_matches(|c| Kind::of(c) == Kind::Space);
    let spaces = &text[..text.len() - rest.len()];
    let last = spaces.chars().next_back().map_or(0, char::len_utf8);
    // The last one belongs to the next word, if there are others.
    if rest.is_empty() || last == spaces.len() { spaces.len() } else { spaces.len() - last }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Letter,
    Space,
    Other,
}

impl Kind {
    fn of(c: char) -> Self {
        if c.is_whitespace() {
            Self::Space
        } else if c.general_category_group() == GeneralCategoryGroup::Letter {
            Self::Letter
        } else {
            Self::Other
        }
    }
}

/// The printable character that stands for a byte in the vocabulary: itself, or one from U+0100 on.
fn letter(byte: u8) -> char {
    let code = u32::from(byte);
    let code = match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => code,
        0..=0x20 => 0x100 + code,
        0x7f..=0xa0 => 0x100 + 0x21 + code - 0x7f,
        0xad => 0x100 + 0x43,
    };
    char::from_u32(code).expect("all are assigned, below U+0144")
}

fn malformed(reason: String) -> Error {
    Error::Malformed { format: "tokeniser", reason }
}

const CONTRACTIONS: [&str; 7] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bpe() -> Bpe {
        let mut vocabulary: Vec<String> = (0..=255).map(|b| letter(b).to_string()).collect();
        vocabulary.extend(["ab", "bc", "abc", "<|end|>"].map(String::from));
        let merges = ["b c", "a b", "a bc"].map(String::from);
        Bpe::new(&vocabulary, &merges, vec![("<|end|>".to_owned(), 259)]).unwrap()
    }

    #[test]
    fn text_falls_into_the_pieces_of_gpt_2() {
        let text = "I'm   here\n\n\tnow, don't! 12 x  ";
        let expected =
            ["I", "'m", "  ", " here", "\n\n", "\t", "now", ",", " don", "'t", "!", " ", "1", "2"];
        assert_eq!(pieces(text), [&expected[..], &[" x", "  "]].concat());
    }

    #[test]
    fn earliest_pair_is_joined_first() {
        assert_eq!(bpe().tokens("abc"), [258]);
        assert_eq!(bpe().tokens("abab"), [256, 256]);
    }

    #[test]
    fn control_tokens_are_the_owners() {
        assert_eq!(bpe().tokens_of_prompt("ab<|end|>ab"), [256, 259, 256]);
        assert!(!bpe().tokens("ab<|end|>").contains(&259));
    }

    #[test]
    fn every_byte_has_its_own_letter() {
        let mut letters: Vec<char> = (0..=255).map(letter).collect();
        letters.sort_unstable();
        letters.dedup();
        assert_eq!(letters.len(), 256);
    }

    proptest! {
        #[test]
        fn pieces_are_the_whole_text(text in "[ a-c1'ts\\n\u{e9}!]{0,40}|.*") {
            prop_assert_eq!(pieces(&text).concat(), text.clone());
            let _ = bpe().tokens_of_prompt(&text);
        }

        #[test]
        fn foreign_vocabularies_never_panic(words: Vec<String>, merges: Vec<String>) {
            let _ = Bpe::new(&words, &merges, Vec::new());
        }
    }
}
