//! Documents from files, folders and glob patterns.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::DataError;

/// A text and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The file.
    pub path: PathBuf,
    /// The line of a .jsonl file, from 1.
    pub line: Option<usize>,
    /// The text; never empty.
    pub text: String,
}

impl AsRef<str> for Document {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

/// How a file came to be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    /// By its own path: it must be text.
    Explicitly,
    /// In a folder or by a pattern: it is skipped if it is not text.
    Found,
}

/// Reads all documents under `paths`: files, folders (recursively) and glob patterns.
///
/// Each line of a .jsonl file is a document, an object whose string `text_field` holds the text; any
/// other file is one document. Documents come in the order of their files' paths and a file counts
/// once; empty texts are left out. In folders, hidden entries, folders named `target`, links to
/// folders and files that are not UTF-8 text are skipped; patterns skip hidden entries and binary
/// files, too.
///
/// Errors name the path: missing, unreadable, a pattern without a match, a binary file that is named
/// itself, a malformed .jsonl line, or no text at all.
pub fn read_documents<P: AsRef<Path>>(paths: &[P], text_field: &str) -> Result<Vec<Document>, DataError> {
    let mut files = BTreeMap::new();
    for path in paths {
        list(path.as_ref(), &mut files)?;
    }
    let mut seen = HashSet::new();
    let mut documents = Vec::new();
    for (path, named) in files {
        let real = path.canonicalize().map_err(|source| DataError::Read { path: path.clone(), source })?;
        if seen.insert(real) {
            read_file(path, named, text_field, &mut documents)?;
        }
    }
    if documents.is_empty() {
        let names: Vec<String> = paths.iter().map(|path| path.as_ref().display().to_string()).collect();
        let origin = if names.is_empty() { "an empty list of paths".into() } else { names.join(", ") };
        return Err(DataError::Empty { origin });
    }
    Ok(documents)
}

/// Adds the files that one path stands for.
fn list(path: &Path, files: &mut BTreeMap<PathBuf, Named>) -> Result<(), DataError> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => walk(path, files),
        Ok(meta) if meta.is_file() => {
            files.insert(path.into(), Named::Explicitly);
            Ok(())
        }
        Ok(_) => Err(DataError::NotAFile { path: path.into() }),
        Err(source) => match path.to_str() {
            Some(pattern) if pattern.contains(['*', '?', '[']) => list_matches(pattern, files),
            _ => Err(DataError::Read { path: path.into(), source }),
        },
    }
}

/// Adds the files that match a pattern, and those in folders that match it.
fn list_matches(pattern: &str, files: &mut BTreeMap<PathBuf, Named>) -> Result<(), DataError> {
    let options = glob::MatchOptions {
        require_literal_separator: true,
        require_literal_leading_dot: true,
        ..Default::default()
    };
    let matches = glob::glob_with(pattern, options)
        .map_err(|source| DataError::Pattern { pattern: pattern.into(), source })?;
    let mut any = false;
    for path in matches {
        let path = path.map_err(|error| {
            let path = error.path().to_path_buf();
            DataError::Read { path, source: error.into() }
        })?;
        any = true;
        if path.is_dir() {
            walk(&path, files)?;
        } else if path.is_file() {
            files.entry(path).or_insert(Named::Found);
        }
    }
    if any { Ok(()) } else { Err(DataError::NoMatch { pattern: pattern.into() }) }
}

/// Adds the files in a folder and the folders in it.
fn walk(folder: &Path, files: &mut BTreeMap<PathBuf, Named>) -> Result<(), DataError> {
    let unreadable = |source| DataError::Read { path: folder.into(), source };
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let (path, kind) = (entry.path(), entry.file_type().map_err(unreadable)?);
        if kind.is_dir() {
            if entry.file_name() != OsStr::new("target") {
                walk(&path, files)?;
            }
        } else if path.is_file() {
            // Also a link to a file; links to folders could lead in circles.
            files.entry(path).or_insert(Named::Found);
        }
    }
    Ok(())
}

fn read_file(
    path: PathBuf,
    named: Named,
    text_field: &str,
    documents: &mut Vec<Document>,
) -> Result<(), DataError> {
    let bytes = std::fs::read(&path).map_err(|source| DataError::Read { path: path.clone(), source })?;
    let nul = bytes.iter().position(|&b| b == 0);
    let invalid = std::str::from_utf8(&bytes).err().map(|error| error.valid_up_to());
    if let Some(offset) = [nul, invalid].into_iter().flatten().min() {
        return match named {
            Named::Explicitly => Err(DataError::Binary { path, offset }),
            Named::Found => Ok(()),
        };
    }
    let text = String::from_utf8(bytes).expect("was just checked");
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl")) {
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let line_number = index + 1;
            let text = jsonl_text(line, text_field).map_err(|reason| DataError::Jsonl {
                path: path.clone(),
                line: line_number,
                reason,
            })?;
            if !text.is_empty() {
                documents.push(Document { path: path.clone(), line: Some(line_number), text });
            }
        }
    } else if !text.is_empty() {
        documents.push(Document { path, line: None, text });
    }
    Ok(())
}

