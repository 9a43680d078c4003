// SPDX-License-Identifier: Apache-2.0
//! Ranges, files and refusals; what needs an orderer is in the package's `tests/fetch.rs`.

use std::{fs, os::unix::fs::PermissionsExt as _};

use block_api::{Block, BlockNumber, DeliverStatus};
use clap::Parser;

use super::*;
use crate::commands::{
    block_files,
    fetch::{
        error::{Encryption, Refusal},
        files::{BlockFiles, Written},
    },
    identity::Claimed,
};

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

fn parse(more: &[&str]) -> Result<Args, clap::Error> {
    let common = [
        "fetch",
        "--orderer",
        "o:7050",
        "--msp-dir",
        "m",
        "--msp-id",
        "Org1MSP",
        "--channel",
        "ch",
        "--out",
        "d",
    ];
    Command::try_parse_from(common.iter().chain(more)).map(|command| command.args)
}

#[test]
fn a_range_is_two_numbers_or_words() {
    let range = |from: &str, to: &str| {
        let args = parse(&["--plaintext", "--from", from, "--to", to])?;
        Ok::<_, clap::Error>((args.from, args.to))
    };
    let at = |number| BlockNumber::new(number);
    assert_eq!(
        range("oldest", "newest").unwrap(),
        (First::Oldest, Last::Newest)
    );
    assert_eq!(
        range("newest", "newest").unwrap(),
        (First::Newest, Last::Newest)
    );
    assert_eq!(
        range("3", "5").unwrap(),
        (First::At(at(3)), Last::At(at(5)))
    );
    for (from, to) in [
        ("-1", "5"),
        ("0", "oldest"),
        ("0", "18446744073709551615"),
        ("first", "1"),
        ("", "1"),
    ] {
        let error = range(from, to).unwrap_err().to_string();
        assert!(
            error.contains("is no block: write a number") || error.contains("unexpected"),
            "{error}"
        );
    }
    assert_eq!(range::count(First::At(at(3)), Last::At(at(5))), Some(3));
    assert_eq!(range::count(First::At(at(3)), Last::Newest), None);
    assert!(range::check(First::At(at(5)), Last::At(at(5))).is_ok());
    let error = range::check(First::At(at(6)), Last::At(at(5))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "--from is 6 and --to is 5: the first block must not come after the last"
    );
}

#[test]
fn encryption_is_said_out_loud() {
    let with = |more: &[&str]| {
        let range = ["--from", "0", "--to", "1"];
        parse(&[more, &range].concat()).map_err(|error| error.to_string())
    };
    assert!(with(&["--plaintext"]).unwrap().plaintext);
    assert!(with(&["--tls-ca", "f"]).is_ok());
    assert!(with(&["--tls-ca", "f", "--client-cert", "c", "--client-key", "k"]).is_ok());
    assert!(
        with(&[])
            .unwrap_err()
            .contains("<--tls-ca <FILE>|--plaintext>")
    );
    assert!(
        with(&["--tls-ca", "f", "--plaintext"])
            .unwrap_err()
            .contains("cannot be used with")
    );
    assert!(
        with(&["--tls-ca", "f", "--client-cert", "c"])
            .unwrap_err()
            .contains("--client-key")
    );
    let mutual = with(&["--plaintext", "--client-cert", "c", "--client-key", "k"]);
    assert!(mutual.unwrap_err().contains("cannot be used with"));
}

fn block(data: &[u8]) -> Block {
    Block::assemble::<_, &[u8]>(BlockNumber::new(7), &[1; 32], &[data], &[])
}

