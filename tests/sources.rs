//! House rules that a text search can check, over the sources and documents of the whole workspace.

use std::fs;
use std::path::{Path, PathBuf};

/// Files with one of these extensions, build outputs and hidden folders left out.
fn files(extensions: &[&str]) -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("a folder of the repository").flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_file() {
                found.push(path);
            } else if !name.to_string_lossy().starts_with('.')
                && !["target", "runs"].iter().any(|skipped| name == *skipped)
            {
                walk(&path, found);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    walk(root, &mut found);
    found.retain(|p| p.extension().is_some_and(|e| extensions.iter().any(|x| e == *x)));
    found.sort();
    assert!(!found.is_empty());
    found
        .into_iter()
        .map(|p| {
            let text = fs::read_to_string(&p).unwrap_or_else(|e| panic!("{}: {e}", p.display()));
            (p.strip_prefix(root).expect("below the root").to_path_buf(), text)
        })
        .collect()
}

#[test]
fn nothing_is_left_unfinished() {
    let left = [concat!("to", "do!("), concat!("unimpl", "emented!("), concat!("db", "g!(")];
    for (path, text) in files(&["rs"]) {
        for (n, line) in text.lines().enumerate() {
            if let Some(word) = left.iter().find(|w| line.contains(**w)) {
                panic!("{}:{}: {word}…)", path.display(), n + 1);
            }
        }
    }
}

#[test]
fn every_module_says_what_it_is_for() {
    for (path, text) in files(&["rs"]) {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        // A module's tests are about that module.
        let tests = name == "tests" || name.ends_with("_tests");
        assert!(tests || text.starts_with("//!"), "{} does not start with //!", path.display());
    }
}

#[test]
fn no_path_of_someones_machine() {
    let roots = ["home", "root", "Users", "work"].map(|dir| format!("/{dir}/"));
    for (path, text) in files(&["rs", "md", "toml", "sh", "py"]) {
        for (n, line) in text.lines().enumerate() {
            for root in &roots {
                // `models/work/` is relative; a path that follows a letter, dot or dash is not absolute.
                let absolute = line.match_indices(root.as_str()).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '*' | '}'))
                });
                assert!(!absolute, "{}:{}: an absolute path below {root}", path.display(), n + 1);
            }
        }
    }
}
