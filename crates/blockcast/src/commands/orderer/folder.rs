// SPDX-License-Identifier: Apache-2.0
//! The folder with what a node needs to join the orderer's channel.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use block_api::Endpoint;
use dev_orderer::{DevOrderer, File, Role, TlsMode};

use crate::error::CommandError;

/// The file that tells whether an earlier run has written into the folder.
const GENESIS: &str = "genesis.block";

const TLS_CA: &str = "tls-ca.pem";

const NODE: &str = "node.toml";

/// A recorded chain has members of its own.
const REPLAY_NOTE: &str = "\
# This identity is good for the orderer of the replay. Nodes that are to give each other blocks need identities\n\
# that satisfy the recorded channel's Readers.\n";

pub(super) struct Folder {
    dir: PathBuf,
}

/// Who the node of `node.toml` is.
struct NodeIdentity {
    msp_id: String,
    /// The folder of the member, relative to the folder, with `msp` and `tls` in it.
    member: String,
    /// What the files of its TLS certificate and key are called.
    tls: &'static str,
}

impl Folder {
    /// Makes the folder, and looks whether it may be written to.
    pub(super) fn prepare(dir: &Path, force: bool) -> Result<Self, CommandError> {
        fs::create_dir_all(dir).map_err(|error| CommandError::from(error).during(dir.display()))?;
        if !force && dir.join(GENESIS).exists() {
            return Err(CommandError::new(format!(
                "{} holds a channel that an earlier run made, and its orderer is gone",
                dir.display()
            ))
            .hint("give another folder, or --force to replace it; nodes of the old channel need new data folders"));
        }
        // What is printed should lead there from everywhere.
        let dir = fs::canonicalize(dir)
            .map_err(|error| CommandError::from(error).during(dir.display()))?;
        Ok(Self { dir })
    }

    /// Writes what the orderer's network has, and says where.
    pub(super) fn write(&self, orderer: &DevOrderer, tls: TlsMode) -> Result<String, CommandError> {
        let Some(network) = orderer.network() else {
            return Err(CommandError::new("a replay has no network of its own"));
        };
        let mut files = network.files();
        let client = network.client();
        let organization = network
            .applications()
            .iter()
            .find(|organization| organization.msp_id() == client.msp_id());
        let name = organization
            .map(|organization| organization.name().to_lowercase())
            .unwrap_or_default();
        let identity = NodeIdentity {
            msp_id: client.msp_id().to_owned(),
            member: format!("{name}/{}", client.name()),
            tls: "client",
        };
        files.push((
            NODE.to_owned(),
            node_toml(orderer, tls, &identity, &BTreeSet::new()).into_bytes(),
        ));
        self.write_all(&files)?;
        Ok(self.summary(orderer, &identity))
    }

    /// Writes what a node needs for a recorded chain, and says where.
    pub(super) fn write_replay(
        &self,
        orderer: &DevOrderer,
        tls: TlsMode,
        endpoints: &BTreeSet<Endpoint>,
    ) -> Result<String, CommandError> {
        let organization = orderer.ordering_organization();
        let client = organization.issue("client", Role::Client)?;
        let identity = NodeIdentity {
            msp_id: client.msp_id().to_owned(),
            member: "client".to_owned(),
            tls: "client",
        };
        let mut files: Vec<File> = client
            .files()
            .into_iter()
            .map(|(path, content)| (format!("{}/{path}", identity.member), content))
            .collect();
        files.push((GENESIS.to_owned(), orderer.genesis().raw().to_vec()));
        files.push((TLS_CA.to_owned(), organization.tls_ca_pem().into()));
        files.push((
            NODE.to_owned(),
            node_toml(orderer, tls, &identity, endpoints).into_bytes(),
        ));
        self.write_all(&files)?;
        Ok(self.summary(orderer, &identity))
    }

    fn write_all(&self, files: &[File]) -> Result<(), CommandError> {
        for (path, content) in files {
            let path = self.dir.join(path);
            write(&path, content)
                .map_err(|error| CommandError::from(error).during(path.display()))?;
        }
        Ok(())
    }

    fn summary(&self, orderer: &DevOrderer, identity: &NodeIdentity) -> String {
        let endpoints: Vec<&str> = orderer.endpoints().map(Endpoint::as_str).collect();
        let dir = |path: &str| self.dir.join(path).display().to_string();
        let rows = [
            ("channel", orderer.channel().to_string()),
            ("orderer", endpoints.join(" ")),
            ("genesis block", dir(GENESIS)),
            ("TLS CA", dir(TLS_CA)),
            (
                "client MSP",
                format!(
                    "{} ({})",
                    dir(&format!("{}/msp", identity.member)),
                    identity.msp_id
                ),
            ),
            (
                "run a node",
                format!("blockcast run --config {}", dir(NODE)),
            ),
        ];
        let lines: Vec<String> = rows
            .iter()
            .map(|(what, value)| format!("{what:<14}{value}"))
            .collect();
        lines.join("\n")
    }
}

/// Writes a file; one with a private key is for this user alone.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let private = path.extension().is_some_and(|extension| extension == "key")
        || path.components().any(|part| part.as_os_str() == "keystore");
    let mode = if private { 0o600 } else { 0o644 };
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)?;
    file.write_all(content)
}

/// A configuration with which a node joins the channel.
fn node_toml(
    orderer: &DevOrderer,
    tls: TlsMode,
    identity: &NodeIdentity,
    endpoints: &BTreeSet<Endpoint>,
) -> String {
    let NodeIdentity {
        msp_id,
        member,
        tls: side,
    } = identity;
    let (tls, client) = match tls {
        TlsMode::Plain => ("none", String::new()),
        TlsMode::Server => ("server", String::new()),
        TlsMode::Mutual => (
            "mutual",
            format!(
                "client_cert = \"{member}/tls/{side}.crt\"\nclient_key = \"{member}/tls/{side}.key\"\n"
            ),
        ),
    };
    let mut overrides = String::new();
    for endpoint in endpoints {
        // Writing to a string does not fail.
        let _ = write!(
            overrides,
            "\n[[orderer.overrides]]\nfrom = \"{endpoint}\"\nto = \"{}\"\n{}",
            orderer.endpoint(),
            if tls == "none" {
                ""
            } else {
                "ca = \"tls-ca.pem\"\n"
            }
        );
    }
    format!(
        "# A node of channel {channel}. Every key is explained in node.example.toml.\n\
         # Another node needs another data_dir, and names the first one under gossip.peers.\n\
         \n\
         [node]\n\
         data_dir = \"node\"\n\
         \n\
         {note}[identity]\n\
         msp_id = \"{msp_id}\"\n\
         msp_dir = \"{member}/msp\"\n\
         \n\
         [gossip]\n\
         listen = [\"/ip4/127.0.0.1/tcp/0\"]\n\
         \n\
         [orderer]\n\
         tls = \"{tls}\"\n\
         {client}{overrides}\n\
         [delivery]\n\
         # The identity above is a client's; without this, only peers are elected to pull.\n\
         puller_role = \"member\"\n\
         \n\
         [[channel]]\n\
         id = \"{channel}\"\n\
         genesis = \"{GENESIS}\"\n",
        channel = orderer.channel(),
        note = match endpoints.is_empty() {
            true => "",
            false => REPLAY_NOTE,
        },
    )
}
