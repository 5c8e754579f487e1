//! The table of flaws, its tests and the edits that bring them back fit together (`tests/flaws/run.sh` applies them).

use std::fs;
use std::path::{Path, PathBuf};

/// An edit of `tests/flaws`.
struct Edit {
    name: String,
    flaw: u32,
    file: String,
    test: String,
    find: String,
    replace: String,
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn edits() -> Vec<Edit> {
    let mut edits = Vec::new();
    for entry in fs::read_dir(project().join("tests/flaws")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "edit") {
            edits.push(read(&path));
        }
    }
    edits
}

fn read(path: &Path) -> Edit {
    let text = fs::read_to_string(path).unwrap();
    let (head, rest) = text.split_once("--- find\n").unwrap();
    let (find, replace) = rest.split_once("\n--- replace\n").unwrap();
    let field = |name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{} has no line `{name}`", path.display())).trim().to_owned()
    };
    Edit {
        name: path.file_name().unwrap().to_string_lossy().into_owned(),
        flaw: field("flaw ").parse().unwrap(),
        file: field("file "),
        test: field("test "),
        find: find.to_owned(),
        replace: replace.trim_end_matches('\n').to_owned(),
    }
}

/// The rows of the table: number and text.
fn rows() -> Vec<(u32, String)> {
    let table = fs::read_to_string(project().join("docs/src/flaws.md")).unwrap();
    let number = |line: &str| line.split('|').nth(1).and_then(|cell| cell.trim().parse().ok());
    table.lines().filter_map(|line| number(line).map(|number| (number, line.to_owned()))).collect()
}

#[test]
fn every_edit_fits_its_file_exactly_once_and_changes_it() {
    for edit in edits() {
        let text = fs::read_to_string(project().join(&edit.file))
            .unwrap_or_else(|error| panic!("{}: {}: {error}", edit.name, edit.file));
        assert_eq!(text.matches(&edit.find).count(), 1, "{}: how often its text is in {}", edit.name, edit.file);
        assert_ne!(edit.find, edit.replace, "{}", edit.name);
    }
}

#[test]
fn every_test_that_an_edit_names_is_there_and_in_the_table() {
    let rows = rows();
    for edit in edits() {
        let test = edit.test.split([' ', ':']).next_back().unwrap();
        let row = rows.iter().find(|(number, _)| *number == edit.flaw);
        let row = &row.unwrap_or_else(|| panic!("{}: there is no flaw {}", edit.name, edit.flaw)).1;
        assert!(
            row.contains(&format!("`{test}`")),
            "{}: the row of flaw {} does not name {test}",
            edit.name,
            edit.flaw
        );
        let declared = format!("fn {test}(");
        assert!(sources().any(|text| text.contains(&declared)), "{}: no test is called {test}", edit.name);
    }
}

/// Every Rust source of the project.
fn sources() -> impl Iterator<Item = String> {
    let mut left = vec![project().join("crates"), project().join("tests")];
    let mut found = Vec::new();
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                _ if path.is_dir() => left.push(path),
                Some(extension) if extension == "rs" => found.push(path),
                _ => (),
            }
        }
    }
    found.into_iter().map(|path| fs::read_to_string(path).unwrap())
}
