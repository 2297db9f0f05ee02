//! The outer form of a script: lines of words, blocks of text, and the files that follow. Pure.

use super::ScriptError;
use std::fmt;

/// A part of a word: text as it is, or a variable to be put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text.
    Text(String),
    /// The name of a variable: `$NAME` or `${NAME}`.
    Variable(String),
}

/// A word of a statement, put together from parts. Between single quotes nothing is special.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Word {
    /// What it is made of; neither two texts in a row nor an empty one.
    pub parts: Vec<Part>,
}

impl Word {
    /// A word without variables.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        let mut word = Self::default();
        word.push(&text.into());
        word
    }

    /// Its text, if it has no variables.
    #[must_use]
    pub fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    fn push(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if let Some(Part::Text(last)) = self.parts.last_mut() {
            last.push_str(text);
        } else {
            self.parts.push(Part::Text(text.to_owned()));
        }
    }
}

/// Writes it so that it is read as the same word again.
impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = |c: char| c.is_alphanumeric() || "_-./:=,+@%^~*?&;|(){}[]!".contains(c);
        match self.literal() {
            Some(text) if !text.is_empty() && text.chars().all(bare) => return f.write_str(text),
            Some(text) if !text.contains(['\'', '\n', '\t', '\r', '\0']) => return write!(f, "'{text}'"),
            _ => {}
        }
        f.write_str("\"")?;
        for part in &self.parts {
            match part {
                Part::Variable(name) => write!(f, "${{{name}}}")?,
                Part::Text(text) => {
                    for c in text.chars() {
                        match c {
                            '"' | '\\' | '$' => write!(f, "\\{c}")?,
                            '\n' => f.write_str("\\n")?,
                            '\t' => f.write_str("\\t")?,
                            '\r' => f.write_str("\\r")?,
                            '\0' => f.write_str("\\0")?,
                            c => write!(f, "{c}")?,
                        }
                    }
                }
            }
        }
        f.write_str("\"")
    }
}

/// A block of text behind a statement: `<<END` up to a line `END`; `<<$END` puts variables in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its lines, each with its end.
    pub text: String,
    /// Whether variables are put in.
    pub expands: bool,
}

/// A statement: its words, each with its column, and its block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its line in the file, from 1.
    pub number: usize,
    /// Its words; at least one.
    pub words: Vec<Word>,
    /// The column of each word, in characters, from 1.
    pub columns: Vec<usize>,
    /// The block of text, if there is one.
    pub block: Option<Block>,
    /// The statement as it is written, without its block.
    pub source: String,
}

/// Writes it so that it is read as the same words and block again.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, word) in self.words.iter().enumerate() {
            match word.literal() {
                // Else the line could be read as the head of a file.
                Some("--") if index == 0 => f.write_str("'--'")?,
                _ => write!(f, "{}{word}", if index == 0 { "" } else { " " })?,
            }
        }
        let Some(block) = &self.block else { return writeln!(f) };
        let mut end = "END".to_owned();
        while block.text.lines().any(|line| line == end) {
            end.push('_');
        }
        let sign = if block.expands { "$" } else { "" };
        writeln!(f, " <<{sign}{end}\n{}{end}", block.text)
    }
}

/// A file that comes with a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextFile {
    /// Its path below the script's folder.
    pub path: String,
    /// Its content.
    pub text: String,
}

/// The outer form: statements, then files, each after a line `-- path --`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// The statements.
    pub lines: Vec<Line>,
    /// The files.
    pub files: Vec<TextFile>,
}

impl fmt::Display for Outline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            write!(f, "{line}")?;
        }
        for file in &self.files {
            write!(f, "-- {} --\n{}", file.path, file.text)?;
        }
        Ok(())
    }
}

impl Outline {
    /// Reads a script's outer form.
    ///
    /// # Errors
    /// At the first line that cannot be read, with its column.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let mut outline = Self::default();
        let mut lines = text.split_inclusive('\n').enumerate();
        while let Some((index, line)) = lines.next() {
            let number = index + 1;
            let line = line.trim_end_matches(['\n', '\r']);
            if let Some(path) = file_header(line) {
                if !plain_path(path) {
                    let message = format!("{path:?} is no path below the script's folder");
                    return Err(ScriptError::new(number, 4, message));
                }
                outline.files.push(TextFile { path: path.to_owned(), text: String::new() });
                break;
            }
            let Some((mut statement, delimiter)) = split(line, number)? else { continue };
            if let Some((end, expands)) = delimiter {
                let mut block = Block { text: String::new(), expands };
                loop {
                    let Some((_, line)) = lines.next() else {
                        let message = format!("the block of text has no end: no line is {end}");
                        return Err(ScriptError::new(number, 1, message));
                    };
                    let content = line.trim_end_matches(['\n', '\r']);
                    if content == end {
                        break;
                    }
                    block.text.push_str(content);
                    block.text.push('\n');
                }
                statement.block = Some(block);
            }
            outline.lines.push(statement);
        }
        for (index, line) in lines {
            if let Some(path) = file_header(line.trim_end_matches(['\n', '\r'])) {
                if !plain_path(path) {
                    let message = format!("{path:?} is no path below the script's folder");
                    return Err(ScriptError::new(index + 1, 4, message));
                }
                outline.files.push(TextFile { path: path.to_owned(), text: String::new() });
            } else if let Some(file) = outline.files.last_mut() {
                file.text.push_str(line);
            }
        }
        Ok(outline)
    }
}

