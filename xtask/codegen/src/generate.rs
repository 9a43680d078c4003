// SPDX-License-Identifier: Apache-2.0
//! From `.proto` files to Rust files, one for each package and one for the gRPC service.

use std::{fs, path::Path};

use anyhow::{Context, Result, anyhow, bail};
use prost_types::FileDescriptorSet;
use tonic_prost_build::{Config, manual};

use crate::describe;

/// Every file that is compiled, sorted; what they import must be here too.
const PROTO_FILES: &[&str] = &[
    "common/common.proto",
    "common/configtx.proto",
    "common/configuration.proto",
    "common/policies.proto",
    "msp/identities.proto",
    "msp/msp_config.proto",
    "msp/msp_principal.proto",
    "orderer/ab.proto",
    "orderer/configuration.proto",
    "orderer/etcdraft/etcdraft.proto",
    "orderer/smartbft/configuration.proto",
    "peer/configuration.proto",
    "peer/transaction.proto",
];

/// The files that are made, sorted by the generators' names for them.
const MODULES: &[Module] = &[
    Module {
        made: "common.rs",
        name: "common.rs",
        doc: "Package `common`: envelopes, blocks, the tree of a channel's configuration, policies.",
    },
    Module {
        made: "etcdraft.rs",
        name: "etcdraft.rs",
        doc: "Package `etcdraft`: what raft consenters keep in the configuration and in blocks.",
    },
    Module {
        made: "msp.rs",
        name: "msp.rs",
        doc: "Package `msp`: identities, and the organisations that vouch for them.",
    },
    Module {
        made: "orderer.AtomicBroadcast.rs",
        name: "atomic_broadcast.rs",
        doc: "The service `orderer.AtomicBroadcast`.",
    },
    Module {
        made: "orderer.rs",
        name: "orderer.rs",
        doc: "Package `orderer`: requests to an ordering service, and how a channel is ordered.",
    },
    Module {
        made: "orderer.smartbft.rs",
        name: "smartbft.rs",
        doc: "Package `orderer.smartbft`: what SmartBFT consenters keep in the configuration.",
    },
    Module {
        made: "protos.rs",
        name: "peer.rs",
        doc: "Package `protos`, which is the peer's: a channel's applications and transactions.",
    },
];

/// The file that describes the messages of all of them, and its first line.
const DESCRIBED: (&str, &str) = (
    "described.rs",
    "The fields of every message, by number and wire type.",
);

/// A module of `blockcast-protos`.
struct Module {
    /// The file, as prost or tonic names it.
    made: &'static str,
    /// The file, as it is committed.
    name: &'static str,
    /// The first line of its documentation.
    doc: &'static str,
}

/// Writes all generated files into the empty folder `out`.
///
/// # Errors
///
/// If a `.proto` file does not compile, is not listed, or `out` cannot be written.
pub(crate) fn generate(proto: &Path, out: &Path) -> Result<()> {
    let descriptors = compile(proto)?;
    let described = describe::implementations(&descriptors, |package| {
        let made = format!("{package}.rs");
        let module = MODULES.iter().find(|module| module.made == made)?;
        module.name.strip_suffix(".rs")
    })?;

    let raw = tempfile::tempdir().context("making a temporary folder")?;
    let mut messages = Config::new();
    messages.out_dir(raw.path()).bytes(["."]).btree_map(["."]);
    messages
        .compile_fds(descriptors)
        .context("generating the messages")?;
    manual::Builder::new()
        .build_transport(false)
        .out_dir(raw.path())
        .compile(&[atomic_broadcast()]);

    let made = file_names(raw.path())?;
    let known: Vec<&str> = MODULES.iter().map(|module| module.made).collect();
    if made != known {
        bail!("generated {made:?}, but MODULES names {known:?}");
    }
    for module in MODULES {
        let code = fs::read_to_string(raw.path().join(module.made))
            .with_context(|| format!("reading generated {}", module.made))?;
        fs::write(out.join(module.name), with_preamble(module.doc, &code))
            .with_context(|| format!("writing {}", module.name))?;
    }
    let (name, doc) = DESCRIBED;
    fs::write(out.join(name), with_preamble(doc, &described))
        .with_context(|| format!("writing {name}"))
}

