// SPDX-License-Identifier: Apache-2.0
//! How much an orderer may send before it has to hear from the client.

use orderer_client::Config;

use crate::support::{
    raw::{self, HEADERS, SETTINGS, WINDOW_UPDATE},
    within,
};

/// What is on the way on a link of 1 Gbit/s with 25 ms each way.
const ON_THE_WAY: u32 = 1_000_000_000 / 8 / 20;

/// HTTP/2 gives the window of a stream in the settings, and enlarges that of a connection by a frame.
const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];
const WINDOW_BEFORE: u32 = 65_535;

/// Half of a window is taken before any of it is given back, so that a link is kept busy by a window
/// of twice what is on the way. A window that follows what was measured begins small and would not
/// do here, either: what counts is what is granted with the request.
#[tokio::test(start_paused = true)]
async fn the_windows_cover_a_long_fat_link() {
    let (_stream, mut server) = raw::opened().await;
    let (mut of_stream, mut of_connection) = (WINDOW_BEFORE, WINDOW_BEFORE);
    within("the request", async {
        loop {
            let frame = server.receive().await.expect("the client is there");
            match frame.kind {
                SETTINGS => {
                    for setting in frame.payload.chunks_exact(6) {
                        if setting[..2] == INITIAL_WINDOW_SIZE {
                            of_stream = number(&setting[2..]);
                        }
                    }
                }
                WINDOW_UPDATE => of_connection += number(&frame.payload),
                HEADERS => break,
                _ => {}
            }
        }
    })
    .await;
    let granted = of_stream.min(of_connection);
    assert!(granted >= 2 * ON_THE_WAY, "{granted} bytes");
    let Config {
        stream_window_bytes,
        connection_window_bytes,
        ..
    } = Config::default();
    assert_eq!(
        (of_stream, of_connection),
        (stream_window_bytes, connection_window_bytes)
    );
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().unwrap())
}
