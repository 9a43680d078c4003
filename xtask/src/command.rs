// SPDX-License-Identifier: Apache-2.0
//! Child processes: cargo as the developer would call it.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::findings::say;

/// What `cargo run` sets for this program and cargo itself must not inherit: build scripts that
/// watch these variables (ring's does) would be run again on every change between `cargo xtask` and cargo.
const SET_BY_CARGO_RUN: &[&str] = &[
    "CARGO_BIN_NAME",
    "CARGO_CRATE_NAME",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_LINKS",
    "CARGO_MANIFEST_PATH",
    "CARGO_PRIMARY_PACKAGE",
    "OUT_DIR",
];

/// A cargo command line, run in the root of the workspace.
#[derive(Debug)]
pub(crate) struct Cargo {
    command: Command,
    shown: String,
    fix: Option<String>,
}

impl Cargo {
    pub(crate) fn new<S: AsRef<str>>(root: &Path, args: impl IntoIterator<Item = S>) -> Self {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(root);
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || SET_BY_CARGO_RUN.contains(&text.as_ref()) {
                command.env_remove(&name);
            }
        }
        let cargo = Self {
            command,
            shown: "cargo".to_owned(),
            fix: None,
        };
        cargo.args(args)
    }

    pub(crate) fn args<S: AsRef<str>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        for arg in args {
            self.command.arg(arg.as_ref());
            self.shown.push(' ');
            self.shown.push_str(arg.as_ref());
        }
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self.shown = format!("{name}='{value}' {}", self.shown);
        self
    }

    /// The command that a failure names as its remedy; without one it is this command itself.
    pub(crate) fn fix(mut self, fix: &str) -> Self {
        self.fix = Some(fix.to_owned());
        self
    }

    /// Runs it with the terminal's own streams.
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        say(format!("$ {}", self.shown));
        let status = self
            .command
            .status()
            .with_context(|| format!("cannot start `{}`", self.shown))?;
        if status.success() {
            return Ok(());
        }
        match self.fix {
            Some(fix) => bail!("`{}` failed ({status})\n  fix: {fix}", self.shown),
            None => bail!(
                "`{}` failed ({status})\n  fix: what is reported above, then repeat that command",
                self.shown
            ),
        }
    }

    /// Runs it and returns its standard output.
    pub(crate) fn output(mut self) -> anyhow::Result<String> {
        let output = self
            .command
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start `{}`", self.shown))?;
        if !output.status.success() {
            bail!(
                "`{}` failed ({})\n{}",
                self.shown,
                output.status,
                String::from_utf8_lossy(&output.stderr).trim_end()
            );
        }
        String::from_utf8(output.stdout)
            .with_context(|| format!("`{}` printed bytes that are not UTF-8", self.shown))
    }

    /// Runs it with the terminal's standard error, where it says what takes so long, and returns its
    /// standard output.
    pub(crate) fn standard_output(mut self) -> anyhow::Result<String> {
        self.command.stderr(Stdio::inherit());
        self.output()
    }

    /// Whether it starts and succeeds, in silence: how the presence of a cargo subcommand is asked for.
    pub(crate) fn succeeds(mut self) -> bool {
        self.command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_the_fix() {
        let error = Cargo::new(Path::new("."), ["no-such-subcommand"])
            .fix("install it")
            .run()
            .unwrap_err()
            .to_string();
        assert!(error.contains("cargo no-such-subcommand"), "{error}");
        assert!(error.ends_with("fix: install it"), "{error}");
    }

    #[test]
    fn variables_of_cargo_run_do_not_reach_cargo() {
        let cargo = Cargo::new(Path::new("."), ["version"]);
        let removed = cargo
            .command
            .get_envs()
            .filter(|(_, value)| value.is_none())
            .count();
        let inherited = env::vars()
            .filter(|(name, _)| name.starts_with("CARGO_PKG_"))
            .count();
        assert!(inherited > 0, "cargo sets them for its tests");
        assert!(removed >= inherited);
    }
}
