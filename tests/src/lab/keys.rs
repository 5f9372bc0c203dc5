//! Keys of names and tokens, as a box of the lab has them.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// The secret of key number `id`.
#[must_use]
pub fn secret(id: u8) -> [u8; 32] {
    [id.wrapping_mul(0x11); 32]
}

/// Writes the file of key number `id`, which its owner alone can read.
///
/// # Errors
/// If it cannot be written.
pub fn key_file(dir: &Path, id: u8) -> Result<PathBuf> {
    let path = dir.join(format!("key-{id}"));
    let digits: String = secret(id).iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(&path, digits + "\n").with_context(|| path.display().to_string())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(path)
}

/// The tables `[[key]]` of keys by number and use; each is called `k` and its number.
///
/// # Errors
/// If a file cannot be written.
pub fn keys(dir: &Path, uses: &[(u8, &str)]) -> Result<String> {
    let one = |(id, how): &(u8, &str)| {
        let file = key_file(dir, *id)?;
        let file = file.display();
        Ok(format!("[[key]]\nname = \"k{id}\"\nid = {id}\nfile = \"{file}\"\nuse = \"{how}\"\n"))
    };
    uses.iter().map(one).collect()
}
