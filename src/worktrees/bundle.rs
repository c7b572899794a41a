//! New blobs, many at a time: a loose object is a file, with its name made and
//! moved, and a pack is one file for them all.

use std::collections::HashSet;
use std::io::Write;

use flate2::{Compress, Compression, FlushCompress, Status};
use git2::{ObjectType, Odb, OdbLookupFlags, Oid};
use sha1::{Digest, Sha1};

/// So many, of so many bytes, stay loose: small packs slow git more than loose
/// objects do.
const FEW: usize = 256;
const FEW_BYTES: usize = 4 * 1024 * 1024;

/// Compressed bytes that are held in memory, and make one pack.
const MAX_PACK: usize = 16 * 1024 * 1024;

/// The number of a blob in a pack.
const BLOB: u8 = 3;

/// Blobs on their way into the repository; they are there after `finish`.
pub(super) struct Bundle<'a> {
    odb: &'a Odb<'a>,
    taken: HashSet<Oid>,
    few: Vec<Vec<u8>>,
    few_bytes: usize,
    pack: Option<Pack>,
}

impl<'a> Bundle<'a> {
    pub(super) fn new(odb: &'a Odb<'a>) -> Self {
        Self {
            odb,
            taken: HashSet::new(),
            few: Vec::new(),
            few_bytes: 0,
            pack: None,
        }
    }

    /// Takes a blob, unless it is the one that is `known` to be there.
    pub(super) fn add(&mut self, content: Vec<u8>, known: Option<Oid>) -> Result<Oid, git2::Error> {
        let id = Oid::hash_object(ObjectType::Blob, &content)?;
        if known == Some(id) || self.taken.contains(&id) {
            return Ok(id);
        }
        if self.odb.exists_ext(id, OdbLookupFlags::NO_REFRESH) {
            // It is made young again: `git gc` is to spare it.
            return self.odb.write(ObjectType::Blob, &content);
        }
        self.taken.insert(id);
        if let Some(pack) = &mut self.pack {
            pack.add(&content)?;
            if pack.entries.len() >= MAX_PACK {
                pack.write(self.odb)?;
            }
            return Ok(id);
        }
        self.few_bytes += content.len();
        self.few.push(content);
        if self.few.len() > FEW || self.few_bytes > FEW_BYTES {
            let mut pack = Pack::default();
            for content in std::mem::take(&mut self.few) {
                pack.add(&content)?;
            }
            self.pack = Some(pack);
        }
        Ok(id)
    }

    /// Stores what was taken.
    pub(super) fn finish(mut self) -> Result<(), git2::Error> {
        for content in &self.few {
            self.odb.write(ObjectType::Blob, content)?;
        }
        match &mut self.pack {
            Some(pack) if pack.count > 0 => pack.write(self.odb),
            _ => Ok(()),
        }
    }
}

/// A pack in the making, as gitformat-pack(5) has it.
struct Pack {
    deflate: Compress,
    count: u32,
    entries: Vec<u8>,
}

impl Default for Pack {
    fn default() -> Self {
        Self {
            deflate: Compress::new(Compression::fast(), true),
            count: 0,
            entries: Vec::new(),
        }
    }
}

impl Pack {
    fn add(&mut self, content: &[u8]) -> Result<(), git2::Error> {
        self.count += 1;
        self.begin_entry(content.len());
        self.deflate.reset();
        loop {
            let read = usize::try_from(self.deflate.total_in()).unwrap_or(usize::MAX);
            let rest = content.get(read..).unwrap_or_default();
            // More than zlib makes of what it cannot compress.
            self.entries.reserve(rest.len() + rest.len() / 1024 + 64);
            let status = self
                .deflate
                .compress_vec(rest, &mut self.entries, FlushCompress::Finish)
                .map_err(|error| git2::Error::from_str(&error.to_string()))?;
            if status == Status::StreamEnd {
                return Ok(());
            }
        }
    }

