//! The lines of a requirements file, as pip reads them. Pure: whom it includes is read by others.

use super::requirement::Requirement;

/// What one line says. What says nothing about packages is left out.
#[derive(Debug, Clone)]
pub(super) enum Line {
    /// A package is to be installed.
    Wants(Box<Requirement>),
    /// Another file says more: `-r`.
    Includes(String),
    /// Another file bounds versions: `-c`.
    Constrains(String),
    /// It cannot be judged, for this reason.
    Unjudged(&'static str),
}

const LINES_MAX: usize = 20_000;

/// Returns what the lines of a file say, each with the number at which it begins, from 1.
pub(super) fn lines(text: &str) -> Vec<(u32, Line)> {
    let mut said = Vec::new();
    for (number, line) in joined(text) {
        if said.len() >= LINES_MAX {
            said.push((number, Line::Unjudged("the file has too many lines")));
            break;
        }
        said.extend(read(&line).map(|line| (number, line)));
    }
    said
}

/// Joins lines that a backslash continues. A comment ends such a line.
fn joined(text: &str) -> impl Iterator<Item = (u32, String)> {
    let mut lines = text.lines().zip(1_u32..);
    std::iter::from_fn(move || {
        let (first, number) = lines.next()?;
        let mut whole = String::new();
        let mut next = Some(first);
        while let Some(line) = next.take() {
            let is_comment = line.trim_start().starts_with('#');
            match line.strip_suffix('\\').filter(|_| !is_comment) {
                Some(continued) => {
                    whole.push_str(continued);
                    next = lines.next().map(|(line, _)| line);
                }
                None if is_comment => {}
                None => whole.push_str(line),
            }
        }
        Some((number, whole))
    })
}

fn read(line: &str) -> Option<Line> {
    let line = without_comment(line).trim();
    if line.is_empty() {
        return None;
    }
    if line.starts_with('-') {
        return option(line);
    }
    if line.contains("${") {
        return Some(Line::Unjudged("it names an environment variable"));
    }
    let text = without_options(line);
    // The name of an archive could be that of a package.
    let is_archive = !text.contains('@')
        && [".whl", ".tar.gz", ".zip"]
            .iter()
            .any(|end| text.ends_with(end));
    Some(match text.parse::<Requirement>() {
        Ok(requirement) if !is_archive => Line::Wants(Box::new(requirement)),
        Ok(_) => Line::Unjudged("it is a path or URL without a name"),
        Err(_) if is_archive || is_place(text) => {
            Line::Unjudged("it is a path or URL without a name")
        }
        Err(_) => Line::Unjudged("it is no requirement that can be read"),
    })
}

/// A comment begins the line, or follows a blank: a URL may have a `#` in it.
fn without_comment(line: &str) -> &str {
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        if c == '#' && before.is_whitespace() {
            return line.get(..at).unwrap_or(line);
        }
        before = c;
    }
    line
}

/// Hashes and other options of one requirement follow it.
fn without_options(line: &str) -> &str {
    let mut options = line.match_indices("--");
    let first = options.find(|(at, _)| {
        let before = line.get(..*at).unwrap_or_default();
        before.ends_with(char::is_whitespace)
    });
    first
        .and_then(|(at, _)| line.get(..at))
        .unwrap_or(line)
        .trim_end()
}

fn is_place(text: &str) -> bool {
    text.starts_with('.') || text.contains('/')
}

fn option(line: &str) -> Option<Line> {
    let end = line.find(|c: char| c.is_whitespace() || c == '=');
    let (name, value) = line.split_at(end.unwrap_or(line.len()));
    let value = value.strip_prefix('=').unwrap_or(value).trim();
    // `-rFILE` is one word.
    let (name, value) = match (line.get(..2), name.len()) {
        (Some(short @ ("-r" | "-c" | "-e")), 3..) => (short, line.get(2..).unwrap_or_default()),
        _ => (name, value),
    };
    match name {
        "-r" | "--requirement" => Some(Line::Includes(value.to_owned())),
        "-c" | "--constraint" => Some(Line::Constrains(value.to_owned())),
        "-e" | "--editable" => Some(Line::Unjudged("it is an editable install")),
        // They say where packages come from, and not which.
        "-i" | "--index-url" | "--pypi-url" | "--extra-index-url" | "--no-index" | "-f"
        | "--find-links" | "--no-binary" | "--only-binary" | "--prefer-binary"
        | "--require-hashes" | "--pre" | "--trusted-host" | "--use-feature" => None,
        _ => Some(Line::Unjudged("its option is not known")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::requirement::Wanted;
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let one = |(number, line): &(u32, Line)| match line {
            Line::Wants(requirement) => match &requirement.wanted {
                Wanted::Version(rule) => format!("{number} {}{rule}", requirement.name),
                Wanted::Url => format!("{number} {} @", requirement.name),
            },
            Line::Includes(file) => format!("{number} -r {file}"),
            Line::Constrains(file) => format!("{number} -c {file}"),
            Line::Unjudged(why) => format!("{number} ? {why}"),
        };
        lines(text).iter().map(one).collect()
    }

    #[test]
    fn names_includes_and_constraints_are_read_with_their_lines() {
        let text = "# all\n\npolars==1.2  # fast\n-r base.txt\n--requirement=more.txt\n-rlast.txt\n\
                    -c bounds.txt\n--constraint bounds2.txt\r\nfoo @ https://x/y#egg=foo\n";
        assert_eq!(
            shown(text),
            [
                "3 polars==1.2",
                "4 -r base.txt",
                "5 -r more.txt",
                "6 -r last.txt",
                "7 -c bounds.txt",
                "8 -c bounds2.txt",
                "9 foo @",
            ]
        );
    }

    #[test]
    fn hashes_and_continued_lines_belong_to_their_requirement() {
        let text = "polars==1.2 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n    # via x\n\
                    pandas>=2 \\\n# a comment ends it\nnumpy==1 --hash=sha256:cc\nlast==3 \\";
        assert_eq!(
            shown(text),
            ["1 polars==1.2", "5 pandas>=2", "7 numpy==1", "8 last==3"]
        );
    }

    #[test]
    fn what_only_says_where_packages_come_from_is_passed_over() {
        let text = "-i https://x\n--index-url=https://x\n--extra-index-url https://x\n--pre\n\
                    --no-binary :all:\n--find-links dir\n--require-hashes\n";
        assert_eq!(shown(text), [""; 0]);
    }

    #[test]
    fn what_cannot_be_judged_is_said_with_the_reason() {
        let text = "-e .\n-e git+https://x#egg=y\n./local\nhttps://x/y.whl\nx-1-py3-none-any.whl\n\
                    foo==${VERSION}\nfoo = 1\n--bogus\nfoo==1; weird == 'x'\n";
        assert_eq!(
            shown(text),
            [
                "1 ? it is an editable install",
                "2 ? it is an editable install",
                "3 ? it is a path or URL without a name",
                "4 ? it is a path or URL without a name",
                "5 ? it is a path or URL without a name",
                "6 ? it names an environment variable",
                "7 ? it is no requirement that can be read",
                "8 ? its option is not known",
                "9 ? it is no requirement that can be read",
            ]
        );
    }

    #[test]
    fn a_file_of_too_many_lines_is_cut_and_said_to_be() {
        let text = "a\n".repeat(LINES_MAX + 5);
        let said = lines(&text);
        assert_eq!(said.len(), LINES_MAX + 1);
        assert!(matches!(said.last(), Some((_, Line::Unjudged(_)))));
    }
}
