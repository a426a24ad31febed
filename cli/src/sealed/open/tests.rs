//! What is taken in, and what is refused by name. Each hostile one is made by hand.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;

use codevol_protocol::manifest::Entry;
use codevol_protocol::marker::{MARKER, Marker};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde_json::Value;
use tar::{EntryType, Header};

use super::super::base::{BLOBS, INDEX_FILE};
use super::super::digest::Digest;
use super::super::prefix::Prefix;
use super::super::tests::{Sample, file, link, put};
use super::{OpenError, Reading, Sealed};

fn sample() -> Sample {
    let mut tool = file(b"#!/bin/sh\n");
    if let Entry::File { executable, .. } = &mut tool.0 {
        *executable = true;
    }
    let long = "n".repeat(200);
    Sample::of(vec![
        ("a/b/c.py", file(b"c")),
        ("a/empty.py", file(b"")),
        ("bin/tool", tool),
        ("here", (Entry::Dir, Vec::new())),
        ("long/x", link(&"../long/".repeat(40))),
        (long.as_str(), file(&[7; 70_000])),
    ])
}

fn is_whole(opened: &Sealed, sample: &Sample) {
    assert_eq!(opened.manifest, sample.manifest);
    assert_eq!(opened.marker, sample.marker);
    let mut bytes = Vec::new();
    for (path, entry) in opened.manifest.entries() {
        if entry.blob().is_some() {
            let file = opened.open_file(path).unwrap();
            file.take(entry.size()).read_to_end(&mut bytes).unwrap();
        }
    }
    assert!(bytes == sample.bytes);
}

#[test]
fn what_was_sealed_reads_back_from_a_tar_and_from_an_image() {
    let temp = tempfile::tempdir().unwrap();
    let tar = temp.path().join("x.tar");
    let mut sample = sample();
    for prefix in ["/", "/opt/dagster/app"] {
        sample.prefix = prefix.parse().unwrap();
        put(&tar, &sample.tar());
        assert!(Sealed::is_like(&tar));
        is_whole(&Sealed::open(&tar).unwrap(), &sample);
    }
    sample.prefix = Prefix::of_an_image().unwrap();
    let [base, over] = ["base", "over"].map(|name| temp.path().join(name));
    sample.seal(&base, None);
    let image = super::Image::open(&base).unwrap();
    sample.seal(&over, Some(&image));
    for layout in [base, over] {
        assert!(Sealed::is_like(&layout));
        is_whole(&Sealed::open(&layout).unwrap(), &sample);
    }
    assert!(!Sealed::is_like(temp.path()));
}

/// Has the one layer of an image be these bytes, as a tool does that copies it.
fn relay(layout: &Path, media_type: &str, bytes: &[u8]) {
    let blobs = layout.join(BLOBS);
    let blob = |document: &Value| {
        let digest: Digest = document["digest"].as_str().unwrap().parse().unwrap();
        blobs.join(digest.hex())
    };
    let read = |path: &Path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
    let describe = |document: &mut Value, bytes: &[u8]| {
        document["digest"] = Digest::of(bytes).to_string().into();
        document["size"] = bytes.len().into();
        put(&blob(document), bytes);
    };
    let index_file = layout.join(INDEX_FILE);
    let mut index = read(&index_file);
    let mut manifest = read(&blob(&index["manifests"][0]));
    manifest["layers"][0]["mediaType"] = media_type.into();
    describe(&mut manifest["layers"][0], bytes);
    describe(&mut index["manifests"][0], manifest.to_string().as_bytes());
    put(&index_file, index.to_string().as_bytes());
}

