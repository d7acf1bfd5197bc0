//! The body of an answer, as the run gives it: pieces, and then an end, or none.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Bytes, HttpBody};
use axum::http::HeaderMap;
use hyper::body::Frame;
use tokio::sync::mpsc;

use crate::gateway::error::Error;

/// A part of an answer.
#[derive(Debug)]
pub enum Piece {
    /// Bytes of it.
    Bytes(Bytes),
    /// Its end, with what is said there.
    End(Option<HeaderMap>),
}

/// The body. Where its pieces end without an end, so does the connection.
#[derive(Debug)]
pub struct Answer {
    pieces: mpsc::Receiver<Piece>,
    is_over: bool,
    /// What came before was given the chance to be written.
    is_flushed: bool,
}

impl Answer {
    /// Of these pieces.
    pub fn new(pieces: mpsc::Receiver<Piece>) -> Answer {
        Answer {
            pieces,
            is_over: false,
            is_flushed: false,
        }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        match ready!(self.pieces.poll_recv(context)) {
            Some(Piece::Bytes(bytes)) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Some(Piece::End(trailers)) => {
                self.is_over = true;
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
            // hyper throws away what it has not written when a body fails: it writes when there is nothing to be had.
            None if !self.is_flushed => {
                self.is_flushed = true;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            None => {
                self.is_over = true;
                Poll::Ready(Some(Err(Error::Unavailable("the run broke off".into()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}
