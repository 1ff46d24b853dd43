//! Jobs that run a few at a time, each after those that it needs. What a job prints is shown when the job has ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::count::Count;
use crate::Outcome;
use crate::process::captured;

/// Something to run.
pub struct Job {
    pub name: String,
    /// Names of jobs that must have succeeded before. A name that is no job of the queue is taken as done.
    pub after: Vec<String>,
    /// What the job needs for itself: of the jobs with the same word, one runs at a time.
    pub alone: Option<&'static str>,
    work: Box<dyn FnOnce() -> Outcome + Send>,
}

impl Job {
    pub fn new(name: impl Into<String>, after: &[&str], work: impl FnOnce() -> Outcome + Send + 'static) -> Job {
        let after = after.iter().map(|name| (*name).to_owned()).collect();
        Job { name: name.into(), after, alone: None, work: Box::new(work) }
    }

    /// The same job, which runs beside no other that needs `what` for itself.
    pub fn alone_with(self, what: Option<&'static str>) -> Job {
        Job { alone: what, ..self }
    }
}

/// How a job ended.
pub struct Done {
    pub name: String,
    pub outcome: Outcome,
    pub output: String,
    pub count: Count,
    pub time: Duration,
}

impl Done {
    fn not_run(name: String, why: String) -> Done {
        Done { name, outcome: Err(why), output: String::new(), count: Count::default(), time: Duration::ZERO }
    }
}

struct State {
    waiting: Vec<Job>,
    /// Names of the jobs that run, and what each has for itself.
    running: Vec<(String, Option<&'static str>)>,
    done: Vec<Done>,
}

impl State {
    /// The first job that nothing holds back. A job that needs one that failed ends here, as failed.
    fn next(&mut self) -> Option<Job> {
        while let Some(at) = self.waiting.iter().position(|job| self.lacks(job).is_some()) {
            let job = self.waiting.remove(at);
            let lacking = self.lacks(&job).unwrap_or_default().to_owned();
            self.done.push(Done::not_run(job.name, format!("not run, because `{lacking}` failed")));
        }
        let runs = |name: &String| self.running.iter().any(|(running, _)| running == name);
        let open = |name: &String| runs(name) || self.waiting.iter().any(|job| job.name == *name);
        let taken = |what: &'static str| self.running.iter().any(|(_, alone)| *alone == Some(what));
        let free = |job: &Job| !job.alone.is_some_and(taken) && !job.after.iter().any(open);
        let at = self.waiting.iter().position(free)?;
        Some(self.waiting.remove(at))
    }

    /// What the job needs and will never have.
    fn lacks<'a>(&self, job: &'a Job) -> Option<&'a str> {
        let failed = |name: &&String| self.done.iter().any(|done| done.name == **name && done.outcome.is_err());
        job.after.iter().find(failed).map(String::as_str)
    }
}