#[test]
fn an_image_that_another_tool_copied_reads_back_however_it_is_compressed() {
    let temp = tempfile::tempdir().unwrap();
    let layout = temp.path().join("x");
    let mut sample = sample();
    sample.prefix = Prefix::of_an_image().unwrap();
    sample.seal(&layout, None);
    let image = super::Image::open(&layout).unwrap();
    let (zipped, _) = image.layer(&image.layers[0].0).unwrap();
    let mut tar = Vec::new();
    MultiGzDecoder::new(zipped).read_to_end(&mut tar).unwrap();
    let kind = |end: &str| format!("application/vnd.oci.image.layer.v1.tar{end}");

    relay(&layout, &kind(""), &tar);
    is_whole(&Sealed::open(&layout).unwrap(), &sample);
    let small = zstd::encode_all(&*tar, 0).unwrap();
    assert!(small.len() < tar.len());
    relay(&layout, &kind("+zstd"), &small);
    is_whole(&Sealed::open(&layout).unwrap(), &sample);

    for cut in [1, small.len() / 2] {
        relay(&layout, &kind("+zstd"), &small[..small.len() - cut]);
        let error = Sealed::open(&layout).unwrap_err();
        assert!(matches!(error, OpenError::Read { .. }), "{error}");
    }
    // What begins as a frame of zstd does, and would have 128 MiB of memory, or twice that.
    for (window, is_read) in [(0x88, true), (0x90, false)] {
        let empty = [0x28, 0xb5, 0x2f, 0xfd, 0, window, 1, 0, 0];
        relay(&layout, &kind("+zstd"), &empty);
        let error = Sealed::open(&layout).unwrap_err();
        let is_whole = matches!(error, OpenError::Whole { .. });
        assert_eq!(is_whole, is_read, "{error}");
    }
    relay(&layout, &kind("+lzip"), &tar);
    let said = Sealed::open(&layout).unwrap_err().to_string();
    assert!(said.contains("its last layer is a"), "{said}");
}

/// A tar made by hand, entry by entry.
struct Made(Vec<u8>);

impl Made {
    /// Begins with the marker of a sample, changed.
    fn of(sample: &Sample, change: impl FnOnce(&mut Marker)) -> Self {
        let mut marker = sample.marker.clone();
        change(&mut marker);
        let mut made = Self(Vec::new());
        made.add(MARKER, &serde_json::to_vec(&marker).unwrap(), |_| {});
        made
    }

