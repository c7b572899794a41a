//! One life of a server: its process, its monitor, and the tasks that watch it.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::time::timeout;

use super::{Msg, Tenant};
use crate::ports::{Server, ServerBackend, ServerFacts, StartError};
use crate::rules::health::{Cause, Health, Limits, Monitor, Order, Sign};
use crate::rules::moment::Moment;
use crate::tree::addr::{Addr, Task, report};

/// Longest way of a server's end: TERM, 2 s, KILL, and the kernel's time.
const STOP_BOUND: Duration = Duration::from_secs(10);
/// How long a tenancy that could not be opened waits for the news that its server is
/// gone, which excuses it.
const EXIT_WAIT: Duration = Duration::from_secs(1);
/// Shortest wait for the next look, so that no fault makes it spin.
const LEAST_WAIT: Duration = Duration::from_millis(100);

pub(super) struct Life {
    number: u64,
    me: Addr<Msg>,
    server: Arc<dyn Server>,
    facts: ServerFacts,
    limits: Limits,
    monitor: Monitor,
    heard: u64,
    memory: Option<u64>,
    timer: Option<Task>,
    probe: Option<Task>,
    /// Tenancies that are being opened; they report to who asked.
    opening: Vec<Task>,
    _watch: Task,
}

/// Starts one; the task's end without a message is its panic, told too.
pub(super) fn launch(
    me: &Addr<Msg>,
    number: u64,
    backend: Arc<dyn ServerBackend>,
    bound: Duration,
) -> Task {
    let failed = move |message| {
        let error = StartError::Failed {
            message,
            exit: None,
        };
        Msg::Launched(number, Err(error))
    };
    let work = async move {
        match timeout(bound, backend.launch()).await {
            Ok(launched) => Msg::Launched(number, launched),
            Err(_) => failed(format!("it did not answer within {} s", bound.as_secs())),
        }
    };
    report(me, work, failed)
}

/// What its monitor decided.
pub(super) enum Verdict {
    /// It is over.
    Restart(Cause),
    /// It should be, as soon as nobody can begin a turn in it.
    Renew(Cause),
}

impl Life {
    pub(super) fn new(
        me: &Addr<Msg>,
        number: u64,
        server: Arc<dyn Server>,
        now: Moment,
        limits: Limits,
    ) -> Self {
        let watched = server.clone();
        let watch = report(
            me,
            async move { Msg::Exited(number, watched.exited().await) },
            move |_| Msg::Exited(number, crate::event::ExitInfo::default()),
        );
        let mut life = Self {
            number,
            me: me.clone(),
            facts: server.facts(),
            heard: server.heard(),
            memory: server.rss_bytes(),
            server,
            limits,
            monitor: Monitor::new(now, limits),
            timer: None,
            probe: None,
            opening: Vec::new(),
            _watch: watch,
        };
        life.arm(now);
        life
    }

    pub(super) fn facts(&self) -> &ServerFacts {
        &self.facts
    }

    pub(super) fn memory(&self) -> Option<u64> {
        self.memory
    }

    pub(super) fn stderr(&self) -> String {
        self.server.stderr_tail()
    }

    pub(super) fn health(&self) -> Health {
        self.monitor.health()
    }

    /// Opens a tenancy beside the actor. The session that asked bounds the wait; one
    /// that stopped waiting drops the link with its reply. Where the server ended
    /// meanwhile there is no reply: whoever asked asks the next one.
    pub(super) fn attach(&mut self, tenant: Tenant) {
        let server = self.server.clone();
        let Tenant {
            spec,
            events,
            reply,
        } = tenant;
        self.opening.retain(|task| !task.is_finished());
        self.opening.push(Task::spawn(async move {
            let tenancy = server.attach(spec, events).await;
            if tenancy.is_err() && timeout(EXIT_WAIT, server.exited()).await.is_ok() {
                return;
            }
            let _ = reply.send(tenancy);
        }));
    }

    /// Its end was not heard of yet.
    pub(super) fn is_alive(&self) -> bool {
        self.server.exited().now_or_never().is_none()
    }

    pub(super) fn turns(&mut self, now: Moment, turns: usize) -> Option<Verdict> {
        self.step(now, Sign::Turns(turns))
    }

    pub(super) fn exited(&mut self, now: Moment) -> Option<Verdict> {
        self.step(now, Sign::Exited)
    }

    pub(super) fn probed(&mut self, now: Moment, probe: u64, well: bool) -> Option<Verdict> {
        let sign = if well {
            Sign::Answered(probe)
        } else {
            Sign::Failed(probe)
        };
        self.step(now, sign)
    }

    /// Looks at what it holds meanwhile.
    pub(super) fn tick(&mut self, now: Moment) -> Option<Verdict> {
        self.memory = self.server.rss_bytes();
        let memory = self.memory.map(Sign::Memory);
        let signs = [Some(Sign::Tick), memory].into_iter().flatten();
        signs.fold(None, |found, sign| found.or(self.step(now, sign)))
    }

    /// Ends it; tells when its processes are gone. Its links end with it.
    pub(super) fn end(self: Box<Self>, me: &Addr<Msg>, number: u64) -> Task {
        let server = self.server.clone();
        let work = async move {
            if timeout(STOP_BOUND, server.stop()).await.is_err() {
                tracing::error!("a server outlived its end by {STOP_BOUND:?}");
            }
            drop(server);
            Msg::Ended(number)
        };
        report(me, work, move |_| Msg::Ended(number))
    }

    /// What it said meanwhile counts first: no judgement may come before it.
    fn step(&mut self, now: Moment, sign: Sign) -> Option<Verdict> {
        let heard = self.server.heard();
        let spoke = std::mem::replace(&mut self.heard, heard) != heard;
        let news = [
            spoke.then_some(Sign::Bytes),
            self.server.is_unruly().then_some(Sign::Unruly),
            Some(sign),
        ];
        let mut verdict = None;
        for sign in news.into_iter().flatten() {
            match self.monitor.step(now, sign) {
                Some(Order::Restart(cause)) => verdict = Some(Verdict::Restart(cause)),
                Some(Order::Renew(cause)) => verdict = Some(Verdict::Renew(cause)),
                Some(Order::Probe(probe)) => self.ask(probe),
                None => {}
            }
        }
        self.arm(now);
        verdict
    }

    fn ask(&mut self, probe: u64) {
        let (server, number) = (self.server.clone(), self.number);
        let bound = self.limits.timeout;
        let work = async move {
            let answer = match timeout(bound, server.probe()).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("no answer within {bound:?}")),
            };
            Msg::Probed(number, probe, answer)
        };
        let lost = move |why| Msg::Probed(number, probe, Err(why));
        self.probe = Some(report(&self.me, work, lost));
    }

    fn arm(&mut self, now: Moment) {
        let wait = self.monitor.next(now).since(now).max(LEAST_WAIT);
        self.timer = Some(self.me.cast_after(wait, Msg::Tick(self.number)));
    }
}
