//! A follower as a stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::error::Result;
use crate::log_order::LogItem;
use crate::sync::EventListener;

use super::Follow;

/// A [`Follow`] for asynchronous code: the same items, and the task sleeps until the next one is there.
#[derive(Debug)]
pub struct FollowStream {
    follow: Follow,
    listener: Option<EventListener>,
}

impl FollowStream {
    pub(super) fn new(follow: Follow) -> Self {
        FollowStream { follow, listener: None }
    }
}

impl Stream for FollowStream {
    type Item = Result<LogItem>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(listener) = &mut self.listener {
                if Pin::new(listener).poll(context).is_pending() {
                    return Poll::Pending;
                }
                self.listener = None;
            }
            if let Some(item) = self.follow.try_next().transpose() {
                return Poll::Ready(Some(item));
            }
            if self.follow.is_over {
                return Poll::Ready(None);
            }
            // Listening first and looking once more: nothing that comes in between is missed.
            let listener = self.follow.view.moved.listen();
            if let Some(item) = self.follow.try_next().transpose() {
                return Poll::Ready(Some(item));
            }
            if self.follow.is_over {
                return Poll::Ready(None);
            }
            self.listener = Some(listener);
        }
    }
}
