//! Inside a folder, too, files know only lower ones.

use crate::{Source, assert_none, sources};
use std::collections::{BTreeMap, BTreeSet};

/// Files that know each other, and why they may.
const KNOTS: &[(&[&str], &str)] = &[
    (
        &["greenlet/raw/block", "greenlet/raw/slab", "greenlet/raw/thread"],
        "a block lives in its thread's slab and goes back there",
    ),
    (
        &["greenlet/raw/end", "greenlet/raw/run", "greenlet/raw/switch"],
        "an end is a switch, and what a switch brings may be an end",
    ),
];

type Graph = BTreeMap<String, BTreeSet<String>>;

/// The paths of modules that the code names, each with what it begins with: `crate`, `self` or `super`.
fn paths(code: &str) -> Vec<Vec<String>> {
    let is_part = |char: char| char.is_alphanumeric() || char == '_';
    let mut found = Vec::new();
    for start in ["crate::", "self::", "super::"] {
        for (at, _) in code.match_indices(start) {
            if !code[..at].ends_with(|char: char| is_part(char) || char == ':') {
                expand(&mut found, Vec::new(), &code[at..]);
            }
        }
    }
    found
}

/// Adds the path at the beginning of `text`, or each path of a list in braces.
fn expand(found: &mut Vec<Vec<String>>, mut before: Vec<String>, text: &str) {
    let mut rest = text.trim_start();
    loop {
        if let Some(list) = rest.strip_prefix('{') {
            return items(list).for_each(|item| expand(found, before.clone(), item));
        }
        let end = rest.find(|char: char| !char.is_alphanumeric() && char != '_');
        let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
        if !name.is_empty() {
            before.push(name.to_owned());
        }
        match after.strip_prefix("::") {
            Some(next) => rest = next,
            None => return found.push(before),
        }
    }
}

/// The items of a list whose opening brace has been read.
fn items(list: &str) -> impl Iterator<Item = &str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, char) in list.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.push(&list[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.into_iter().filter(|item| !item.trim().is_empty())
}

/// The file that a path leads into, seen from a module: the deepest there is.
fn target(files: &BTreeSet<String>, module: &[&str], path: &[String]) -> Option<String> {
    let mut at: Vec<&str> = module.to_vec();
    let mut names = path.iter().map(String::as_str).peekable();
    match names.next()? {
        "crate" => at.clear(),
        "super" => {
            at.pop();
            while names.next_if(|name| *name == "super").is_some() {
                at.pop();
            }
        }
        _ => {}
    }
    let base = at.len();
    at.extend(names);
    (base..=at.len()).rev().map(|length| at[..length].join("/")).find(|file| files.contains(file))
}

/// Which file names which. The `mod.rs` of a folder is named by the folder.
fn graph(sources: &[Source]) -> Graph {
    let files: BTreeSet<_> = sources.iter().map(|source| source.module().join("/")).collect();
    let mut graph = Graph::new();
    for source in sources {
        let (own, code) = (source.module(), source.code());
        let targets = paths(&code).into_iter().filter_map(|path| target(&files, &own, &path));
        let own_name = own.join("/");
        let others = targets.filter(|other| *other != own_name && !other.is_empty()).collect();
        graph.insert(own_name, others);
    }
    graph
}

fn reachable(graph: &Graph, from: &str) -> BTreeSet<String> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(file) = next.pop() {
        for other in graph.get(&file).into_iter().flatten() {
            if seen.insert(other.clone()) {
                next.push(other.clone());
            }
        }
    }
    seen
}

/// The groups of files that lead to each other, those of a single file left out.
fn circles(graph: &Graph) -> BTreeSet<BTreeSet<String>> {
    let reach: BTreeMap<_, _> = graph.keys().map(|file| (file, reachable(graph, file))).collect();
    let circle = |file: &String| -> BTreeSet<String> {
        let leads_back = |other: &&String| reach.get(other).is_some_and(|all| all.contains(file));
        reach[file].iter().filter(leads_back).cloned().collect()
    };
    graph.keys().map(circle).filter(|circle| circle.len() > 1).collect()
}

#[test]
fn files_of_a_folder_know_lower_ones_only() {
    let mut graph = graph(&sources("src"));
    // What a folder exports is for those outside of it. Inside, the file itself is named.
    let folders: Vec<String> = sources("src")
        .iter()
        .filter(|source| source.path.ends_with("/mod.rs"))
        .map(|source| source.module().join("/"))
        .collect();
    graph.retain(|file, _| !folders.contains(file));
    let known: Vec<BTreeSet<String>> = KNOTS
        .iter()
        .map(|(files, _)| files.iter().map(|file| (*file).to_owned()).collect())
        .collect();
    let circles = circles(&graph);
    let mut complaints: Vec<_> = circles
        .iter()
        .filter(|circle| !known.contains(circle))
        .map(|circle| {
            format!("these lead to each other, move what they share below them: {circle:?}")
        })
        .collect();
    let gone = known.iter().filter(|knot| !circles.contains(*knot));
    complaints.extend(gone.map(|knot| format!("no knot any more, take it out of KNOTS: {knot:?}")));
    assert_none(complaints);
}

#[test]
fn circles_are_found() {
    let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
    let files = [
        source("a/mod.rs", "mod b; mod c; mod d;"),
        source("a/b.rs", "use super::c::{D, E};"),
        source("a/c.rs", "use super::{b::F, d}; fn f() { crate::a::d::g() }"),
        source("a/d.rs", "use crate::e::H;"),
        source("e.rs", ""),
    ];
    let graph = graph(&files);
    let named = |file: &str| graph[file].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(named("a/b"), ["a/c"]);
    assert_eq!(named("a/c"), ["a/b", "a/d"]);
    assert_eq!(named("a/d"), ["e"]);
    let circle = BTreeSet::from(["a/b".to_owned(), "a/c".to_owned()]);
    assert_eq!(circles(&graph), BTreeSet::from([circle]));
}
