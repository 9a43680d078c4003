// SPDX-License-Identifier: Apache-2.0
//! What parses as a block, and that its bytes stay what they were.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{testing::TestChain, wire::Field};

fn sample() -> Block {
    let (_, blocks) = TestChain::of_blocks("ch", 3, 100);
    blocks.into_iter().next_back().unwrap()
}

fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, number, content);
    out
}

fn parse(parts: &[Vec<u8>]) -> Result<Block, ParseBlockError> {
    Block::parse(parts.concat().into())
}

/// Covers: PRB-01, PRB-05, PRB-06
#[test]
fn an_assembled_block_has_what_was_put_in() {
    let slots: [&[u8]; 5] = [b"signatures", b"", b"flags", b"", b"commit"];
    let block = Block::assemble(
        BlockNumber::new(7),
        b"previous",
        &[b"one".as_slice(), b"", b"three"],
        &slots,
    );
    assert_eq!(block.number(), BlockNumber::new(7));
    assert_eq!(block.header().previous_hash, b"previous");
    assert_eq!(block.header().data_hash, block.data_hash().as_ref());
    assert_eq!(
        block.data().collect::<Vec<_>>(),
        [b"one".as_slice(), b"", b"three"]
    );
    assert_eq!((block.entry_count(), block.slot_count()), (3, 5));
    assert_eq!(block.slots().collect::<Vec<_>>(), slots);
    assert_eq!(block.signatures_slot(), Some(b"signatures".as_slice()));
    let again = Block::parse(block.raw().clone()).unwrap();
    assert_eq!(
        (again.header_hash(), again.raw()),
        (block.header_hash(), block.raw())
    );
}

/// Covers: PRB-05, PRC-02, VER-06, NEW-04
#[test]
fn what_is_no_block_says_why() {
    assert_eq!(parse(&[]).unwrap_err(), ParseBlockError::NoHeader);
    assert_eq!(
        parse(&[field(2, &[]), field(3, &[])]).unwrap_err(),
        ParseBlockError::NoHeader
    );
    let garbage = parse(&[field(1, &[]), field(2, &[0xff])]).unwrap_err();
    assert_eq!(
        garbage.to_string(),
        "the data of the block does not parse: the message is cut off at byte 4"
    );
    let whole = sample();
    for length in 0..whole.raw().len() {
        // A prefix may end between two fields; it is a block then, but another one.
        if let Ok(block) = Block::parse(whole.raw().slice(..length)) {
            assert!(block.slot_count() < whole.slot_count() || !block.has_data());
        }
    }
}

/// Covers: PRC-04
#[test]
fn an_entry_is_found_by_its_place_or_is_not_there() {
    let block = Block::assemble(BlockNumber::new(1), &[], &[b"one", b"two"], &[b"slot"]);
    let entry = |block: &Block, index: usize| block.data().nth(index).map(<[u8]>::to_vec);
    assert_eq!(entry(&block, 0).as_deref(), Some(b"one".as_slice()));
    assert_eq!(entry(&block, 1).as_deref(), Some(b"two".as_slice()));
    assert_eq!(entry(&block, 2), None);
    assert_eq!(entry(&block, usize::MAX), None);
    assert_eq!(entry(&block.without_data(), 0), None);
}

/// Covers: PRC-05
#[test]
fn absent_data_differs_from_empty_data() {
    let absent = parse(&[field(1, &[])]).unwrap();
    let empty = parse(&[field(1, &[]), field(2, &[])]).unwrap();
    assert!(!absent.has_data() && empty.has_data());
    assert_eq!((absent.entry_count(), empty.entry_count()), (0, 0));
    assert!(!absent.is_config() && !empty.is_config());
    assert_eq!(absent.signatures_slot(), None);
}

