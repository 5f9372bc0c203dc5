//! The workspace's tests, by name, each run by itself: independent of which runner is installed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{build::Artifacts, cmd::Cmd, test};

/// A test of the workspace.
#[derive(Debug)]
pub(crate) struct TestCase {
    /// `crate::path::test`. For a test under `tests/`, the crate is the package, and the file comes next.
    pub(crate) name: String,
    /// What the test executable calls it.
    path: String,
    executable: PathBuf,
    package_dir: PathBuf,
}

impl TestCase {
    /// Runs the test in a process of its own. One that skips itself, or is marked to be ignored, does not pass.
    pub(crate) fn passes(&self, artifacts: &Artifacts) -> bool {
        let run = Cmd::new(&self.executable)
            .args(["--exact", &self.path])
            .dir(&self.package_dir)
            .envs(artifacts.envs())
            .env("CARGO_MANIFEST_DIR", &self.package_dir)
            // So that a missing capability fails the test.
            .env("CI", "true");
        let line = run.to_string();
        let (passed, why) = match run.into_inner().output() {
            Ok(output) => {
                // A test's panic is in what the runner prints at its end.
                let [out, err] =
                    [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
                (output.status.success() && out.contains("test result: ok. 1 passed"), out + &err)
            }
            Err(error) => (false, error.to_string()),
        };
        println!("{} {}", if passed { "pass" } else { "FAIL" }, self.name);
        if !passed {
            println!("$ {line}\n{why}");
        }
        passed
    }
}

/// A test's name with the package's hyphens as the crate has them.
pub(crate) fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// Compiles all tests and asks each executable what is in it.
pub(crate) fn build_and_list(artifacts: &Artifacts) -> Result<Vec<TestCase>> {
    let messages = test::cargo(artifacts)
        .args(["test", "--workspace", "--tests", "--no-run", "--message-format=json-render-diagnostics"])
        .read()?;
    let mut tests = Vec::new();
    for message in messages.lines() {
        let message: Value = serde_json::from_str(message).context("what cargo says of its artefacts")?;
        let Some(binary) = TestBinary::from_message(&message) else { continue };
        let list = Cmd::new(&binary.executable)
            .args(["--list", "--format=terse"])
            .dir(&binary.package_dir)
            .read()?;
        let paths = list.lines().filter_map(|line| line.strip_suffix(": test"));
        tests.extend(paths.map(|path| binary.case(path)));
    }
    Ok(tests)
}

/// A compiled test executable.
struct TestBinary {
    /// What its tests' names begin with.
    prefix: String,
    executable: PathBuf,
    package_dir: PathBuf,
}

impl TestBinary {
    /// From one of cargo's JSON messages, if that is about a test executable.
    fn from_message(message: &Value) -> Option<Self> {
        let is_test = message["profile"]["test"].as_bool()?;
        let executable = PathBuf::from(message["executable"].as_str()?);
        let package_dir = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
        let target = message["target"]["name"].as_str()?;
        let kind = message["target"]["kind"][0].as_str()?;
        let prefix = match kind {
            "test" => format!("{}::{target}", package_name(message["package_id"].as_str()?)),
            _ => target.to_owned(),
        };
        is_test.then(|| Self { prefix: canonical(&prefix), executable, package_dir })
    }

    fn case(&self, path: &str) -> TestCase {
        TestCase {
            name: format!("{}::{path}", self.prefix),
            path: path.to_owned(),
            executable: self.executable.clone(),
            package_dir: self.package_dir.clone(),
        }
    }
}

/// The name in a package ID: `path+file:///a/tests#redirector-tests@0.1.0`, or `path+file:///a/cdsr#0.1.0`
/// where folder and package have the same name.
fn package_name(id: &str) -> &str {
    let (url, fragment) = id.rsplit_once('#').unwrap_or((id, ""));
    fragment.split_once('@').map_or_else(|| url.rsplit('/').next().unwrap_or(url), |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::*;

    fn message(kind: &str, target: &str, package_id: &str) -> Value {
        serde_json::json!({
            "reason": "compiler-artifact", "package_id": package_id, "manifest_path": "/a/tests/Cargo.toml",
            "target": { "kind": [kind], "name": target }, "profile": { "test": true }, "executable": "/t/x-1"
        })
    }

    #[test]
    fn tests_are_named_by_crate_and_path() {
        let name = |message: &Value| TestBinary::from_message(message).unwrap().case("m::t").name;
        assert_eq!(
            name(&message("lib", "redirector_core", "path+file:///a/core#redirector-core@0.1.0")),
            "redirector_core::m::t"
        );
        assert_eq!(
            name(&message("test", "fast-path", "path+file:///a/tests#redirector-tests@0.1.0")),
            "redirector_tests::fast_path::m::t"
        );
        assert_eq!(name(&message("test", "stub", "path+file:///a/cdsr#0.1.0")), "cdsr::stub::m::t");
    }

    #[test]
    fn an_artifact_that_is_no_test_is_left_out() {
        let mut built = message("bin", "redirector", "path+file:///a/redirector#0.1.0");
        built["profile"]["test"] = false.into();
        assert!(TestBinary::from_message(&built).is_none());
    }

    #[test]
    fn a_test_that_fails_or_does_not_exist_is_no_proof() {
        let this = |path: &str| TestCase {
            name: path.to_owned(),
            path: path.to_owned(),
            executable: env::current_exe().unwrap(),
            package_dir: env::current_dir().unwrap(),
        };
        let artifacts = Artifacts {
            object: "/nonexistent".into(),
            bin_dir: "/nonexistent".into(),
            next_dir: "/nonexistent".into(),
        };
        assert!(this("test_list::tests::tests_are_named_by_crate_and_path").passes(&artifacts));
        assert!(!this("test_list::tests::no_such_test").passes(&artifacts));
    }
}
