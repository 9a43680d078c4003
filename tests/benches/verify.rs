// SPDX-License-Identifier: Apache-2.0
//! `verify`: one block judged by its channel's rules, against the hash and the signature checks that
//! no verifier can do without.
//!
//! The blocks are made here and signed with the keys of the recorded channels. The baseline is one
//! SHA-256 over the data and one bare ECDSA verification for each signature, with keys that are
//! parsed already; it is measured beside each verification, block by block. Copies of a block that
//! were signed anew take turns, because the verifier remembers the signatures that it checked last.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
        ParsedPublicKey,
    },
};
use block_api::{
    Block, BlockNumber, BlockVerifier as _, Standing, Verdict, header_der,
    wire::{put_bytes, put_uint},
};
use channel_config::ChannelVerifier;
use clap::Parser;
use e2e_tests::{
    bench::{self, Round, Row, Target, Usage},
    fixtures,
};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use signer::load_msp_folder;
use tokio::time::Instant;

/// The time of a block, over that of its hash and its signature checks.
const TARGET: f64 = 1.3;

/// Transactions in a block, and the bytes of each.
const TRANSACTIONS: usize = 10;
const TRANSACTION_BYTES: usize = 10_100;

/// The newest config block of the recorded chains, under which the blocks are judged.
const CONFIG: u64 = 46;

/// How many rounds there are: they are short.
const ROUNDS: usize = 15;

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    shared: bench::Args,
    /// Blocks in a round.
    #[arg(long, default_value_t = 500)]
    blocks: u32,
}

/// How many copies take turns: they have more signatures than the verifier remembers.
const COPIES: u8 = 32;

/// Copies of a block, and who judges them.
struct Case {
    verifier: ChannelVerifier,
    data: Vec<u8>,
    copies: Vec<Variant>,
}

/// A block, and what is left of its signatures when only the cryptography counts.
struct Variant {
    block: Block,
    signatures: Vec<Signed>,
}

struct Signed {
    key: ParsedPublicKey,
    message: Vec<u8>,
    signature: Vec<u8>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    let rounds = args.shared.rounds_or(ROUNDS);
    let blocks = if args.shared.smoke { 20 } else { args.blocks };
    let mut rows = Vec::new();
    for (chain, nodes) in [
        ("raft", &["raft0"][..]),
        ("bft", &["bft0", "bft1", "bft2"][..]),
    ] {
        let case = Case::new(chain, nodes).await?;
        let name = format!("verify size=101KB signatures={}", nodes.len());
        case.round(blocks)?;
        let times: Vec<Round> = (0..rounds)
            .map(|_| case.round(blocks))
            .collect::<Result<_>>()?;
        let rates: Vec<Round> = times
            .iter()
            .map(|time| Round {
                value: 1e6 / time.value,
                baseline: 1e6 / time.baseline,
            })
            .collect();
        rows.push(Row::new(&name, "µs/block", Target::AtMost(TARGET), &times));
        rows.push(Row::new(
            &name,
            "blocks/s",
            Target::AtLeast(1.0 / TARGET),
            &rates,
        ));
    }
    let Usage { cpu_s, peak_bytes } = Usage::own()?;
    let memory = peak_bytes as f64 / 1e6;
    let note = format!(
        "one process: {cpu_s:.1} s of a core for all of it, {memory:.0} MB of memory at most"
    );
    bench::finish_with(&rows, &[note], &args.shared)
}

