//! Calls that block a thread: on a pool of their own under an async runtime, and on plain threads without one.
//!
//! ```text
//! cargo run --example blocking
//! ```
//!
//! A `ThreadPoolBulkhead` runs blocking closures on its own threads, so that a slow disk cannot take the threads of the
//! runtime. `call_blocking`, which every policy and every pipeline has, guards a closure on the thread that calls it.
#![allow(clippy::print_stdout)]

use std::{
    io,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use resile::{
    BoxError, Bulkhead, CircuitBreaker, Error, Pipeline, Rejected, Retry, ThreadPoolBulkhead, TimeLimiter,
    bulkhead::thread_pool, circuit_breaker, retry,
};

fn main() -> Result<(), BoxError> {
    under_a_runtime()?;
    on_plain_threads()
}

/// Stands for a disk that takes its time.
fn read_slowly(file: &str) -> Result<usize, io::Error> {
    thread::sleep(Duration::from_millis(200));
    Ok(file.len())
}

/// One thread runs this, the runtime's only one, and it is never blocked.
#[tokio::main(flavor = "current_thread")]
async fn under_a_runtime() -> Result<(), BoxError> {
    println!("A pool of two threads, with a queue of one:");
    let config = thread_pool::Config::default().max_thread_pool_size(2).core_thread_pool_size(2).queue_capacity(1);
    let pool = ThreadPoolBulkhead::new("disk", config)?;

    let files = ["first", "second", "third", "fourth"];
    let reads = futures::future::join_all(files.map(|file| pool.call(move || read_slowly(file))));
    let mut turns = 0;
    let results = tokio::select! {
        results = reads => results,
        // The runtime goes on with other work meanwhile.
        () = count_turns(&mut turns) => unreachable!("it never ends"),
    };
    for (file, result) in files.iter().zip(&results) {
        match result {
            Ok(bytes) => println!("  the {file} file: {bytes} bytes"),
            Err(error) => println!("  the {file} file: {error}"),
        }
    }
    println!("  meanwhile the runtime had {turns} turns for other work");
    assert!(results[..3].iter().all(Result::is_ok));
    assert!(matches!(results[3], Err(Error::Rejected(Rejected::BulkheadFull(_)))));
    assert!(turns > 1);

    println!("The same pool within a time limit:");
    let limiter = TimeLimiter::with_defaults("disk");
    let read = limiter.call_flat(|| pool.call(|| read_slowly("fifth"))).await?;
    println!("  the fifth file: {read} bytes");
    Ok(())
}

async fn count_turns(turns: &mut u32) {
    let mut every_10_ms = tokio::time::interval(Duration::from_millis(10));
    loop {
        every_10_ms.tick().await;
        *turns += 1;
    }
}

/// No runtime at all.
fn on_plain_threads() -> Result<(), BoxError> {
    println!("Four plain threads, one pipeline:");
    let retry = retry::Config::default().max_attempts(3).wait_duration(Duration::from_millis(20));
    let breaker = CircuitBreaker::new("printer", circuit_breaker::Config::default().sliding_window_size(8))?;
    let guard = Pipeline::new((Retry::new("printer", retry)?, breaker.clone(), Bulkhead::with_defaults("printer")));
    let jams = AtomicU32::new(2);
    let print = |page: u32| {
        let jammed = jams.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if jammed.is_ok() { Err(io::Error::other("paper jam")) } else { Ok(page) }
    };
    let printed = thread::scope(|scope| {
        let guard = &guard;
        let threads: Vec<_> = (1..=4).map(|page| scope.spawn(move || guard.call_blocking(|| print(page)))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()?.ok()).collect::<Vec<_>>()
    });
    let metrics = breaker.metrics();
    println!(
        "  pages {printed:?} printed, after {} paper jams among {} attempts",
        metrics.failed_calls, metrics.buffered_calls
    );
    assert_eq!(printed, [1, 2, 3, 4]);
    assert_eq!((metrics.failed_calls, metrics.buffered_calls), (2, 6));
    Ok(())
}
