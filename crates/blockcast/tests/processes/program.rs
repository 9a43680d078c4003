// SPDX-License-Identifier: Apache-2.0
//! A process of the cluster, what it says, and its end.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStderr, Command},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

/// A process that was told to end does so within this time.
const TO_END: Duration = Duration::from_secs(20);

/// So much of a log is shown when something is wrong.
const SHOWN: usize = 40;

/// A program in its namespace, which is started again and again.
pub(crate) struct Program {
    pub(crate) name: String,
    namespace: String,
    arguments: Vec<String>,
    log: PathBuf,
    seen: watch::Sender<Seen>,
    running: Option<Running>,
}

/// What a node said.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    /// The newest block that it called stored, in this run or an earlier one.
    pub(crate) stored: Option<u64>,
    /// The newest block that it called stored before this run.
    pub(crate) acknowledged: Option<u64>,
    /// The height that it found in its store in this run.
    pub(crate) opened: Option<u64>,
}

struct Running {
    child: Child,
    reading: JoinSet<()>,
}

impl Program {
    pub(crate) fn start(
        name: String,
        namespace: String,
        arguments: Vec<String>,
        log: PathBuf,
    ) -> Self {
        let mut program = Self {
            name,
            namespace,
            arguments,
            log,
            seen: watch::Sender::default(),
            running: None,
        };
        program.run();
        program
    }

    /// What it said so far.
    pub(crate) fn seen(&self) -> watch::Receiver<Seen> {
        self.seen.subscribe()
    }

    /// Kills it and starts it again, once all that it said was heard.
    pub(crate) async fn kill(&mut self) {
        let running = self.running.as_mut().unwrap();
        if let Some(status) = running.child.try_wait().unwrap() {
            panic!(
                "{} ended by itself, with {status}:\n{}",
                self.name,
                self.last_words()
            );
        }
        running.child.start_kill().unwrap();
        self.ended().await;
        self.run();
    }

    /// Tells it to end, and sees to it that it ends well.
    pub(crate) async fn stop(&mut self) {
        let pid = self.running.as_ref().unwrap().child.id();
        let pid = pid.unwrap_or_else(|| panic!("{} ended:\n{}", self.name, self.last_words()));
        let sent = Command::new("kill")
            .args(["-TERM", &pid.to_string()])
            .status()
            .await
            .unwrap();
        assert!(sent.success());
        let status = self.ended().await;
        assert!(
            status.success(),
            "{}: {status}\n{}",
            self.name,
            self.last_words()
        );
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| !line.contains("block stored "))
            .collect();
        lines[lines.len().saturating_sub(SHOWN)..].join("\n")
    }

    fn run(&mut self) {
        let mut child = Command::new("ip")
            .args([
                "netns",
                "exec",
                &self.namespace,
                env!("CARGO_BIN_EXE_blockcast"),
            ])
            .args(&self.arguments)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        self.seen.send_modify(|seen| {
            seen.opened = None;
            seen.acknowledged = seen.stored;
        });
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let mut reading = JoinSet::new();
        reading.spawn(read(self.name.clone(), stderr, log, self.seen.clone()));
        self.running = Some(Running { child, reading });
    }

    /// Waits for the end of the process and of its log, and looks at what it found in its store.
    async fn ended(&mut self) -> ExitStatus {
        let Running {
            mut child,
            mut reading,
        } = self.running.take().unwrap();
        let status = timeout(TO_END, child.wait()).await;
        let status = status
            .unwrap_or_else(|_| panic!("{} does not end", self.name))
            .unwrap();
        if let Some(ended) = reading.join_next().await {
            ended.unwrap();
        }
        status
    }
}

/// Reads a log to its end. What a run finds in the store must have every block that an earlier run
/// called stored.
async fn read(name: String, log: ChildStderr, mut copy: File, seen: watch::Sender<Seen>) {
    let mut lines = BufReader::new(log).lines();
    // A line that was cut off by the end of the process is no error.
    while let Ok(Some(line)) = lines.next_line().await {
        let _ = writeln!(copy, "{line}");
        if line.contains("block stored ") {
            let number = number_after(&line, "block.number=");
            seen.send_modify(|seen| seen.stored = seen.stored.max(number));
        } else if line.contains("block store opened") {
            let opened = number_after(&line, " height=");
            let acknowledged = seen.borrow().acknowledged;
            assert!(
                opened > acknowledged,
                "{name} called block {acknowledged:?} stored, and comes back with a height of {opened:?}"
            );
            seen.send_modify(|seen| seen.opened = opened);
        }
    }
}

fn number_after(line: &str, key: &str) -> Option<u64> {
    let value = line.split(key).nth(1)?;
    value
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}
