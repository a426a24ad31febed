//! The screen of `codevol gc`.

use codevol_protocol::collection::{Collection, Named};

use super::listed_of;
use crate::output::units;

/// Returns what was deleted, or would be, its last line not ended.
#[must_use]
pub fn render(collection: &Collection) -> String {
    let mut lines = Vec::new();
    let volume = &collection.volume;
    if collection.is_empty() {
        lines.push(format!("Nothing of {volume} is to be deleted"));
    } else {
        let verb = if collection.dry_run {
            "Would delete"
        } else {
            "Deleted"
        };
        lines.push(format!("{verb} {} of {volume}", what(collection)));
        if !collection.releases.is_empty() {
            lines.push(format!(
                "  {}",
                names(&collection.releases, collection.releases_more)
            ));
        }
    }
    if !collection.in_use.is_empty() {
        let names = names(&collection.in_use, 0);
        lines.push(format!("In use, and kept until that ends: {names}"));
    }
    lines.join("\n")
}

/// Returns what a person is asked.
#[must_use]
pub fn question(collection: &Collection) -> String {
    format!("delete {} of {}?", what(collection), collection.volume)
}

/// Returns `the files of 3 releases, 12 blobs: 1.2 MiB`.
fn what(collection: &Collection) -> String {
    let number = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let releases = collection.releases.len() as u64 + collection.releases_more;
    let mut what = Vec::new();
    if releases > 0 {
        let releases = units::count(number(releases), "release", "releases");
        what.push(format!("the files of {releases}"));
    }
    if collection.blobs > 0 {
        what.push(units::count(number(collection.blobs), "blob", "blobs"));
    }
    format!("{} ({})", what.join(", "), units::bytes(collection.bytes))
}

fn names(releases: &[Named], more: u64) -> String {
    let count = releases.len() as u64 + more;
    listed_of(releases.iter().map(|named| named.release), count)
}

#[cfg(test)]
mod tests {
    use codevol_protocol::id::ReleaseId;
    use codevol_protocol::release::Seq;

    use super::*;

    fn collection(releases: std::ops::Range<u64>, dry_run: bool) -> Collection {
        let mut collection = Collection::new("pipes".parse().unwrap(), dry_run);
        let named = |seq: u64| Named {
            release: Seq(seq),
            id: ReleaseId::of(&seq.to_le_bytes()),
        };
        collection.in_use = releases.clone().take(1).map(named).collect();
        collection.set_releases(releases.skip(1).map(named).collect());
        collection.bytes = collection.releases.len() as u64 * 1_000;
        collection
    }

    #[test]
    fn a_collection_says_what_goes_and_what_stays_for_whom() {
        insta::assert_snapshot!(render(&collection(0..0, false)), @"Nothing of pipes is to be deleted");
        insta::assert_snapshot!(render(&collection(3..5, false)), @"
        Deleted the files of 1 release (1000 B) of pipes
          r4
        In use, and kept until that ends: r3
        ");
        let mut many = collection(3..1_200, true);
        many.in_use.clear();
        many.blobs = 12;
        insta::assert_snapshot!(render(&many), @"
        Would delete the files of 1196 releases, 12 blobs (976.6 KiB) of pipes
          r4, r5, r6, r7, r8 and 1191 more
        ");
        insta::assert_snapshot!(question(&many), @"delete the files of 1196 releases, 12 blobs (976.6 KiB) of pipes?");
    }
}
