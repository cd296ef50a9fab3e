//! Threads that wait for a medium in place of the runtime's: a write to a stick that does not answer returns after
//! minutes, and until then its thread can do nothing else. Reads stay on the threads of the runtime: a hand-over for each
//! piece made `verify` 15 % slower.
//!
//! ```text
//! task:    gather 128 KiB | gather 128 KiB | ...       hashes what it gathers
//! thread:                 | write 128 KiB  | ...       one piece of a file at a time, in their order
//! ```
//!
//! What is written moves to the thread with its bytes and returns with the result, so a file is never written by two
//! threads, and no lock is held while a medium is awaited. A task that is dropped leaves both to the thread.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::writing::BUFFER;
use crate::error::{Error, Result};

/// At most [`MAX_THREADS`] threads, which are started when they are needed and wait for work until the process ends.
pub(crate) struct MediumThreads {
    /// Of each thread, for debuggers.
    name: &'static str,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Box<dyn FnOnce() + Send>>,
    threads: usize,
    idle: usize,
}

/// For everything that changes a medium.
pub(crate) static WRITERS: MediumThreads = MediumThreads::new("writer");

impl MediumThreads {
    const fn new(name: &'static str) -> MediumThreads {
        let queue = Mutex::new(Queue { jobs: VecDeque::new(), threads: 0, idle: 0 });
        MediumThreads { name, queue, changed: Condvar::new() }
    }

    /// Does `work` on one of the threads.
    ///
    /// # Errors
    /// Those of `work`; `Io` if no thread can be started.
    pub(crate) async fn run<T: Send + 'static>(
        &'static self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.start(work)?.wait().await?
    }

    /// Begins `work`; the answer need not be awaited at once, or at all.
    fn start<T: Send + 'static>(&'static self, work: impl FnOnce() -> T + Send + 'static) -> Result<Answer<T>> {
        let (tell, answer) = oneshot::channel();
        self.submit(Box::new(move || {
            let _ = tell.send(catch_unwind(AssertUnwindSafe(work)));
        }))?;
        Ok(Answer(answer))
    }

    fn submit(&'static self, job: Box<dyn FnOnce() + Send>) -> Result<()> {
        let mut queue = self.queue();
        // A thread that is told of a job counts as idle until it takes it.
        if queue.idle <= queue.jobs.len() && queue.threads < MAX_THREADS {
            let spawned = thread::Builder::new().name(self.name.into()).spawn(|| self.work());
            match spawned {
                Ok(_) => queue.threads += 1,
                Err(e) if queue.threads == 0 => return Err(Error::io("cannot start a thread", e)),
                Err(_) => {}
            }
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.changed.notify_one();
        Ok(())
    }

    fn work(&self) {
        let mut queue = self.queue();
        loop {
            while let Some(job) = queue.jobs.pop_front() {
                drop(queue);
                job();
                queue = self.queue();
            }
            queue.idle += 1;
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }

    /// After a failure: waits until nothing is under way, for a second at most. What tasks that were stopped have left
    /// here still holds files, and is removed.
    pub(crate) async fn settle(&self) {
        let end = Instant::now() + SETTLING;
        // The runtime drops tasks that were stopped when it gets to them.
        tokio::task::yield_now().await;
        while !self.is_idle() && Instant::now() < end {
            tokio::time::sleep(PAUSE).await;
        }
        tokio::task::yield_now().await;
    }

    fn is_idle(&self) -> bool {
        let queue = self.queue();
        queue.jobs.is_empty() && queue.idle == queue.threads
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a thread will answer.
struct Answer<T>(oneshot::Receiver<std::result::Result<T, Box<dyn Any + Send>>>);

impl<T> Answer<T> {
    async fn wait(self) -> Result<T> {
        match self.0.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => Err(Error::interrupted()),
        }
    }
}

/// What is written from its beginning to its end, by one thread at a time.
pub(crate) trait Filling: Send + 'static {
    /// The next bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// What was there is no good: the next byte is the first.
    fn start_over(&mut self) -> Result<()>;
}

/// Writes through [`WRITERS`]: gathers pieces of [`BUFFER`] bytes, and gathers the next one while one is written.
pub(crate) struct Writer<P: Filling> {
    /// Nothing while a thread has it.
    place: Option<P>,
    under_way: Option<Answer<Written<P>>>,
    buffer: Vec<u8>,
    /// An empty buffer for the next piece.
    spare: Vec<u8>,
}

/// What returns from a thread.
struct Written<P> {
    place: P,
    buffer: Vec<u8>,
    result: Result<()>,
}

impl<P: Filling> Writer<P> {
    pub(crate) fn new(place: P) -> Writer<P> {
        Writer { place: Some(place), under_way: None, buffer: Vec::new(), spare: Vec::new() }
    }

    /// Opens what is written on one of the threads.
    pub(crate) async fn open(open: impl FnOnce() -> Result<P> + Send + 'static) -> Result<Writer<P>> {
        WRITERS.run(open).await.map(Writer::new)
    }

    /// Takes the next bytes. A failure may be that of bytes before them.
    pub(crate) async fn write(&mut self, mut bytes: Bytes) -> Result<()> {
        while self.buffer.len() + bytes.len() >= BUFFER {
            if self.buffer.is_empty() {
                self.ready().await?;
                return self.begin(move |place| place.write(&bytes));
            }
            let fits = bytes.split_to(BUFFER - self.buffer.len());
            self.buffer.extend_from_slice(&fits);
            self.flush().await?;
        }
        self.buffer.extend_from_slice(&bytes);
        Ok(())
    }

    /// What was there is no good: the next byte is the first.
    pub(crate) async fn start_over(&mut self) -> Result<()> {
        self.buffer.clear();
        // Whether bytes could be written that are not wanted is of no interest.
        let _ = self.ready().await;
        self.begin(P::start_over)
    }

    /// Writes what is still gathered and does the last thing with what was written, `end`.
    pub(crate) async fn finish<T: Send + 'static>(
        mut self,
        end: impl FnOnce(P) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.ready().await?;
        let buffer = std::mem::take(&mut self.buffer);
        let mut place = self.take_place()?;
        WRITERS
            .run(move || {
                place.write(&buffer)?;
                end(place)
            })
            .await
    }

    /// After a failure: waits for what is under way, and does the last thing with what was written, `end`.
    pub(crate) async fn abandon(mut self, end: impl FnOnce(P) -> Result<()> + Send + 'static) -> Result<()> {
        let _ = self.ready().await;
        let place = self.take_place()?;
        WRITERS.run(move || end(place)).await
    }

    async fn flush(&mut self) -> Result<()> {
        self.ready().await?;
        let full = std::mem::replace(&mut self.buffer, std::mem::take(&mut self.spare));
        let mut place = self.take_place()?;
        self.under_way = Some(WRITERS.start(move || {
            let result = place.write(&full);
            let mut buffer = full;
            buffer.clear();
            Written { place, buffer, result }
        })?);
        Ok(())
    }

    /// Begins what is to be done next. Nothing may be under way.
    fn begin(&mut self, work: impl FnOnce(&mut P) -> Result<()> + Send + 'static) -> Result<()> {
        let mut place = self.take_place()?;
        self.under_way = Some(WRITERS.start(move || {
            let result = work(&mut place);
            Written { place, buffer: Vec::new(), result }
        })?);
        Ok(())
    }

    /// Waits for what is under way.
    async fn ready(&mut self) -> Result<()> {
        let Some(under_way) = self.under_way.take() else { return Ok(()) };
        let Written { place, buffer, result } = under_way.wait().await?;
        self.place = Some(place);
        if buffer.capacity() > 0 {
            self.spare = buffer;
        }
        result
    }

    fn take_place(&mut self) -> Result<P> {
        self.place.take().ok_or_else(Error::interrupted)
    }
}