#[test]
fn parts_that_come_twice_are_merged_and_unknown_fields_skipped() {
    let block = parse(&[
        field(9, b"unknown"),
        field(1, &[0x08, 5, 0x12, 1, 0xaa]),
        field(2, &field(1, b"one")),
        field(3, &field(1, b"slot 0")),
        vec![0x08, 0x07],
        field(1, &[0x08, 6, 0x1a, 1, 0xbb, 0x78, 1]),
        field(2, &[field(7, b"unknown"), field(1, b"two")].concat()),
        field(3, &field(1, b"slot 1")),
    ])
    .unwrap();
    assert_eq!(
        block.header(),
        BlockHeader {
            number: BlockNumber::new(6),
            previous_hash: &[0xaa],
            data_hash: &[0xbb]
        }
    );
    assert_eq!(block.data().collect::<Vec<_>>(), [b"one", b"two"]);
    assert_eq!(block.slots().collect::<Vec<_>>(), [b"slot 0", b"slot 1"]);
    assert_eq!(block.signatures_slot(), Some(b"slot 0".as_slice()));
}

/// Covers: PRB-03, PRB-04, PRC-05
#[test]
fn a_config_block_has_one_entry_of_type_config() {
    let mut chain = TestChain::new("my-channel");
    let config = chain.config();
    assert!(config.is_config());
    assert_eq!(
        config.channel_of_first_entry().as_deref(),
        Some("my-channel")
    );

    let entry = config.data().next().unwrap();
    assert!(
        !chain.entries(&[entry.to_vec(), entry.to_vec()]).is_config(),
        "two entries are no config block"
    );
    let of_type = |kind: u8, channel: &[u8]| {
        let channel_header = [vec![0x08, kind], field(4, channel)].concat();
        field(1, &field(1, &field(1, &channel_header)))
    };
    let mut is_config = |entry: Vec<u8>| {
        let block = chain.entries(&[entry]);
        (block.is_config(), block.channel_of_first_entry())
    };
    assert_eq!(is_config(of_type(1, b"ch")), (true, Some("ch".to_owned())));
    assert_eq!(is_config(of_type(0, b"ch")), (false, Some("ch".to_owned())));
    assert_eq!(
        is_config(of_type(4, b"ch")),
        (false, Some("ch".to_owned())),
        "ORDERER_TRANSACTION is none"
    );
    assert_eq!(
        is_config(of_type(1, &[0xff])),
        (false, None),
        "a channel that is no text does not parse"
    );
    assert_eq!(is_config(b"no envelope".to_vec()), (false, None));
    assert_eq!(
        is_config(Vec::new()),
        (false, None),
        "an envelope without a payload has no header"
    );
    assert_eq!(is_config(field(1, &[0xff])), (false, None));
    assert_eq!(
        is_config(field(1, &field(1, &field(1, &[0x08])))),
        (false, None)
    );
}

/// Covers: DLV-13
#[test]
fn without_data_keeps_header_and_metadata() {
    let block = sample();
    let attestation = block.without_data();
    assert!(!attestation.has_data());
    assert_eq!(attestation.header_hash(), block.header_hash());
    assert_eq!(
        attestation.slots().collect::<Vec<_>>(),
        block.slots().collect::<Vec<_>>()
    );
    assert!(block.has_data(), "the block itself is as it was");
}

#[test]
fn the_relay_form_shares_the_body_and_leaves_unsigned_slots_out() {
    let slots: [&[u8]; 5] = [b"signatures", b"last", b"flags", b"", b"commit"];
    let block = Block::assemble(BlockNumber::new(7), b"previous", &[b"one"], &slots);
    let relay = block.relay();
    assert_eq!(
        relay.body.as_ptr(),
        block.raw().as_ptr(),
        "no byte of the body is copied"
    );
    let received = Block::parse(relay.to_bytes()).unwrap();
    assert_eq!(received.header_hash(), block.header_hash());
    assert_eq!(received.data_hash(), block.data_hash());
    assert_eq!(received.slots().collect::<Vec<_>>(), [b"signatures"]);
    assert_eq!(relay.len(), received.raw().len());
    assert_eq!(block.with_signatures_slot_only().slots().count(), 1);
}

#[test]
fn a_relayed_body_in_pieces_is_put_together() {
    let block = parse(&[
        field(3, &field(1, b"signatures")),
        field(2, &field(1, b"one")),
        field(1, &[0x08, 5]),
        field(3, &field(1, b"last")),
    ])
    .unwrap();
    let received = Block::parse(block.relay().to_bytes()).unwrap();
    assert_eq!(received.header_hash(), block.header_hash());
    assert_eq!(received.data().collect::<Vec<_>>(), [b"one"]);
    assert_eq!(received.slots().collect::<Vec<_>>(), [b"signatures"]);
}

