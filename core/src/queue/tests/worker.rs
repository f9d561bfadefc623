//! The worker's own decisions, without its loop.

use super::super::tests::{Fake, Place};
use super::*;

/// A worker of a core whose own one never ran, with one job leased and an attempt at it in its books.
async fn worker(place: &Place) -> (Worker, About) {
    let (_asks, asked) = mpsc::unbounded_channel();
    let (_offers, offered) = mpsc::channel(1);
    let (_stop, stopping) = watch::channel(None);
    let shared = Arc::clone(&place.core.shared);
    let worker = Worker::new(Arc::clone(&shared), place.fake.clone(), asked, offered, stopping);
    let stored = shared.store.jobs(0, 10).await.unwrap().remove(0);
    let job = Job::open(&shared.instance, stored).unwrap();
    let destination = worker.destination(&job).unwrap();
    (worker, About { destination, jobs: vec![job], settled: false })
}

/// A place with one job whose host is down, and no worker any more.
async fn stopped() -> Place {
    let place = Place::with(|settings| settings.queue.first_retry = Duration::from_secs(3600), Fake::default()).await;
    place.fake.down.store(true, Ordering::SeqCst);
    place.submit(&["joe@example.net"]).await;
    place.until("an attempt", async |place: &Place| place.list().await.iter().any(|job| job.attempts == 1)).await;
    place.core.stop_queue(Duration::from_secs(5)).await;
    place
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_attempted_while_outcomes_can_not_be_written_down() {
    let place = stopped().await;
    let (mut worker, about) = worker(&place).await;
    let job = about.jobs[0].clone();
    let later = JobLater { job: JobId::random(), due: 0, attempts: 1, hold: crate::store::Hold::No, progress: None };
    worker.unwritten.push(Piece::later(vec![later]));
    worker.write();
    let what = worker.writing.as_ref().unwrap().what.clone();
    written(&mut worker.writing).await.unwrap();
    worker.on_written(Ok(WriteDown { left: what, trouble: Some(StoreError::Full), ..WriteDown::default() }));
    assert!(worker.trouble.is_some() && !worker.unwritten.is_empty(), "it is written again, after a pause");
    // The pause is over, and nothing could be written so far.
    worker.trouble = None;
    worker.window.offer(&about.destination, &job, (0, 0), Instant::now());
    worker.dispatch();
    assert!(worker.attempts.is_empty(), "what comes of it could not be written down either");
    worker.write();
    let outcome = written(&mut worker.writing).await;
    worker.on_written(outcome);
    worker.dispatch();
    assert_eq!(worker.attempts.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_panics_when_its_sender_is_to_be_told_waits_for_the_operator() {
    let place = stopped().await;
    let (mut worker, about) = worker(&place).await;
    let mut slow = place.settings.clone();
    slow.queue.expire = Duration::ZERO;
    place.core.reconfigure(slow).unwrap();
    let (done, settle) = worker.broken(&about);
    assert!(done.pieces.iter().all(|piece| piece.jobs.is_empty()), "nothing is decided before the sender is told");
    assert_eq!(settle.len(), 1, "its time is over, which is to be told");
    let (done, settle) = worker.broken(&About { settled: true, ..about });
    assert!(settle.is_empty());
    done.pieces.into_iter().for_each(|piece| worker.unwritten.push(piece));
    worker.write();
    let outcome = written(&mut worker.writing).await;
    worker.on_written(outcome);
    let job = place.list().await.remove(0);
    assert_eq!(job.state, "held");
    assert!(job.why.contains("broke off inside"), "{}", job.why);
}