/// The string in `field` of a JSON object, or what is wrong.
fn jsonl_text(line: &str, field: &str) -> Result<String, String> {
    let mut value: serde_json::Value =
        serde_json::from_str(line).map_err(|error| format!("not valid JSON: {error}"))?;
    match value.get_mut(field).map(serde_json::Value::take) {
        Some(serde_json::Value::String(text)) => Ok(text),
        Some(other) => Err(format!("field {field:?} is {other}, not a string")),
        None => Err(format!("no field {field:?} with the text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A folder with these files.
    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        dir
    }

    fn texts(documents: &[Document]) -> Vec<&str> {
        documents.iter().map(AsRef::as_ref).collect()
    }

    #[test]
    fn folders_are_read_in_order_without_what_is_not_text() {
        let dir = folder(&[
            ("b.txt", b"b"),
            ("a/z.rs", b"z"),
            ("a/y.md", "é".as_bytes()),
            ("a/nul.bin", b"x\0y"),
            ("a/latin1.txt", b"caf\xe9"),
            ("a/empty.txt", b""),
            (".hidden", b"no"),
            (".git/config", b"no"),
            ("target/debug/out.txt", b"no"),
            ("c/target", b"a file of that name is fine"),
        ]);
        let documents = read_documents(&[dir.path()], "text").unwrap();
        assert_eq!(texts(&documents), ["é", "z", "b", "a file of that name is fine"]);
        assert_eq!(documents[0].path, dir.path().join("a/y.md"));
    }

    #[test]
    fn a_file_counts_once_and_order_of_arguments_does_not_matter() {
        let dir = folder(&[("a.txt", b"a"), ("b.txt", b"b")]);
        let (a, b) = (dir.path().join("a.txt"), dir.path().join("b.txt"));
        let again = dir.path().join("../").join(dir.path().file_name().unwrap()).join("a.txt");
        let documents = read_documents(&[b.clone(), dir.path().into(), again, a.clone()], "text").unwrap();
        let mut found = texts(&documents);
        found.sort_unstable();
        assert_eq!(found, ["a", "b"]);
        assert_eq!(read_documents(&[&b, &a], "text").unwrap(), read_documents(&[&a, &b], "text").unwrap());
    }

    #[test]
    fn patterns_match_files_and_folders() {
        let dir = folder(&[
            ("x/a.txt", b"a"),
            ("x/b.md", b"b"),
            ("x/bin.txt", b"\xff"),
            ("x/.h.txt", b"h"),
            ("y[1].txt", b"y"),
        ]);
        let pattern = |p: &str| [dir.path().join(p)];
        assert_eq!(texts(&read_documents(&pattern("x/*.txt"), "text").unwrap()), ["a"]);
        assert_eq!(texts(&read_documents(&pattern("**/*.md"), "text").unwrap()), ["b"]);
        assert_eq!(texts(&read_documents(&pattern("?"), "text").unwrap()), ["a", "b"]);
        // A file of that very name comes before the pattern.
        assert_eq!(texts(&read_documents(&pattern("y[1].txt"), "text").unwrap()), ["y"]);
        let error = read_documents(&pattern("*.rs"), "text").unwrap_err();
        assert!(matches!(error, DataError::NoMatch { .. }) && error.to_string().contains("*.rs"));
        assert!(matches!(read_documents(&pattern("[z"), "text").unwrap_err(), DataError::Pattern { .. }));
    }

    #[test]
    fn jsonl_lines_are_documents() {
        let dir = folder(&[(
            "a.jsonl",
            b"{\"text\":\"one\\ntwo\",\"id\":1}\n\n{\"text\":\"\"}\r\n{\"text\":\"three\"}",
        )]);
        let documents = read_documents(&[dir.path()], "text").unwrap();
        assert_eq!(texts(&documents), ["one\ntwo", "three"]);
        assert_eq!(documents.iter().map(|d| d.line).collect::<Vec<_>>(), [Some(1), Some(4)]);
        for (content, field, reason) in [
            ("{\"text\":\"a\"}\n{\"text\":1}", "text", "line 2: field \"text\" is 1, not a string"),
            ("{\"text\":\"a\"}", "content", "line 1: no field \"content\" with the text"),
            ("[\"text\"]", "text", "line 1: no field"),
            ("{\"text", "text", "line 1: not valid JSON"),
        ] {
            let file = dir.path().join("bad.jsonl");
            fs::write(&file, content).unwrap();
            let error = read_documents(&[&file], field).unwrap_err().to_string();
            assert!(error.contains("bad.jsonl") && error.contains(reason), "{error}");
        }
    }

    #[test]
    fn errors_name_the_path() {
        let dir = folder(&[("a.bin", b"ok\xff\0"), ("empty.txt", b"")]);
        let read = |name: &str| read_documents(&[dir.path().join(name)], "text").unwrap_err();
        assert!(matches!(read("missing.txt"), DataError::Read { path, .. } if path.ends_with("missing.txt")));
        assert!(matches!(read("a.bin"), DataError::Binary { path, offset: 2 } if path.ends_with("a.bin")));
        assert!(matches!(read("empty.txt"), DataError::Empty { origin } if origin.ends_with("empty.txt")));
        assert!(matches!(read_documents::<&str>(&[], "text").unwrap_err(), DataError::Empty { .. }));
        #[cfg(unix)]
        assert!(matches!(read_documents(&["/dev/null"], "text").unwrap_err(), DataError::NotAFile { .. }));
    }

    #[cfg(unix)]
    #[test]
    fn links_to_folders_do_not_lead_in_circles() {
        let dir = folder(&[("a/a.txt", b"a")]);
        std::os::unix::fs::symlink(dir.path(), dir.path().join("a/up")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("nowhere"), dir.path().join("a/dangling")).unwrap();
        assert_eq!(texts(&read_documents(&[dir.path()], "text").unwrap()), ["a"]);
    }
}