/// Covers: PRB-08
#[test]
fn missing_slots_are_filled_in_and_present_ones_stay() {
    let with = |slots: &[&[u8]]| Block::assemble(BlockNumber::new(9), b"p", &[b"one"], slots);
    let filled = with(&[b"signatures"]).with_all_slots(Some(BlockNumber::new(7)));
    assert_eq!(
        filled.slots().collect::<Vec<_>>(),
        [b"signatures".as_slice(), &[0x0a, 2, 0x08, 7], b"", b"", b""]
    );
    assert_eq!(filled.header_hash(), with(&[]).header_hash());
    assert_eq!(filled.data().collect::<Vec<_>>(), [b"one"]);

    let old = with(&[b"signatures", b"its own", b"flags", b"orderer"])
        .with_all_slots(Some(BlockNumber::new(7)));
    assert_eq!(
        old.slots().collect::<Vec<_>>(),
        [
            b"signatures".as_slice(),
            b"its own",
            b"flags",
            b"orderer",
            b""
        ]
    );

    let whole = with(&[b"a", b"b", b"c", b"d", b"e"]);
    assert_eq!(whole.with_all_slots(None).raw(), whole.raw());
    assert_eq!(
        with(&[b"s"])
            .with_all_slots(Some(BlockNumber::GENESIS))
            .slots()
            .nth(1),
        Some(b"".as_slice())
    );
}

#[test]
fn a_block_of_very_many_empty_entries_costs_no_more_than_its_bytes() {
    let block = parse(&[field(1, &[]), field(2, &[0x0a, 0x00].repeat(500_000))]).unwrap();
    assert_eq!(block.entry_count(), 500_000);
    assert_eq!(block.data().count(), 500_000);
}

#[test]
fn the_data_travels_by_itself_and_comes_back_between_header_and_signatures() {
    let block = sample();
    let data = block.data_bytes().unwrap();
    assert!(
        block.raw().as_ptr_range().contains(&data.as_ptr()),
        "no copy"
    );
    let (head, tail) = block.without_data().around_data(data.len());
    let again = parse(&[head, data.to_vec(), tail]).unwrap();
    assert_eq!(again.raw(), block.without_extras().raw());
    assert!(again.has_claimed_data() && !block.without_data().has_claimed_data());
    assert_eq!(block.without_data().data_bytes(), None);

    // In whatever form it came, every holder gives the same.
    let header = block.without_data().relay().body.to_vec();
    let entry = |n: usize| field(1, block.data().nth(n).unwrap());
    let split = (0..block.entry_count()).map(|n| field(2, &entry(n)));
    let mut parts = vec![header.clone()];
    parts.extend(split);
    assert_eq!(parse(&parts).unwrap().data_bytes(), Some(data.clone()));
    let longer = [data.to_vec(), field(9, b"unknown")].concat();
    let extra = parse(&[header.clone(), field(2, &longer)]).unwrap();
    assert_eq!(extra.data_bytes(), Some(data.clone()));
    let mut false_data = data.to_vec();
    *false_data.last_mut().unwrap() ^= 1;
    let forged = parse(&[header, field(2, &false_data)]).unwrap();
    assert!(!forged.has_claimed_data());
}

/// The hash over entries one after the other stays the same wherever they are cut.
///
/// Covers: VER-13
#[test]
fn true_data_that_is_cut_elsewhere_is_not_the_data_of_the_header() {
    let mut chain = TestChain::new("ch");
    let config = chain.config();
    let one = chain.data(100).data().next().unwrap().to_vec();
    let block = chain.entries(&[one.clone(), one.clone()]);
    assert!(block.has_claimed_data() && config.has_claimed_data());
    let with = |block: &Block, entries: &[&[u8]]| {
        let data: Vec<u8> = entries.iter().flat_map(|entry| field(1, entry)).collect();
        let (head, tail) = block.without_data().around_data(data.len());
        parse(&[head, data, tail]).unwrap()
    };
    assert!(with(&block, &[&one, &one]).has_claimed_data());
    let joined = [one.as_slice(), &one].concat();
    let (first, rest) = joined.split_at(7);
    let again: [&[&[u8]]; 3] = [&[&joined], &[first, rest], &[&[], &one, &one]];
    for entries in again {
        let cut = with(&block, entries);
        assert_eq!(cut.data_hash(), block.data_hash());
        assert!(!cut.has_claimed_data(), "{} entries", entries.len());
    }
    let whole = config.data().next().unwrap();
    let (first, rest) = whole.split_at(7);
    assert!(!with(&config, &[first, rest]).has_claimed_data());

    // With their lengths in the hash, entries may have any form.
    let framed = Block::assemble_hashing(
        DataHashing::LengthPrefixed,
        BlockNumber::new(1),
        &[],
        &[b"one", b"two"],
        &[b""],
    );
    assert!(framed.has_claimed_data());
    assert!(!with(&framed, &[b"onet", b"wo"]).has_claimed_data());
}

