// SPDX-License-Identifier: Apache-2.0
//! The tasks that HTTP/2 makes for a connection, owned by whoever serves the connection.

use std::{
    future::Future,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use hyper::rt::Executor;
use tokio::task::JoinSet;

/// The tasks of a connection; dropping this aborts them.
#[derive(Debug, Default)]
pub(crate) struct Tasks(Arc<Mutex<JoinSet<()>>>);

/// Spawns the tasks of a connection on its [`Tasks`], as long as those are there.
#[derive(Debug, Clone)]
pub(crate) struct Spawner(Weak<Mutex<JoinSet<()>>>);

impl Tasks {
    pub(crate) fn spawner(&self) -> Spawner {
        Spawner(Arc::downgrade(&self.0))
    }

    /// Aborts what still runs, and waits until it is gone.
    pub(crate) async fn shutdown(self) {
        let mut tasks = mem::take(&mut *lock(&self.0));
        tasks.shutdown().await;
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Spawner {
    fn execute(&self, task: F) {
        if let Some(tasks) = self.0.upgrade() {
            let mut tasks = lock(&tasks);
            // Calls come and go on a connection, and what is done must not pile up.
            while tasks.try_join_next().is_some() {}
            tasks.spawn(task);
        }
    }
}

fn lock(tasks: &Mutex<JoinSet<()>>) -> MutexGuard<'_, JoinSet<()>> {
    tasks.lock().unwrap_or_else(PoisonError::into_inner)
}
