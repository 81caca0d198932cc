//! What is read of a message.

use unicode_normalization::UnicodeNormalization as _;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

use crate::model::WordPiece;

/// Most sentences that are read by themselves.
pub const SENTENCES_MAX: usize = 8;

/// A text that is scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The text, in lower case.
    pub text: String,
    /// What it is of the message.
    pub extent: Extent,
}

/// How much of a message a reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it, which is one sentence.
    All,
    /// All of it; its sentences are read, too.
    Whole,
    /// One sentence of several.
    Sentence,
}

/// The message and its sentences, as they are and with disguises undone, each text once; and whether that's all of it,
/// which it isn't if there are more than [`SENTENCES_MAX`] sentences or more than three mentions and links. These are left
/// out, as they tell whom it's for and where it leads, not its tone; but an insult can be written as mentions.
///
/// A sentence is read by itself because friendly ones beside it make up for it otherwise. `vocabulary` tells words from
/// other rows of letters.
#[must_use]
pub fn readings(message: &str, vocabulary: &WordPiece) -> (Vec<Reading>, bool) {
    let (plain, left_out) = plain(message);
    let undisguised = undisguised(&plain, vocabulary);
    let forms = [plain, undisguised];
    let sentences = forms.each_ref().map(|form| sentences(form));
    let complete = left_out <= LEFT_OUT_MAX
        && sentences.iter().all(|sentences| sentences.len() <= SENTENCES_MAX);

    let mut readings: Vec<Reading> = Vec::new();
    let mut push = |text: &str, extent| {
        let text = text.trim().to_owned();
        if readings.iter().all(|reading| reading.text != text) {
            readings.push(Reading { text, extent });
        }
    };
    for (form, sentences) in forms.iter().zip(&sentences) {
        push(form, if sentences.len() > 1 { Extent::Whole } else { Extent::All });
    }
    for sentence in sentences.iter().flat_map(|sentences| sentences.iter().take(SENTENCES_MAX)) {
        push(sentence, Extent::Sentence);
    }
    (readings, complete)
}

/// The message in lower case, without accents, styles of letters and characters that can't be seen, which the encoder's
/// tokeniser would mostly do, too, but words are to be recognised before; and without mentions and links, with their number.
pub(crate) fn plain(message: &str) -> (String, usize) {
    let seen = message.nfkd().filter(|c| {
        !matches!(c.general_category(), GeneralCategory::Format | GeneralCategory::NonspacingMark)
    });
    let space = |c: char| if c.is_whitespace() && c != '\n' { ' ' } else { c };
    let text: String = seen.flat_map(char::to_lowercase).map(space).collect();
    let mut left_out = 0;
    let mut keep = |word: &&str| {
        left_out += usize::from(is_address(word));
        !is_address(word)
    };
    let line = |line: &str| line.split(' ').filter(&mut keep).collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = text.lines().map(line).collect();
    (lines.join("\n"), left_out)
}

/// Whether a word is a mention or a link; `<url>` is how data sets write one.
fn is_address(word: &str) -> bool {
    let word = word.trim_start_matches(|c: char| !c.is_alphanumeric() && c != '@' && c != '<');
    let begins = |start: &str| word.strip_prefix(start).is_some_and(|rest| !rest.is_empty());
    ["@", "http://", "https://", "www."].iter().any(|start| begins(start)) || word == "<url>"
}

/// Most mentions and links that a message has without looking like it's written in them.
const LEFT_OUT_MAX: usize = 3;

/// The sentences of a text, of at most [`SENTENCE_WORDS_MAX`] words: without full stops, an insult could hide in a long one.
fn sentences(text: &str) -> Vec<String> {
    let mut sentences = Vec::new();
    for line in text.lines() {
        let mut sentence: Vec<&str> = Vec::new();
        for word in line.split_whitespace() {
            sentence.push(word);
            let ends = word.ends_with(['.', '!', '?', ';', '\u{2026}']);
            // A number or an initial goes on with what follows.
            let abbreviates = word.ends_with('.') && word.chars().count() <= 2;
            if ends && !abbreviates || sentence.len() == SENTENCE_WORDS_MAX {
                sentences.push(std::mem::take(&mut sentence).join(" "));
            }
        }
        if !sentence.is_empty() {
            sentences.push(sentence.join(" "));
        }
    }
    sentences
}

/// More are more than a sentence.
const SENTENCE_WORDS_MAX: usize = 24;