/// What neither hashes nor signatures cover is dropped, and nothing else.
#[test]
fn extras_are_left_out() {
    let block = Block::assemble(
        BlockNumber::new(300),
        &[1; 32],
        &[vec![7; 200], vec![], vec![8; 20_000]],
        &[b"signatures"],
    );
    let junk = {
        let mut field = Vec::new();
        put_bytes(&mut field, 15, &[0; 5_000]);
        field
    };
    let with = |parts: [(u32, Vec<u8>); 3], outer: &[u8]| {
        let mut raw = Vec::new();
        for (field, part) in parts {
            put_bytes(&mut raw, field, &part);
        }
        raw.extend_from_slice(outer);
        Block::parse(raw.into()).unwrap()
    };
    let parts = || {
        let mut fields = Fields::new(block.raw());
        [(); 3].map(|()| match fields.next().unwrap().unwrap() {
            Field {
                number,
                value: Value::Bytes(bytes, _),
                ..
            } => (number, bytes.to_vec()),
            other => panic!("{other:?}"),
        })
    };
    let shared = block.without_extras();
    assert_eq!(
        shared.raw().as_ptr(),
        block.raw().as_ptr(),
        "nothing is copied"
    );
    let bloat = |part: usize| {
        let mut parts = parts();
        parts[part].1.extend_from_slice(&junk);
        with(parts, &[])
    };
    for bloated in [bloat(0), bloat(1), bloat(2), with(parts(), &junk)] {
        assert!(bloated.raw().len() > block.raw().len() + 5_000);
        let plain = bloated.without_extras();
        assert_eq!(plain.raw(), block.raw());
        assert_eq!(plain.header_hash(), bloated.header_hash());
    }
    let attestation = block.without_data();
    assert_eq!(attestation.without_extras().raw(), attestation.raw());
    let slots: [&[u8]; 5] = [b"signatures", b"a", b"b", b"c", b"d"];
    let entries: Vec<&[u8]> = block.data().collect();
    let five = Block::assemble(block.number(), &[1; 32], &entries, &slots);
    assert_eq!(five.without_extras().raw(), block.raw());
    let none = Block::assemble::<&[u8], &[u8]>(BlockNumber::GENESIS, &[], &[], &[]);
    assert_eq!(none.without_extras().signatures_slot(), None);
    assert!(none.without_extras().has_data());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        if let Ok(block) = Block::parse(bytes.clone().into()) {
            prop_assert_eq!(block.data().count(), block.entry_count());
            prop_assert_eq!(block.slots().count(), block.slot_count());
            prop_assert_eq!(block.raw().as_ref(), bytes.as_slice());
            let relayed = Block::parse(block.relay().to_bytes()).unwrap();
            prop_assert_eq!(relayed.header_hash(), block.header_hash());
            prop_assert_eq!(relayed.data_hash(), block.data_hash());
            let _ = (block.is_config(), block.channel_of_first_entry());
            prop_assert!(block.with_all_slots(None).slot_count() >= SLOT_COUNT);
        }
    }

    #[test]
    fn flipped_bits_never_panic(position in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut bytes = sample().raw().to_vec();
        let at = position.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(block) = Block::parse(bytes.into()) {
            prop_assert_eq!(block.data().count(), block.entry_count());
            prop_assert!(Block::parse(block.relay().to_bytes()).is_ok());
        }
    }
}