impl<P: Filling> Drop for Writer<P> {
    /// A task that is stopped does not wait for the medium, either.
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            let _ = WRITERS.submit(Box::new(move || drop(place)));
        }
    }
}

/// Of each kind. As many as the runtime had for it before; more would only make a disk seek.
const MAX_THREADS: usize = 4;
const PAUSE: Duration = Duration::from_millis(2);
const SETTLING: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Waits for `go` before each piece; notes what it got, and that it was dropped.
    struct Slow {
        go: mpsc::Receiver<Result<()>>,
        got: mpsc::Sender<Vec<u8>>,
    }

    impl Filling for Slow {
        fn write(&mut self, bytes: &[u8]) -> Result<()> {
            self.go.recv().unwrap_or(Ok(()))?;
            let _ = self.got.send(bytes.to_vec());
            Ok(())
        }

        fn start_over(&mut self) -> Result<()> {
            Ok(())
        }
    }

    fn slow() -> (mpsc::Sender<Result<()>>, mpsc::Receiver<Vec<u8>>, Writer<Slow>) {
        let ((go, waits), (got, pieces)) = (mpsc::channel(), mpsc::channel());
        (go, pieces, Writer::new(Slow { go: waits, got }))
    }

    #[tokio::test]
    async fn pieces_are_written_whole_and_in_their_order() {
        let (go, pieces, mut writer) = slow();
        drop(go);
        let bytes: Vec<u8> = (0..BUFFER * 5 / 2).map(|i| (i / 1000) as u8).collect();
        for chunk in bytes.chunks(50_000) {
            writer.write(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        writer.finish(|_| Ok(())).await.unwrap();
        let pieces: Vec<Vec<u8>> = pieces.iter().collect();
        assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [BUFFER, BUFFER, BUFFER / 2]);
        assert_eq!(pieces.concat(), bytes);
    }

    #[tokio::test]
    async fn the_next_piece_waits_and_is_told_of_a_failure() {
        let (go, _pieces, mut writer) = slow();
        let piece = Bytes::from(vec![0; BUFFER]);
        writer.write(piece.clone()).await.unwrap();
        let second = writer.write(piece);
        tokio::pin!(second);
        assert!(futures_util::poll!(&mut second).is_pending(), "one piece is under way at a time");
        go.send(Err(Error::new(crate::error::Kind::Io, "the medium is full"))).unwrap();
        assert!(second.await.unwrap_err().chain().contains("full"));
    }

    #[tokio::test]
    async fn a_writer_that_is_dropped_waits_for_nothing() {
        let (go, pieces, mut writer) = slow();
        writer.write(vec![0; BUFFER].into()).await.unwrap();
        drop(writer);
        go.send(Ok(())).unwrap();
        assert_eq!(pieces.iter().count(), 1, "the thread finishes the piece, and drops the file");
    }
}
