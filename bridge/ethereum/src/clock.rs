use std::time::{Duration, SystemTime};

use lamina_types::Timestamp;

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// Returns at `deadline`; never if there's none.
pub(crate) async fn sleep_until(deadline: Option<Timestamp>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline.since(now()).max(TICK_MIN)).await,
        None => std::future::pending().await,
    }
}

/// Shortest sleep: a deadline that has passed must not make a loop without a pause.
const TICK_MIN: Duration = Duration::from_millis(1);