/// `plain` with common disguises undone: letters that are written apart, signs and letters of other alphabets that stand
/// for Latin ones, letters that are repeated.
fn undisguised(plain: &str, vocabulary: &WordPiece) -> String {
    let recognised = |text: &str, boldly| {
        let lines = text.lines().map(|line| {
            let words = line.split(' ').map(|word| recognised(word, vocabulary, boldly));
            words.collect::<Vec<_>>().join(" ")
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let closed: Vec<String> = plain.lines().map(|line| closed_up(line, vocabulary)).collect();
    let closed = closed.join("\n");
    let text = recognised(&closed, false);
    let changed = closed.split_whitespace().zip(text.split_whitespace()).filter(|(a, b)| a != b);
    if changed.count() >= DISGUISED_MIN { recognised(&text, true) } else { text }
}

/// From so many disguised words on, `4` is likelier a letter than a number.
const DISGUISED_MIN: usize = 2;

/// Closes up letters that are written apart: `i d i o t`, `i.d.i.o.t`, also several words of them.
fn closed_up(line: &str, vocabulary: &WordPiece) -> String {
    let chars: Vec<char> = line.chars().collect();
    let mut out = String::with_capacity(line.len());
    let mut at = 0;
    while at < chars.len() {
        let letters = apart(&chars, at);
        let is_text = letters.iter().any(|i| chars[*i].is_alphabetic());
        match letters.last() {
            Some(last) if letters.len() >= LETTERS_APART_MIN && is_text => {
                out.push_str(&words_of(&chars, &letters, vocabulary));
                at = last + 1;
            }
            _ => {
                out.push(chars[at]);
                at += 1;
            }
        }
    }
    out
}

/// Fewer are often initials (`U.S.A`).
const LETTERS_APART_MIN: usize = 4;

/// Where the letters are that begin at `at`: between each two, the separator that the first two have, or, between words,
/// more of it or spaces.
fn apart(chars: &[char], at: usize) -> Vec<usize> {
    let is_letter = |i: usize| chars.get(i).is_some_and(|c| c.is_alphanumeric() || is_sign(*c));
    let is_single = |i: usize| is_letter(i) && !is_letter(i + 1);
    if at > 0 && is_letter(at - 1) || !is_single(at) {
        return Vec::new();
    }
    let usual = chars.get(at + 1).filter(|c| SEPARATORS.contains(c));
    let mut letters = vec![at];
    let mut last = at;
    while let (Some(usual), Some(separator)) = (usual, chars.get(last + 1)) {
        let gap = chars[last + 1..].iter().take_while(|c| *c == separator).count();
        let separates = separator == usual || *separator == ' ';
        last += 1 + gap;
        if !separates || gap > GAP_MAX || !is_single(last) {
            break;
        }
        letters.push(last);
    }
    // A letter after a space may begin a word with another separator; alone, it's no word that was taken apart.
    letters.pop_if(|last| usual != Some(&' ') && *last > at && chars[*last - 1] == ' ');
    letters
}

/// Most separators between two words whose letters are apart.
const GAP_MAX: usize = 3;

/// The words of letters that are apart: a gap longer than the others is between words, and where all are alike, the
/// vocabulary tells.
fn words_of(chars: &[char], letters: &[usize], vocabulary: &WordPiece) -> String {
    let gap = |pair: &[usize]| pair[1] - pair[0];
    let usual = letters.windows(2).map(gap).min().unwrap_or(0);
    let mut words = vec![chars[letters[0]].to_string()];
    for pair in letters.windows(2) {
        if gap(pair) == usual {
            words.last_mut().expect("there's a first one").push(chars[pair[1]]);
        } else {
            words.push(chars[pair[1]].to_string());
        }
    }
    if let [word] = &words[..] {
        let word = stand_ins(word, 'i');
        return segmented(&word, vocabulary).unwrap_or(word);
    }
    words.join(" ")
}

/// A row of letters as the words of the vocabulary that it's made of; those that are likeliest by Zipf's law, since a
/// word's token is its rank.
fn segmented(letters: &str, vocabulary: &WordPiece) -> Option<String> {
    let chars: Vec<char> = letters.chars().collect();
    // How unlikely the first so many letters are, and where their last word begins.
    let mut best = vec![Some((0.0, 0))];
    for end in 1..=chars.len() {
        let words = (end.saturating_sub(WORD_CHARS_MAX)..end).filter_map(|start| {
            let (cost, _) = best[start]?;
            let word: String = chars[start..end].iter().collect();
            Some((cost + unlikelihood(&word, vocabulary)?, start))
        });
        let least = words.min_by(|a: &(f32, usize), b| a.0.total_cmp(&b.0));
        best.push(least);
    }
    let mut words = Vec::new();
    let mut end = chars.len();
    while end > 0 {
        let (_, start) = best[end]?;
        words.push(chars[start..end].iter().collect::<String>());
        end = start;
    }
    words.reverse();
    Some(words.join(" "))
}

/// Longest word that letters are put together to.
const WORD_CHARS_MAX: usize = 16;

fn unlikelihood(word: &str, vocabulary: &WordPiece) -> Option<f32> {
    // Every letter is in the vocabulary, few are words.
    let is_word = word.chars().count() > 1 || matches!(word, "a" | "i" | "u");
    let rank = vocabulary.token(word).filter(|_| is_word)?;
    Some(libm::logf(rank as f32 + 1.0))
}

/// The word that is meant: `1d10t`, `stuuupid`, `sh*t`, a Cyrillic letter in a Latin word.
///
/// It's one of the vocabulary, or else has mostly Latin letters or ones of two alphabets. So mentions, addresses, numbers
/// and words of other alphabets mostly stay. `boldly`, words of the vocabulary may change, too, which numbers are.
fn recognised(word: &str, vocabulary: &WordPiece, boldly: bool) -> String {
    let is_part = |c: char| c.is_alphanumeric() || is_sign(c);
    let Some(start) = word.find(is_part) else { return word.to_owned() };
    let after = word.rfind(is_part).map_or("", |at| &word[at..]);
    let after = after.trim_start_matches(is_part);
    let core = &word[start..word.len() - after.len()];
    let is_plain = core.chars().count() < 2 || vocabulary.token(core).is_some();
    match meant(core, vocabulary) {
        Some(meant) if boldly || !is_plain => format!("{}{meant}{after}", &word[..start]),
        _ => word.to_owned(),
    }
}

fn meant(word: &str, vocabulary: &WordPiece) -> Option<String> {
    let [i, l] = ['i', 'l'].map(|one| stand_ins(word, one));
    let starred = VOWELS.map(|vowel| i.replace('*', vowel));
    let candidates = [&i, &l].into_iter().chain(&starred);
    let mut candidates = candidates.flat_map(|w| [w.clone(), squeezed(w, 2), squeezed(w, 1)]);
    if let Some(meant) = candidates.find(|meant| meant != word && is_word(meant, vocabulary)) {
        return Some(meant);
    }
    let latin = word.chars().filter(char::is_ascii_lowercase).count();
    let signs = word.chars().filter(|c| stand_in(*c, 'i').is_some());
    let foreign = signs.clone().filter(|c| !c.is_ascii()).count();
    let is_name = word.starts_with('@') || word.contains(['/', '.']);
    let is_mixed = latin >= 1 && foreign >= 1 || latin >= 2 && latin >= signs.count();
    let squeezed = squeezed(&i, 2);
    (is_mixed && !is_name && squeezed != word).then_some(squeezed)
}

/// Whether the vocabulary has the word, or what it's a form of.
fn is_word(word: &str, vocabulary: &WordPiece) -> bool {
    let stems = ENDINGS.iter().filter_map(|ending| word.strip_suffix(ending));
    let stems = stems.filter(|stem| stem.len() >= STEM_BYTES_MIN);
    let mut forms = std::iter::once(word).chain(stems);
    let is_latin = word.bytes().all(|b| b.is_ascii_lowercase());
    is_latin && forms.any(|form| vocabulary.token(form).is_some())
}

const ENDINGS: [&str; 6] = ["s", "es", "z", "ed", "in", "ing"];
/// Shorter ones are in the vocabulary by chance.
const STEM_BYTES_MIN: usize = 4;

/// For a star in a word; `i` and `u` are what's hidden most.
const VOWELS: [&str; 5] = ["i", "u", "o", "a", "e"];

/// The word with no letter more than `most` times in a row, if it had one three times.
fn squeezed(word: &str, most: usize) -> String {
    let chars: Vec<char> = word.chars().collect();
    let runs = chars.chunk_by(|a, b| a == b);
    let kept = |run: &[char]| if run.len() > 2 { most } else { run.len() };
    runs.flat_map(|run| run.iter().take(kept(run))).collect()
}

fn stand_ins(word: &str, one: char) -> String {
    word.chars().map(|c| stand_in(c, one).unwrap_or(c)).collect()
}

/// Signs that are part of a word though they're neither letters nor digits.
fn is_sign(c: char) -> bool {
    matches!(c, '$' | '@')
}

/// The Latin letter that a digit, a sign or a letter of another alphabet looks like; `one` is what `1` and its like are.
fn stand_in(c: char, one: char) -> Option<char> {
    Some(match c {
        '1' | '!' | '|' => one,
        '4' | '@' | 'а' | 'α' | 'ɑ' => 'a',
        '8' | 'в' | 'β' => 'b',
        'с' | 'ϲ' => 'c',
        'ԁ' => 'd',
        '3' | 'е' | 'ε' | 'є' => 'e',
        '9' | 'ɡ' => 'g',
        'н' | 'һ' => 'h',
        'і' | 'ι' | 'ı' => 'i',
        'ј' => 'j',
        'к' | 'κ' => 'k',
        'ӏ' => 'l',
        'м' | 'μ' => 'm',
        'п' | 'η' | 'ո' => 'n',
        '0' | 'о' | 'ο' | 'օ' => 'o',
        'р' | 'ρ' => 'p',
        'ԛ' => 'q',
        '5' | '$' | 'ѕ' => 's',
        '7' | 'т' | 'τ' | '+' => 't',
        'υ' | 'ս' => 'u',
        'ν' | 'ѵ' => 'v',
        'ԝ' | 'ω' | 'ѡ' => 'w',
        'х' | 'χ' => 'x',
        'у' | 'γ' | 'ү' => 'y',
        _ => return None,
    })
}

const SEPARATORS: [char; 8] = [' ', '.', '-', '_', '*', ',', '/', '|'];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vocabulary() -> WordPiece {
        let words =
            "[UNK]\n[CLS]\n[SEP]\nthe\nyou\nare\nan\na\ni\nidiot\nstupid\nshit\nabout\nre\n";
        WordPiece::load(&words.as_bytes()).unwrap()
    }

    fn undone(text: &str) -> String {
        undisguised(&plain(text).0, &vocabulary())
    }

    #[test]
    fn ordinary_text_has_one_form() {
        let text =
            "see you at 10:30, bring 2 laptops & $20, ok? U.S. e.g. x/y b4 1 2 3 4 5 ex4mple.org";
        assert_eq!(undone(text), text.to_lowercase());
        assert_eq!(undone("привет, как дела?"), "привет, как дела?");
    }

    #[test]
    fn invisible_and_styled_letters_are_plain() {
        assert_eq!(plain("F\u{200b}r\u{ad}ée ＣＯＩＮ 𝐁𝐨𝐥𝐝").0, "free coin bold");
    }

    #[test]
    fn signs_that_stand_for_letters_are_undone() {
        assert_eq!(undone("1D10T! (5TUP1D) sh*t"), "idiot! (stupid) shit");
        assert_eq!(undone("fr33 cr1pt0 $cam 1d10t5"), "free cripto scam idiots");
        assert_eq!(undone("ѕtuріd іdіоt"), "stupid idiot");
    }

    #[test]
    fn numbers_are_letters_where_letters_are_numbers() {
        assert_eq!(undone("4 5tup1d 1d10t"), "a stupid idiot");
        assert_eq!(undone("4 stupid 1d10t"), "4 stupid idiot");
    }

    #[test]
    fn repeated_letters_are_undone() {
        assert_eq!(undone("stuuuupid niiiiice"), "stupid niice");
    }

    #[test]
    fn letters_apart_are_closed_up() {
        assert_eq!(undone("hi, i d i o t"), "hi, idiot");
        assert_eq!(undone("i.d.i.o.t s-t-u-p-1-d"), "idiot stupid");
        assert_eq!(undone("y o u  a r e  a n  i d i o t"), "you are an idiot");
        assert_eq!(undone("i  a r e  a n  i d i o t"), "i are an idiot");
        assert_eq!(undone("y o u a r e a n i d i o t"), "you are an idiot");
    }

    fn texts(message: &str) -> (Vec<String>, bool) {
        let (readings, complete) = readings(message, &vocabulary());
        (readings.into_iter().map(|reading| reading.text).collect(), complete)
    }

    #[test]
    fn each_text_is_read_once() {
        assert_eq!(texts("You."), (vec!["you.".to_owned()], true));
        let expected = ["you 1d10t! the i. about", "you idiot! the i. about"];
        let expected = [&expected[..], &["you 1d10t!", "the i. about", "you idiot!"]].concat();
        assert_eq!(texts("You 1d10t! The I. about").0, expected);
    }

    #[test]
    fn mentions_and_links_are_left_out() {
        let message = "@ada .@Bob: mail me@example.org, see https://example.org @ 5";
        assert_eq!(plain(message), ("mail me@example.org, see @ 5".to_owned(), 3));
        assert!(texts(message).1);
        assert!(!texts("@you @are @an @idiot").1);
    }

    #[test]
    fn more_sentences_than_are_read_are_told() {
        assert!(texts(&"You are. ".repeat(SENTENCES_MAX)).1);
        assert!(
            !texts(&(0..=SENTENCES_MAX).map(|i| format!("You are{i}. ")).collect::<String>()).1
        );
    }

    #[test]
    fn long_sentence_is_read_in_parts() {
        assert_eq!(sentences(&"you ".repeat(SENTENCE_WORDS_MAX + 1)).len(), 2);
    }

    proptest! {
        #[test]
        fn foreign_texts_never_panic(text in "[a1!$ .*\\n\u{430}]{0,60}|.*") {
            prop_assert!(!readings(&text, &vocabulary()).0.is_empty());
        }
    }
}