    /// Kind and size: four bits, then seven a byte, the lowest first.
    fn begin_entry(&mut self, size: usize) {
        let low = |size: usize, mask: u8| size.to_le_bytes()[0] & mask;
        let mut byte = BLOB << 4 | low(size, 0x0f);
        let mut size = size >> 4;
        while size > 0 {
            self.entries.push(byte | 0x80);
            byte = low(size, 0x7f);
            size >>= 7;
        }
        self.entries.push(byte);
    }

    /// Lets libgit2 check, index and store it, and begins anew.
    fn write(&mut self, odb: &Odb<'_>) -> Result<(), git2::Error> {
        let mut head = b"PACK\0\0\0\x02".to_vec();
        head.extend(self.count.to_be_bytes());
        let sum = Sha1::new().chain_update(&head).chain_update(&self.entries);
        let mut writer = odb.packwriter()?;
        let mut write = |bytes: &[u8]| {
            let written = writer.write_all(bytes);
            written.map_err(|error| git2::Error::from_str(&error.to_string()))
        };
        write(&head)?;
        write(&self.entries)?;
        write(&sum.finalize())?;
        writer.commit()?;
        self.count = 0;
        self.entries.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use git2::Repository;

    use super::*;

    /// Of every length that its header and zlib write in another way, some that
    /// compress and some that do not.
    fn contents(count: usize) -> Vec<Vec<u8>> {
        let mut random = fastrand::Rng::with_seed(7);
        let sizes = [0, 1, 15, 16, 17, 2_047, 2_048, 70_000, 300_000];
        let content = |number: usize| match sizes.get(number) {
            Some(size) => (0..*size).map(|_| random.u8(..)).collect(),
            None => format!("{number}\n").repeat(number % 700).into_bytes(),
        };
        (0..count).map(content).collect()
    }

    fn stored(count: usize) -> (tempfile::TempDir, usize) {
        let dir = tempfile::tempdir().expect("a folder");
        let repo = Repository::init(dir.path()).expect("a repository");
        let contents = contents(count);
        let odb = repo.odb().expect("objects");
        let mut bundle = Bundle::new(&odb);
        let ids: Vec<Oid> = contents
            .iter()
            .map(|content| bundle.add(content.clone(), None).expect("taken"))
            .collect();
        bundle.finish().expect("stored");
        // Whoever comes next finds them.
        let repo = Repository::open(dir.path()).expect("a repository");
        for (id, content) in ids.iter().zip(&contents) {
            let blob = repo.find_blob(*id).expect("a blob");
            assert!(blob.content() == content, "{id} of {} bytes", content.len());
        }
        let packs = std::fs::read_dir(dir.path().join(".git/objects/pack")).expect("a folder");
        let packs = packs.flatten();
        let packs = packs.filter(|pack| pack.path().extension().is_some_and(|e| e == "pack"));
        let count = packs.count();
        (dir, count)
    }

    #[test]
    fn few_are_loose_and_many_are_a_pack() {
        assert_eq!(stored(FEW - 10).1, 0);
        let (dir, packs) = stored(3_000);
        assert_eq!(packs, 1);
        let checked = std::process::Command::new("git")
            .current_dir(dir.path())
            .args(["fsck", "--full", "--strict"])
            .output()
            .expect("git runs");
        assert!(checked.status.success(), "{checked:?}");
    }

    #[test]
    fn what_is_there_is_not_stored_again() {
        let (dir, packs) = stored(3_000);
        let repo = Repository::open(dir.path()).expect("a repository");
        let odb = repo.odb().expect("objects");
        let mut bundle = Bundle::new(&odb);
        for content in contents(3_000) {
            let id = Oid::hash_object(ObjectType::Blob, &content).expect("an id");
            assert_eq!(bundle.add(content, None).expect("taken"), id);
        }
        assert!(bundle.pack.is_none() && bundle.few.is_empty());
        assert_eq!(packs, 1);
    }
}
