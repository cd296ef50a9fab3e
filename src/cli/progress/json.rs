//! One JSON object a line for every event. The guide `programs` lists them; names and fields only ever get more.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::tally::Tally;
use crate::cli::stderr;
use crate::progress::{Event, Progress, TransferKind};
use crate::text::secrets::redact;

pub(crate) struct Json {
    state: Mutex<(Tally, Instant)>,
}

impl Json {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Json { state: Mutex::new((Tally::new(now), now)) }
    }
}

impl Progress for Json {
    fn event(&self, event: Event<'_>) {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (tally, spoken) = &mut *state;
        tally.take(&event, now);
        if let Some(object) = object(&event) {
            stderr::event(&object);
        } else if now.duration_since(*spoken) >= PAUSE {
            *spoken = now;
            stderr::event(&json!({
                "event": "progress", "bytes": tally.bytes_done, "bytesTotal": tally.bytes,
                "blobs": tally.blobs_done, "blobsTotal": tally.blobs, "bytesPerSecond": tally.rate(now),
            }));
        }
    }
}

/// Nothing for what happens thousands of times a second.
fn object(event: &Event<'_>) -> Option<Value> {
    Some(match event {
        Event::Planned { images, blobs, bytes } => {
            json!({"event": "planned", "images": images, "blobs": blobs, "bytes": bytes})
        }
        Event::BlobStarted { digest, size } => {
            json!({"event": "blob-started", "digest": digest.to_string(), "size": size})
        }
        Event::BlobBytes { .. } => return None,
        Event::BlobRewound { digest, bytes } => {
            json!({"event": "blob-rewound", "digest": digest.to_string(), "bytes": bytes})
        }
        Event::BlobDone { digest, size, how } => {
            let how = match how {
                TransferKind::Moved => "moved",
                TransferKind::AlreadyThere => "already-there",
            };
            json!({"event": "blob-done", "digest": digest.to_string(), "size": size, "how": how})
        }
        Event::BlobFailed { digest } => json!({"event": "blob-failed", "digest": digest.to_string()}),
        Event::Landed { name, digest } => {
            json!({"event": "landed", "name": name.to_string(), "digest": digest.to_string()})
        }
        Event::ReadBack { blobs, bytes } => json!({"event": "read-back", "blobs": blobs, "bytes": bytes}),
        Event::Retrying { what, after } => {
            json!({"event": "retrying", "text": redact(what), "afterSeconds": after.as_secs_f64()})
        }
        Event::Warning(text) => json!({"event": "warning", "text": redact(text)}),
    })
}

/// Between two `progress` events.
const PAUSE: Duration = Duration::from_secs(1);