fn file_header(line: &str) -> Option<&str> {
    line.strip_prefix("-- ")?.strip_suffix(" --").map(str::trim).filter(|path| !path.is_empty())
}

fn plain_path(path: &str) -> bool {
    !path.contains('\0') && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

type Delimiter = (String, bool);

/// Splits a line into words, and finds the `<<END` behind them. `None` for a line that says nothing.
fn split(line: &str, number: usize) -> Result<Option<(Line, Option<Delimiter>)>, ScriptError> {
    let chars: Vec<char> = line.chars().collect();
    let error = |at: usize, message: &str| ScriptError::new(number, at + 1, message);
    let mut statement =
        Line { number, words: Vec::new(), columns: Vec::new(), block: None, source: line.trim().to_owned() };
    let mut at = 0;
    let mut delimiter = None;
    while let Some(&c) = chars.get(at) {
        if c.is_whitespace() {
            at += 1;
            continue;
        }
        if c == '#' {
            break;
        }
        if let Some(end) = &delimiter {
            let (end, _): &Delimiter = end;
            return Err(error(at, &format!("nothing may follow <<{end}")));
        }
        if chars[at..].starts_with(&['<', '<']) {
            let expands = chars.get(at + 2) == Some(&'$');
            let from = at + 2 + usize::from(expands);
            let end: String =
                chars[from..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').collect();
            if end.is_empty() {
                return Err(error(at, "<< needs the word that ends the block, such as <<END"));
            }
            at = from + end.chars().count();
            delimiter = Some((end, expands));
            continue;
        }
        statement.columns.push(at + 1);
        let (word, next) = word(&chars, at, number)?;
        statement.words.push(word);
        at = next;
    }
    match (statement.words.is_empty(), &delimiter) {
        (true, None) => Ok(None),
        (true, Some(_)) => Err(error(0, "a block of text needs a statement before it")),
        (false, _) => Ok(Some((statement, delimiter))),
    }
}

/// Reads one word from `at`; returns it and where it ends.
fn word(chars: &[char], mut at: usize, number: usize) -> Result<(Word, usize), ScriptError> {
    let error = |at: usize, message: &str| Err(ScriptError::new(number, at + 1, message));
    let mut word = Word::default();
    let mut quote: Option<(char, usize)> = None;
    while let Some(&c) = chars.get(at) {
        match (quote, c) {
            (None, c) if c.is_whitespace() => break,
            (None, '\'' | '"') => quote = Some((c, at)),
            (Some((open, _)), c) if c == open => quote = None,
            (Some(('\'', _)), c) => word.push(&c.to_string()),
            (_, '\\') => {
                let escaped = match (chars.get(at + 1), quote) {
                    (Some('n'), Some(_)) => '\n',
                    (Some('t'), Some(_)) => '\t',
                    (Some('r'), Some(_)) => '\r',
                    (Some('0'), Some(_)) => '\0',
                    (Some(c @ ('\\' | '"' | '\'' | '$' | '#' | ' ' | '<')), _) => *c,
                    _ => {
                        return error(
                            at,
                            "a backslash stands before \\ \" ' $ # and <, or for \\n \\t \\r \\0 between double quotes; write it between single quotes to mean itself",
                        );
                    }
                };
                word.push(&escaped.to_string());
                at += 1;
            }
            (_, '$') => {
                let braced = chars.get(at + 1) == Some(&'{');
                let from = at + 1 + usize::from(braced);
                let rest = chars.get(from..).unwrap_or_default();
                let name: String =
                    rest.iter().take_while(|c| c.is_ascii_alphanumeric() || **c == '_').collect();
                let end = from + name.len();
                if name.is_empty() || (braced && chars.get(end) != Some(&'}')) {
                    return error(at, "$ stands before the name of a variable; write \\$ to mean itself");
                }
                word.parts.push(Part::Variable(name));
                at = end + usize::from(braced);
                continue;
            }
            (_, c) => word.push(&c.to_string()),
        }
        at += 1;
    }
    match quote {
        Some((_, open)) => error(open, "this quote is not closed"),
        None => Ok((word, at)),
    }
}

/// Splits a block of text at its variables, for [`Block::expands`]. A `$` that names none stays as it is.
#[must_use]
pub fn parts_of_block(text: &str) -> Vec<Part> {
    let chars: Vec<char> = text.chars().collect();
    let mut word = Word::default();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let braced = chars.get(at + 1) == Some(&'{');
        let from = at + 1 + usize::from(braced);
        let rest = chars.get(from..).unwrap_or_default();
        let name: String = rest.iter().take_while(|c| c.is_ascii_alphanumeric() || **c == '_').collect();
        let end = from + name.len();
        if c == '$' && !name.is_empty() && (!braced || chars.get(end) == Some(&'}')) {
            word.parts.push(Part::Variable(name));
            at = end + usize::from(braced);
        } else {
            word.push(&c.to_string());
            at += 1;
        }
    }
    word.parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(line: &str) -> Vec<String> {
        let outline = Outline::parse(line).unwrap();
        outline.lines[0].words.iter().map(|word| word.literal().unwrap_or("VARIABLE").to_owned()).collect()
    }

    #[test]
    fn words_are_as_in_a_shell() {
        assert_eq!(words("a  b\tc # d"), ["a", "b", "c"]);
        assert_eq!(words(r#"'a b' "c \"d\" \n" e'f'"g" '' \#x"#), ["a b", "c \"d\" \n", "efg", "", "#x"]);
        assert_eq!(words("a $B '$C'"), ["a", "VARIABLE", "$C"]);
    }

    #[test]
    fn blocks_and_files_are_taken_as_they_are() {
        let text = "# note\nwrite x <<END\n  a $b\n-- no file --\nEND\n-- f/g --\none\n-- h --\n";
        let outline = Outline::parse(text).unwrap();
        assert_eq!(outline.lines[0].block.as_ref().unwrap().text, "  a $b\n-- no file --\n");
        assert_eq!(outline.lines[0].number, 2);
        let files: Vec<_> = outline.files.iter().map(|f| (f.path.as_str(), f.text.as_str())).collect();
        assert_eq!(files, [("f/g", "one\n"), ("h", "")]);
    }

    #[test]
    fn what_cannot_be_read_is_named_by_its_place() {
        for (text, place) in [
            ("a\n b 'c", "2:4: this quote is not closed"),
            ("a <<", "1:3: << needs the word"),
            ("a <<E\nb", "1:1: the block of text has no end"),
            ("a <<E b\nE", "1:7: nothing may follow <<E"),
            ("a $", "1:3: $ stands before"),
            ("-- ../x --", "1:4: \"../x\" is no path"),
            (r"a \q", "1:3: a backslash"),
        ] {
            let error = Outline::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(place), "{text:?}: {error}");
        }
    }

    fn any_word() -> impl Strategy<Value = Word> {
        let part = prop_oneof![
            "[^\\n]{0,8}".prop_map(Part::Text),
            "(?s).{0,4}".prop_map(Part::Text),
            "[A-Z_][A-Z0-9_]{0,5}".prop_map(Part::Variable),
        ];
        prop::collection::vec(part, 0..4).prop_map(|parts| {
            let mut word = Word::default();
            for part in parts {
                match part {
                    Part::Text(text) => word.push(&text),
                    variable @ Part::Variable(_) => word.parts.push(variable),
                }
            }
            word
        })
    }

    fn any_outline() -> impl Strategy<Value = Outline> {
        let block = prop::option::of(("([ -~]{0,6}\n){0,4}", any::<bool>()));
        let line = (prop::collection::vec(any_word(), 1..5), block);
        let file = ("[a-z]{1,4}(/[a-z]{1,4}){0,2}", "([a-z $<#']{0,9}\n){0,3}");
        (prop::collection::vec(line, 0..5), prop::collection::vec(file, 0..3)).prop_map(|(lines, files)| {
            let lines = lines.into_iter().map(|(words, block)| Line {
                number: 0,
                columns: Vec::new(),
                words,
                block: block.map(|(text, expands)| Block { text, expands }),
                source: String::new(),
            });
            let files = files.into_iter().map(|(path, text)| TextFile { path, text });
            Outline { lines: lines.collect(), files: files.collect() }
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_as_the_same(outline in any_outline()) {
            let mut read = Outline::parse(&outline.to_string()).unwrap();
            for line in &mut read.lines {
                (line.number, line.columns, line.source) = (0, Vec::new(), String::new());
            }
            prop_assert_eq!(read, outline);
        }

        #[test]
        fn nothing_makes_it_panic(text in "(?s).{0,200}") {
            let _ = Outline::parse(&text);
        }

        #[test]
        fn nothing_like_a_script_makes_it_panic(text in "[a-z $'\"\\\\<#{}\n-]{0,120}") {
            let _ = Outline::parse(&text);
        }
    }
}
