// SPDX-License-Identifier: Apache-2.0
//! The binary as a child process, whose output is awaited line by line.

use std::{ffi::OsStr, path::PathBuf, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout, Command},
    time::timeout,
};

/// Nothing that a test waits for takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A run of the command, killed when it is dropped.
pub(crate) struct Run {
    child: Child,
    pub(crate) stdout: Output<ChildStdout>,
    pub(crate) stderr: Output<ChildStderr>,
}

/// The lines of a stream, and those that were read.
pub(crate) struct Output<T> {
    lines: Lines<BufReader<T>>,
    pub(crate) seen: Vec<String>,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn fixtures(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures")).join(path)
}

pub(crate) fn command<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blockcast"));
    command.args(arguments).env_remove("RUST_LOG");
    piped(command)
}

/// Says to this process what it is told, and dies with it.
pub(crate) fn piped(mut command: Command) -> Command {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs the command to its end.
pub(crate) async fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ended {
    Run::start(command(arguments)).end().await
}

impl Run {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = Output::of(child.stdout.take().unwrap());
        let stderr = Output::of(child.stderr.take().unwrap());
        Self {
            child,
            stdout,
            stderr,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub(crate) async fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill")
            .args([signal, &pid])
            .status()
            .await
            .unwrap();
        assert!(sent.success());
    }

    /// Waits for the end.
    pub(crate) async fn end(mut self) -> Ended {
        let ended = async {
            let reading = async { tokio::join!(self.stdout.rest(), self.stderr.rest()) };
            let (status, _) = tokio::join!(self.child.wait(), reading);
            status.unwrap().code()
        };
        let code = timeout(DEADLINE, ended).await.expect("the run ends");
        Ended {
            code,
            stdout: self.stdout.seen.join("\n"),
            stderr: self.stderr.seen.join("\n"),
        }
    }
}

impl<T: AsyncRead + Unpin> Output<T> {
    fn of(stream: T) -> Self {
        Self {
            lines: BufReader::new(stream).lines(),
            seen: Vec::new(),
        }
    }

    /// Waits for a line with these words, and gives it.
    pub(crate) async fn line_with(&mut self, words: &str) -> String {
        let found = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                self.seen.push(line.clone());
                if line.contains(words) {
                    return Some(line);
                }
            }
            None
        };
        let found = timeout(DEADLINE, found).await.ok().flatten();
        found.unwrap_or_else(|| panic!("no line with {words:?}:\n{}", self.seen.join("\n")))
    }

    async fn rest(&mut self) {
        while let Some(line) = self.lines.next_line().await.unwrap() {
            self.seen.push(line);
        }
    }
}
