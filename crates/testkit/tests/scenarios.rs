//! Runs every scenario file. `UPDATE_EXPECT=1` writes the output the files have now into them; the difference is then to be
//! reviewed like code. Files whose first line says that they are generated are never rewritten here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use lockstead_testkit::Scenario;

#[test]
fn every_scenario_has_the_output_it_should() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    assert!(!files.is_empty(), "no scenarios under {}", root.display());
    let update = std::env::var_os("UPDATE_EXPECT").is_some_and(|v| v == "1");
    let only = std::env::var("SCENARIO").unwrap_or_default();
    let (mut failed, mut parts) = (Vec::new(), 0);
    for file in files.iter().filter(|f| f.to_string_lossy().contains(&only)) {
        let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let run = Scenario::parse(&text).run();
        parts += run.parts;
        let generated = text.starts_with("# Generated");
        match run.updated {
            Some(updated) if update && !generated => {
                if updated != text {
                    fs::write(file, updated).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
                }
            }
            _ => failed.extend(run.failures.iter().map(|f| format!("{}:{}: {}", shown(file), f.line, f.text))),
        }
    }
    println!("{} files, {parts} independent parts", files.len());
    assert!(failed.is_empty(), "{} scenario blocks failed:\n\n{}", failed.len(), failed.join("\n"));
}

fn shown(file: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    file.strip_prefix(root).unwrap_or(file).display().to_string()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "txt") {
            files.push(path);
        }
    }
}
