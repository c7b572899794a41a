//! Frames as server-sent events.

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures::Stream;
use hearth_actors::event::Frame;

use super::admission::Seat;
use super::follow::{Follow, Wire};

/// Events that are to be written.
#[derive(Default)]
pub(super) struct Events(Vec<u8>);

impl Wire for Events {
    /// JSON text has no line breaks, so that one `data:` line holds it.
    fn frame(&mut self, frame: &Frame) {
        let chunk = &mut self.0;
        let start = chunk.len();
        let head = format!("event: {}\nid: {}\ndata: ", frame.kind.as_str(), frame.seq);
        chunk.extend_from_slice(head.as_bytes());
        match serde_json::to_writer(&mut *chunk, frame) {
            Ok(()) => chunk.extend_from_slice(b"\n\n"),
            Err(error) => {
                tracing::error!(seq = frame.seq, %error, "a frame's data is no object; it is left out");
                chunk.truncate(start);
            }
        }
    }

    fn lagged(&mut self, missed: u64) {
        let notice =
            format!("event: lagged\ndata: {{\"type\":\"lagged\",\"missed\":{missed}}}\n\n");
        self.0.extend_from_slice(notice.as_bytes());
    }

    fn heartbeat(&mut self) {
        self.0.extend_from_slice(b": heartbeat\n\n");
    }

    fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// The stream as pieces of a body, each holding whole events. Why it ends is
/// not said: the reader comes back with its cursor.
pub(super) fn chunks(follow: Follow) -> impl Stream<Item = Bytes> + Send + 'static {
    futures::stream::unfold(follow, |mut follow| async move {
        let mut events = Events::default();
        follow.next(&mut events).await.ok()?;
        Some((events.0.into(), follow))
    })
}

/// The seat is held as long as the body.
pub(super) fn respond<S>(seat: Seat, chunks: S) -> Response
where
    S: Stream<Item = Bytes> + Send + 'static,
{
    let chunks = futures::StreamExt::map(chunks, Ok::<_, std::convert::Infallible>);
    let mut response = hold(seat, Response::new(Body::from_stream(chunks)));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Asks nginx not to hold frames back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// An answer whose body holds the seat.
pub(in crate::http) fn hold(seat: Seat, response: Response) -> Response {
    response.map(|body| {
        let body = body.into_data_stream();
        Body::from_stream(futures::StreamExt::map(body, move |chunk| {
            let _held = &seat;
            chunk
        }))
    })
}

#[cfg(test)]
mod tests {
    use hearth_actors::event::FrameKind;
    use hearth_actors::ids::SessionId;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_frame_is_one_event_with_its_seq_as_id() {
        let mut events = Events::default();
        events.frame(&Frame {
            seq: 7,
            kind: FrameKind::Delta,
            session_id: SessionId(uuid::Uuid::nil()),
            chat_id: None,
            task_id: None,
            message_id: None,
            at: chrono::DateTime::UNIX_EPOCH,
            data: json!({"content": "a\nb"}),
        });
        insta::assert_snapshot!(String::from_utf8(events.0).expect("text"));
    }
}
