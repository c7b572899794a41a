//! Work on many files, shared among threads.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{available_parallelism, scope};

use hearth_actors::ports::WorktreeError;

use super::super::errors::failed;
use super::ground::Ground;

/// Threads that work, and the least number of files that each gets.
const MAX_THREADS: usize = 4;
const MIN_SHARE: usize = 64;

/// Files that a thread takes at a time: neighbours, whose folder is its own for
/// that long.
const RUN: usize = 32;

/// What each answers, in their order. After a failure no more are begun, and what
/// else is under way ends.
pub(super) fn share<T, R, E>(
    ground: &Ground,
    things: &[T],
    each: impl Fn(&Ground, &T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E>
where
    T: Sync,
    R: Send,
    E: From<WorktreeError> + Send,
{
    let processors = available_parallelism().map_or(1, NonZero::get);
    let threads = processors.min(MAX_THREADS).min(things.len() / MIN_SHARE);
    if threads <= 1 {
        return things.iter().map(|thing| each(ground, thing)).collect();
    }
    let others: Vec<Ground> = (1..threads)
        .map(|_| ground.again())
        .collect::<Result<_, _>>()?;
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let work = |ground: &Ground| -> Result<Vec<(usize, R)>, E> {
        let mut done = Vec::new();
        loop {
            let begin = next.fetch_add(RUN, Ordering::Relaxed);
            for (number, thing) in things.iter().enumerate().skip(begin).take(RUN) {
                if stop.load(Ordering::Relaxed) {
                    return Ok(done);
                }
                match each(ground, thing) {
                    Ok(answer) => done.push((number, answer)),
                    Err(error) => {
                        stop.store(true, Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
            if begin >= things.len() {
                return Ok(done);
            }
        }
    };
    let mut done = scope(|scope| {
        let work = &work;
        let others: Vec<_> = others
            .into_iter()
            .map(|ground| scope.spawn(move || work(&ground)))
            .collect();
        let mut all = work(ground);
        for other in others {
            let done = other.join().unwrap_or_else(|_| {
                let why = "a thread of it panicked".to_owned();
                Err(failed("finish the work", ground.root.path(), why).into())
            });
            all = match (all, done) {
                (Ok(mut all), Ok(done)) => {
                    all.extend(done);
                    Ok(all)
                }
                (Err(first), _) => Err(first),
                (_, Err(error)) => Err(error),
            };
        }
        all
    })?;
    done.sort_unstable_by_key(|(number, _)| *number);
    Ok(done.into_iter().map(|(_, answer)| answer).collect())
}

#[cfg(test)]
mod tests {
    use git2::Repository;

    use super::super::beneath::Root;
    use super::*;

    fn ground() -> (tempfile::TempDir, Ground) {
        let dir = tempfile::tempdir().expect("a folder");
        let repo = Repository::init(dir.path()).expect("a repository");
        let ground = Ground::new(repo, Root::open(dir.path()).expect("a root"));
        (dir, ground)
    }

    #[test]
    fn answers_come_in_order() {
        let (_dir, ground) = ground();
        for count in [0, 1, MIN_SHARE, 3 * MIN_SHARE + 1, 5_000] {
            let things: Vec<usize> = (0..count).collect();
            let doubled = share(&ground, &things, |ground, thing| {
                assert!(ground.repo.workdir().is_some());
                Ok::<_, WorktreeError>(thing * 2)
            });
            let wanted: Vec<usize> = things.iter().map(|thing| thing * 2).collect();
            assert_eq!(doubled.expect("answers"), wanted);
        }
    }

    #[test]
    fn after_a_failure_no_more_are_begun() {
        let (_dir, ground) = ground();
        let things: Vec<usize> = (0..50_000).collect();
        let begun = AtomicUsize::new(0);
        let stopped = share(&ground, &things, |_, thing| {
            begun.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(std::time::Duration::from_micros(20));
            match *thing {
                1_000 => Err(failed("go on", std::path::Path::new("/"), "it is enough")),
                thing => Ok(thing),
            }
        });
        let told = stopped.expect_err("a failure").to_string();
        assert!(told.contains("go on"), "{told}");
        let begun = begun.into_inner();
        // Others may be behind.
        assert!((1_000 - 4 * RUN..40_000).contains(&begun), "{begun}");
    }
}
