//! Every form is read back as it was written, and no changed bit passes.

use super::*;

fn identity() -> Identity {
    Identity {
        store: 0x1234_5678_9abc_def0_0fed_cba9_8765_4321,
        segment_bytes: 1 << 20,
        hash_key: [9; 32],
    }
}

fn header(meta: &[u8], content: &[u8]) -> RecordHeader {
    let mut guarded = meta.to_vec();
    for chunk in content.chunks(short(CHUNK)) {
        guarded.extend_from_slice(&crc32fast::hash(chunk).to_le_bytes());
    }
    let bytes = record_bytes(long(meta.len()), long(content.len()));
    RecordHeader {
        kind: RecordKind::Whole,
        nonce: 77,
        hash: 0xabcd_ef00,
        place: 64,
        units: narrow(bytes / UNIT),
        meta: narrow(long(meta.len())),
        content: narrow(long(content.len())),
        expires: 12,
        meta_crc: crc32fast::hash(&guarded),
    }
}

fn record(meta: &[u8], content: &[u8]) -> Vec<u8> {
    let header = header(meta, content);
    let mut bytes = header.encode();
    bytes.extend_from_slice(meta);
    for chunk in content.chunks(short(CHUNK)) {
        bytes.extend_from_slice(&crc32fast::hash(chunk).to_le_bytes());
    }
    bytes.extend_from_slice(content);
    bytes.resize(short(header.bytes()), 0);
    bytes
}

/// Every bit of `bytes` changed, one at a time.
fn flipped(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> + '_ {
    (0..bytes.len() * 8).map(|bit| {
        let mut changed = bytes.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        (bit, changed)
    })
}

#[test]
fn a_manifest_and_a_superblock_are_read_as_written_or_not_at_all() {
    let manifest = identity().encode();
    assert_eq!(manifest.len(), Identity::MANIFEST);
    assert_eq!(Identity::decode(&manifest), Head::Known(identity()));
    for (bit, changed) in flipped(&manifest) {
        assert_eq!(Identity::decode(&changed), Head::Unknown, "{bit}");
    }
    for length in 0..manifest.len() {
        assert_eq!(Identity::decode(&manifest[..length]), Head::Unknown);
    }
    let superblock = Superblock {
        identity: identity(),
        number: 5,
        ordinal: 6,
        nonce: 7,
    };
    let bytes = superblock.encode();
    assert_eq!(long(bytes.len()), SUPERBLOCK);
    assert_eq!(Superblock::decode(&bytes), Head::Known(superblock));
    for (bit, changed) in flipped(&bytes[..Superblock::BYTES]) {
        assert_eq!(Superblock::decode(&changed), Head::Unknown, "{bit}");
    }
}

#[test]
fn a_record_is_read_as_written_or_not_at_all() {
    let large: Vec<u8> = (0..150_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    for (meta, content) in [
        (&b"meta"[..], &b""[..]),
        (b"", b"content"),
        (b"meta", b"content"),
        (b"m", &large),
    ] {
        let bytes = record(meta, content);
        let read = Record::verify(&bytes).unwrap();
        assert_eq!((read.meta, read.content), (meta, content));
        assert_eq!(read.header, header(meta, content));
        // More may follow, less may not.
        assert!(Record::verify(&[&bytes[..], b"more"].concat()).is_ok());
        assert!(Record::verify(&bytes[..bytes.len() - 1]).is_err());
        if bytes.len() < 1_000 {
            for (bit, changed) in flipped(&bytes) {
                assert!(Record::verify(&changed).is_err(), "{bit}");
            }
        }
    }
}

type Contents = (Vec<FooterEntry>, Vec<(u64, u64)>);

#[test]
fn a_footer_is_read_as_written_or_not_at_all() {
    let entry = |number: u32| FooterEntry {
        hash: u64::from(number) << 20,
        place: number,
        units: 3,
        expires: 4,
        kind: RecordKind::Tombstone,
    };
    for count in [0, 1, 5] {
        let entries: Vec<_> = (0..count).map(entry).collect();
        let floors = [(1, 2), (3, 4)];
        let footer = encode_footer((7, 8), 9_000, &entries, &floors);
        assert_eq!(long(footer.len()), footer_bytes(u64::from(count), 2));
        let read = |bytes: &[u8]| -> Option<(Trailer, Contents)> {
            let (contents, trailer) = bytes.split_last_chunk::<64>()?;
            let trailer = Trailer::decode(trailer)?;
            let (entries, floors) = trailer.contents(contents)?;
            Some((trailer, (entries.collect(), floors.collect())))
        };
        let (trailer, contents) = read(&footer).unwrap();
        assert_eq!((trailer.nonce, trailer.ordinal, trailer.end), (7, 8, 9_000));
        assert_eq!(contents, (entries, floors.to_vec()));
        for (bit, changed) in flipped(&footer) {
            assert!(read(&changed).is_none(), "{bit}");
        }
    }
}

#[test]
fn the_form_on_the_disk_does_not_change_by_accident() {
    // A change of these is a change of the version.
    let superblock = Superblock {
        identity: identity(),
        number: 5,
        ordinal: 6,
        nonce: 7,
    };
    let sums = [
        crc32fast::hash(&identity().encode()),
        crc32fast::hash(&superblock.encode()),
        crc32fast::hash(&record(b"meta", b"content")),
        crc32fast::hash(&encode_footer((7, 8), 9_000, &[], &[(1, 2)])),
    ];
    assert_eq!(
        sums,
        [558_161_692, 1_036_482_606, 33_870_926, 1_101_700_528]
    );
}