fn compile(proto: &Path) -> Result<FileDescriptorSet> {
    let descriptors = protox::compile(PROTO_FILES, [proto]).map_err(|err| {
        let file = err.file().unwrap_or("the list of files").to_owned();
        anyhow!(err).context(format!("compiling {file} in {}", proto.display()))
    })?;
    for file in &descriptors.file {
        let name = file.name();
        if !PROTO_FILES.contains(&name) && !name.starts_with("google/protobuf/") {
            bail!("{name} is imported, but not in PROTO_FILES");
        }
    }
    Ok(descriptors)
}

/// The ordering service. It is described here and not in `proto/`, because the responses of
/// Deliver are to keep their bytes.
fn atomic_broadcast() -> manual::Service {
    let broadcast = manual::Method::builder()
        .name("broadcast")
        .route_name("Broadcast")
        .comment(" Submits envelopes for ordering; each is answered, in order.")
        .input_type("crate::common::Envelope")
        .output_type("crate::orderer::BroadcastResponse")
        .codec_path("tonic_prost::ProstCodec")
        .client_streaming()
        .server_streaming()
        .build();
    let deliver = manual::Method::builder()
        .name("deliver")
        .route_name("Deliver")
        .comment(" Asks for blocks; each request is answered by blocks and a status, in order.")
        .input_type("crate::common::Envelope")
        .output_type("crate::deliver::RawDeliverResponse")
        .codec_path("crate::codec::RawDeliverCodec")
        .client_streaming()
        .server_streaming()
        .build();
    manual::Service::builder()
        .package("orderer")
        .name("AtomicBroadcast")
        .comment(" The ordering service's interface to clients.")
        .method(broadcast)
        .method(deliver)
        .build()
}

/// Puts our first lines in the place of prost's.
fn with_preamble(doc: &str, code: &str) -> String {
    let code = code
        .strip_prefix("// This file is @generated by prost-build.\n")
        .unwrap_or(code);
    format!(
        "// SPDX-License-Identifier: Apache-2.0\n\
         //! {doc}\n\
         // Generated by `cargo xtask codegen`; do not edit.\n\
         \n\
         {code}"
    )
}

fn file_names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let name = entry?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare;

    fn root() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
    }

    fn proto_files(folder: &Path, within: &str, found: &mut Vec<String>) {
        for name in file_names(folder).unwrap() {
            let path = folder.join(&name);
            if path.is_dir() {
                proto_files(&path, &format!("{within}{name}/"), found);
            } else if name.ends_with(".proto") {
                found.push(format!("{within}{name}"));
            }
        }
    }

    #[test]
    fn the_list_is_sorted_and_names_every_file() {
        let mut found = Vec::new();
        proto_files(&root().join("proto"), "", &mut found);
        found.sort();
        assert_eq!(found, PROTO_FILES);
    }

    #[test]
    fn what_is_committed_is_what_proto_gives() {
        let fresh = tempfile::tempdir().unwrap();
        generate(&root().join("proto"), fresh.path()).unwrap();
        let committed = root().join("crates/protos/src/generated");
        let found = compare::differences(fresh.path(), &committed).unwrap();
        assert_eq!(found, []);
    }

    #[test]
    fn generated_files_say_so_and_are_reproducible() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for out in [&one, &two] {
            generate(&root().join("proto"), out.path()).unwrap();
        }
        assert_eq!(compare::differences(one.path(), two.path()).unwrap(), []);
        let names = MODULES.iter().map(|module| module.name);
        for name in names.chain([DESCRIBED.0]) {
            let code = fs::read_to_string(one.path().join(name)).unwrap();
            let mut lines = code.lines();
            assert_eq!(lines.next(), Some("// SPDX-License-Identifier: Apache-2.0"));
            assert!(lines.next().unwrap().starts_with("//! "));
            let notice = "// Generated by `cargo xtask codegen`; do not edit.";
            assert_eq!(lines.next(), Some(notice));
        }
    }

    #[test]
    fn a_broken_proto_file_is_an_error_that_names_it() {
        let proto = tempfile::tempdir().unwrap();
        for name in PROTO_FILES {
            let path = proto.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::copy(root().join("proto").join(name), path).unwrap();
        }
        let broken = proto.path().join("msp/identities.proto");
        fs::write(broken, "syntax = \"proto3\"; message {").unwrap();
        let out = tempfile::tempdir().unwrap();
        let err = generate(proto.path(), out.path()).unwrap_err();
        assert!(format!("{err:?}").contains("identities.proto"), "{err:?}");
    }
}
