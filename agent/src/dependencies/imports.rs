//! The modules that a Python file imports as soon as it is loaded: `import` and `from` statements
//! that stand at the beginning of a line. What a function, a condition or a `try` imports is not
//! among them: it may never run. Pure.

use std::iter::Peekable;
use std::str::Chars;

const IMPORTS_MAX: usize = 1_000;

/// Statements that hold others; what follows their colon is conditional.
const COMPOUND: [&str; 13] = [
    "if", "elif", "else", "for", "while", "try", "except", "finally", "with", "def", "class",
    "async", "match",
];

/// Returns the first component of each module that is imported, with its line, from 1.
pub(super) fn imports(text: &str) -> Vec<(u32, String)> {
    let mut lines = Logical {
        chars: text.chars().peekable(),
        line: 1,
    };
    let mut found = Vec::new();
    while let Some((line, code)) = lines.next_line() {
        if found.len() >= IMPORTS_MAX {
            break;
        }
        if code.starts_with(char::is_whitespace) {
            continue;
        }
        for statement in code.split(';').map(str::trim) {
            let word = statement.split(|c: char| !is_of_name(c)).next();
            if word.is_some_and(|word| COMPOUND.contains(&word)) {
                break;
            }
            found.extend(modules(statement).map(|module| (line, module)));
        }
    }
    found.truncate(IMPORTS_MAX);
    found
}

fn modules(statement: &str) -> impl Iterator<Item = String> {
    let after = |word: &str| {
        let rest = statement.strip_prefix(word)?;
        rest.starts_with(char::is_whitespace).then(|| rest.trim())
    };
    let from = after("from").and_then(|rest| rest.split_whitespace().next());
    let imported = after("import").into_iter().flat_map(|rest| rest.split(','));
    let names = from.into_iter().chain(imported);
    // A relative one begins with a dot, and has no first component.
    let first = |name: &str| {
        let name = name.trim();
        let end = name.find(|c| !is_of_name(c)).unwrap_or(name.len());
        let first = name.get(..end).unwrap_or_default();
        let is_name = !first.is_empty() && !first.starts_with(char::is_numeric);
        is_name.then(|| first.to_owned())
    };
    names.filter_map(first).collect::<Vec<_>>().into_iter()
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The logical lines of a file, without comments and without what stands in strings.
struct Logical<'a> {
    chars: Peekable<Chars<'a>>,
    line: u32,
}

impl Logical<'_> {
    fn next_line(&mut self) -> Option<(u32, String)> {
        self.chars.peek()?;
        let (begins, mut code, mut depth) = (self.line, String::new(), 0_usize);
        while let Some(c) = self.take() {
            match c {
                '\n' if depth == 0 => break,
                '#' => while self.chars.next_if(|c| *c != '\n').is_some() {},
                '\\' if self.chars.next_if_eq(&'\r').is_some() || self.at_end_of_line() => {
                    self.take();
                    code.push(' ');
                }
                '\'' | '"' => {
                    self.string(c);
                    code.push_str("''");
                }
                '(' | '[' | '{' => {
                    depth += 1;
                    code.push(c);
                }
                ')' | ']' | '}' => {
                    depth = depth.saturating_sub(1);
                    code.push(c);
                }
                // A byte order mark and form feeds are no indentation.
                '\u{feff}' | '\u{c}' if code.is_empty() => {}
                c => code.push(c),
            }
        }
        Some((begins, code))
    }

    fn take(&mut self) -> Option<char> {
        let c = self.chars.next()?;
        self.line = self.line.saturating_add(u32::from(c == '\n'));
        Some(c)
    }

    fn at_end_of_line(&mut self) -> bool {
        self.chars.peek().is_none_or(|c| *c == '\n')
    }

    /// Passes over the rest of a string. A plain one ends with its line at the latest.
    fn string(&mut self, quote: char) {
        let mut is_long = false;
        if self.chars.next_if_eq(&quote).is_some() {
            if self.chars.next_if_eq(&quote).is_none() {
                return;
            }
            is_long = true;
        }
        let mut quotes = 0;
        loop {
            if !is_long && self.at_end_of_line() {
                return;
            }
            match self.take() {
                None => return,
                Some('\\') => {
                    quotes = 0;
                    self.take();
                }
                Some(c) if c == quote => {
                    quotes += 1;
                    if !is_long || quotes == 3 {
                        return;
                    }
                }
                Some(_) => quotes = 0,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let one = |(line, module): &(u32, String)| format!("{line} {module}");
        imports(text).iter().map(one).collect()
    }

    #[test]
    fn what_is_imported_at_once_is_found_with_its_line() {
        let text = "\u{feff}import os, polars as pl\nfrom dagster.core import (\n    asset,\n)\n\
                    import a.b.c; import d # import e\nx = 1; import f\nimport \\\n    g\r\n\
                    from __future__ import annotations\nfrom h import *\nimport été\n";
        assert_eq!(
            shown(text),
            [
                "1 os",
                "1 polars",
                "2 dagster",
                "5 a",
                "5 d",
                "6 f",
                "7 g",
                "9 __future__",
                "10 h",
                "11 été",
            ]
        );
    }

    #[test]
    fn what_may_never_run_is_not_among_them() {
        let text = "try:\n    import a\nexcept ImportError:\n    b = None\nif x: import c\n\
                    def f():\n    import d\nfrom . import e\nfrom .g import h\nfrom.i import j\n\
                    imports = 1\nfromage = 2\nmatch x: import k\n";
        assert_eq!(shown(text), [""; 0]);
    }

    #[test]
    fn strings_and_comments_import_nothing() {
        let text = "\"\"\"\nimport a\n\\\"\"\" import b\n'''\nimport c\n\"\"\"\n# import d\n\
                    x = '\\\nimport e'\ny = ''; z = \"\"\nr = r'\\'\nimport f\n\
                    s = '''\nimport g\n''' + '#'\nimport h\ncall(\nimport_i,\n)\n\
                    unclosed = '\nimport j\n";
        assert_eq!(shown(text), ["12 f", "16 h", "21 j"]);
    }

    #[test]
    fn a_file_that_is_no_python_ends_all_the_same() {
        for text in [
            "",
            "\\",
            "'",
            "\"\"\"",
            "((((",
            "import",
            "import ,,",
            "from",
            "\0\\\r",
        ] {
            assert_eq!(shown(text), [""; 0], "{text:?}");
        }
        let many = "import a\n".repeat(IMPORTS_MAX * 2);
        assert_eq!(imports(&many).len(), IMPORTS_MAX);
    }
}