impl Case {
    /// A block of a recorded channel that these nodes sign.
    async fn new(chain: &str, nodes: &[&str]) -> Result<Self> {
        let blocks = fixtures::chain(chain)?;
        let find = |number: u64| {
            let mut blocks = blocks.iter();
            blocks.find(|block| block.number().get() == number)
        };
        let config = find(CONFIG).context("the recorded chain has its config block")?;
        let verifier = ChannelVerifier::from_trusted(config)?;
        let entry = transaction(verifier.channel().as_str());
        let entries = vec![entry; TRANSACTIONS];
        let number = BlockNumber::new(CONFIG + 1);
        let previous = config.header_hash();
        let unsigned = Block::assemble(number, previous.as_ref(), &entries, &[&[]]);
        let header = unsigned.header();
        let header = header_der(header.number, header.previous_hash, header.data_hash);

        let mut last_config = Vec::new();
        put_uint(&mut last_config, 1, CONFIG);
        let mut value = Vec::new();
        put_bytes(&mut value, 1, &last_config);
        let mut copies = Vec::new();
        for copy in 0..COPIES {
            let (mut slot, mut signatures) = (Vec::new(), Vec::new());
            put_bytes(&mut slot, 1, &value);
            for (index, node) in nodes.iter().enumerate() {
                let folder = fixtures::path(format!("msp/orderer/{node}/msp"));
                let signer = load_msp_folder(&folder, "OrdererMSP")?;
                let mut signer_header = Vec::new();
                let by_id = nodes.len() > 1;
                match by_id {
                    // The consenters of the recorded channel are numbered from one.
                    true => put_uint(&mut signer_header, 1, index as u64 + 1),
                    false => put_bytes(&mut signer_header, 1, &signer.identity()),
                }
                put_bytes(&mut signer_header, 2, &[copy; 24]);
                let message = [value.as_slice(), &signer_header, &header].concat();
                let signature = signer.sign(&message).await?;
                let mut entry = Vec::new();
                put_bytes(&mut entry, if by_id { 3 } else { 1 }, &signer_header);
                put_bytes(&mut entry, 2, &signature);
                put_bytes(&mut slot, 2, &entry);
                let key = PrivatePkcs8KeyDer::from_pem_file(folder.join("keystore/priv_sk"))?;
                let key = EcdsaKeyPair::from_pkcs8(
                    &ECDSA_P256_SHA256_ASN1_SIGNING,
                    key.secret_pkcs8_der(),
                )?;
                signatures.push(Signed {
                    key: ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key())?,
                    message,
                    signature: signature.to_vec(),
                });
            }
            let slots: [&[u8]; 5] = [&slot, &[], &[], &[], &[]];
            let block = Block::assemble(number, previous.as_ref(), &entries, &slots);
            ensure!(
                block.raw().len().abs_diff(101_000) < 2_000,
                "the block has the size that it is reported with"
            );
            copies.push(Variant { block, signatures });
        }
        Ok(Self {
            verifier,
            data: entries.concat(),
            copies,
        })
    }

    /// The mean times of so many verifications and so many baselines, turn by turn, in microseconds.
    fn round(&self, blocks: u32) -> Result<Round> {
        let (mut value, mut baseline) = (Duration::ZERO, Duration::ZERO);
        for (turn, copy) in (0..blocks).zip(self.copies.iter().cycle()) {
            // Whoever comes second finds the block in the caches of the processor.
            let ours_first = turn % 2 == 0;
            for is_ours in [ours_first, !ours_first] {
                match is_ours {
                    true => value += self.verified(copy)?,
                    false => baseline += self.checked(copy)?,
                }
            }
        }
        let mean = |total: Duration| total.as_secs_f64() * 1e6 / f64::from(blocks);
        Ok(Round {
            value: mean(value),
            baseline: mean(baseline),
        })
    }

    /// How long the verifier takes.
    fn verified(&self, copy: &Variant) -> Result<Duration> {
        let began = Instant::now();
        let verdict = self.verifier.verify(&copy.block, Standing::Linked);
        let elapsed = began.elapsed();
        ensure!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
        Ok(elapsed)
    }

    /// How long the hash and the signatures take.
    fn checked(&self, copy: &Variant) -> Result<Duration> {
        let began = Instant::now();
        let hash = digest(&SHA256, &self.data);
        let genuine = copy.signatures.iter().all(|signed| {
            let genuine = signed.key.verify_sig(&signed.message, &signed.signature);
            genuine.is_ok()
        });
        let elapsed = began.elapsed();
        ensure!(
            genuine && hash.as_ref() == copy.block.header().data_hash,
            "the baseline checks the same"
        );
        Ok(elapsed)
    }
}

/// An envelope with a channel header, as orderers order them.
fn transaction(channel: &str) -> Vec<u8> {
    /// `HeaderType.ENDORSER_TRANSACTION`.
    const ENDORSER: u64 = 3;
    let mut channel_header = Vec::new();
    put_uint(&mut channel_header, 1, ENDORSER);
    put_bytes(&mut channel_header, 4, channel.as_bytes());
    let mut header = Vec::new();
    put_bytes(&mut header, 1, &channel_header);
    let mut payload = Vec::new();
    put_bytes(&mut payload, 1, &header);
    put_bytes(&mut payload, 2, &[0xda; TRANSACTION_BYTES - 100]);
    let mut envelope = Vec::new();
    put_bytes(&mut envelope, 1, &payload);
    put_bytes(&mut envelope, 2, &[0x51; 71]);
    envelope
}
