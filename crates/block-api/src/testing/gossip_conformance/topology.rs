// SPDX-License-Identifier: Apache-2.0
//! The networks that the suite asks for.

use std::sync::Arc;

use crate::{Signer, testing::TestSigner};

/// Who they are, which is what each proves.
pub(super) const NAMES: [&str; 3] = ["node-0", "node-1", "node-2"];

/// Nodes to start and to connect.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Topology {
    /// What each node proves itself with; there are as many nodes.
    pub signers: Vec<Arc<dyn Signer>>,
    /// Which of them are connected, by their indexes; no others are. A broker connects all.
    pub links: Vec<(usize, usize)>,
}

impl Topology {
    pub(super) fn pair() -> Self {
        Self::new(2, &[(0, 1)])
    }

    pub(super) fn line() -> Self {
        Self::new(3, &[(0, 1), (1, 2)])
    }

    pub(super) fn triangle() -> Self {
        Self::new(3, &[(0, 1), (1, 2), (0, 2)])
    }

    fn new(nodes: usize, links: &[(usize, usize)]) -> Self {
        let signer = |name: &&'static str| Arc::new(TestSigner(name)) as Arc<dyn Signer>;
        Self {
            signers: NAMES.iter().take(nodes).map(signer).collect(),
            links: links.to_vec(),
        }
    }
}
