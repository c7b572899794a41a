//! The lines of standard input and output. The protocol's own server drops a line
//! that is no JSON without a word; whoever sent it is told here.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
    DuplexStream, duplex,
};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// Longest line that is taken, its end not counted: a little less than the
/// protocol's server takes.
const MAX_LINE: usize = 16 * 1024 * 1024 - 2;
/// Bytes on the way to and from the server.
const PIPE: usize = 64 * 1024;

const PARSE_ERROR: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;

/// The server's ends, and the task that ends when all its answers are written.
pub(super) struct Lines {
    pub(super) input: DuplexStream,
    pub(super) output: DuplexStream,
    pub(super) written: JoinHandle<()>,
}

/// Passes whole lines of JSON on to the server, and its lines to `output`.
pub(super) fn checked<R, W>(input: R, output: W) -> Lines
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let (to_server, server_input) = duplex(PIPE);
    let (server_output, from_server) = duplex(PIPE);
    let output = Arc::new(Mutex::new(output));
    // It ends with its reader: with the input, or when the server is gone.
    tokio::spawn(read(input, to_server, output.clone()));
    Lines {
        input: server_input,
        output: server_output,
        written: tokio::spawn(write(from_server, output)),
    }
}

async fn read<W: AsyncWrite + Unpin>(
    input: impl AsyncRead + Unpin,
    mut server: DuplexStream,
    output: Arc<Mutex<W>>,
) {
    let mut input = BufReader::new(input);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut part = (&mut input).take(MAX_LINE as u64 + 1);
        match part.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let is_whole = line.ends_with(b"\n") || line.len() <= MAX_LINE;
        let passed = if !is_whole {
            let told = refusal(INVALID_REQUEST, format!("a line may have {MAX_LINE} bytes"));
            skip_line(&mut input).await && say(&output, &told).await
        } else if line.trim_ascii().is_empty() {
            true
        } else {
            match unfit(line.trim_ascii()) {
                Some(why) => say(&output, &refusal(PARSE_ERROR, why)).await,
                None => {
                    if !line.ends_with(b"\n") {
                        line.push(b'\n');
                    }
                    server.write_all(&line).await.is_ok()
                }
            }
        };
        if !passed {
            return;
        }
    }
}

/// Reads to the line's end without keeping it; false when the input is over.
async fn skip_line(input: &mut BufReader<impl AsyncRead + Unpin>) -> bool {
    loop {
        let Ok(held) = input.fill_buf().await else {
            return false;
        };
        if held.is_empty() {
            return true;
        }
        let end = held.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(held.len(), |end| end + 1);
        input.consume(length);
        if end.is_some() {
            return true;
        }
    }
}

/// Why it is no JSON.
fn unfit(line: &[u8]) -> Option<String> {
    let parsed: Result<Value, _> = serde_json::from_slice(line);
    parsed
        .err()
        .map(|error| format!("the line is not JSON: {error}"))
}

fn refusal(code: i32, message: String) -> Value {
    json!({ "jsonrpc": "2.0", "id": null, "error": { "code": code, "message": message } })
}

async fn say<W: AsyncWrite + Unpin>(output: &Mutex<W>, message: &Value) -> bool {
    let line = format!("{message}\n");
    put(output, line.as_bytes()).await
}

/// Whole lines alone: two writers share the output.
async fn put<W: AsyncWrite + Unpin>(output: &Mutex<W>, line: &[u8]) -> bool {
    let mut output = output.lock().await;
    output.write_all(line).await.is_ok() && output.flush().await.is_ok()
}

async fn write<W: AsyncWrite + Unpin>(server: DuplexStream, output: Arc<Mutex<W>>) {
    let mut server = BufReader::new(server);
    let mut line = Vec::new();
    loop {
        line.clear();
        match server.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) if put(&output, &line).await => {}
            // Nobody reads any more.
            Ok(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn what_is_no_json_is_refused_and_the_rest_passes_in_order() {
        let (mut person, input) = duplex(PIPE);
        let (output, mut screen) = duplex(PIPE);
        let mut lines = checked(input, output);
        let good = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n";
        let typed = [good.as_bytes(), b"{\"half\": \n\n\xff\xfe\n", b"[1]"].concat();
        person.write_all(&typed).await.expect("it is read");
        drop(person);
        let mut passed = String::new();
        lines.input.read_to_string(&mut passed).await.expect("text");
        assert_eq!(passed, format!("{good}[1]\n"));
        lines.output.write_all(b"{\"a\":1}\n").await.expect("room");
        drop(lines.output);
        lines.written.await.expect("no panic");
        let mut shown = String::new();
        screen.read_to_string(&mut shown).await.expect("text");
        let shown: Vec<Value> = shown
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(shown.len(), 3, "{shown:?}");
        for refused in &shown[..2] {
            assert_eq!(refused["error"]["code"], PARSE_ERROR);
            assert_eq!(refused["id"], Value::Null);
        }
        assert_eq!(shown[2], json!({ "a": 1 }));
    }

    #[tokio::test]
    async fn a_line_without_end_is_refused_and_not_kept() {
        let (mut person, input) = duplex(PIPE);
        let (output, screen) = duplex(PIPE);
        let mut lines = checked(input, output);
        let typing = tokio::spawn(async move {
            let long = vec![b' '; 1 << 20];
            for _ in 0..17 {
                person.write_all(&long).await.expect("it is read");
            }
            person.write_all(b"\n{}\n").await.expect("it is read");
        });
        let mut passed = String::new();
        lines.input.read_to_string(&mut passed).await.expect("text");
        assert_eq!(passed, "{}\n");
        typing.await.expect("no panic");
        let mut told = String::new();
        let mut screen = BufReader::new(screen);
        screen.read_line(&mut told).await.expect("a line");
        let told: Value = serde_json::from_str(&told).expect("JSON");
        assert_eq!(told["error"]["code"], INVALID_REQUEST, "{told}");
    }
}
