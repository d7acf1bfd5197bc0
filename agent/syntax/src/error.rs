//! Why a line is refused: one sentence that says what to do, and the byte it is about.

/// Why a line is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What is wrong and what to do, in one sentence.
    pub message: String,
    /// Byte of the text it is about; the text's length where it ends too soon.
    pub offset: usize,
}

impl Error {
    pub(crate) fn at(offset: usize, message: impl Into<String>) -> Error {
        Error {
            message: message.into(),
            offset,
        }
    }
}
