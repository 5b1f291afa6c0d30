//! What was wrong with a text.

use thiserror::Error;

/// A text that is not what it was read as. It says what would have been, for whoever wrote it.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{0}")]
pub struct ParseError(String);

impl ParseError {
    /// With a sentence for whoever wrote the text.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

/// Where only the sentence is handed on.
impl From<ParseError> for String {
    fn from(error: ParseError) -> Self {
        error.0
    }
}