    fn add(&mut self, name: &str, bytes: &[u8], change: impl FnOnce(&mut Header)) {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        for (byte, place) in name.bytes().zip(header.as_old_mut().name.iter_mut()) {
            *place = byte;
        }
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// Returns what is said of a tar that holds one file `a`, after something else that is made.
fn refused(make: impl FnOnce(&mut Made)) -> String {
    let sample = Sample::of(vec![("a", file(b"a"))]);
    let mut made = Made::of(&sample, |_| {});
    make(&mut made);
    said(&made.end())
}

fn said(bytes: &[u8]) -> String {
    let temp = tempfile::tempdir().unwrap();
    let tar = temp.path().join("x.tar");
    put(&tar, bytes);
    let error = Sealed::open(&tar).unwrap_err();
    let text = error.to_string();
    text.replace(&tar.display().to_string(), "x.tar")
}

fn kind(kind: EntryType) -> impl FnOnce(&mut Header) {
    move |header| header.set_entry_type(kind)
}

#[test]
fn a_path_that_leads_elsewhere_is_refused_by_its_name() {
    for name in [
        "../x",
        "a/../../x",
        "/etc/cron.d/x",
        "a//b",
        "./a",
        "..",
        "a\u{1b}b",
        "a\nb",
        ".codevolx",
    ] {
        let said = refused(|made| made.add(name, b"x", |_| {}));
        let named = format!(
            "`x.tar` holds `{}`, which cannot be in a tree: ",
            name.escape_debug()
        );
        assert!(said.starts_with(&named), "{said}");
    }
    let long = "x".repeat(300);
    let said = refused(|made| {
        made.add(
            "././@LongLink",
            long.as_bytes(),
            kind(EntryType::GNULongName),
        );
        made.add("short", b"", |_| {});
    });
    assert!(said.contains(&format!("`{long}`")), "{said}");
}

#[test]
fn links_out_of_the_tree_are_refused_by_their_names() {
    let link = |made: &mut Made, name: &str, target: &str| {
        let target = target.to_owned();
        made.add(name, b"", move |header| {
            header.set_entry_type(EntryType::Symlink);
            header.set_link_name_literal(&target).unwrap();
        });
    };
    for target in ["/etc/passwd", ""] {
        let said = refused(|made| link(made, "x", target));
        assert!(
            said.starts_with("`x.tar` holds `x`, which cannot be in a tree: link"),
            "{said}"
        );
    }
    for (name, target) in [("b", "../x"), ("b/c", "../../x")] {
        let said = refused(|made| {
            made.add("a", b"a", |_| {});
            link(made, name, target);
        });
        let expected = format!(
            "`x.tar` holds `{name}`, which cannot be in a tree: link `{name}` leaves the tree"
        );
        assert_eq!(said, expected);
    }
    // By way of another link.
    let said = refused(|made| {
        made.add("a", b"a", |_| {});
        link(made, "b/c", "..");
        link(made, "d", "b/c/../x");
    });
    assert!(said.contains("`d` leaves the tree"), "{said}");
}

#[test]
fn what_is_no_file_folder_or_link_is_refused_by_its_name() {
    for (entry, what) in [
        (EntryType::Link, "is a hard link"),
        (EntryType::Char, "is a device"),
        (EntryType::Block, "is a device"),
        (EntryType::Fifo, "is a pipe"),
        (EntryType::GNUSparse, "is a file with holes"),
        (
            EntryType::Continuous,
            "is of a kind that a tree cannot have",
        ),
        (EntryType::new(b'Z'), "is of a kind that a tree cannot have"),
    ] {
        let said = refused(|made| made.add("x", b"", kind(entry)));
        assert_eq!(said, format!("`x.tar` holds `x`, which {what}"));
    }
    for mode in [0o4755, 0o2755, 0o1777] {
        let said = refused(|made| made.add("x", b"", |header| header.set_mode(mode)));
        assert_eq!(
            said,
            format!("`x.tar` holds `x`, which has the mode {mode:04o}")
        );
    }
    let said = refused(|made| made.add("x/", b"bytes", kind(EntryType::Directory)));
    assert_eq!(said, "`x.tar` holds `x/`, which is no file and has 5 bytes");
}

#[test]
fn what_stands_twice_or_below_a_file_is_refused_by_its_name() {
    for names in [["a", "a"], ["b", "a"]] {
        let said = refused(|made| names.iter().for_each(|name| made.add(name, b"", |_| {})));
        assert_eq!(
            said,
            format!(
                "`x.tar` holds `{}`, which stands twice, or out of order",
                names[1]
            )
        );
    }
    let said = refused(|made| {
        made.add("a", b"a", |_| {});
        made.add("a/b", b"", |_| {});
    });
    assert_eq!(
        said,
        "`x.tar` holds `a/b`, which is more than the marker declares"
    );
    let said = refused(|made| {
        made.add("a", b"a", |_| {});
        made.add("a/b/", b"", kind(EntryType::Directory));
    });
    assert!(
        said.starts_with("`x.tar` holds `a/b`, which cannot be in a tree: "),
        "{said}"
    );
}

#[test]
fn more_than_is_declared_is_not_read() {
    // A gibibyte of nothing, in a few hundred kilobytes.
    let sample = Sample::of(vec![("a", file(b"a"))]);
    let mut zip = GzEncoder::new(Vec::new(), Compression::fast());
    zip.write_all(&Made::of(&sample, |_| {}).0).unwrap();
    let mut header = Made(Vec::new());
    header.add("a", b"", |header| header.set_size(1 << 30));
    zip.write_all(&header.0).unwrap();
    for _ in 0..1 << 10 {
        zip.write_all(&[0; 1 << 20]).unwrap();
    }
    let bomb = zip.finish().unwrap();
    let mut stream = MultiGzDecoder::new(&*bomb);
    let error = Reading::new(Path::new("x")).read(&mut stream).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`x` holds `a`, which is more than the marker declares"
    );
    // A marker that declares all of that is itself believed no further than there is room.
    let said = said(&Made::of(&sample, |marker| marker.bytes = 60 << 30).end());
    assert!(
        said.starts_with("cannot keep what") || said.contains("are not there"),
        "{said}"
    );
    let said = self::said(&Made::of(&sample, |marker| marker.bytes = 65 << 30).end());
    assert!(said.contains("it declares 1 files and"), "{said}");
    // Names and extensions are as long as they may be.
    for entry in [
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::XHeader,
        EntryType::XGlobalHeader,
    ] {
        let said = refused(|made| made.add("x", &[b'x'; 70_000], kind(entry)));
        assert!(said.contains("is 70000 bytes long"), "{said}");
    }
}

#[test]
fn two_readers_see_the_same_lengths_and_names() {
    let pax = |key: &str, value: &str| {
        let rest = format!(" {key}={value}\n");
        let mut length = rest.len() + 1;
        while format!("{length}{rest}").len() != length {
            length += 1;
        }
        format!("{length}{rest}").into_bytes()
    };
    let said = refused(|made| {
        made.add("x", &pax("size", "0"), kind(EntryType::XHeader));
        made.add("a", b"a", |_| {});
    });
    assert_eq!(said, "`x.tar` holds `a`, which has two lengths that differ");
    let said = refused(|made| {
        made.add("x", &pax("path", "../y"), kind(EntryType::XHeader));
        made.add("a", b"a", |_| {});
    });
    assert!(
        said.starts_with("`x.tar` holds `../y`, which cannot be in a tree"),
        "{said}"
    );
    let said =
        refused(|made| made.add("x", &pax("GNU.sparse.major", "1"), kind(EntryType::XHeader)));
    assert_eq!(
        said,
        "`x.tar` is no sealed release: it has files with holes"
    );
}

#[test]
fn what_is_cut_short_or_changed_is_not_taken_in() {
    let sample = sample();
    let whole = sample.tar();
    for at in (0..whole.len()).step_by(512 * 7 + 100) {
        let said = said(&whole[..at]);
        assert!(said.contains("x.tar"), "{said}");
    }
    let at = whole
        .windows(4)
        .position(|window| window == [7; 4])
        .unwrap();
    let mut changed = whole.clone();
    changed[at + 10] ^= 1;
    let other = "`x.tar` is no sealed release: its tree is not the one that was sealed";
    assert_eq!(said(&changed), other);
    let mut header = whole;
    header[5] ^= 1;
    assert_eq!(
        said(&header),
        "`x.tar` is no sealed release: a header's checksum is off"
    );
    // One that lacks a file of what it declares.
    let said = refused(|_| {});
    assert!(
        said.contains("1 files and 1 bytes of what it declares are not there"),
        "{said}"
    );
    let said = refused(|made| made.add("b", b"b", |_| {}));
    assert_eq!(said, other);
}

#[test]
fn what_is_no_sealed_release_says_so() {
    let mut made = Made(Vec::new());
    made.add("a.py", b"a", |_| {});
    let no_marker =
        "`x.tar` is no sealed release: it does not begin with a `.codevol-release.json`";
    assert_eq!(said(&made.end()), no_marker);
    assert_eq!(said(&Made(Vec::new()).end()), no_marker);
    assert_eq!(said(b""), "`x.tar` is no sealed release: it has no end");
    assert!(
        said(&[b'x'; 4096]).starts_with("`x.tar` is no sealed release: a header"),
        "no tar"
    );
    let mut made = Made(Vec::new());
    made.add(MARKER, b"{}", |_| {});
    assert!(said(&made.end()).contains("does not parse"));
    let mut made = Made(Vec::new());
    made.add("../x/", b"", kind(EntryType::Directory));
    assert!(
        said(&made.end()).contains("`../x/`, which stands before the marker, and not above it")
    );
    let temp = tempfile::tempdir().unwrap();
    let error = Sealed::open(&temp.path().join("gone.tar")).unwrap_err();
    assert!(matches!(error, OpenError::Read { .. }), "{error}");
    drop(File::create(temp.path().join("oci-layout")).unwrap());
    assert!(matches!(
        Sealed::open(temp.path()),
        Err(OpenError::Whole { .. })
    ));
}