#[tokio::test]
async fn a_file_is_written_whole_and_not_replaced_unless_asked() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("a/b");
    let endpoint: Endpoint = "o:7050".parse().unwrap();
    let files = BlockFiles::create(&out, false).unwrap();
    let path = out.join("block_7.pb");
    let write = async |files: &BlockFiles, data: &[u8]| files.write(block(data), &endpoint).await;

    assert_eq!(write(&files, b"one").await.unwrap(), Written::New);
    assert_eq!(fs::read(&path).unwrap(), *block(b"one").raw());
    assert_eq!(block_files::read(&path).unwrap().raw(), block(b"one").raw());
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o600, 0o600);
    assert_eq!(mode & 0o111, 0, "{mode:o}");

    assert_eq!(write(&files, b"one").await.unwrap(), Written::Unchanged);
    for other in [b"two".as_slice(), b"longer"] {
        let error = write(&files, other).await.unwrap_err();
        let text = error.into_command_error().to_string();
        assert!(
            text.contains("block_7.pb is there and holds other bytes than o:7050 sent for block 7"),
            "{text}"
        );
        assert!(text.contains("--overwrite"), "{text}");
    }
    assert_eq!(fs::read(&path).unwrap(), *block(b"one").raw());

    let files = BlockFiles::create(&out, true).unwrap();
    assert_eq!(write(&files, b"two").await.unwrap(), Written::Replaced);
    assert_eq!(fs::read(&path).unwrap(), *block(b"two").raw());
    let names: Vec<_> = fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["block_7.pb"], "nothing else is left behind");

    fs::remove_dir_all(&out).unwrap();
    let error = write(&files, b"one").await.unwrap_err().to_string();
    assert!(error.contains("block_7.pb cannot be written"), "{error}");
    fs::write(&out, "in the way").unwrap();
    let error = BlockFiles::create(&out, true).unwrap_err().to_string();
    assert!(error.starts_with("--out: the folder "), "{error}");
}

#[test]
fn every_status_is_explained() {
    let identity = Claimed {
        msp_id: "Org1MSP".to_owned(),
        subject: Some("CN=user1".to_owned()),
        expires: None,
    };
    let told = |status, last: Option<u64>, expired| {
        let refusal = Refusal {
            status,
            endpoint: "o:7050".parse().unwrap(),
            channel: "ch".parse().unwrap(),
            identity: Some(identity.clone()),
            last: last.map(BlockNumber::new),
            expired,
            encryption: Encryption::Server,
        };
        FetchError::Refused(Box::new(refusal))
            .into_command_error()
            .to_string()
    };
    let rows = [
        (
            told(DeliverStatus::Forbidden, None, false),
            "error: o:7050 does not let Org1MSP [CN=user1] read channel ch: FORBIDDEN (403)\nhint: it must satisfy",
        ),
        (
            told(DeliverStatus::Forbidden, Some(4), true),
            "read channel ch after block 4: FORBIDDEN (403)\nhint: the certificate of this identity has expired",
        ),
        (
            told(DeliverStatus::NotFound, None, false),
            "o:7050 has no channel ch, or not the first block that is asked for: NOT_FOUND (404)\nhint: check --channel",
        ),
        (
            told(DeliverStatus::NotFound, Some(9), false),
            "channel ch ends with block 9 on o:7050: NOT_FOUND (404)\nhint: fetch up to the newest block",
        ),
        (
            told(DeliverStatus::BadRequest, None, false),
            "BAD_REQUEST (400)\nhint: the clocks",
        ),
        (
            told(DeliverStatus::Unavailable, None, false),
            "SERVICE_UNAVAILABLE (503)\nhint: it may have no leader",
        ),
        (
            told(DeliverStatus::InternalError, Some(1), false),
            "after block 1: INTERNAL_SERVER_ERROR (500)",
        ),
        (
            told(DeliverStatus::Other(777), None, false),
            "o:7050 ended the request: status 777",
        ),
    ];
    for (text, part) in rows {
        assert!(text.contains(part), "{part}\n--- in ---\n{text}");
    }
}

#[test]
fn the_summary_says_what_was_there() {
    let fetched = |blocks, unchanged| Fetched {
        blocks,
        first: BlockNumber::new(3),
        last: BlockNumber::new(2 + blocks),
        bytes: 1_234_567,
        unchanged,
    };
    assert_eq!(summary(&fetched(1, 0)), "1 block (3..3, 1,234,567 bytes)");
    assert_eq!(
        summary(&fetched(2, 2)),
        "2 blocks (3..4, 1,234,567 bytes, all there before)"
    );
    assert_eq!(
        summary(&fetched(5, 2)),
        "5 blocks (3..7, 1,234,567 bytes, 2 of them there before)"
    );
}
