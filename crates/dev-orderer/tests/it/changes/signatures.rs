// SPDX-License-Identifier: Apache-2.0
//! Whose signatures count after a change, and how many.

use std::collections::BTreeSet;

use blockcast_dev_orderer::{Change, Consensus, KeyKind};

use super::{add_orderers, ids, maker, remove_orderers, step};
use crate::judge::{Signer, signers};

#[tokio::test]
async fn a_removed_organisation_signs_in_vain() {
    for consensus in [Consensus::Raft, Consensus::Bft] {
        let (mut maker, mut judge) = maker(consensus, KeyKind::EcdsaP256, 4);
        step(&mut maker, &mut judge, &[add_orderers("Third", 3)]).await;
        let all = maker.network().nodes().to_vec();
        let third = &all[4..];
        assert!(third.iter().all(|node| node.organization() == "Third"));
        // While it is there, its signatures count.
        let enough = match consensus {
            Consensus::Raft => &third[..1],
            Consensus::Bft => &all[2..],
        };
        judge.approve(&maker.block_signed_by(enough, &[1]).await.unwrap());

        step(&mut maker, &mut judge, &[remove_orderers("Third")]).await;
        judge.refuse(&maker.block_signed_by(third, &[1]).await.unwrap());
        // Nor can it come back by itself.
        let back = [add_orderers("Third", 1)];
        judge.refuse(&maker.change_signed_by(third, &back).await.unwrap());
        if consensus == Consensus::Bft {
            // Nor does it fill up what is missing.
            let mixed = [third, &all[..2]].concat();
            judge.refuse(&maker.block_signed_by(&mixed, &[1]).await.unwrap());
        }
        judge.accept(&maker.block(&[1]).await.unwrap());
    }
}

#[tokio::test]
async fn a_replaced_certificate_signs_in_vain_where_the_consenters_are_named() {
    let (mut maker, mut judge) = maker(Consensus::Bft, KeyKind::EcdsaP256, 4);
    let before = maker.network().nodes().to_vec();
    step(
        &mut maker,
        &mut judge,
        &[Change::ReplaceCertificates { node: 2 }],
    )
    .await;
    let after = maker.network().nodes().to_vec();
    assert_eq!(ids(&before), ids(&after));
    for (old, new) in before.iter().zip(&after) {
        let same = old.id() != 2;
        let (old_member, new_member) = (old.member(), new.member());
        assert_eq!(old_member.identity() == new_member.identity(), same);
        assert_eq!(
            old_member.tls_certificate_pem() == new_member.tls_certificate_pem(),
            same
        );
        assert_eq!(old.endpoint(), new.endpoint());
    }
    // Three of four are a quorum, if all of them are genuine.
    judge.refuse(&maker.block_signed_by(&before[..3], &[1]).await.unwrap());
    judge.approve(&maker.block_signed_by(&after[..3], &[1]).await.unwrap());

    // On raft any orderer certificate of the organisation will do, and no revocation was asked for.
    let (mut maker, mut judge) = super::maker(Consensus::Raft, KeyKind::EcdsaP256, 4);
    let before = maker.network().nodes().to_vec();
    step(
        &mut maker,
        &mut judge,
        &[Change::ReplaceCertificates { node: 2 }],
    )
    .await;
    judge.approve(&maker.block_signed_by(&before[1..2], &[1]).await.unwrap());
}

#[tokio::test]
async fn a_quorum_signs_each_copy_and_one_fewer_is_not_enough() {
    for (nodes, quorum) in [(1, 1), (4, 3), (7, 5)] {
        let (mut maker, mut judge) = maker(Consensus::Bft, KeyKind::EcdsaP256, nodes);
        let copies = maker.copies(&[1]).await.unwrap();
        assert_eq!(copies.len(), nodes);
        let mut sets = BTreeSet::new();
        for copy in &copies {
            judge.approve(copy);
            assert_eq!(copy.header_hash(), copies[0].header_hash());
            let ids: BTreeSet<Signer> = signers(copy).into_iter().collect();
            assert_eq!((ids.len(), signers(copy).len()), (quorum, quorum));
            assert!(ids.iter().all(|id| matches!(id, Signer::Id(_))));
            sets.insert(ids);
        }
        assert_eq!(sets.len(), nodes, "each node has other signatures");
        judge.accept(&copies[0]);

        let all = maker.network().nodes().to_vec();
        judge.approve(&maker.block_signed_by(&all[..quorum], &[1]).await.unwrap());
        let fewer = &all[..quorum - 1];
        judge.refuse(&maker.block_signed_by(fewer, &[1]).await.unwrap());
        let change = [add_orderers("Third", 1)];
        judge.refuse(&maker.change_signed_by(fewer, &change).await.unwrap());
        // The same node twice is one.
        let twice = [fewer, &all[..1]].concat();
        if quorum > 1 {
            judge.refuse(&maker.block_signed_by(&twice, &[1]).await.unwrap());
        }
    }
}
