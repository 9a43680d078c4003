// SPDX-License-Identifier: Apache-2.0
//! A part of a benchmark as a process of its own: the benchmark's binary in another role, and what
//! the system tells of it.
//!
//! The two talk in lines over the child's standard input and output. A child ends when its standard
//! input does, so that none outlives its benchmark.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt, fs,
    process::Stdio,
    str::{FromStr, SplitWhitespace},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Stdin},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// How long a child may take to end.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// Ticks of `/proc/<pid>/stat` in a second, on every Linux there is.
const TICKS_PER_S: f64 = 100.0;

/// What a child says on its standard output, line by line.
pub type Lines = tokio::io::Lines<BufReader<ChildStdout>>;

/// What this process is for, if it is the child of a benchmark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// The part that it plays.
    pub name: String,
    /// What else it was told.
    pub arguments: Vec<String>,
}

/// A child of the benchmark, killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    orders: ChildStdin,
}

/// What a child is told, line by line.
#[derive(Debug)]
pub struct Orders(tokio::io::Lines<BufReader<Stdin>>);

/// What a process has used of the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// The time that it has had of a core, its own and the system's for it, in seconds.
    pub cpu_s: f64,
    /// The most memory that was resident at a time, in bytes.
    pub peak_bytes: u64,
}

/// The words of a line that a child said, from left to right.
#[derive(Debug)]
pub struct Words<'a> {
    line: &'a str,
    rest: SplitWhitespace<'a>,
}

impl Role {
    /// The first argument of a child; its role follows.
    pub const FIRST: &str = "as";

    /// The role of this process; none if it is the benchmark itself.
    pub fn of_this_process() -> Option<Self> {
        Self::of(env::args().skip(1))
    }

    fn of(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        (arguments.next()? == Self::FIRST).then_some(())?;
        Some(Self {
            name: arguments.next()?,
            arguments: arguments.collect(),
        })
    }

    /// What it was told in this place, parsed.
    ///
    /// # Errors
    ///
    /// When there is no such argument, or it means nothing.
    pub fn argument<T>(&self, index: usize) -> Result<T>
    where
        T: FromStr,
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        let unclear = || format!("argument {index} of the role {}", self.name);
        let argument = self.arguments.get(index).with_context(unclear)?;
        argument.parse().with_context(unclear)
    }
}

impl Process {
    /// Starts this binary in a role, and gives what it says beside it.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start<A: AsRef<OsStr>>(
        role: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<(Self, Lines)> {
        let arguments = arguments.into_iter().map(|one| one.as_ref().to_owned());
        let role = [Role::FIRST, role].map(OsString::from);
        let mut child = Command::new(env::current_exe()?)
            .args(role.into_iter().chain(arguments))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a child of the benchmark")?;
        let orders = child.stdin.take().context("the input of a child")?;
        let stdout = child.stdout.take().context("the output of a child")?;
        Ok((Self { child, orders }, BufReader::new(stdout).lines()))
    }

    /// Tells it something.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub async fn order(&mut self, line: &str) -> Result<()> {
        let line = format!("{line}\n");
        Ok(self.orders.write_all(line.as_bytes()).await?)
    }

    /// Its number in the system.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn pid(&self) -> Result<u32> {
        self.child.id().context("a child of the benchmark ended")
    }

    /// What it has used so far.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.pid()?)
    }

    /// The memory that is resident, in bytes.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn resident_bytes(&self) -> Result<u64> {
        memory(&self.pid()?.to_string(), "VmRSS:")
    }

    /// Begins anew to look for the most memory.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn forget_peak(&self) -> Result<()> {
        // What the kernel takes for that.
        const RESET_PEAK: &str = "5";
        let file = format!("/proc/{}/clear_refs", self.pid()?);
        Ok(fs::write(file, RESET_PEAK)?)
    }

    /// Kills it, as `kill -9` does.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Ends it, by the end of its standard input.
    ///
    /// # Errors
    ///
    /// When it does not end in time.
    pub async fn stop(self) -> Result<()> {
        let Self { mut child, orders } = self;
        drop(orders);
        let ended = timeout(ENDS_WITHIN, child.wait()).await;
        let status = ended.context("a child of the benchmark does not end")??;
        anyhow::ensure!(
            status.success(),
            "a child of the benchmark failed: {status}"
        );
        Ok(())
    }
}

impl Default for Orders {
    fn default() -> Self {
        Self(BufReader::new(tokio::io::stdin()).lines())
    }
}

