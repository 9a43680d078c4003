// SPDX-License-Identifier: Apache-2.0
//! Where benchmarks write.

use std::{env, fs};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// A folder that ends with its owner, on the disk that holds what is built: a temporary folder
/// elsewhere may be in memory.
///
/// # Errors
///
/// When it cannot be made.
pub fn folder() -> Result<TempDir> {
    // Of `<target>/<profile>/deps/<program>`.
    let program = env::current_exe()?;
    let target = program.ancestors().nth(3);
    let folder = target.context("the folder of a program that cargo built")?;
    let folder = folder.join("tmp");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(tempfile::tempdir_in(folder)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_where_cargo_builds() {
        let folder = folder().unwrap();
        let target = folder.path().ancestors().nth(2).unwrap();
        assert!(env::current_exe().unwrap().starts_with(target));
    }
}
