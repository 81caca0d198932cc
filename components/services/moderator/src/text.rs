//! What a pattern is matched against.

/// The message in lower case, without invisible characters, styled letters and quotation marks as plain ones.
pub(crate) fn plain(message: &str) -> String {
    let visible = message.chars().filter(|c| !is_invisible(*c));
    visible.map(unstyled).flat_map(char::to_lowercase).collect()
}

/// `plain` with common disguises undone, or `None` if it has none.
pub(crate) fn undisguised(plain: &str) -> Option<String> {
    let joined = joined(plain);
    let words: Vec<String> = joined.split(' ').map(word).collect();
    let text = words.join(" ");
    (text != plain).then_some(text)
}

/// Zero-width and bidirectional marks, soft hyphens, variation selectors, tags: they split words for a pattern, not for a reader.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2064}'
            | '\u{2066}'..='\u{2069}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// The plain form of full-width characters, mathematical alphabets (𝐛𝐨𝐥𝐝), spaces and quotation marks.
fn unstyled(c: char) -> char {
    let code = c as u32;
    let ascii = |offset: u32, base: u8| char::from_u32(offset + u32::from(base)).unwrap_or(c);
    match c {
        '\u{ff01}'..='\u{ff5e}' => ascii(code - 0xff01, b'!'),
        // Alphabets of 26 capitals and 26 small letters, one after the other.
        '\u{1d400}'..='\u{1d6a3}' => ascii((code - 0x1d400) % 26, b'a'),
        '\u{1d7ce}'..='\u{1d7ff}' => ascii((code - 0x1d7ce) % 10, b'0'),
        '\u{2018}' | '\u{2019}' => '\'',
        '\u{201c}' | '\u{201d}' => '"',
        c if c.is_whitespace() => ' ',
        c => c,
    }
}

/// Closes up words of four or more letters that are written apart: `f r e e`, `f.r.e.e`.
fn joined(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let letters = spaced_letters(&chars, at);
        if letters >= SPACED_LETTERS_MIN {
            out.extend(chars[at..].iter().step_by(2).take(letters));
            at += 2 * letters - 1;
        } else {
            out.push(chars[at]);
            at += 1;
        }
    }
    out
}

/// Fewer are often initials (`U.S.A`).
const SPACED_LETTERS_MIN: usize = 4;

/// How many single characters of a word, one separator between each two, begin at `at`.
fn spaced_letters(chars: &[char], at: usize) -> usize {
    let in_word = |i: usize| chars.get(i).is_some_and(|c| c.is_alphanumeric() || *c == '$');
    let separator = |i: usize| chars.get(i).filter(|c| matches!(c, ' ' | '.' | '-' | '_' | '*'));
    if at > 0 && in_word(at - 1) {
        return 0;
    }
    let mut letters = 0;
    while in_word(at + 2 * letters) && !in_word(at + 2 * letters + 1) {
        letters += 1;
        // The same separator throughout.
        if separator(at + 2 * letters - 1).is_none() || chars[at + 2 * letters - 1] != chars[at + 1]
        {
            break;
        }
    }
    letters
}

/// A word with digits and signs that stand for letters replaced, and letters of other alphabets that look Latin.
///
/// Left alone are mentions, addresses and words that aren't mostly Latin letters: numbers stay numbers, and Russian Russian.
fn word(word: &str) -> String {
    let latin = word.chars().filter(char::is_ascii_lowercase).count();
    let stand_ins = word.chars().filter(|c| stand_in(*c).is_some()).count();
    let is_name = word.starts_with('@') || word.contains(['/', '.']);
    if stand_ins == 0 || latin < 2 || latin < stand_ins || is_name {
        return word.to_owned();
    }
    word.chars().map(|c| stand_in(c).unwrap_or(c)).collect()
}

fn stand_in(c: char) -> Option<char> {
    Some(match c {
        '0' | 'о' | 'ο' => 'o',
        '1' | 'і' | 'ι' => 'i',
        '3' | 'е' => 'e',
        '4' | '@' | 'а' | 'α' => 'a',
        '5' | '$' | 'ѕ' => 's',
        '7' => 't',
        'с' => 'c',
        'р' | 'ρ' => 'p',
        'у' => 'y',
        'х' => 'x',
        'к' | 'κ' => 'k',
        'ν' => 'v',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(message: &str) -> (String, Option<String>) {
        let plain = plain(message);
        let undisguised = undisguised(&plain);
        (plain, undisguised)
    }

    #[test]
    fn ordinary_text_has_one_form() {
        let text = "see you at 10:30, bring 2 laptops & $20 @ada, ok? U.S. e.g. i.e. x/y b4";
        assert_eq!(both(text), (text.to_lowercase(), None));
    }

    #[test]
    fn invisible_and_styled_letters_are_plain() {
        assert_eq!(plain("F\u{200b}r\u{ad}ee ＣＯＩＮ 𝐁𝐨𝐥𝐝 ’"), "free coin bold '");
    }

    #[test]
    fn disguises_are_undone() {
        let undone = |text: &str| undisguised(&plain(text)).unwrap();
        assert_eq!(undone("FR33 cr1pt0 $cam"), "free cripto scam");
        assert_eq!(undone("g e t  f.r.e.e f-r-3-3 now"), "g e t  free free now");
        assert_eq!(undone("frее"), "free");
    }

    #[test]
    fn other_alphabets_stay() {
        assert_eq!(both("привет, как дела?").1, None);
    }

    #[test]
    fn names_and_numbers_stay() {
        assert_eq!(both("@us3r https://ex4mple.org 100k 2fa").1, None);
    }
}
