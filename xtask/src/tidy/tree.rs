//! The files of the workspace, read once.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Kinds of file that are read as text; of others only the name is known.
const TEXT: &[&str] = &["rs", "md", "toml", "txt", "sh", "yml", "yaml", "html", "css", "js"];

/// Files by their path from the root, with `/` between folders.
pub(crate) struct Tree {
    files: BTreeMap<String, Option<String>>,
}

impl Tree {
    /// Reads the workspace at `root`: everything but build output and version control.
    ///
    /// # Errors
    /// A file or folder that cannot be read, by name.
    pub(crate) fn read(root: &Path) -> Result<Tree, String> {
        let mut files = BTreeMap::new();
        let mut folders = vec![(root.to_path_buf(), String::new())];
        while let Some((folder, prefix)) = folders.pop() {
            for (path, name) in entries(&folder)? {
                let key = format!("{prefix}{name}");
                if path.is_dir() {
                    if !is_foreign(&path, &name) {
                        folders.push((path, format!("{key}/")));
                    }
                } else {
                    let text = if is_text(&name) { Some(read_text(&path)?) } else { None };
                    files.insert(key, text);
                }
            }
        }
        Ok(Tree { files })
    }

    /// A tree made up for a test.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Tree {
        Tree { files: files.iter().map(|(name, text)| ((*name).to_string(), Some((*text).to_string()))).collect() }
    }

    /// Whether there is a file of that path, or a folder.
    pub(crate) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let folder = format!("{path}/");
        self.files.contains_key(path)
            || self.files.range(folder.clone()..).next().is_some_and(|(p, _)| p.starts_with(&folder))
    }

    /// The text of a file, if it is there and text.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// All text files, by path.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    /// The Rust files of the workspace.
    pub(crate) fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts().filter(|(path, _)| path.ends_with(".rs"))
    }

    /// The names of all files.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }
}

fn entries(folder: &Path) -> Result<Vec<(PathBuf, String)>, String> {
    let told = |e: std::io::Error| format!("{}: {e}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(told)? {
        let entry = entry.map_err(told)?;
        found.push((entry.path(), entry.file_name().to_string_lossy().into_owned()));
    }
    Ok(found)
}

fn read_text(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn is_text(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, ending)| TEXT.contains(&ending))
}

/// Build output, however its folder is called, and version control.
fn is_foreign(path: &Path, name: &str) -> bool {
    name == "target" || name == ".git" || path.join("CACHEDIR.TAG").is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_output_is_left_out() {
        let dir = tempfile::tempdir().expect("a folder");
        for (path, text) in [
            ("src/lib.rs", "//! Page."),
            ("out/CACHEDIR.TAG", ""),
            ("out/x.rs", ""),
            ("target/y.rs", ""),
            ("image.png", "not text"),
        ] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("has one")).expect("made");
            fs::write(path, text).expect("written");
        }
        let tree = Tree::read(dir.path()).expect("readable");
        assert_eq!(tree.paths().collect::<Vec<_>>(), ["image.png", "src/lib.rs"]);
        assert_eq!(tree.text("src/lib.rs"), Some("//! Page."));
        assert_eq!(tree.text("image.png"), None);
        assert!(tree.has("src") && tree.has("src/") && tree.has("image.png") && !tree.has("sr"));
    }
}
