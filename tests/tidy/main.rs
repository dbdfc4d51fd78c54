//! Rules about the source tree that no compiler knows.

mod order;

use std::fs;
use std::path::{Path, PathBuf};

/// The modules directly below src/, and how high they stand. A module may use itself and those of a
/// lower number, and neither a sibling nor one above. A new module gets its line here.
const LAYERS: &[(&str, u32)] = &[
    ("arch", 0),
    ("sys", 0),
    ("stack", 1),
    ("greenlet", 2),
    ("generator", 3),
    ("hub", 3),
    ("sync", 4),
    ("coroutine", 5),
    ("io", 6),
    ("pool", 6),
    ("thread", 6),
    ("fs", 7),
    ("net", 7),
    ("monkey", 9),
    ("multicore", 8),
    ("process", 8),
    ("signal", 7),
    ("watchdog", 8),
];

/// Folders below src/ whose files may contain `unsafe`.
const UNSAFE: &[&str] = &[
    "arch/",
    "sys/",
    "stack/",
    "greenlet/raw/",
    "hub/here.rs",
    "hub/ready.rs",
    "coroutine/scope.rs",
    "monkey/",
    "process/function.rs",
    "process/pool/worker.rs",
    "process/server.rs",
];

/// Files in those folders that do without all the same.
const SAFE: &[&str] = &[
    "stack/error.rs",
    "monkey/addresses.rs",
    "monkey/dedicated.rs",
    "monkey/gate.rs",
    "monkey/owners.rs",
    "monkey/patch.rs",
    "monkey/report.rs",
    "monkey/summary.rs",
];

/// What is not to be found in any source file.
const FORBIDDEN: &[&str] = &["static mut ", "todo!", "unimplemented!", "dbg!"];

/// Characters in a line of src/ at most.
const WIDTH: usize = 110;

const FORBID: &str = "#![forbid(unsafe_code)]";

struct Source {
    /// Relative to the folder that was asked for.
    path: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All .rs files below a folder of the repository.
fn sources(folder: &str) -> Vec<Source> {
    let base = root().join(folder);
    let mut found = Vec::new();
    let mut folders = vec![base.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path: PathBuf = entry.expect("a directory entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("UTF-8");
                let path = path.strip_prefix(&base).expect("below it").display().to_string();
                found.push(Source { path, text });
            }
        }
    }
    assert!(!found.is_empty(), "no source files in {}", base.display());
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

impl Source {
    /// The code: without comments, and without the unit tests, which come last.
    fn code(&self) -> String {
        let uncommented = |line: &str| {
            let mut quotes = 0;
            let comment = line.char_indices().find(|&(at, char)| {
                quotes += usize::from(char == '"');
                quotes % 2 == 0 && line[at..].starts_with("//")
            });
            line[..comment.map_or(line.len(), |(at, _)| at)].to_owned() + "\n"
        };
        let code: String = self.text.lines().map(uncommented).collect();
        match code.find("#[cfg(test)]\nmod ") {
            Some(tests) => code[..tests].to_owned(),
            None => code,
        }
    }

    /// The module that the file is, as path segments.
    fn module(&self) -> Vec<&str> {
        let path = self.path.trim_end_matches(".rs").trim_end_matches("/mod");
        path.split('/').filter(|segment| *segment != "lib").collect()
    }

