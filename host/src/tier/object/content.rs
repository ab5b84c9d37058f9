//! Writes the content of a large entry as an object of its own, in parts: what lies in memory
//! without a copy of it, what lies in another tier as it is read from there, a part at a time, and
//! what is on its way as it comes.

use std::sync::Arc;

use bytes::Bytes;
use object_store::PutPayload;
use object_store::path::Path;

use super::form::{Hashed, Hashing};
use super::remote::{Fault, Remote};
use super::stream::Arriving;
use crate::entry::{Kept, StoredBody, Unreadable};

/// Bytes of a part; content up to this is written in one request.
pub(super) const PART: u64 = 8 << 20;

/// Why content was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwritten {
    /// The store failed.
    Fault(Fault),
    /// It cannot be read where it lies.
    Unreadable(Unreadable),
}

impl From<Fault> for Unwritten {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Unreadable> for Unwritten {
    fn from(unreadable: Unreadable) -> Self {
        Self::Unreadable(unreadable)
    }
}

/// Writes all of `body` to `object`.
pub(super) async fn write(
    remote: &Remote,
    object: &Path,
    body: &StoredBody,
) -> Result<Hashed, Unwritten> {
    write_parts(remote, object, Parts::of(body), body.len() <= PART).await
}

/// Writes all that is `arriving` to `object`.
pub(super) async fn stream(
    remote: &Remote,
    object: &Path,
    arriving: &mut Arriving,
) -> Result<Hashed, Unwritten> {
    let parts = Parts {
        from: Source::Arriving(arriving),
        over: Bytes::new(),
    };
    write_parts(remote, object, parts, false).await
}

/// Writes `parts` to `object`: in one request if they are `one`, or the first is short.
async fn write_parts(
    remote: &Remote,
    object: &Path,
    mut parts: Parts<'_>,
    one: bool,
) -> Result<Hashed, Unwritten> {
    let mut hashing = Hashing::default();
    let mut part = parts.next(&mut hashing).await?;
    if one || part.iter().map(Bytes::len).sum::<usize>() < room() {
        remote.put(object, part, remote.deadlines.part).await?;
        return Ok(hashing.finish());
    }
    let mut upload = remote.begin(object).await?;
    let mut written = async || -> Result<(), Unwritten> {
        while !part.is_empty() {
            let payload: PutPayload = std::mem::take(&mut part).into_iter().collect();
            let bytes = u64::try_from(payload.content_length()).unwrap_or(u64::MAX);
            remote.part(upload.put_part(payload), bytes).await?;
            part = parts.next(&mut hashing).await?;
        }
        Ok(remote.complete(upload.as_mut()).await?)
    };
    let written = written().await;
    if written.is_err() {
        remote.abort(upload.as_mut()).await;
    }
    written.map(|()| hashing.finish())
}

/// All of `body`, which is small.
pub(super) async fn whole(body: &StoredBody) -> Result<(Vec<Bytes>, Hashed), Unreadable> {
    let mut hashing = Hashing::default();
    let pieces = Parts::of(body).next(&mut hashing).await?;
    Ok((pieces, hashing.finish()))
}

/// Cuts content into parts of [`PART`] bytes, the last one shorter.
struct Parts<'a> {
    from: Source<'a>,
    over: Bytes,
}

