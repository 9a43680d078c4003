// SPDX-License-Identifier: Apache-2.0
//! How a command ends, and what its user is told.

use std::{error::Error, fmt, process::ExitCode};

/// The exit codes, as `--help` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Success,
    Failed,
    Defect,
    Config,
    Interrupted,
}

/// Why a command failed: a line that names the thing and the reason, causes that the line does not
/// tell, and where there is one a way out.
#[derive(Debug)]
pub(crate) struct CommandError {
    exit: Exit,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl CommandError {
    /// A failure in words.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Failed,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
        }
    }

    /// A configuration, or a file that it names, does not serve.
    pub(crate) fn config(error: impl Error) -> Self {
        Self {
            exit: Exit::Config,
            ..Self::of(&error)
        }
    }

    /// The user stopped it.
    pub(crate) fn interrupted() -> Self {
        Self {
            exit: Exit::Interrupted,
            ..Self::new("interrupted")
        }
    }

    /// The same error with what to do about it.
    #[must_use]
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// The same error, with what was being done before it.
    #[must_use]
    pub(crate) fn during(self, what: impl fmt::Display) -> Self {
        Self {
            message: format!("{what}: {}", self.message),
            ..self
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    fn of(error: &dyn Error) -> Self {
        let mut this = Self::new(one_line(&error.to_string()));
        let mut source = error.source();
        while let Some(cause) = source {
            let text = one_line(&cause.to_string());
            // Most messages tell their cause themselves.
            let told = this.causes.last().unwrap_or(&this.message).contains(&text);
            if !told {
                this.causes.push(text);
            }
            source = cause.source();
        }
        this
    }
}

/// Whatever went wrong while a command ran, without further words.
impl<E: Error> From<E> for CommandError {
    fn from(error: E) -> Self {
        Self::of(&error)
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        for cause in &self.causes {
            write!(f, "\n  because: {cause}")?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0,
            Exit::Failed => 1,
            Exit::Defect => 70,
            Exit::Config => 78,
            Exit::Interrupted => 130,
        })
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Self>>,
    }

    fn layers(texts: &[&'static str]) -> Layer {
        let (text, rest) = texts.split_first().unwrap();
        Layer {
            text,
            source: (!rest.is_empty()).then(|| Box::new(layers(rest))),
        }
    }

    #[test]
    fn causes_are_told_once_each_in_a_line_of_its_own() {
        let error = CommandError::from(layers(&["a is\nwrong: no b", "no b", "c is shut"]));
        assert_eq!(
            error.to_string(),
            "error: a is wrong: no b\n  because: c is shut"
        );
        let error = CommandError::new("x").during("doing y").hint("do z");
        assert_eq!(error.to_string(), "error: doing y: x\nhint: do z");
        assert_eq!(CommandError::config(layers(&["k"])).exit(), Exit::Config);
    }
}
