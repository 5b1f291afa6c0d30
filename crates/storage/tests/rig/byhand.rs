//! A storage on a disk in memory, driven step by step beside a plain model of what it must hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use kontiki_broker::{GroupWrite, Placed, Writes};
use kontiki_raft::{Entry, Hard, Index, LogId, Persist};
use kontiki_storage::{
    Error, Event, Hands, Recovered, RecoveredGroup, Settings, SimDisk, Storage, Unsynced,
};
use kontiki_wire::{GroupId, Offset, PlacedEntry};

use super::{append, config_of, place};

/// One group as it must be.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct GroupModel {
    pub(crate) hard: Hard,
    pub(crate) entries: Vec<Entry>,
}

impl GroupModel {
    /// An entry as a peer would have it.
    pub(crate) fn placed(&self, index: u64) -> PlacedEntry {
        PlacedEntry {
            entry: self.entries[index as usize - 1].clone(),
            offset: Offset(offset(index)),
            count: records(index),
        }
    }
}

/// All groups after some writes.
pub(crate) type State = BTreeMap<GroupId, GroupModel>;

/// What was done and what must be there.
#[derive(Clone, Default)]
pub(crate) struct Model {
    /// The state after each write that was handed over; the first is the state at the start.
    pub(crate) states: Vec<State>,
    /// Entries placed, of each group.
    pub(crate) placed: BTreeMap<GroupId, u64>,
    pub(crate) removed: BTreeSet<GroupId>,
}

impl Model {
    pub(crate) fn now(&self) -> &State {
        self.states.last().unwrap()
    }
}

/// Records of an entry, as a broker would count them: some have none, as it is with configurations.
pub(crate) fn records(index: u64) -> u32 {
    [2, 1, 0, 3][(index % 4) as usize]
}

/// The offset of an entry's first record.
pub(crate) fn offset(index: u64) -> u64 {
    (1..index).map(|before| u64::from(records(before))).sum()
}

pub(crate) struct ByHand {
    pub(crate) disk: SimDisk,
    pub(crate) storage: Storage,
    pub(crate) hands: Hands,
    pub(crate) model: Model,
    pub(crate) settings: Settings,
    events: Arc<Mutex<Vec<Event>>>,
    /// Writes up to this one are durable.
    pub(crate) durable: usize,
    pub(crate) failed: Option<Error>,
    /// What else storage has said.
    pub(crate) said: Vec<Event>,
}

impl ByHand {
    pub(crate) fn new(disk: SimDisk, settings: Settings) -> (Self, Recovered) {
        Self::try_new(disk, settings).unwrap()
    }

