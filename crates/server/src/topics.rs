//! The topics this member keeps, as sessions and deliveries see them.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, RwLock},
};

use kontiki_storage::{Log, Storage};
use kontiki_wire::{GroupId, Offset, Topic, TopicName};
use tokio::sync::watch;

use crate::{
    recent::{KeptBytes, Recent},
    watermarks::Watermark,
};

/// All of them. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Topics {
    kept: Arc<RwLock<Kept>>,
    changes: Arc<watch::Sender<()>>,
    /// What they keep of their latest deliveries.
    deliveries: KeptBytes,
}

#[derive(Debug, Default)]
struct Kept {
    by_name: HashMap<TopicName, Arc<KeptTopic>>,
    by_group: HashMap<GroupId, Arc<KeptTopic>>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct KeptTopic {
    pub(crate) name: TopicName,
    pub(crate) group: GroupId,
    pub(crate) watermark: Watermark,
    pub(crate) recent: Recent,
    storage: Storage,
    log: OnceLock<Log>,
}

impl Topics {
    pub(crate) fn new() -> Self {
        Self {
            kept: Arc::default(),
            changes: Arc::new(watch::channel(()).0),
            deliveries: KeptBytes::default(),
        }
    }

    /// Adds one; nothing happens if it is there.
    pub(crate) fn add(&self, topic: &Topic, storage: &Storage) {
        let mut kept = self.kept.write().expect(SOUND);
        if kept.by_group.contains_key(&topic.group) {
            return;
        }
        let added = Arc::new(KeptTopic {
            name: topic.name.clone(),
            group: topic.group,
            watermark: Watermark::new(),
            recent: Recent::new(self.deliveries.clone()),
            storage: storage.clone(),
            log: OnceLock::new(),
        });
        kept.by_name.insert(topic.name.clone(), added.clone());
        kept.by_group.insert(topic.group, added);
        drop(kept);
        self.changes.send_replace(());
    }

    /// Removes one and tells its subscriptions.
    pub(crate) fn remove(&self, group: GroupId) {
        if let Some(removed) = self.take(group) {
            removed.watermark.delete();
        }
    }

    /// Takes one away for now and tells its subscriptions to go on elsewhere.
    pub(crate) fn close(&self, group: GroupId) {
        if let Some(closed) = self.take(group) {
            closed.watermark.close();
        }
    }

    fn take(&self, group: GroupId) -> Option<Arc<KeptTopic>> {
        let mut kept = self.kept.write().expect(SOUND);
        let removed = kept.by_group.remove(&group)?;
        // A later topic may already bear the name.
        if kept
            .by_name
            .get(&removed.name)
            .is_some_and(|topic| topic.group == group)
        {
            kept.by_name.remove(&removed.name);
        }
        drop(kept);
        Some(removed)
    }

    /// Raises the watermark of a topic, if the group is a topic's.
    pub(crate) fn raise(&self, group: GroupId, to: Offset) {
        if let Some(topic) = self.kept.read().expect(SOUND).by_group.get(&group) {
            topic.watermark.raise(to);
        }
    }

    /// Whether this member leads it.
    pub(crate) fn lead(&self, group: GroupId, leads: bool) {
        if let Some(topic) = self.kept.read().expect(SOUND).by_group.get(&group) {
            topic.watermark.lead(leads);
        }
    }

    pub(crate) fn find(&self, name: &TopicName) -> Option<Arc<KeptTopic>> {
        self.kept.read().expect(SOUND).by_name.get(name).cloned()
    }

    pub(crate) fn name(&self, group: GroupId) -> Option<TopicName> {
        let kept = self.kept.read().expect(SOUND);
        kept.by_group.get(&group).map(|topic| topic.name.clone())
    }

    /// Waits until this member keeps a topic of that name.
    pub(crate) async fn made(&self, name: &TopicName) -> Arc<KeptTopic> {
        let mut changes = self.changes.subscribe();
        loop {
            if let Some(topic) = self.find(name) {
                return topic;
            }
            changes.changed().await.expect("the sender is in self");
        }
    }
}

impl KeptTopic {
    /// Its log, once the disk has anything of it.
    pub(crate) fn log(&self) -> Option<&Log> {
        if self.log.get().is_none() {
            let log = self.storage.log(self.group)?;
            // Whoever was first has put in an equal one.
            let _ = self.log.set(log);
        }
        self.log.get()
    }
}

const SOUND: &str = "nothing panics while holding it";
