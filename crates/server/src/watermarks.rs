//! How far a topic may be read: raised by the driver, waited for by deliveries, never lowered.

use kontiki_wire::Offset;
use tokio::sync::watch;

/// One topic's watermark.
#[derive(Debug)]
pub(crate) struct Watermark {
    mark: watch::Sender<Mark>,
}

/// What is known of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    /// The end of what may be read; `None` until this process has heard it from the group, because
    /// what the disk knew before is only a lower bound.
    pub(crate) watermark: Option<Offset>,
    /// The topic was deleted: it will not rise any more.
    pub(crate) deleted: bool,
    /// The topic is not served here for now, and if it is again, it is with another watermark.
    pub(crate) closed: bool,
    /// This member leads the topic, and knows first how far it is committed.
    pub(crate) leads: bool,
}

impl Watermark {
    pub(crate) fn new() -> Self {
        let (mark, _) = watch::channel(Mark {
            watermark: None,
            deleted: false,
            closed: false,
            leads: false,
        });
        Self { mark }
    }

    /// Raises it.
    pub(crate) fn raise(&self, to: Offset) {
        self.mark.send_if_modified(|mark| {
            let before = mark.watermark.replace(to);
            assert!(before.is_none_or(|before| before <= to), "a watermark fell");
            before != Some(to)
        });
    }

    /// Tells those who wait that the topic is gone.
    pub(crate) fn delete(&self) {
        self.mark.send_modify(|mark| mark.deleted = true);
    }

    /// Tells those who wait that they are to go elsewhere.
    pub(crate) fn close(&self) {
        self.mark.send_modify(|mark| mark.closed = true);
    }

    /// Tells those who wait whether this member leads the topic.
    pub(crate) fn lead(&self, leads: bool) {
        self.mark
            .send_if_modified(|mark| std::mem::replace(&mut mark.leads, leads) != leads);
    }

    /// To wait for it.
    pub(crate) fn watch(&self) -> watch::Receiver<Mark> {
        self.mark.subscribe()
    }

    /// How many wait for it.
    pub(crate) fn watched(&self) -> usize {
        self.mark.receiver_count()
    }

    pub(crate) fn deleted(&self) -> bool {
        self.mark.borrow().deleted
    }

    pub(crate) fn known(&self) -> Option<Offset> {
        self.mark.borrow().watermark
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_woken_when_it_rises_and_only_then() {
        let watermark = Watermark::new();
        let mut seen = watermark.watch();
        watermark.raise(Offset(0));
        assert!(seen.has_changed().unwrap());
        seen.mark_unchanged();
        watermark.raise(Offset(0));
        assert!(!seen.has_changed().unwrap());
        watermark.raise(Offset(3));
        assert_eq!(seen.borrow_and_update().watermark, Some(Offset(3)));
    }

    #[test]
    #[should_panic(expected = "a watermark fell")]
    fn fall_is_a_bug() {
        let watermark = Watermark::new();
        watermark.raise(Offset(3));
        watermark.raise(Offset(2));
    }
}
