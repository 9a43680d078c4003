// SPDX-License-Identifier: Apache-2.0
//! The files of nodes.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use anyhow::Result;
use gossip_libp2p::Keypair;

/// Writes a configuration for each member of Org1 with one of these names, which connects it with
/// the others. `rest` is what comes after the table of the orderers' TLS.
pub(crate) fn configurations(dir: &Path, names: &[String], rest: &str) -> Result<Vec<PathBuf>> {
    let mut addresses = Vec::new();
    let mut peers = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let seed = [u8::try_from(index + 1)?; 32];
        write(
            &dir.join(format!("{name}.key")),
            hex::encode(seed).as_bytes(),
        )?;
        let address = format!("/ip4/127.0.0.1/tcp/{}", free_address()?.port());
        let id = Keypair::from_seed(seed).node_id();
        peers.push(format!("\"{address}/p2p/{id}\""));
        addresses.push(address);
    }
    let peers = peers.join(", ");
    let config = |(name, address): (&String, &String)| {
        let config = format!(
            "[node]\n\
             data_dir = \"{name}\"\n\
             [identity]\n\
             msp_id = \"Org1MSP\"\n\
             msp_dir = \"org1/{name}/msp\"\n\
             [gossip]\n\
             key_file = \"{name}.key\"\n\
             listen = [\"{address}\"]\n\
             peers = [{peers}]\n\
             [orderer]\n\
             tls = \"server\"\n\
             {rest}"
        );
        let path = dir.join(format!("{name}.toml"));
        write(&path, config.as_bytes())?;
        Ok(path)
    };
    names.iter().zip(&addresses).map(config).collect()
}

/// Writes a file, and makes its folder.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(fs::write(path, content)?)
}

/// An address that is free, and so will be when somebody listens there a moment later.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
