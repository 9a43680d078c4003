// SPDX-License-Identifier: Apache-2.0
//! The networks that the suite asks for.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{SignError, Signer, testing::TestSigner};

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
    signed: Arc<AtomicU64>,
}

/// Signs with its own name, and counts that.
#[derive(Debug)]
struct CountingSigner {
    signer: TestSigner,
    signed: Arc<AtomicU64>,
}

impl Topology {
    pub(super) fn alone() -> Self {
        Self::new(1, &[])
    }

    pub(super) fn pair() -> Self {
        Self::new(2, &[(0, 1)])
    }

    pub(super) fn line() -> Self {
        Self::new(3, &[(0, 1), (1, 2)])
    }

    pub(super) fn triangle() -> Self {
        Self::new(3, &[(0, 1), (1, 2), (0, 2)])
    }

    /// How often any of the nodes signed something.
    pub(super) fn signed(&self) -> u64 {
        self.signed.load(Ordering::SeqCst)
    }

    fn new(nodes: usize, links: &[(usize, usize)]) -> Self {
        let signed = Arc::new(AtomicU64::new(0));
        let signer = |name: &&'static str| {
            Arc::new(CountingSigner {
                signer: TestSigner(name),
                signed: signed.clone(),
            }) as Arc<dyn Signer>
        };
        Self {
            signers: NAMES.iter().take(nodes).map(signer).collect(),
            links: links.to_vec(),
            signed,
        }
    }
}

#[async_trait]
impl Signer for CountingSigner {
    fn identity(&self) -> Bytes {
        self.signer.identity()
    }

    async fn sign(&self, message: &[u8]) -> Result<Bytes, SignError> {
        self.signed.fetch_add(1, Ordering::SeqCst);
        self.signer.sign(message).await
    }
}
