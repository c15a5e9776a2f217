//! Splits a line into words the way a Unix shell does, without its expansions: blanks separate,
//! quotes and backslashes keep together. `#` is no comment, since `set a #1` means what it says.

/// Why a line cannot be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WordsError {
    /// A quote was opened and not closed.
    #[error("the quote {0} is not closed")]
    OpenQuote(char),
    /// The line ends in a backslash.
    #[error("the line ends in a backslash")]
    LoneBackslash,
}

/// The words of a line.
pub(crate) fn words(line: &str) -> Result<Vec<String>, WordsError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            blank if blank.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some('\'') => break,
                        Some(inner) => word.push(inner),
                        None => return Err(WordsError::OpenQuote('\'')),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some('"') => break,
                        Some('\\') => escaped_in_quotes(&mut characters, word)?,
                        Some(inner) => word.push(inner),
                        None => return Err(WordsError::OpenQuote('"')),
                    }
                }
            }
            '\\' => {
                let next = characters.next().ok_or(WordsError::LoneBackslash)?;
                word.get_or_insert_default().push(next);
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Takes what follows a backslash in double quotes. Only a quote and a backslash are special there;
/// before any other character the backslash stands for itself.
fn escaped_in_quotes(
    characters: &mut std::str::Chars<'_>,
    word: &mut String,
) -> Result<(), WordsError> {
    match characters.next() {
        Some(special @ ('"' | '\\')) => word.push(special),
        Some(other) => word.extend(['\\', other]),
        None => return Err(WordsError::OpenQuote('"')),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{WordsError, words};

    fn split(line: &str) -> Vec<String> {
        words(line).unwrap()
    }

    #[test]
    fn blanks_separate_and_quotes_keep_together() {
        assert_eq!(split("  set  d\t8 "), ["set", "d", "8"]);
        assert_eq!(
            split("set motto 'easy  to'\" understand\""),
            ["set", "motto", "easy  to understand"]
        );
        assert_eq!(split(r#"set a "say \"hi\" \n""#), ["set", "a", r#"say "hi" \n"#]);
        assert_eq!(split(r"set a\ b 'it'\''s'"), ["set", "a b", "it's"]);
        assert_eq!(split("set empty ''"), ["set", "empty", ""]);
        assert_eq!(split("set a #1"), ["set", "a", "#1"]);
        assert_eq!(split(" \t"), Vec::<String>::new());
    }

    #[test]
    fn what_is_left_open_is_an_error() {
        assert_eq!(words("set a 'b"), Err(WordsError::OpenQuote('\'')));
        assert_eq!(words("set a \"b\\"), Err(WordsError::OpenQuote('"')));
        assert_eq!(words("set a \\"), Err(WordsError::LoneBackslash));
    }
}
