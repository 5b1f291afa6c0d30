//! One group's segments, one after the other, and whether the journal goes on where they end.

use std::path::{Path, PathBuf};

use kontiki_raft::Index;
use kontiki_wire::GroupId;

use crate::{
    Error,
    disk::Disk,
    journal::ReplayedGroup,
    layout,
    verify::{
        finding::{Finding, Outlook, Verified, VerifiedGroup},
        frames::{Chain, Place, is_plausible, outlook, segment},
    },
};

/// Goes through all segments of a group that the journal knows as `known`.
pub(crate) fn group(
    disk: &dyn Disk,
    id: GroupId,
    known: &ReplayedGroup,
    out: &mut Verified,
) -> Result<(), Error> {
    let dir = layout::group_dir(id);
    let names = disk.list(&dir)?;
    leftovers(disk, &dir, id, &names, out);
    let firsts: Vec<Index> = names
        .iter()
        .filter_map(|name| layout::segment_first(name))
        .filter(|&first| is_plausible(first))
        .collect();
    let mut chain = Chain {
        next: known.base.index.next(),
        term: known.base.term,
        offset: Some(known.base_offset),
    };
    let mut tally = VerifiedGroup {
        group: id,
        segments: 0,
        entries: 0,
        bytes: 0,
        last: known.last,
    };
    for (at, &first) in firsts.iter().enumerate() {
        let place = Place {
            group: id,
            first,
            after: firsts.get(at + 1).copied(),
        };
        let path = disk.full_path(&layout::segment_path(id, first));
        begins(&path, place, known, &mut chain, out);
        let walked = segment(disk, place, known, &mut chain, out, &mut tally);
        unreadable(walked, &path, place, &mut chain, known, out)?;
    }
    ends(&disk.full_path(&dir), id, known, &chain, out);
    tally.last = tally.last.max(chain.next.prev());
    out.groups.push(tally);
    Ok(())
}

/// Whether a segment begins where the one before it ends.
fn begins(path: &Path, place: Place, known: &ReplayedGroup, chain: &mut Chain, out: &mut Verified) {
    let (first, next) = (place.first, chain.next);
    if first > next {
        let what = format!("entry {next} is next, but the segment begins with entry {first}");
        let finding = Finding::damage(path, what, outlook(known, next))
            .of(place.group)
            .entries(next, first.prev());
        out.add(finding);
        chain.offset = None;
    } else if first < next {
        let what = format!("entry {next} is next, but the segment begins with entry {first} again");
        out.add(Finding::damage(path, what, Outlook::Mended).of(place.group));
    }
    chain.next = first;
}

/// A segment that the operating system does not give.
fn unreadable(
    walked: Result<(), Error>,
    path: &Path,
    place: Place,
    chain: &mut Chain,
    known: &ReplayedGroup,
    out: &mut Verified,
) -> Result<(), Error> {
    let Err(error) = walked else {
        return Ok(());
    };
    if error.is_denied() {
        return Err(error);
    }
    let last = place.after.map_or(known.kept, Index::prev);
    let mut finding = Finding::damage(path, error.to_string(), Outlook::Refused).of(place.group);
    if last >= chain.next {
        finding = finding.entries(chain.next, last);
        chain.next = last.next();
        chain.offset = None;
    }
    out.add(finding);
    Ok(())
}

/// Whether the journal goes on where the segments end.
fn ends(dir: &Path, id: GroupId, known: &ReplayedGroup, chain: &Chain, out: &mut Verified) {
    let last = known.in_journal_from().prev();
    if chain.next <= last {
        let what = format!(
            "entries {} to {last} are neither in a segment nor in the journal",
            chain.next
        );
        let finding = Finding::damage(dir, what, Outlook::Mended)
            .of(id)
            .entries(chain.next, last);
        out.add(finding);
    }
    if chain.next > known.last.next() && out.is_sound() {
        let what = format!(
            "its segments end with entry {}, but the journal ends with entry {}",
            chain.next.prev(),
            known.last
        );
        out.add(Finding::damage(dir, what, Outlook::Rejoins).of(id));
    }
}

/// What is in a group's directory and is neither a segment nor the index of one.
fn leftovers(disk: &dyn Disk, dir: &Path, id: GroupId, names: &[String], out: &mut Verified) {
    let has = |first| {
        names
            .iter()
            .any(|name| layout::segment_first(name) == Some(first))
    };
    for name in names {
        if layout::segment_first(name).is_some_and(is_plausible)
            || layout::index_first(name).is_some_and(has)
            || layout::bodies_first(name).is_some_and(has)
        {
            continue;
        }
        let path: PathBuf = disk.full_path(&dir.join(name));
        let what = "it is not a part of the log";
        out.add(Finding::remark(&path, what, Outlook::Ignored).of(id));
    }
}
