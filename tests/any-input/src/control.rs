//! Requests over the control socket.

use crate::network::VIEW;
use redirector::dataplane::TestRun;
use redirector::manage::control::{Request, Response};
use redirector::manage::dump::dump;
use redirector::manage::explain::{Explanation, FastPath, explain};
use redirector_tests::agreement::{Action, FastPath as _, Native};

/// Any bytes as a line to the control socket: refused with what would be right, or a request that survives being
/// written and read again. What is asked to be explained is explained, or refused with the reason; fast and slow path
/// agree about it.
///
/// # Panics
/// If not.
pub fn control_socket(line: &[u8]) {
    let request = match Request::parse(line) {
        Ok(request) => request,
        Err(problem) => return assert!(problem.contains("send one JSON object a line"), "{problem}"),
    };
    let written = serde_json::to_string(&request).expect("JSON");
    let again = Request::parse(written.as_bytes()).unwrap_or_else(|problem| panic!("{written}: {problem}"));
    assert_eq!(serde_json::to_string(&again).expect("JSON"), written);
    let answer = match request {
        Request::Explain(question) => {
            let fast = |frame: &[u8]| Ok(Some(test_run(frame)));
            explain(&VIEW, &question, fast).map(|explanation| {
                assert_ne!(explanation.fast_path, FastPath::Differs, "{explanation}");
                survives(&explanation);
                explanation.to_string()
            })
        }
        Request::Dump { all } => Ok(dump(&VIEW, all)),
        Request::Stats | Request::Status | Request::Reload | Request::Weight { .. } => return,
    };
    assert!(!answer.unwrap_or_else(|problem| problem).is_empty(), "neither answer nor reason");
}

pub(crate) fn is_request(line: &[u8]) -> bool {
    Request::parse(line).is_ok()
}

/// What the program in the kernel would do.
fn test_run(frame: &[u8]) -> TestRun {
    let (action, frame) = Native::new(&*VIEW.generation.tables).run(frame);
    let action = match action {
        Action::Abort => 0,
        Action::Pass => 2,
        Action::Transmit => 3,
    };
    TestRun { action, frame }
}

/// The command at the other end of the socket reads what was written.
fn survives(explanation: &Explanation) {
    let response = Response::Ok(serde_json::to_value(explanation).expect("JSON"));
    let line = serde_json::to_string(&response).expect("JSON");
    assert!(!line.contains('\n'), "an answer is a line");
    let Response::Ok(value) = serde_json::from_str(&line).expect("a response") else {
        panic!("read as an error: {line}");
    };
    let read: Explanation = serde_json::from_value(value).expect("an explanation");
    assert_eq!(&read, explanation);
}
