// SPDX-License-Identifier: Apache-2.0
//! Compares two folders of generated files byte for byte, and makes one like the other.

use std::{collections::BTreeMap, fmt, fs, io, path::Path};

use anyhow::{Context, Result};

/// A committed file that is not as it should be, by its name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    /// Generated, but not committed.
    Missing(String),
    /// Committed, but not generated.
    Extra(String),
    /// Both, with other bytes.
    Changed(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "missing: {name}"),
            Self::Extra(name) => write!(f, "extra: {name}"),
            Self::Changed(name) => write!(f, "changed: {name}"),
        }
    }
}

/// What sets the folder `committed` apart from the folder `fresh`, sorted by name.
///
/// # Errors
///
/// If a folder cannot be read. A `committed` that does not exist counts as empty.
pub(crate) fn differences(fresh: &Path, committed: &Path) -> Result<Vec<Difference>> {
    let fresh = files(fresh)?;
    let mut committed = files(committed)?;
    let mut found = Vec::new();
    for (name, wanted) in fresh {
        match committed.remove(&name) {
            None => found.push(Difference::Missing(name)),
            Some(bytes) if bytes != wanted => found.push(Difference::Changed(name)),
            Some(_) => {}
        }
    }
    found.extend(committed.into_keys().map(Difference::Extra));
    Ok(found)
}

/// Makes `committed` equal to `fresh`, given the differences between them.
///
/// # Errors
///
/// If a file cannot be written or removed.
pub(crate) fn bring_up_to_date(
    differences: &[Difference],
    fresh: &Path,
    committed: &Path,
) -> Result<()> {
    fs::create_dir_all(committed).with_context(|| format!("making {}", committed.display()))?;
    for difference in differences {
        match difference {
            Difference::Missing(name) | Difference::Changed(name) => {
                fs::copy(fresh.join(name), committed.join(name)).map(drop)
            }
            Difference::Extra(name) => remove(&committed.join(name)),
        }
        .with_context(|| format!("{difference} in {}", committed.display()))?;
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}

/// The entries of a folder with their bytes; a folder within has none, and none is generated.
fn files(folder: &Path) -> Result<BTreeMap<String, Option<Vec<u8>>>> {
    let mut files = BTreeMap::new();
    let entries = match fs::read_dir(folder) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(files),
        entries => entries.with_context(|| format!("listing {}", folder.display()))?,
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("listing {}", folder.display()))?;
        let path = entry.path();
        let bytes = if path.is_dir() {
            None
        } else {
            Some(fs::read(&path).with_context(|| format!("reading {}", path.display()))?)
        };
        files.insert(entry.file_name().to_string_lossy().into_owned(), bytes);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn equal_folders_have_no_difference() {
        let fresh = folder(&[("a.rs", "a"), ("b.rs", "b")]);
        let committed = folder(&[("b.rs", "b"), ("a.rs", "a")]);
        assert_eq!(differences(fresh.path(), committed.path()).unwrap(), []);
    }

    #[test]
    fn missing_extra_and_changed_files_are_found() {
        let fresh = folder(&[("a.rs", "a"), ("b.rs", "b"), ("c.rs", "c")]);
        let committed = folder(&[("a.rs", "a"), ("c.rs", "C"), ("d.rs", "d")]);
        fs::create_dir(committed.path().join("e")).unwrap();
        assert_eq!(
            differences(fresh.path(), committed.path()).unwrap(),
            [
                Difference::Missing("b.rs".to_owned()),
                Difference::Changed("c.rs".to_owned()),
                Difference::Extra("d.rs".to_owned()),
                Difference::Extra("e".to_owned()),
            ]
        );
    }

    #[test]
    fn a_difference_in_the_last_byte_is_found() {
        let fresh = folder(&[("a.rs", "one\n")]);
        let committed = folder(&[("a.rs", "one")]);
        assert_eq!(
            differences(fresh.path(), committed.path()).unwrap(),
            [Difference::Changed("a.rs".to_owned())]
        );
    }

    #[test]
    fn a_folder_that_does_not_exist_lacks_every_file() {
        let fresh = folder(&[("a.rs", "a")]);
        assert_eq!(
            differences(fresh.path(), &fresh.path().join("none")).unwrap(),
            [Difference::Missing("a.rs".to_owned())]
        );
    }

    #[test]
    fn bringing_up_to_date_leaves_no_difference() {
        let fresh = folder(&[("a.rs", "a"), ("b.rs", "b")]);
        let committed = folder(&[("b.rs", "B"), ("c.rs", "c")]);
        fs::create_dir(committed.path().join("d")).unwrap();
        let found = differences(fresh.path(), committed.path()).unwrap();
        bring_up_to_date(&found, fresh.path(), committed.path()).unwrap();
        assert_eq!(differences(fresh.path(), committed.path()).unwrap(), []);

        let nowhere = committed.path().join("new/folder");
        let found = differences(fresh.path(), &nowhere).unwrap();
        bring_up_to_date(&found, fresh.path(), &nowhere).unwrap();
        assert_eq!(differences(fresh.path(), &nowhere).unwrap(), []);
    }
}
