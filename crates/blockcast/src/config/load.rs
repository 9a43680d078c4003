// SPDX-License-Identifier: Apache-2.0
//! Reading a configuration file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{InvalidConfig, NodeConfig};

/// A configuration was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read.
    #[error("the configuration {} cannot be read: {source}; give the path of a node's configuration file", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text is no TOML, or has a key or a value that is not meant.
    #[error("{}, line {line}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// Values are out of range or contradict each other.
    #[error("{}: {source}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: InvalidConfig,
    },
}

pub(super) fn load(path: &Path) -> Result<NodeConfig, LoadError> {
    let text = fs::read_to_string(path).map_err(|source| LoadError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let mut config = parse(path, &text)?;
    // A file name alone has the parent "", and joining to that changes nothing.
    config.resolve(path.parent().unwrap_or(Path::new("")));
    config.validate().map_err(|source| LoadError::Invalid {
        path: path.to_owned(),
        source,
    })?;
    Ok(config)
}

pub(super) fn parse(path: &Path, text: &str) -> Result<NodeConfig, LoadError> {
    toml::from_str(text).map_err(|error| {
        let before = error
            .span()
            .and_then(|span| text.get(..span.start))
            .unwrap_or_default();
        LoadError::Syntax {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            reason: error.message().replace('\n', "; "),
        }
    })
}

impl NodeConfig {
    /// Takes relative paths as meant from a folder.
    fn resolve(&mut self, folder: &Path) {
        let Self {
            node,
            identity,
            gossip,
            orderer,
            channels,
            ..
        } = self;
        let identity = identity.iter_mut().map(|identity| &mut identity.msp_dir);
        let overrides = orderer
            .overrides
            .iter_mut()
            .filter_map(|entry| entry.ca.as_mut());
        let of_channels = channels.iter_mut().flat_map(|channel| {
            let roots = channel
                .orderers
                .iter_mut()
                .filter_map(|entry| entry.ca.as_mut());
            let trusted = channel.genesis.iter_mut().chain(&mut channel.config_block);
            roots.chain(trusted)
        });
        let paths = [&mut node.data_dir]
            .into_iter()
            .chain(identity)
            .chain(gossip.key_file.as_mut())
            .chain(orderer.client_cert.as_mut())
            .chain(orderer.client_key.as_mut())
            .chain(overrides)
            .chain(of_channels);
        for path in paths {
            // Joining an absolute path gives that path.
            *path = folder.join(&*path);
        }
    }
}