/// Where content comes from.
enum Source<'a> {
    /// It is in memory.
    Memory(std::slice::Iter<'a, Bytes>),
    /// It lies elsewhere, and so many bytes of it were taken.
    Kept(&'a Arc<dyn Kept>, u64),
    /// It is on its way.
    Arriving(&'a mut Arriving),
}

/// Bytes of a part.
fn room() -> usize {
    usize::try_from(PART).unwrap_or(usize::MAX)
}

impl<'a> Parts<'a> {
    fn of(body: &'a StoredBody) -> Self {
        Self {
            from: match body.place() {
                Some(kept) => Source::Kept(kept, 0),
                None => Source::Memory(body.pieces().iter()),
            },
            over: Bytes::new(),
        }
    }

    /// The next part; an empty one at the end.
    async fn next(&mut self, hashing: &mut Hashing) -> Result<Vec<Bytes>, Unreadable> {
        let mut part = Vec::new();
        let mut room = room();
        while room > 0 {
            if self.over.is_empty() {
                match self.piece().await? {
                    Some(piece) => self.over = piece,
                    None => break,
                }
            }
            let now = self.over.split_to(self.over.len().min(room));
            room -= now.len();
            hashing.update(&now);
            if !now.is_empty() {
                part.push(now);
            }
        }
        Ok(part)
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, Unreadable> {
        let (kept, at) = match &mut self.from {
            Source::Memory(pieces) => return Ok(pieces.next().cloned()),
            Source::Arriving(arriving) => return arriving.piece().await,
            Source::Kept(kept, at) => (kept, at),
        };
        if *at >= kept.len() {
            return Ok(None);
        }
        let bytes = kept.read(*at).await?;
        if bytes.is_empty() {
            return Err(Unreadable::Damaged);
        }
        *at += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::kept::{READ_MAX, Reading};

    fn parts(body: &StoredBody) -> (Vec<Vec<Bytes>>, Hashed) {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(async {
            let (mut parts, mut hashing) = (Parts::of(body), Hashing::default());
            let mut all = Vec::new();
            loop {
                let part = parts.next(&mut hashing).await.unwrap();
                if part.is_empty() {
                    return (all, hashing.finish());
                }
                all.push(part);
            }
        })
    }

    fn content() -> Bytes {
        let part = usize::try_from(PART).unwrap();
        (0..=u8::MAX).cycle().take(2 * part + 7).collect()
    }

    fn check(parts: &[Vec<Bytes>], hashed: &Hashed) {
        let part = usize::try_from(PART).unwrap();
        let length = |part: &Vec<Bytes>| part.iter().map(Bytes::len).sum::<usize>();
        let lengths: Vec<usize> = parts.iter().map(length).collect();
        assert_eq!(lengths, [part, part, 7]);
        assert_eq!(parts.concat().concat(), content());
        assert_eq!(hashed.digest, *blake3::hash(&content()).as_bytes());
    }

    #[test]
    fn what_is_in_memory_is_cut_without_a_copy() {
        let whole = content();
        let part = usize::try_from(PART).unwrap();
        for size in [part, 3 << 20, part + 1, whole.len()] {
            let pieces = (0..whole.len())
                .step_by(size)
                .map(|at| whole.slice(at..whole.len().min(at + size)));
            let (parts, hashed) = parts(&StoredBody::new(pieces.collect()));
            check(&parts, &hashed);
            assert_eq!(parts[0][0].as_ptr(), whole.as_ptr());
        }
        assert!(parts(&StoredBody::default()).0.is_empty());
    }

    #[derive(Debug)]
    struct Elsewhere(Bytes);

    impl Kept for Elsewhere {
        fn len(&self) -> u64 {
            u64::try_from(self.0.len()).unwrap()
        }

        fn read(&self, at: u64) -> Reading {
            let at = usize::try_from(at).unwrap();
            let end = self.0.len().min(at + READ_MAX - 5);
            let bytes = self.0.slice(at..end);
            Box::pin(std::future::ready(Ok(bytes)))
        }
    }

    #[test]
    fn what_lies_elsewhere_is_read_part_by_part() {
        let whole = content();
        let body = StoredBody::kept(Arc::new(Elsewhere(whole.clone())));
        let (taken, hashed) = parts(&body);
        check(&taken, &hashed);
        for length in [0, 1, PART - 1, PART, PART + 1] {
            let some = whole.slice(..usize::try_from(length).unwrap());
            let (taken, _) = parts(&StoredBody::kept(Arc::new(Elsewhere(some.clone()))));
            assert_eq!(taken.concat().concat(), some, "{length}");
            assert_eq!(u64::try_from(taken.len()).unwrap(), length.div_ceil(PART));
        }
    }
}
