//! docs/troubleshooting.md quotes what the programs say. Each quotation is looked up in the string
//! literals of their sources, where `{…}` is anything, so that the page cannot tell of messages
//! that nobody will ever see.

#![expect(clippy::unwrap_used, reason = "helpers of a test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[test]
fn every_quoted_message_is_one_that_a_program_says() {
    let said: String = sources().iter().map(|text| literals(text)).collect();
    let page = std::fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let quotations = quotations(&page);
    assert!(
        quotations.len() > 80,
        "only {} were found",
        quotations.len()
    );
    let unsaid: Vec<_> = quotations
        .iter()
        .filter(|quotation| !said.contains(quotation.as_str()))
        .collect();
    assert!(unsaid.is_empty(), "no program says {unsaid:#?}");
}

#[test]
fn literals_are_read_as_the_compiler_reads_them() {
    let text = r##"
        // "a comment"
        let name = 'x'; let quote = '"'; let escaped = '\''; fn f<'a>(it: &'a str) {}
        say("one \"two\" {three} \
             {{four}}"); let raw = r#"five "six""#; "{name:?}: {}"
        #[cfg(test)]
        mod tests { "seven" }
    "##;
    let read = literals(text);
    let parts: Vec<_> = read.split(END).filter(|part| !part.is_empty()).collect();
    assert_eq!(parts, ["one \"two\" … {four}", "five \"six\"", "…: …"]);
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What stands in `code` in the first column of the page's tables, without ends that are `…`.
fn quotations(page: &str) -> BTreeSet<String> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(|code| code.trim_matches(|c: char| c == '…' || c == ' ').to_owned())
        .collect()
}

/// The programs' sources, tests aside.
fn sources() -> Vec<String> {
    let mut files = Vec::new();
    for room in std::fs::read_dir(root().join("crates")).unwrap() {
        let room = room.unwrap().path();
        if room.ends_with("testkit") || room.ends_with("embedded-kube") {
            continue;
        }
        collect(&room.join("src"), &mut files);
    }
    files
}

fn collect(folder: &Path, files: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if name == "tests" || name.ends_with("testing") {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|it| it == "rs") {
            files.push(std::fs::read_to_string(&path).unwrap());
        }
    }
}

/// Between two literals: no quotation reaches over it.
const END: char = '\0';

/// The string literals of a source before its tests, placeholders as `…`.
fn literals(source: &str) -> String {
    let end = source.find("#[cfg(test)]\n").filter(|at| {
        let after = source[*at..].lines().nth(1).unwrap_or_default();
        after.trim_start().starts_with("mod ")
    });
    let mut rest = &source[..end.unwrap_or(source.len())];
    let mut read = String::new();
    while let Some(at) = rest.find(['"', '\'', '/', 'r']) {
        let found = &rest[at..];
        rest = if found.starts_with("//") {
            found.split_once('\n').map_or("", |(_, after)| after)
        } else if let Some(text) = found.strip_prefix("r#\"") {
            let (text, after) = text.split_once("\"#").unwrap();
            read.push_str(text);
            read.push(END);
            after
        } else if let Some(text) = found.strip_prefix('"') {
            let after = string(text, &mut read);
            read.push(END);
            after
        } else if found.starts_with("'\\") {
            let after = &found[3..];
            &after[after.find('\'').unwrap() + 1..]
        } else if found.starts_with('\'') && found.chars().nth(2) == Some('\'') {
            found.splitn(3, '\'').nth(2).unwrap()
        } else {
            &found[1..]
        };
    }
    read
}

/// Reads one literal to its closing quote, and gives what follows.
fn string<'a>(text: &'a str, read: &mut String) -> &'a str {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return chars.as_str(),
            '\\' => match chars.next() {
                Some('\n') => {
                    let after = chars.as_str().trim_start();
                    chars = after.chars();
                }
                Some('n') => read.push('\n'),
                Some(other) => read.push(other),
                None => break,
            },
            '{' if chars.as_str().starts_with('{') => {
                chars.next();
                read.push('{');
            }
            '}' if chars.as_str().starts_with('}') => {
                chars.next();
                read.push('}');
            }
            '{' => {
                let after = chars
                    .as_str()
                    .split_once('}')
                    .map_or("", |(_, after)| after);
                chars = after.chars();
                read.push('…');
            }
            other => read.push(other),
        }
    }
    chars.as_str()
}
