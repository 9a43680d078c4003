// SPDX-License-Identifier: Apache-2.0
//! A broker, and the backend that uses it: everything that is published in a channel comes to
//! everybody who subscribed to it, whatever anybody thinks of it.

mod client;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

pub use self::client::BrokerGossip;
use crate::wire::{Frame, Topic, read_frame};

/// How many frames wait to be sent to a subscriber; while so many do, further ones are dropped for it.
const QUEUE: usize = 256;
/// The longest frame that is taken, which bounds a block.
const MAX_FRAME: usize = 128 << 20;

/// A server that hands what it is given to everyone else. It does not look into blocks.
#[derive(Debug)]
pub struct Broker {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    tasks: TaskTracker,
    stopped: CancellationToken,
    /// The connections that are subscribed, by their numbers.
    subscribers: Mutex<BTreeMap<Topic, BTreeMap<u64, mpsc::Sender<Bytes>>>>,
}

impl Broker {
    /// Starts a broker that listens here.
    pub fn start(listener: TcpListener) -> Self {
        let shared = Arc::new(Shared::default());
        let accepting = accept_all(shared.clone(), listener);
        shared.tasks.spawn(accepting);
        Self { shared }
    }

    /// Hangs up on everybody. Returns when all tasks have ended. Safe to repeat.
    pub async fn stop(&self) {
        self.shared.stopped.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl Shared {
    fn subscribers(&self) -> MutexGuard<'_, BTreeMap<Topic, BTreeMap<u64, mpsc::Sender<Bytes>>>> {
        self.subscribers
            .lock()
            .expect("invariant: no holder of this lock panics")
    }

    /// Hands a block to everyone but the connection that it came by.
    fn hand_out(&self, topic: &Topic, from: u64, frame: &Bytes) {
        for (number, subscriber) in self.subscribers().get(topic).into_iter().flatten() {
            if *number != from && subscriber.try_send(frame.clone()).is_err() {
                debug!(subscriber = number, "no room for a frame");
            }
        }
    }

    fn forget(&self, number: u64) {
        self.subscribers().retain(|_, subscribers| {
            subscribers.remove(&number);
            !subscribers.is_empty()
        });
    }
}

async fn accept_all(shared: Arc<Shared>, listener: TcpListener) {
    let stopped = shared.stopped.clone();
    let accept = async {
        for number in 0.. {
            let Ok((stream, _)) = listener.accept().await else {
                return;
            };
            let connection = serve(shared.clone(), number, stream);
            shared.tasks.spawn(connection);
        }
    };
    stopped.run_until_cancelled(accept).await;
}

async fn serve(shared: Arc<Shared>, number: u64, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let (from, mut to) = stream.into_split();
    let (frames, mut to_send) = mpsc::channel::<Bytes>(QUEUE);
    let sending = async {
        while let Some(frame) = to_send.recv().await {
            if to.write_all(&frame).await.is_err() {
                return;
            }
        }
    };
    let taking = async {
        let mut from = BufReader::new(from);
        while let Ok(frame) = read_frame(&mut from, MAX_FRAME).await {
            let encoded = frame.encode();
            match frame {
                Frame::Subscribe(topic) => {
                    let mut subscribers = shared.subscribers();
                    let topic = subscribers.entry(topic).or_default();
                    topic.insert(number, frames.clone());
                    // It says that what is published from here on comes.
                    if frames.try_send(encoded).is_err() {
                        return;
                    }
                }
                Frame::Block { topic, .. } => shared.hand_out(&topic, number, &encoded),
                Frame::Unknown => {}
                Frame::Hello(_)
                | Frame::Proof { .. }
                | Frame::Status { .. }
                | Frame::Range { .. }
                | Frame::Item(_)
                | Frame::End(_) => return,
            }
        }
    };
    let both = async {
        tokio::select! {
            () = sending => {}
            () = taking => {}
        }
    };
    shared.stopped.run_until_cancelled(both).await;
    shared.forget(number);
}
