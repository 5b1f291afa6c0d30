//! Configurations that stand in segments: a start needs all of them, and reads nothing but their frames.

use kontiki_raft::{Index, Kind, Membership};
use kontiki_wire::GroupId;

use crate::{
    Error,
    disk::Disk,
    layout::{self, segment::ENTRY_BYTES},
    segment::read::Frames,
};

/// Bytes of one read: most configurations are smaller.
const READ_BYTES: usize = 1 << 10;

/// Reads the configurations of a segment at these places, all before `end`.
pub(crate) fn configs(
    disk: &dyn Disk,
    group: GroupId,
    segment: Index,
    places: &[(Index, u64)],
    end: u64,
) -> Result<Vec<(Index, Membership)>, Error> {
    let damaged = |at, what: &str| Error::Damaged {
        path: disk.full_path(&layout::segment_path(group, segment)),
        at,
        what: what.to_owned(),
    };
    let mut configs = Vec::with_capacity(places.len());
    for &(index, at) in places {
        let mut frames = Frames::new(
            disk,
            group,
            segment,
            (at, index),
            end,
            ENTRY_BYTES + READ_BYTES,
        )?;
        let found = frames.next()?;
        let found = found.filter(|found| found.header.kind == Kind::Config);
        let found = found.ok_or_else(|| damaged(at, "a configuration is not where it was"))?;
        frames.verify(&found)?;
        let config = Membership::decode(&found.body);
        let config = config.ok_or_else(|| damaged(at, "an entry is no configuration"))?;
        configs.push((index, config));
    }
    Ok(configs)
}