impl Orders {
    /// The next one; none when the benchmark has no more.
    ///
    /// # Errors
    ///
    /// When standard input cannot be read.
    pub async fn next(&mut self) -> Result<Option<String>> {
        Ok(self.0.next_line().await?)
    }

    /// Waits until the benchmark has no more.
    ///
    /// # Errors
    ///
    /// When standard input cannot be read.
    pub async fn end(mut self) -> Result<()> {
        while self.next().await?.is_some() {}
        Ok(())
    }
}

impl Usage {
    /// What this process itself has used so far.
    ///
    /// # Errors
    ///
    /// Where there is no `/proc`.
    pub fn own() -> Result<Self> {
        usage("self")
    }

    /// What the process with this number has used so far.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn of(pid: u32) -> Result<Self> {
        usage(&pid.to_string())
    }
}

impl<'a> Words<'a> {
    /// Those of this line.
    pub fn of(line: &'a str) -> Self {
        let rest = line.split_whitespace();
        Self { line, rest }
    }

    /// The next one, parsed.
    ///
    /// # Errors
    ///
    /// When there is none, or it means nothing.
    pub fn take<T>(&mut self) -> Result<T>
    where
        T: FromStr,
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        let unclear = || format!("a child of the benchmark said {:?}", self.line);
        let word = self.rest.next().with_context(unclear)?;
        word.parse().with_context(unclear)
    }
}

/// What a child says next.
///
/// # Errors
///
/// When it has ended, or says nothing for so long.
pub async fn said(lines: &mut Lines, within: Duration) -> Result<String> {
    let line = timeout(within, lines.next_line()).await;
    let silent = || format!("a child of the benchmark said nothing for {within:?}");
    let line = line.with_context(silent)??;
    line.context("a child of the benchmark ended before it said what was waited for")
}

/// Tells the benchmark something, as a child.
#[expect(
    clippy::print_stdout,
    reason = "a child tells its benchmark how far it is"
)]
pub fn tell(line: impl fmt::Display) {
    println!("{line}");
}

fn usage(pid: &str) -> Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in brackets, may have spaces in it.
    let name = "the name in /proc/<pid>/stat";
    let (_, fields) = stat.rsplit_once(')').context(name)?;
    let ticks = |index| -> Result<f64> {
        let field = fields.split_whitespace().nth(index);
        Ok(field.context("a field of /proc/<pid>/stat")?.parse()?)
    };
    Ok(Usage {
        cpu_s: (ticks(11)? + ticks(12)?) / TICKS_PER_S,
        peak_bytes: memory(pid, "VmHWM:")?,
    })
}

/// A line of `/proc/<pid>/status`, in bytes.
fn memory(pid: &str, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next());
    let missing = || format!("{name} in /proc/<pid>/status");
    let kib: u64 = kib.with_context(missing)?.parse()?;
    Ok(kib * 1024)
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    fn role(arguments: &[&str]) -> Option<Role> {
        Role::of(arguments.iter().map(|&argument| argument.to_owned()))
    }

    #[test]
    fn a_role_comes_first_or_there_is_none() {
        for none in [&[][..], &["--bench"], &["--bench", "as", "node"], &["as"]] {
            assert_eq!(role(none), None, "{none:?}");
        }
        let role = role(&["as", "node", "7", "x"]).unwrap();
        assert_eq!(role.name, "node");
        assert_eq!(role.argument::<u8>(0).unwrap(), 7);
        let error = role.argument::<u8>(1).unwrap_err().to_string();
        assert_eq!(error, "argument 1 of the role node");
        assert!(role.argument::<u8>(2).is_err());
    }

    #[test]
    fn words_are_taken_in_their_order_and_none_is_made_up() {
        let mut words = Words::of(" 7  x 8\n");
        assert_eq!(words.take::<u8>().unwrap(), 7);
        let error = words.take::<u8>().unwrap_err().to_string();
        assert_eq!(error, "a child of the benchmark said \" 7  x 8\\n\"");
        assert_eq!(words.take::<u64>().unwrap(), 8);
        assert!(words.take::<u64>().is_err(), "there are no more");
    }

    #[test]
    fn the_system_tells_what_a_process_has_used() {
        let held = vec![1u8; 32 << 20];
        let before = Usage::own().unwrap();
        assert!(before.peak_bytes > held.len() as u64, "{before:?}");
        // Work until the clock of the process has gone on: other tests are in the process, too, but it
        // does without them.
        let mut after = before;
        while after.cpu_s <= before.cpu_s {
            black_box(held.iter().fold(0, |sum, byte| sum + u64::from(*byte)));
            after = Usage::own().unwrap();
        }
    }
}
