//! The table as a whole.

use crate::patched;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use switchgrass::monkey::self_check;

/// The names of all tests, but those in this file.
fn tests() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/monkey");
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        for (_, after) in
            text.match_indices("#[test]\n").map(|(at, mark)| (at, &text[at + mark.len()..]))
        {
            let name = after.strip_prefix("fn ").and_then(|rest| rest.split_once('('));
            names.insert(name.expect("a function").0.to_owned());
        }
    }
    names
}

#[test]
fn every_row_has_a_test() {
    let tests = tests();
    let without: Vec<_> =
        self_check().iter().map(|row| row.name).filter(|name| !tests.contains(*name)).collect();
    assert!(without.is_empty(), "write tests of these names in tests/monkey: {without:?}");
}

/// Nobody defines these before us, and each is patched.
#[test]
fn every_symbol_is_ours() {
    patched(|| {
        for symbol in self_check() {
            assert!(symbol.is_ours && symbol.is_patched, "{symbol:?}");
        }
    });
}