/// Runs all jobs, `at_once` of them at a time, in their order where nothing else decides; gives them as they ended.
/// `started` and `ended` are told of each on the way, one at a time. A single job prints as it goes.
pub fn run(
    jobs: Vec<Job>,
    at_once: usize,
    started: &(dyn Fn(&str) + Sync),
    ended: &(dyn Fn(&Done) + Sync),
) -> Vec<Done> {
    let live = jobs.len() == 1;
    let state = Mutex::new(State { waiting: jobs, running: vec![], done: vec![] });
    let changed = Condvar::new();
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    let worker = || {
        let mut now = lock();
        loop {
            if let Some(job) = now.next() {
                now.running.push((job.name.clone(), job.alone));
                started(&job.name);
                drop(now);
                let start = Instant::now();
                // A job that panics is one that failed: the others must not wait for it.
                let (outcome, output) = captured(live, || catch_unwind(AssertUnwindSafe(job.work)));
                let outcome = outcome.unwrap_or_else(|_| Err("it panicked, as stands above".into()));
                let count = Count::of(&output);
                let done = Done { name: job.name, outcome, output, count, time: start.elapsed() };
                now = lock();
                now.running.retain(|(name, _)| *name != done.name);
                ended(&done);
                now.done.push(done);
                changed.notify_all();
            } else if now.waiting.is_empty() || now.running.is_empty() {
                return;
            } else {
                now = changed.wait(now).unwrap_or_else(PoisonError::into_inner);
            }
        }
    };
    std::thread::scope(|scope| (0..at_once.max(1)).for_each(|_| drop(scope.spawn(worker))));
    let State { waiting, mut done, .. } = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.extend(waiting.into_iter().map(|job| {
        let why = format!("not run, because it waits for itself by way of {}", job.after.join(", "));
        Done::not_run(job.name, why)
    }));
    done
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::process::say;

    #[test]
    fn jobs_wait_for_what_they_need_and_do_not_run_when_it_failed() {
        let jobs = vec![
            Job::new("tests", &["build"], || {
                say("tested");
                Ok(())
            }),
            Job::new("more", &["broken"], || unreachable!("it needs what failed")),
            Job::new("build", &["elsewhere"], || {
                say("built");
                Ok(())
            }),
            Job::new("broken", &[], || Err("no".into())),
            Job::new("most", &["more"], || unreachable!("it needs what was not run")),
        ];
        let done = run(jobs, 2, &|_| {}, &|_| {});
        let at = |name: &str| done.iter().position(|d| d.name == name).unwrap();
        assert_eq!(done.len(), 5);
        assert!(at("build") < at("tests"));
        assert_eq!((done[at("tests")].output.as_str(), done[at("build")].output.as_str()), ("tested\n", "built\n"));
        assert_eq!(done[at("more")].outcome, Err("not run, because `broken` failed".into()));
        assert_eq!(done[at("most")].outcome, Err("not run, because `more` failed".into()));
    }

    #[test]
    fn a_job_that_panics_has_failed() {
        let done = run(
            vec![Job::new("a", &[], || panic!("on purpose")), Job::new("b", &["a"], || Ok(()))],
            2,
            &|_| {},
            &|_| {},
        );
        assert!(done.len() == 2 && done.iter().all(|d| d.outcome.is_err()));
    }

    #[test]
    fn a_circle_of_needs_is_a_failure() {
        let done = run(vec![Job::new("a", &["b"], || Ok(())), Job::new("b", &["a"], || Ok(()))], 2, &|_| {}, &|_| {});
        assert!(done.len() == 2 && done.iter().all(|d| d.outcome.is_err()));
    }

    #[test]
    fn what_is_needed_alone_is_never_shared() {
        static HOLDERS: AtomicUsize = AtomicUsize::new(0);
        let work = || {
            assert_eq!(HOLDERS.fetch_add(1, Ordering::SeqCst), 0);
            std::thread::sleep(std::time::Duration::from_millis(2));
            HOLDERS.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        };
        let held = (0..8).map(|n| Job::new(format!("held {n}"), &[], work).alone_with(Some("it")));
        let others = (0..8).map(|n| Job::new(format!("other {n}"), &[], || Ok(())));
        let done = run(held.chain(others).collect(), 4, &|_| {}, &|_| {});
        assert!(done.len() == 16 && done.iter().all(|d| d.outcome.is_ok()));
    }

    #[test]
    fn as_many_run_at_once_as_are_allowed() {
        static NOW: AtomicUsize = AtomicUsize::new(0);
        static MOST: AtomicUsize = AtomicUsize::new(0);
        let work = || {
            MOST.fetch_max(NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            NOW.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        };
        let done = run((0..40).map(|n| Job::new(n.to_string(), &[], work)).collect(), 3, &|_| {}, &|_| {});
        assert_eq!(done.len(), 40);
        assert!(MOST.load(Ordering::SeqCst) <= 3);
    }
}
