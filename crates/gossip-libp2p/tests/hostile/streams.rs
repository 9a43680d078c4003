// SPDX-License-Identifier: Apache-2.0
//! What an enemy does on streams that it opens.

use std::time::Duration;

use block_api::{Height, testing::within};
use blockcast_gossip_libp2p::{Config, Offence};
use futures::AsyncWriteExt;

use crate::{
    honest::{ENEMY, Field},
    memory::Memory,
    raw::{Raw, is_taken},
    rpc::{self, BLOCKS, BODIES, MESH, PEERS, STATUS},
    topics::enemy,
};

/// Streams on which nothing is said, in every state that they can be in, and held open.
#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_half_open_streams_take_no_place_from_others() {
    let mut field = Field::start().await;
    let memory = Memory::now();
    let raw = Raw::connect(ENEMY, &field.address(), None).await;
    let mut held = Vec::new();
    for protocol in [BLOCKS, BODIES, PEERS, STATUS, MESH] {
        for _ in 0..60 {
            held.extend(raw.stream(protocol).await);
        }
    }
    for _ in 0..200 {
        let Some(mut stream) = raw.open().await else {
            break;
        };
        // Half of a line of the negotiation.
        let _ = stream.write_all(&[19, b'/']).await;
        let _ = stream.flush().await;
        held.push(stream);
    }
    assert!(held.len() > 180, "{}", held.len());
    field.keeps_pace(12).await;
    let stats = field.stats();
    assert!(stats.requests_refused > 0, "{stats:?}");
    assert_eq!(stats.bans, 0, "being slow alone bans nobody");
    memory.was_enough();
    drop(held);
    field.ends(Height::new(13)).await;
}

/// The claim of four GiB is neither believed nor waited for; who makes it often is banned, though it
/// is a peer of the configuration, and is let in again when the ban is over.
#[tokio::test(flavor = "multi_thread")]
async fn frames_that_claim_four_gib_ban_who_sends_them_for_a_time() {
    let mut field = Field::start_with(|config| Config {
        ban_time: Duration::from_secs(2),
        ..config
    })
    .await;
    let node = field.nodes[0].gossip.clone();
    let nowhere = format!("/ip4/127.0.0.1/tcp/1/p2p/{}", enemy());
    node.add_peer(nowhere.parse().unwrap()).await.unwrap();
    let raw = Raw::connect(ENEMY, &field.address(), None).await;
    let memory = Memory::now();
    for protocol in [MESH, STATUS, PEERS] {
        let mut stream = raw.stream(protocol).await.unwrap();
        let claim = match protocol {
            MESH => rpc::varint(u64::from(u32::MAX)),
            STATUS => vec![4, 255, 255, 255, 255],
            _ => vec![20, 255, 255, 255, 255],
        };
        let _ = stream.write_all(&claim).await;
        let _ = stream.flush().await;
    }
    // None of them is waited for.
    field
        .until("the claims on our streams", |stats| stats.offences >= 2)
        .await;
    field.keeps_pace(2).await;
    let claiming = async {
        for _ in 0..20 {
            let Some(mut stream) = raw.stream(BLOCKS).await else {
                break;
            };
            let _ = stream.write_all(&[1, 255, 255, 255, 255, 0]).await;
            let _ = stream.flush().await;
        }
        raw.hung_up_on().await;
    };
    let mut bans = node.bans();
    let banned = async {
        // Read while it is there: it is over soon.
        let banned = bans.wait_for(|bans| bans.contains_key(&enemy()));
        let bans = within("the ban", banned).await.unwrap();
        bans.get(&enemy()).map(|ban| ban.reason)
    };
    let ((), reason, ()) = tokio::join!(claiming, banned, field.keeps_pace(4));
    assert_eq!(reason, Some(Offence::Malformed));
    memory.was_enough();
    let over = bans.wait_for(|bans| bans.is_empty());
    within("the end of the ban", over).await.unwrap();
    assert!(is_taken(ENEMY, &field.address()).await);
    assert_eq!(node.stats().bans, 1);
    field.keeps_pace(2).await;
    field.ends(Height::new(9)).await;
}

/// Opening streams as fast as can be, each with a request.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_requests_is_limited() {
    let mut field = Field::start_with(|config| Config {
        max_requests_per_second: 10.try_into().unwrap(),
        ..config
    })
    .await;
    let raw = Raw::connect(ENEMY, &field.address(), None).await;
    let request = rpc::request(&field.topic, 0, 0);
    let memory = Memory::now();
    let asking = async {
        for _ in 0..300 {
            let Some(mut stream) = raw.stream(BLOCKS).await else {
                break;
            };
            let _ = stream.write_all(&request).await;
            let _ = stream.close().await;
        }
    };
    let ((), ()) = tokio::join!(asking, field.keeps_pace(8));
    field
        .until("the limit", |stats| stats.requests_limited >= 200)
        .await;
    memory.was_enough();
    field.ends(Height::new(9)).await;
}
