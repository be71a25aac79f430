//! Handles the records of one key, one after the other.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;

use super::{Handled, Handler, desk::Job, shared::Shared};

/// When a record is handed over again that was handed back while its partition is still ours.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Goes on until nothing of the job's key waits.
pub(super) async fn work<H: Handler>(shared: Arc<Shared>, handler: Arc<H>, mut job: Job) {
    loop {
        let finished = is_finished(&*handler, &job).await;
        match shared.leave(&job, finished) {
            Some(next) => job = next,
            None => return,
        }
    }
}

/// Tries until the record is finished or its partition is taken away.
async fn is_finished(handler: &impl Handler, job: &Job) -> bool {
    loop {
        let handling = handler.handle(job.delivery.clone(), job.stop.clone());
        match AssertUnwindSafe(handling).catch_unwind().await {
            Ok(Handled::Done) => return true,
            Ok(Handled::HandedBack) => {}
            Err(_) => tracing::error!(
                topic = job.delivery.topic.name(),
                partition = job.delivery.partition,
                offset = job.delivery.offset,
                "a handler panicked"
            ),
        }
        if job.stop.run_until_cancelled(tokio::time::sleep(AGAIN_AFTER)).await.is_none() {
            return false;
        }
    }
}
