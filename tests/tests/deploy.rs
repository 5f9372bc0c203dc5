//! What is shipped for other programs is taken by them.

use redirector_tests::require_commands;
use std::fs;
use std::path::Path;
use std::process::Command;

/// BIRD takes the sample as its comments say to include it.
#[test]
fn routing_daemon_takes_the_sample_configuration() {
    if !require_commands(&["bird"]) {
        return;
    }
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/bird.conf").canonicalize().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let takes = |sample: &Path| {
        let main = dir.path().join("bird.conf");
        let include =
            format!("router id 198.18.0.5;\nprotocol device {{}}\ninclude \"{}\";\n", sample.display());
        fs::write(&main, include).unwrap();
        let output = Command::new("bird").arg("-p").arg("-c").arg(&main).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (taken, said) = takes(&sample);
    assert!(taken, "{said}");
    // Not everything is taken.
    let broken = dir.path().join("broken.conf");
    fs::write(
        &broken,
        fs::read_to_string(&sample).unwrap().replacen("REDIRECTOR_VIP4 ", "REDIRECTOR_VIP ", 1),
    )
    .unwrap();
    let (taken, said) = takes(&broken);
    assert!(!taken && said.contains("broken.conf:"), "{said}");
}