    pub(crate) fn try_new(disk: SimDisk, settings: Settings) -> Result<(Self, Recovered), Error> {
        let events = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&events);
        let (storage, hands, recovered) = Storage::open_by_hand(
            Arc::new(disk.clone()),
            settings.clone(),
            Arc::new(move |event| told.lock().unwrap().push(event)),
        )?;
        let mut model = Model::default();
        model.states.push(State::new());
        let by_hand = Self {
            disk,
            storage,
            hands,
            model,
            settings,
            events,
            durable: 0,
            failed: None,
            said: Vec::new(),
        };
        Ok((by_hand, recovered))
    }

    /// Hands over a write; it is not durable yet.
    pub(crate) fn queue(&mut self, writes: Vec<(GroupId, Persist)>) {
        let mut state = self.model.now().clone();
        for (group, persist) in &writes {
            let group = state.entry(*group).or_default();
            group.hard = persist.hard.unwrap_or(group.hard);
            if let Some(from) = persist.truncate_from {
                group.entries.truncate(from.0 as usize - 1);
            }
            group.entries.extend(persist.append.iter().cloned());
        }
        self.model.states.push(state);
        let write = |(group, persist)| GroupWrite { group, persist };
        self.storage.persist(Writes {
            seq: self.model.states.len() as u64 - 1,
            writes: writes.into_iter().map(write).collect(),
        });
    }

    /// Appends to one group, durably.
    pub(crate) fn write(&mut self, group: GroupId, entries: Vec<Entry>) {
        self.queue(vec![(group, append(entries))]);
        self.hands.write();
        self.listen();
    }

    /// Takes in what storage has said.
    pub(crate) fn listen(&mut self) {
        for event in std::mem::take(&mut *self.events.lock().unwrap()) {
            assert!(self.failed.is_none(), "{event:?} after a failure");
            match event {
                Event::Persisted { upto } => self.durable = upto as usize,
                Event::Failed(error) => self.failed = Some(error),
                other => self.said.push(other),
            }
        }
    }

    /// Places entries up to `last`.
    pub(crate) fn place(&mut self, group: GroupId, last: u64) {
        let placed = self.model.placed.entry(group).or_default();
        let new = *placed + 1..=last;
        *placed = last.max(*placed);
        let placed: Vec<Placed> = new
            .map(|index| place(index, offset(index), records(index)))
            .collect();
        self.storage.applied(group, &placed);
    }

    /// Ends this process with a power cut and starts the next one; `keep` chooses what of the unsynced
    /// survives. Checks that what is found is what some prefix of the writes left behind, and that no
    /// durable one is missing.
    pub(crate) fn crash(&mut self, keep: impl FnMut(Unsynced<'_>) -> bool) -> Recovered {
        let disk = self.disk.after_crash(keep);
        self.listen();
        self.restart(disk)
    }

    /// The same with what is on `disk`.
    pub(crate) fn restart(&mut self, disk: SimDisk) -> Recovered {
        let (mut next, recovered) = Self::new(disk, self.settings.clone());
        assert_eq!(recovered.damage, Vec::<String>::new());
        let found = next.found(&recovered);
        let survived = self.model.states[self.durable..].iter().rposition(|state| {
            kept(state, &self.model.removed) == kept(&found, &self.model.removed)
        });
        assert!(
            survived.is_some(),
            "{found:#?}\nis none of\n{:#?}",
            &self.model.states[self.durable..]
        );
        for (&group, &placed) in &self.model.placed {
            if let Some(model) = found.get(&group) {
                let placed = placed.min(model.entries.len() as u64);
                next.model.placed.insert(group, 0);
                next.place(group, placed);
                next.read_everything(group, model, placed);
            }
        }
        next.model.states = vec![found];
        next.model.removed = self.model.removed.clone();
        *self = next;
        recovered
    }

    /// What was found, put together as a host would.
    pub(crate) fn found(&self, recovered: &Recovered) -> State {
        self.try_found(recovered).unwrap()
    }

    /// The same; fails if damage is found while it is read.
    pub(crate) fn try_found(&self, recovered: &Recovered) -> Result<State, Error> {
        let mut state = State::new();
        for group in &recovered.groups {
            state.insert(group.group, self.try_read(group)?);
        }
        Ok(state)
    }

    /// One group, read entry by entry.
    pub(crate) fn try_read(&self, group: &RecoveredGroup) -> Result<GroupModel, Error> {
        let log = self.storage.log(group.group).unwrap();
        let mut entries = Vec::new();
        while (entries.len() as u64) < group.last.0 {
            let first = Index(entries.len() as u64 + 1);
            entries.extend(log.entries(first, group.last, 700)?);
        }
        let after = group
            .checkpoint
            .as_ref()
            .map_or(0, |(at, _)| at.index.0 as usize);
        assert_eq!(
            entries[after.saturating_sub(1)..],
            group.tail,
            "the tail begins with the checkpoint's last entry"
        );
        let before = &entries[..entries.len() - group.tail.len()];
        let configs: BTreeMap<_, _> = before.iter().filter_map(config_of).collect();
        assert_eq!(
            configs, group.configs,
            "every configuration before the tail"
        );
        if let Some((at, state)) = &group.checkpoint {
            assert_eq!(
                *state,
                state_at(*at),
                "the checkpoint is the one that was given"
            );
            assert_eq!(entries[after - 1].id, *at);
        }
        let terms = terms(&entries);
        assert_eq!(terms, group.terms);
        assert!(group.commit <= group.last);
        Ok(GroupModel {
            hard: group.hard,
            entries,
        })
    }

    /// Reads all records of a group that are placed, and all its entries.
    pub(crate) fn read_group(&self, group: GroupId) {
        let model = &self.model.now()[&group];
        let placed = self.model.placed.get(&group).copied().unwrap_or_default();
        self.read_everything(group, model, placed);
        let log = self.storage.log(group).unwrap();
        let mut read = Vec::new();
        while read.len() < model.entries.len() {
            let first = Index(read.len() as u64 + 1);
            read.extend(log.entries(first, Index(u64::MAX), 900).unwrap());
        }
        assert_eq!(read, model.entries);
    }

    fn read_everything(&self, group: GroupId, model: &GroupModel, placed: u64) {
        let log = self.storage.log(group).unwrap();
        let end = offset(placed + 1);
        let mut next = 0;
        while next < end {
            for batch in log.read(Offset(next), Offset(end), 500).unwrap() {
                assert_eq!(batch.offset.0, next);
                let index = (1..=placed)
                    .find(|&i| offset(i) == next && records(i) > 0)
                    .unwrap();
                assert_eq!(batch.batch, model.entries[index as usize - 1].body);
                next += u64::from(records(index));
            }
        }
    }

    /// Gives what is missing of a group, as a peer that has all of it would, until nothing is; what the
    /// group is then.
    pub(crate) fn mend(
        &mut self,
        group: GroupId,
        truth: &GroupModel,
        mut missing: Vec<(Index, Index)>,
    ) -> RecoveredGroup {
        assert!(!missing.is_empty(), "there is something to mend");
        for _ in 0..100 {
            let (first, last) = missing[0];
            let entries = (first.0..=last.0)
                .map(|index| truth.placed(index))
                .collect();
            self.storage.mend(group, entries);
            self.hands.work();
            self.listen();
            assert!(self.failed.is_none(), "{:?}", self.failed);
            match self.said.pop().unwrap() {
                Event::Mended(recovered) => {
                    assert_eq!(recovered.group, group);
                    assert_eq!(recovered.missing, []);
                    return *recovered;
                }
                Event::Mending { missing: left, .. } => missing = left,
                other => panic!("{other:?}"),
            }
        }
        panic!("{missing:?} stay missing");
    }

    pub(crate) fn checkpoint(&self, group: GroupId, at: LogId) {
        self.storage.checkpoint(group, at, state_at(at));
    }
}

/// The checkpoint that a test gives for a position.
pub(crate) fn state_at(at: LogId) -> Bytes {
    Bytes::from(format!("state at {at}"))
}

fn terms(entries: &[Entry]) -> Vec<(Index, kontiki_raft::Term)> {
    let mut terms = Vec::new();
    for entry in entries {
        if terms.last().is_none_or(|&(_, term)| term != entry.id.term) {
            terms.push((entry.id.index, entry.id.term));
        }
    }
    terms
}

/// The groups that were not removed and have anything.
fn kept(state: &State, removed: &BTreeSet<GroupId>) -> State {
    let mut state = state.clone();
    state.retain(|id, group| !removed.contains(id) && *group != GroupModel::default());
    state
}
