//! Which chunks run, where, and that nobody waits for ever: the pool with more and fewer threads than chunks, callers that
//! take turns, panics, and the end. Times are bounds on hangs, not measurements.

use super::*;

fn count_calls(pool: &Pool, chunks: usize) {
    let calls: Vec<AtomicUsize> = (0..chunks).map(|_| AtomicUsize::new(0)).collect();
    pool.run(chunks, &|chunk| {
        calls[chunk].fetch_add(1, Ordering::Relaxed);
    });
    assert!(calls.iter().all(|c| c.load(Ordering::Relaxed) == 1), "{chunks} chunks");
}

#[test]
fn every_chunk_runs_once_for_any_number_of_threads() {
    for threads in [0, 1, 2, 3, 8] {
        let pool = Pool::new(threads).unwrap();
        assert_eq!(pool.threads(), threads.max(1));
        for chunks in [0, 1, 2, 7, 100] {
            count_calls(&pool, chunks);
        }
    }
}

#[test]
fn many_short_jobs_and_sleeps_in_between_lose_no_chunk() {
    let pool = Pool::new(4).unwrap();
    for round in 0..20_000 {
        count_calls(&pool, 5);
        if round % 4000 == 0 {
            thread::sleep(SPIN * 4);
        }
    }
}

#[test]
fn workers_take_part_and_have_names() {
    let pool = Pool::new(2).unwrap();
    let caller = thread::current().id();
    let worker = Mutex::new(None);
    // Two chunks that wait for each other can only end on two threads.
    let arrived = AtomicUsize::new(0);
    pool.run(2, &|_| {
        arrived.fetch_add(1, Ordering::SeqCst);
        while arrived.load(Ordering::SeqCst) < 2 {
            thread::yield_now();
        }
        if thread::current().id() != caller {
            *lock(&worker) = thread::current().name().map(str::to_owned);
        }
    });
    assert_eq!(lock(&worker).as_deref(), Some("tilegrad-1"));
}

#[test]
fn a_run_inside_a_chunk_and_a_second_caller_run_on_their_own_thread() {
    let pool = Pool::new(2).unwrap();
    let total = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                pool.run(8, &|_| {
                    pool.run(4, &|_| {
                        total.fetch_add(1, Ordering::Relaxed);
                    });
                });
            });
        }
    });
    assert_eq!(total.into_inner(), 3 * 8 * 4);
}

/// Waits for others, as only tests may.
fn until(holds: impl Fn() -> bool) {
    while !holds() {
        thread::yield_now();
    }
}

#[test]
fn callers_take_turns() {
    let pool = Pool::new(2).unwrap();
    let [held, begun, released, together] = [const { AtomicUsize::new(0) }; 4];
    let body = |at: &AtomicUsize| at.fetch_add(1, Ordering::SeqCst);
    let is = |at: &AtomicUsize, count| at.load(Ordering::SeqCst) >= count;
    thread::scope(|scope| {
        scope.spawn(|| {
            // Owns the pool until the other one has begun.
            pool.run(2, &|_| {
                body(&held);
                until(|| is(&begun, 1));
            });
            // Comes back while the other one waits: begins alone, and two chunks are not worth a change.
            let caller = thread::current().id();
            pool.run(2, &|_| assert_eq!(thread::current().id(), caller));
            body(&released);
        });
        scope.spawn(|| {
            until(|| is(&held, 2));
            pool.run(4, &|chunk| match chunk {
                0 => {
                    body(&begun);
                }
                1 => until(|| is(&released, 1)),
                // Two chunks that wait for each other can only end on two threads.
                _ => {
                    body(&together);
                    until(|| is(&together, 2));
                }
            });
        });
    });
    assert_eq!(pool.shared.waiting.load(Ordering::Relaxed), 0);
    assert!(!pool.shared.busy.load(Ordering::Relaxed));
}

#[test]
fn a_panic_while_waiting_is_the_callers_own() {
    let pool = Pool::new(2).unwrap();
    pool.shared.busy.store(true, Ordering::Relaxed);
    let caught = catch_unwind(AssertUnwindSafe(|| pool.run(4, &|_| resume_unwind(Box::new(7_usize)))));
    assert_eq!(*caught.unwrap_err().downcast::<usize>().unwrap(), 7);
    assert_eq!(pool.shared.waiting.load(Ordering::Relaxed), 0);
    pool.shared.busy.store(false, Ordering::Relaxed);
    count_calls(&pool, 16);
}

#[test]
fn a_panic_reaches_the_caller_and_leaves_the_pool_usable() {
    let pool = Pool::new(3).unwrap();
    for bad in [0, 5, 15] {
        let caught = catch_unwind(AssertUnwindSafe(|| {
            pool.run(16, &|chunk| {
                if chunk == bad {
                    resume_unwind(Box::new(chunk));
                }
            });
        }));
        assert_eq!(*caught.unwrap_err().downcast::<usize>().unwrap(), bad);
        count_calls(&pool, 16);
    }
}

#[test]
fn short_work_stays_alone_and_sleeping_workers_raise_the_bar() {
    let pool = Pool::new(2).unwrap();
    count_calls(&pool, 4);
    assert_eq!(pool.threads_for(WORTH_SHARING_NS - 1), 1);
    assert_eq!(pool.threads_for(1_000_000_000), 2);
    while pool.shared.sleeping.load(Ordering::SeqCst) == 0 {
        thread::yield_now();
    }
    assert_eq!(pool.threads_for(WORTH_WAKING_NS - 1), 1);
    assert_eq!(pool.threads_for(WORTH_WAKING_NS), 2);
    // A woken worker with nothing to do may sleep again before this thread looks: wake it until it is seen awake.
    let awake = (0..10_000).any(|_| {
        pool.wake();
        thread::yield_now();
        pool.shared.sleeping.load(Ordering::SeqCst) == 0
    });
    assert!(awake);
    assert_eq!(Pool::new(1).unwrap().threads_for(u64::MAX), 1);
}

#[test]
fn dropping_the_pool_ends_its_threads() {
    let pool = Pool::new(3).unwrap();
    count_calls(&pool, 9);
    let shared = Arc::downgrade(&pool.shared);
    drop(pool);
    assert!(shared.upgrade().is_none());
}