    /// The names directly below the crate's root that the code uses, by `crate::` or by `super::`s.
    fn imports(&self) -> Vec<String> {
        let (code, depth) = (self.code(), self.module().len());
        let climb = "super::".repeat(depth);
        let mut names = Vec::new();
        for prefix in ["crate::", climb.as_str()].into_iter().filter(|prefix| !prefix.is_empty()) {
            for (at, _) in code.match_indices(prefix) {
                let continues = |char: char| char.is_alphanumeric() || char == '_' || char == ':';
                if !code[..at].ends_with(continues) {
                    names.extend(first_names(&code[at + prefix.len()..]));
                }
            }
        }
        names
    }
}

/// The first name of a path, or of each path in a list in braces.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        let end = text.find(|char: char| !char.is_alphanumeric() && char != '_' && char != '*');
        text[..end.unwrap_or(text.len())].to_owned()
    };
    let Some(list) = path.strip_prefix('{') else { return vec![name(path)] };
    let (mut names, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, char) in list.char_indices() {
        match char {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                names.push(name(list[start..at].trim_start()));
                start = at + 1;
            }
            '}' => depth -= 1,
            _ => {}
        }
        if char == '}' && depth == 0 && start == at + 1 {
            break;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[track_caller]
fn assert_none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn modules_use_lower_layers_only() {
    let layer =
        |name: &str| LAYERS.iter().find(|(known, _)| *known == name).map(|(_, layer)| *layer);
    let mut complaints = Vec::new();
    for source in sources("src") {
        let path = &source.path;
        let module = source.module();
        let Some(&own) = module.first() else { continue };
        let Some(height) = layer(own) else {
            complaints.push(format!(
                "src/{path}: give module `{own}` a line in LAYERS of tests/tidy/main.rs"
            ));
            continue;
        };
        for name in source.imports() {
            match layer(&name) {
                _ if name == own => {}
                Some(other) if other < height => {}
                Some(other) => complaints.push(format!(
                    "src/{path}: `{own}` (layer {height}) uses `{name}` (layer {other}): move what both \
                     need below them"
                )),
                None => complaints.push(format!(
                    "src/{path}: `{name}` is imported from the crate's root: name the module it is from"
                )),
            }
        }
    }
    assert_none(complaints);
}

/// Whether a file consists of `mod`, `use` and attributes: such a one cannot forbid what its children do.
fn only_declares(source: &Source) -> bool {
    let code = source.code();
    let without_attributes: String =
        code.lines().filter(|line| !line.trim_start().starts_with("#[")).collect();
    without_attributes.split(';').map(str::trim).filter(|item| !item.is_empty()).all(|item| {
        let item = match item.strip_prefix("pub") {
            Some(rest) if rest.starts_with('(') => {
                rest.split_once(')').map_or(rest, |(_, rest)| rest)
            }
            Some(rest) => rest,
            None => item,
        };
        let item = item.trim_start();
        item.starts_with("use ") || (item.starts_with("mod ") && !item.contains('{'))
    })
}

#[test]
fn unsafe_code_is_forbidden_but_where_it_belongs() {
    let mut complaints = Vec::new();
    for source in sources("src") {
        let path = source.path.as_str();
        let may = UNSAFE.iter().any(|folder| path.starts_with(folder)) && !SAFE.contains(&path);
        let declares = path == "lib.rs" || (path.ends_with("mod.rs") && only_declares(&source));
        let forbids = source.text.lines().next() == Some(FORBID);
        if !forbids && !may && !declares {
            complaints.push(format!("src/{path}: its first line must be {FORBID}"));
        }
    }
    for safe in SAFE {
        let exists = root().join("src").join(safe).exists();
        if !exists {
            complaints
                .push(format!("src/{safe} is gone: take it out of SAFE in tests/tidy/main.rs"));
        }
    }
    assert_none(complaints);
}

#[test]
fn nothing_forbidden_or_unfinished() {
    let mut complaints = Vec::new();
    for folder in ["src", "tests", "examples", "benches"] {
        // This file names what it looks for.
        for source in sources(folder).iter().filter(|source| source.path != "tidy/main.rs") {
            for (index, line) in source.text.lines().enumerate() {
                // `&'static mut T` is a type like any other.
                let line = line.replace("'static mut", "");
                for word in FORBIDDEN.iter().filter(|word| line.contains(*word)) {
                    let (path, line, word) = (&source.path, index + 1, word.trim());
                    complaints.push(format!("{folder}/{path}:{line}: take `{word}` out"));
                }
            }
        }
    }
    assert_none(complaints);
}

#[test]
fn lines_are_not_too_long() {
    let mut complaints = Vec::new();
    for Source { path, text } in sources("src") {
        for (index, line) in text.lines().enumerate() {
            let width = line.chars().count();
            if width > WIDTH {
                let line = index + 1;
                complaints
                    .push(format!("src/{path}:{line}: break it, {width} characters are too many"));
            }
        }
    }
    assert_none(complaints);
}

/// What stands between backticks in ARCHITECTURE.md, outside of drawings and code.
fn named_in_architecture() -> Vec<String> {
    let text =
        fs::read_to_string(root().join("ARCHITECTURE.md")).expect("there is an ARCHITECTURE.md");
    let mut names = Vec::new();
    for (index, block) in text.split("```").enumerate() {
        if index % 2 == 0 {
            names.extend(block.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    names
}

#[test]
fn architecture_names_every_module() {
    let named = named_in_architecture();
    let mut complaints = Vec::new();
    for entry in fs::read_dir(root().join("src")).expect("there is src/") {
        let file = entry.expect("a directory entry").file_name().into_string().expect("UTF-8");
        let module = file.trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        let is_it = |name: &String| {
            let name = name.strip_prefix("src/").unwrap_or(name);
            name.trim_end_matches('/').trim_end_matches(".rs") == module
        };
        if !named.iter().any(is_it) {
            complaints.push(format!(
                "ARCHITECTURE.md: say what `{module}` is for, its name in backticks"
            ));
        }
    }
    assert_none(complaints);
}

#[test]
fn architecture_names_no_file_that_is_not_there() {
    let mut files = Vec::new();
    for folder in ["src", "tests", "examples", "benches"] {
        files.extend(sources(folder).iter().map(|source| format!("/{folder}/{}", source.path)));
    }
    let mut complaints = Vec::new();
    for name in named_in_architecture() {
        // A file by its full path or the end of it, or a folder: `greenlet/raw/core.rs`, `core.rs`, `arch/`.
        let is_path = |char: char| char.is_alphanumeric() || "_-/.".contains(char);
        let (file, folder) = (name.ends_with(".rs"), name.ends_with('/'));
        if !(file || folder) || name.starts_with('/') || !name.chars().all(is_path) {
            continue;
        }
        let tail = format!("/{name}");
        let there = files
            .iter()
            .any(|path| if file { path.ends_with(&tail) } else { path.contains(&tail) });
        if !there && !root().join(&name).exists() {
            complaints
                .push(format!("ARCHITECTURE.md: there is no `{name}` any more: set it right"));
        }
    }
    assert_none(complaints);
}

#[test]
fn the_reader_of_imports_reads_them() {
    let read = |path: &str, text: &str| Source { path: path.into(), text: text.into() }.imports();
    assert_eq!(read("a/b.rs", "use crate::{c::{D, E}, f, g::h};"), ["c", "f", "g"]);
    assert_eq!(read("a/b.rs", "use super::c; use super::super::d::E;"), ["d"]);
    assert_eq!(
        read("a/mod.rs", "use super::c; // crate::x\nlet d = \"//\"; crate::e::f();"),
        ["e", "c"]
    );
    assert_eq!(
        read("a.rs", "use crate::b::{\n    C,\n};\n#[cfg(test)]\nmod tests {\n use crate::d; }"),
        ["b"]
    );
    assert_eq!(
        read("a/b/c.rs", "use super::super::{d, e}; use super::super::super::{f, g};"),
        ["f", "g"]
    );
}
