//! What every replica holds in the end, read from its own store, byte by byte.

use kontiki_raft::{Index, Micros};
use kontiki_wire::{Batch, GroupId, Offset, entry_checksum};

use crate::{
    history::{Catalogue, Dump, Holder, Mark, Piece},
    member::{Host, Member},
    world::World,
};

/// Bytes read at a time.
const READ_BYTES: usize = 64 << 10;

impl World {
    /// Tells the history what all members hold.
    pub(crate) fn dump(&mut self) {
        self.history.settled = self.finding.is_none();
        let complete = self.history.settled;
        let at = self.time();
        let mut failure = None;
        for member in &self.members {
            let Some(host) = &member.host else { continue };
            let holder = Holder::Member(member.me.id.0);
            let topics = &host.broker.cluster().topics;
            let topics = topics.iter().map(|topic| (topic.name.clone(), topic.group));
            self.history.catalogues.push(Catalogue {
                holder,
                topics: topics.collect(),
            });
            for (group, kept) in &host.topics {
                let Some(end) = kept.watermark else { continue };
                match dump(member, host, *group, end, at) {
                    Ok(mut dump) => {
                        dump.complete = complete;
                        self.history.dumps.push(dump);
                    }
                    Err(why) => {
                        failure.get_or_insert_with(|| {
                            format!("{} cannot be read: {why}", member.name)
                        });
                    }
                }
            }
        }
        if let Some(failure) = failure {
            self.find(|| failure);
        }
    }
}

fn dump(
    member: &Member,
    host: &Host,
    group: GroupId,
    end: Offset,
    at: Micros,
) -> Result<Dump, String> {
    let mut dump = Dump {
        holder: Holder::Member(member.me.id.0),
        group,
        at,
        complete: false,
        first: 0,
        pieces: Vec::new(),
        marks: Vec::new(),
        state: None,
    };
    let state = host.broker.state(group);
    dump.state = state
        .as_ref()
        .map(|(at, bytes)| (*at, u64::from(entry_checksum(bytes))));
    let Some(log) = host.storage.log(group) else {
        return Ok(dump);
    };
    dump.first = log.first().0;
    let mut next = log.first();
    while next < end {
        let batches = log.read(next, end, READ_BYTES);
        let batches = batches.map_err(|error| error.to_string())?;
        for delivered in &batches {
            let batch = Batch::verify(delivered.batch.clone());
            let batch = batch.map_err(|malformed| malformed.to_string())?;
            let piece = Piece::of(delivered.offset.0, &batch);
            let piece = piece.map_err(|malformed| malformed.to_string())?;
            // Without this a log that gives the same again and again would be read for ever.
            if piece.end() <= next.0 {
                return Err(format!("at {next} it gives {} again", delivered.offset));
            }
            next = Offset(piece.end());
            dump.pieces.push(piece);
        }
        if batches.is_empty() {
            return Err(format!("nothing is at {next}, and the end is {end}"));
        }
    }
    let applied = state.map_or(Index(0), |(at, _)| at.index);
    let mut first = Index(1);
    while first <= applied {
        let entries = log.entries(first, applied, READ_BYTES as u64);
        let entries = entries.map_err(|error| error.to_string())?;
        for entry in &entries {
            if entry.id.index != first {
                return Err(format!("at entry {first} it gives {}", entry.id));
            }
            if entry_checksum(&entry.body) != entry.checksum {
                return Err(format!(
                    "entry {} has other bytes than its checksum",
                    entry.id
                ));
            }
            dump.marks.push(Mark {
                id: entry.id,
                checksum: entry.checksum,
            });
            first = entry.id.index.next();
        }
        if entries.is_empty() {
            return Err(format!("entry {first} is not there"));
        }
    }
    Ok(dump)
}
