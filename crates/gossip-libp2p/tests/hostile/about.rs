// SPDX-License-Identifier: Apache-2.0
//! What a node tells of itself to whoever is connected.

use block_api::{
    Height,
    testing::within,
    wire::{Fields, Value},
};
use futures::AsyncReadExt;

use crate::{
    honest::{ENEMY, Field},
    raw::{Raw, contains},
};

/// Where a node listens is told to nobody by identify; who wants to be found says so by its records.
#[tokio::test(flavor = "multi_thread")]
async fn identify_does_not_tell_where_a_node_listens() {
    let field = Field::start().await;
    let raw = Raw::connect(ENEMY, &field.address(), None).await;
    let mut stream = raw.stream("/ipfs/id/1.0.0").await.unwrap();
    let mut told = Vec::new();
    let reading = within("the end of what is told", stream.read_to_end(&mut told));
    reading.await.unwrap();
    // The length is two bytes long.
    assert!(told[0] & 0x80 != 0 && told[1] & 0x80 == 0);
    let told = &told[2..];
    let parts = || Fields::new(told).map(|part| part.unwrap());
    let has = |number| parts().any(|part| part.number == number);
    assert!(has(1) && has(3), "a key and protocols");
    let agent = parts().find(|part| part.number == 6).unwrap();
    assert!(matches!(agent.value, Value::Bytes(agent, _) if agent.starts_with(b"blockcast/")));
    assert!(!has(2), "addresses");
    let mut listens = field.address();
    listens.pop();
    assert!(!contains(told, &listens.to_vec()), "{told:?}");
    field.ends(Height::new(1)).await;
}
