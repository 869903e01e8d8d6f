// The whole workflow from Rust, with its standard library. Prepare FOLDER as docs/how-to/any-language.md says.
//
//   rustc --edition 2021 -o workflow examples/rust/workflow.rs && ./workflow FOLDER
//
// Rust has no HTTP and no JSON in its standard library: here are small ones. A real program uses crates for them.

use std::env;
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

type Outcome<T> = Result<T, Box<dyn Error>>;

const LENGTH: &str = "inference-header-content-length";

fn main() {
    if let Err(error) = workflow() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn workflow() -> Outcome<()> {
    let folder = fs::canonicalize(env::args().nth(1).unwrap_or(".".into()))?.display().to_string();
    let name = value(&call("/create_workspace/", "{}")?, "result"); // a random name
    println!("created workspace {name}");
    let outcome = run(&name, &folder);
    call("/destroy_workspace/", &format!(r#"{{"name": "{name}"}}"#))?; // also ends its jobs, and deletes its files
    println!("destroyed the workspace");
    outcome
}

fn run(name: &str, folder: &str) -> Outcome<()> {
    let job = value(&push(name, r#"for n in range(3):\n    print(\"line\", n, flush=True)"#)?, "id");
    println!("pushed job {job}");
    println!("followed the job: {}", follow(&format!("/jobs/{job}/output"))?);

    deploy(name, &format!("{folder}/half.onnx"))?;
    println!("deployed half.onnx");
    let predicted = post(&format!("/v1/models/{name}:predict"), r#"{"instances": [[1, 2], [3, 4]]}"#)?;
    println!("predicted by v1: {predicted}");
    println!("predicted by v2: {:?}", predict_binary(name)?);

    deploy(name, &format!("{folder}/brightness.onnx"))?;
    let photo = fs::read(format!("{folder}/photo.png"))?;
    let image = send("POST", &format!("/v1/models/{name}:predict"), &[("Content-Type", "image/png")], &photo)?.text()?;
    println!("classified the image: {}", value(&image, "label"));
    println!("trained: {}", train(folder)?);

    let endless = value(&push(name, "import time; time.sleep(600)")?, "job");
    let ended = call("/cancel_job/", &format!(r#"{{"name": "{name}", "job": {endless}}}"#))?;
    check(value(&ended, "cancelled") == "true", "the job ended before it was cancelled")?;
    println!("cancelled job {endless}");

    match call("/get_status/", r#"{"name": "no such workspace"}"#) {
        Err(error) => println!("refused with {error}"),
        Ok(_) => check(false, "expected an error")?,
    }
    Ok(())
}

fn push(name: &str, script: &str) -> Outcome<String> {
    call("/push_job/", &format!(r#"{{"name": "{name}", "type": 1, "job": "{script}", "timeout": 0}}"#))
}

fn deploy(name: &str, path: &str) -> Outcome<String> {
    call("/deploy/", &format!(r#"{{"name": "{name}", "path": "{path}", "timeout": 120}}"#))
}

/// The request and the response have little-endian bytes after the JSON.
fn predict_binary(name: &str) -> Outcome<Vec<f32>> {
    let head = r#"{"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}],
        "outputs": [{"name": "y", "parameters": {"binary_data": true}}]}"#;
    let mut body = head.as_bytes().to_vec();
    for number in [1f32, 2.0, 3.0, 4.0] {
        body.extend(number.to_le_bytes());
    }
    let length = head.len().to_string();
    let response = send("POST", &format!("/v2/models/{name}/infer"), &[(LENGTH, &length)], &body)?;
    let end: usize = response.header(LENGTH).ok_or("the response is not binary")?.parse()?;
    let bytes = response.bytes()?;
    Ok(bytes[end..].chunks_exact(4).map(|each| f32::from_le_bytes([each[0], each[1], each[2], each[3]])).collect())
}

/// State and model of a training, after it has ended.
fn train(folder: &str) -> Outcome<String> {
    let request = format!(
        r#"{{"userId": "me", "projectId": "digits", "projectDir": "{folder}/digits", "trainType": "classification",
        "parameters": {{"epochs": 1, "backbone": "compact", "effort": "fast", "exports": "saved_model"}}}}"#
    );
    let id = value(&post("/tasks/", &request)?, "taskId");
    if env::var("TFSERVE_QUICK").is_ok() {
        post(&format!("/tasks/{id}/cancel"), "{}")?; // to try the other steps in seconds
    }
    follow(&format!("/tasks/{id}/output"))?;
    let task = send("GET", &format!("/tasks/{id}"), &[], b"")?.text()?;
    let state = value(&task, "state");
    check(state == "done" || state == "cancelled", &task)?;
    Ok(format!("{state} {}", value(&task, "modelPath")))
}

/// Prints the output of a job or training while it runs. Returns its final state.
fn follow(path: &str) -> Outcome<String> {
    let events = send("GET", path, &[("Accept", "text/event-stream")], b"")?;
    for line in events.body.lines() {
        let line = line?;
        if line.starts_with(r#"data: {"state""#) {
            return Ok(value(&line, "state"));
        }
        let text = value(&line, "text");
        if line.starts_with("data: ") && !text.trim().is_empty() {
            println!("  {}", text.trim_end().replace('\n', "\n  "));
        }
    }
    Err("the stream ended before the job".into())
}

/// A request of the workspace API. A job that failed is a request that succeeded, so its error is checked, too.
fn call(path: &str, json: &str) -> Outcome<String> {
    let response = post(path, json)?;
    let failed = response.contains(r#""error":{"#);
    check(!failed, &format!("{path} failed: {}", value(&response, "message")))?;
    Ok(response)
}

fn post(path: &str, json: &str) -> Outcome<String> {
    send("POST", path, &[("Content-Type", "application/json")], json.as_bytes())?.text()
}

struct Response {
    headers: Vec<String>,
    body: BufReader<TcpStream>,
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        let mut pairs = self.headers.iter().filter_map(|line| line.split_once(':'));
        pairs.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    fn bytes(mut self) -> Outcome<Vec<u8>> {
        let mut bytes = Vec::new();
        self.body.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn text(self) -> Outcome<String> {
        Ok(String::from_utf8(self.bytes()?)?)
    }
}

/// Sends a request. Its error is the server's message.
/// HTTP 1.0, because its responses end with the connection: without chunks.
fn send(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Outcome<Response> {
    let server = env::var("TFSERVE_URL").unwrap_or("http://127.0.0.1:8000".into());
    let host = server.strip_prefix("http://").ok_or("expected TFSERVE_URL=http://host:port")?.trim_end_matches('/');
    let mut connection = TcpStream::connect(host).map_err(|error| format!("{server}: {error}"))?;
    let mut head = format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: {}\r\n", body.len());
    if let Ok(token) = env::var("TFSERVE_TOKEN") {
        head += &format!("Authorization: Bearer {token}\r\n");
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    connection.write_all(head.as_bytes())?;
    connection.write_all(b"\r\n")?;
    connection.write_all(body)?;
    let mut response = Response { headers: Vec::new(), body: BufReader::new(connection) };
    loop {
        let mut line = String::new();
        response.body.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        response.headers.push(line);
    }
    let status = response.headers.first().ok_or("the connection was lost")?.split(' ').nth(1).unwrap_or("").to_string();
    if status == "200" {
        return Ok(response);
    }
    let error = response.text()?;
    let key = if error.contains(r#""message""#) { "message" } else { "error" }; // in v1, v2 and training it is a text
    Err(format!("status {status}: {}", value(&error, key)).into())
}

/// The first text, number or boolean with this name in some JSON; empty if there is none.
fn value(json: &str, name: &str) -> String {
    let rest = match json.split_once(&format!("\"{name}\":")) {
        Some((_, rest)) => rest,
        None => return String::new(),
    };
    if !rest.starts_with('"') {
        return rest.split([',', '}']).next().unwrap_or("").to_string();
    }
    let (mut found, mut characters) = (String::new(), rest.chars().skip(1));
    while let Some(character) = characters.next().filter(|each| *each != '"') {
        match character {
            '\\' => match characters.next() {
                Some('n') => found.push('\n'),
                other => found.extend(other),
            },
            _ => found.push(character),
        }
    }
    found
}

fn check(condition: bool, problem: &str) -> Outcome<()> {
    if condition { Ok(()) } else { Err(problem.into()) }
}
