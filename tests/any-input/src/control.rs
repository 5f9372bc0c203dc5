//! Requests and answers over the control socket.

use crate::made;
use crate::network::VIEW;
use redirector::dataplane::TestRun;
use redirector::manage::control::{Request, Response};
use redirector::manage::dump::dump;
use redirector::manage::explain::{Explanation, FastPath, Question, explain};
use redirector::manage::stats::Stats;
use redirector_tests::agreement::{FastPath as _, Native};

/// Any bytes as a line to the control socket: refused with what would be right, or a request that survives being
/// written and read again. What is asked to be explained is explained, or refused with the reason; fast and slow path
/// agree about it. As an answer, it is shown or refused by the command at the other end.
///
/// # Panics
/// If not.
pub fn control_socket(line: &[u8]) {
    show(line);
    let request = match Request::parse(line) {
        Ok(request) => request,
        Err(problem) => return assert!(problem.contains("send one JSON object a line"), "{problem}"),
    };
    let written = serde_json::to_string(&request).expect("JSON");
    let again = Request::parse(written.as_bytes()).unwrap_or_else(|problem| panic!("{written}: {problem}"));
    assert_eq!(serde_json::to_string(&again).expect("JSON"), written);
    match request {
        Request::Explain(question) => explained(&question),
        Request::Dump { all } => assert!(!dump(&VIEW, all).is_empty()),
        Request::Stats
        | Request::Status
        | Request::Reload
        | Request::Weight { .. }
        | Request::Force(_)
        | Request::Agreement(_)
        | Request::Account(_) => {}
    }
}

/// A question about names and URLs of the small network, or beside it: as any.
///
/// # Panics
/// As [`control_socket`].
pub fn control_socket_made(choices: &[u8]) {
    explained(&made::question(choices));
}

fn explained(question: &Question) {
    match explain(&VIEW, question, |frame| Ok(Some(test_run(frame)))) {
        Ok(explanation) => {
            assert_ne!(explanation.fast_path, FastPath::Differs, "{explanation}");
            assert!(!explanation.to_string().is_empty());
            survives(&explanation);
        }
        Err(problem) => assert!(!problem.is_empty(), "neither answer nor reason"),
    }
}

pub(crate) fn made_is_explained(choices: &[u8]) -> bool {
    explain(&VIEW, &made::question(choices), |_| Ok(None)).is_ok()
}

pub(crate) fn is_message(line: &[u8]) -> bool {
    Request::parse(line).is_ok() || serde_json::from_slice::<Response>(line).is_ok()
}

/// What the commands do with an answer.
fn show(line: &[u8]) {
    let Ok(Response::Ok(value)) = serde_json::from_slice(line) else { return };
    if let Ok(explanation) = serde_json::from_value::<Explanation>(value.clone()) {
        assert!(!explanation.to_string().is_empty());
    }
    if let Ok(stats) = serde_json::from_value::<Stats>(value) {
        assert!(!stats.to_string().is_empty());
    }
}

/// Answers to a few requests.
pub(crate) fn answers() -> Vec<Vec<u8>> {
    let question =
        br#"{"cmd":"explain","client":"10.0.0.1","url":{"url":"http://near.cdn.test/x","protocol":"cdsr"}}"#;
    let Ok(Request::Explain(question)) = Request::parse(question) else { panic!("not a question") };
    let explanation =
        explain(&VIEW, &question, |frame| Ok(Some(test_run(frame)))).expect("a question that can be asked");
    let mut stats = Stats::new(&VIEW);
    stats.targets.iter_mut().for_each(|target| target.since = 0); // or every run made another seed
    let values =
        [serde_json::to_value(explanation), serde_json::to_value(stats), Ok(dump(&VIEW, false).into())];
    let line = |value| serde_json::to_vec(&Response::Ok(value)).expect("JSON");
    values.into_iter().map(|value| line(value.expect("JSON"))).collect()
}

/// What the program in the kernel would do.
fn test_run(frame: &[u8]) -> TestRun {
    let (action, frame) = Native::new(&VIEW.generation.tables.read()).run(frame);
    TestRun { action: action.code(), frame }
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
