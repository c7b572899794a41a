//! The connection of the protocol's own crate: request ids, pending replies,
//! and what the agent asks of us.

use std::sync::Arc;

use agent_client_protocol::v1::{ConnectionTo, Dispatch, schema};
use agent_client_protocol::{Agent, Client, Error, Handled, Lines, UntypedMessage};
use futures::StreamExt as _;
use serde::Serialize;
use serde_json::Value;
use tokio::io::AsyncWrite;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::map::{question, raw};
use super::shared::{Reply, Shared, Word};
use crate::backends::lines::write_line;
use hearth_actors::event::Said;

/// A way to call the agent. Cheap to clone.
#[derive(Clone)]
pub(super) struct Caller(ConnectionTo<Agent>);

/// Runs the connection until the agent's lines end, its input breaks, or
/// [`Shared::hangup`]; the agent's stdin is closed when this returns. The caller
/// comes out of the oneshot as soon as there is one.
pub(super) async fn run(
    shared: Arc<Shared>,
    stdin: impl AsyncWrite + Unpin + Send + 'static,
    lines: mpsc::Receiver<String>,
    ready: oneshot::Sender<Caller>,
) {
    let outgoing = futures::sink::unfold(stdin, |mut stdin, line: String| async move {
        write_line(&mut stdin, line).await?;
        Ok::<_, std::io::Error>(stdin)
    });
    let transport = Lines::new(outgoing, ReceiverStream::new(lines).map(Ok));
    let heard = Arc::clone(&shared);
    let driver = Client
        .v1()
        .name("hearth")
        .on_receive_dispatch(
            async move |dispatch: Dispatch<UntypedMessage, UntypedMessage>, _| {
                Ok(hear(&heard, dispatch))
            },
            agent_client_protocol::on_receive_dispatch!(),
        )
        .connect_with(transport, async move |connection: ConnectionTo<Agent>| {
            // The start was given up: the far end is dropped.
            let _ = ready.send(Caller(connection.clone()));
            connection.incoming_closed().await;
            Ok(())
        });
    tokio::select! {
        ended = driver => if let Err(error) = ended {
            tracing::debug!(%error, "an agent's connection broke");
        },
        () = shared.hangup.cancelled() => {}
    }
    shared.over.cancel();
}

/// Runs inside the connection's dispatch loop: it must never wait.
fn hear(
    shared: &Shared,
    dispatch: Dispatch<UntypedMessage, UntypedMessage>,
) -> Handled<Dispatch<UntypedMessage, UntypedMessage>> {
    match dispatch {
        Dispatch::Notification(message) => {
            if message.method == shared.fence_method {
                shared.fenced.notify_one();
            }
            Handled::Yes
        }
        Dispatch::Request(message, responder) if message.method == "session/request_permission" => {
            shared.ask(message.params, responder);
            Handled::Yes
        }
        Dispatch::Request(message, responder) if message.method == question::METHOD => {
            shared.question(message.params, responder);
            Handled::Yes
        }
        Dispatch::Request(message, responder) => {
            // Hearth offers no files and no terminals: the connection answers
            // "method not found", which agents take well.
            let said: Said = raw(&message.method, message.params.clone());
            shared.tell(Word::Said(said));
            Handled::No {
                message: Dispatch::Request(message, responder),
                retry: false,
            }
        }
        response => Handled::No {
            message: response,
            retry: false,
        },
    }
}

impl Caller {
    /// Calls and waits for the answer.
    ///
    /// # Errors
    /// The agent's error, or that the connection is over.
    pub(super) async fn call(&self, method: &str, params: impl Serialize) -> Reply {
        self.0
            .send_request(UntypedMessage::new(method, params)?)
            .block_task()
            .await
    }

    /// Calls; `then` runs in the dispatch loop, before any later line is seen.
    ///
    /// # Errors
    /// The connection is over.
    pub(super) fn call_then(
        &self,
        request: UntypedMessage,
        then: impl FnOnce(Reply) + Send + 'static,
    ) -> Result<(), Error> {
        self.0.prepare_request(request).on_receiving_result(
            async move |reply: Result<Value, Error>| {
                then(reply);
                Ok(())
            },
        )
    }

    /// Asks the agent to end the running turn of that session.
    pub(super) fn cancel(&self, session: &str) {
        let cancel = schema::CancelNotification::new(session.to_owned());
        if let Err(error) = self.0.send_notification(cancel) {
            tracing::debug!(%error, "a cancel came too late");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// Time from a call to its bytes in the agent's pipe.
    #[tokio::test]
    async fn a_call_is_written_at_once() {
        let (shared, _words) = Shared::new(None);
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let (_lines, connection_lines) = mpsc::channel(1);
        let (ready, caller) = oneshot::channel();
        tokio::spawn(run(shared, near, connection_lines, ready));
        let caller = caller.await.expect("a connection");
        let mut times = Vec::new();
        let mut bytes = vec![0; 4096];
        for _ in 0..200 {
            let request =
                UntypedMessage::new("session/prompt", json!({"text": "hello"})).expect("JSON");
            let start = Instant::now();
            caller
                .call_then(request, |_| {})
                .expect("an open connection");
            assert!(far.read(&mut bytes).await.expect("an open pipe") > 0);
            times.push(start.elapsed());
        }
        times.sort();
        println!(
            "call to first byte: median {:?}, worst {:?}",
            times[100], times[199]
        );
        assert!(times[100] < Duration::from_millis(5), "{:?}", times[100]);
    }
}
