//! Exit codes and the one failure that carries a sentence to `main`. What a script may rely on stands
//! in [`Exit::TABLE`]; the help text is made from it.

use std::{fmt, io};

/// How the program ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// Refused or failed.
    Failed = 1,
    /// The command line could not be understood.
    Usage = 2,
    /// No quorum or no leader within the deadline.
    NoQuorum = 3,
    /// The certificate does not permit it.
    NotPermitted = 4,
    /// The cluster is not healthy; `cluster status` only.
    Unhealthy = 10,
}

impl Exit {
    /// Every code and what it means.
    pub(crate) const TABLE: [(Self, &'static str); 6] = [
        (
            Self::Done,
            "done; an interrupted read or tail ends with it too",
        ),
        (
            Self::Failed,
            "refused or failed, with the reason on stderr; or damage was found (verify)",
        ),
        (Self::Usage, "the command line could not be understood"),
        (Self::NoQuorum, "no quorum or no leader within the deadline"),
        (
            Self::NotPermitted,
            "the certificate's role does not permit it",
        ),
        (
            Self::Unhealthy,
            "the cluster is not healthy (cluster status)",
        ),
    ];

    /// The number the shell sees.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    /// The table as a paragraph of help.
    pub(crate) fn help() -> String {
        let mut text = String::from("Exit codes:");
        for (exit, meaning) in Self::TABLE {
            text.push_str(&format!("\n  {:<3} {meaning}", exit.code()));
        }
        text
    }
}

/// Why a verb did not do what was asked: a sentence, what to do about it, and the code to end with.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    /// `None` when there is nobody left to tell: the reader of our output is gone.
    sentence: Option<String>,
    advice: Option<String>,
}

impl Failure {
    /// Refused or failed, for this reason.
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self {
            exit: Exit::Failed,
            sentence: Some(sentence.into()),
            advice: None,
        }
    }

    /// Asked in a way that makes no sense, for this reason.
    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self::new(sentence).exiting(Exit::Usage)
    }

    /// The reader of our output closed it, which is how `read | head` ends well.
    pub(crate) const fn reader_gone() -> Self {
        Self {
            exit: Exit::Done,
            sentence: None,
            advice: None,
        }
    }

    /// With another code.
    pub(crate) const fn exiting(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// With what to do about it, on a line of its own.
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// With the sentence put into a larger one.
    pub(crate) fn within(mut self, wrap: impl FnOnce(&str) -> String) -> Self {
        self.sentence = self.sentence.as_deref().map(wrap);
        self
    }

    /// The code to end with.
    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }

    /// Whether there is anything to say.
    pub(crate) const fn is_silent(&self) -> bool {
        self.sentence.is_none()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence.as_deref().unwrap_or_default())?;
        if let Some(advice) = &self.advice {
            write!(f, "\n  {advice}")?;
        }
        Ok(())
    }
}

/// Writing to stdout failed.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::reader_gone();
        }
        Self::new(format!("cannot write the output: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_documented_ones() {
        let codes: Vec<u8> = Exit::TABLE.iter().map(|(exit, _)| exit.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 10]);
        for (exit, meaning) in Exit::TABLE {
            assert!(Exit::help().contains(&format!("{:<3} {meaning}", exit.code())));
        }
    }

    #[test]
    fn a_reader_that_left_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure.exit(), Exit::Done);
        assert!(failure.is_silent());
        let failure = Failure::from(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(failure.exit(), Exit::Failed);
        assert!(!failure.is_silent());
    }

    #[test]
    fn advice_stands_on_a_line_of_its_own() {
        let failure = Failure::new("no such topic \"a\"").advise("create it");
        assert_eq!(failure.to_string(), "no such topic \"a\"\n  create it");
    }
}
