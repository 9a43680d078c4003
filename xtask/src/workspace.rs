// SPDX-License-Identifier: Apache-2.0
//! The workspace as it lies on disk: its members, and the files that belong to it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use cargo_metadata::{MetadataCommand, Package};

/// Selects the product; the two crates of tooling would change the feature set of everything else.
pub(crate) const PRODUCT: [&str; 6] = [
    "--workspace",
    "--exclude",
    "xtask",
    "--exclude",
    "xtask-codegen",
    "--all-features",
];

/// Directories that hold no text of ours: git's own, what was recorded, and what a fuzzer leaves.
const FOREIGN: [&str; 4] = [
    ".git",
    "tests/fixtures",
    "tests/cargo-fuzz/artifacts",
    "tests/cargo-fuzz/corpus",
];

/// The crates of tooling, each built alone so that its dependencies are built once.
pub(crate) const TOOLING: [&str; 2] = ["xtask", "xtask-codegen"];

/// The members of the workspace, without anything resolved.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    members: Vec<Package>,
}

/// A text file of the workspace.
#[derive(Debug)]
pub(crate) struct TextFile {
    /// Relative to the root, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl TextFile {
    pub(crate) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
        }
    }
}

impl Workspace {
    pub(crate) fn load() -> anyhow::Result<Self> {
        let metadata = MetadataCommand::new()
            .no_deps()
            .exec()
            .context("cannot read the workspace's manifests")?;
        Ok(Self {
            root: metadata.workspace_root.into_std_path_buf(),
            members: metadata.packages,
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn members(&self) -> &[Package] {
        &self.members
    }

    /// Where a member lies, relative to the root, with forward slashes.
    pub(crate) fn dir_of(&self, member: &Package) -> String {
        let dir = member
            .manifest_path
            .parent()
            .map(|dir| dir.as_std_path())
            .unwrap_or(&self.root);
        relative(&self.root, dir)
    }

    pub(crate) fn read(&self, path: &str) -> anyhow::Result<String> {
        fs::read_to_string(self.root.join(path)).with_context(|| format!("cannot read {path}"))
    }

    pub(crate) fn write(&self, path: &str, text: &str) -> anyhow::Result<()> {
        fs::write(self.root.join(path), text).with_context(|| format!("cannot write {path}"))
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// Every UTF-8 file outside the fixtures, the build directories and other foreign ones, in order of path.
    pub(crate) fn text_files(&self) -> anyhow::Result<Vec<TextFile>> {
        let mut paths = Vec::new();
        collect(&self.root, &self.root, &mut paths)?;
        paths.sort();
        let mut files = Vec::new();
        for path in paths {
            let bytes =
                fs::read(self.root.join(&path)).with_context(|| format!("cannot read {path}"))?;
            if let Ok(text) = String::from_utf8(bytes) {
                files.push(TextFile::new(path, text));
            }
        }
        Ok(files)
    }
}

fn collect(root: &Path, dir: &Path, into: &mut Vec<String>) -> anyhow::Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", dir.display()))?;
        let path = entry.path();
        let shown = relative(root, &path);
        let kind = entry
            .file_type()
            .with_context(|| format!("cannot stat {shown}"))?;
        if kind.is_dir() {
            let foreign = FOREIGN.contains(&shown.as_str()) || shown.ends_with("target");
            if !foreign {
                collect(root, &path, into)?;
            }
        } else if kind.is_file() {
            into.push(shown);
        }
    }
    Ok(())
}

fn relative(root: &Path, path: &Path) -> String {
    let parts: Vec<_> = path
        .strip_prefix(root)
        .unwrap_or(path)
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_knows_its_own_files() {
        let workspace = Workspace::load().unwrap();
        let files = workspace.text_files().unwrap();
        assert!(
            files
                .iter()
                .any(|file| file.path == "xtask/src/workspace.rs")
        );
        assert!(
            files
                .iter()
                .all(|file| !file.path.starts_with("tests/fixtures/"))
        );
    }

    #[test]
    fn members_are_found_by_their_directories() {
        let workspace = Workspace::load().unwrap();
        let dirs: Vec<_> = workspace
            .members()
            .iter()
            .map(|member| workspace.dir_of(member))
            .collect();
        assert!(dirs.contains(&"crates/protos".to_owned()), "{dirs:?}");
        assert!(dirs.contains(&"tests/consumer".to_owned()), "{dirs:?}");
    }
}
