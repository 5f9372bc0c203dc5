//! Reads test vectors (docs/cdsr-protocol.md, appendix A). Crates take it in by `#[path]`, so that the client and the
//! redirector are held to the same files by the same reader.

use std::fs;
use std::path::{Path, PathBuf};

/// One case.
#[derive(Debug)]
pub(crate) struct Vector {
    /// File name without extension.
    pub(crate) name: String,
    fields: Vec<(String, String)>,
}

impl Vector {
    /// All cases of `tests/vectors/cdsr` whose name begins with `prefix`, by name.
    pub(crate) fn all(prefix: &str) -> Vec<Self> {
        Self::all_of("tests/vectors/cdsr", prefix)
    }

    /// All cases of a folder of the project whose name begins with `prefix`, by name.
    pub(crate) fn all_of(folder: &str, prefix: &str) -> Vec<Self> {
        let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let places = crate_folder.ancestors().map(|above| above.join(folder));
        let folder = places.into_iter().find(|place| place.is_dir()).expect(folder);
        let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
            .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
            .map(|entry| entry.expect("a directory entry").path())
            .collect();
        paths.sort();
        let vectors: Vec<Self> =
            paths.iter().map(|path| Self::read(path)).filter(|v| v.name.starts_with(prefix)).collect();
        assert!(!vectors.is_empty(), "no vectors {prefix}* in {}", folder.display());
        vectors
    }

    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in text.lines() {
            let line = if line.starts_with('#') { "" } else { line.split(" #").next().unwrap_or("") };
            if line.starts_with(' ') {
                let (_, value) = fields.last_mut().expect("a continued value follows a key");
                value.push_str(line);
            } else if !line.is_empty() {
                let (key, value) =
                    line.split_once(':').unwrap_or_else(|| panic!("{}: {line}", path.display()));
                fields.push((key.to_owned(), value.trim().to_owned()));
            }
        }
        let name = path.file_stem().expect("a file name").to_string_lossy().into_owned();
        Self { name, fields }
    }

    /// All values of a key.
    pub(crate) fn list(&self, key: &str) -> Vec<&str> {
        self.fields.iter().filter(|(k, _)| k == key).map(|(_, value)| value.trim()).collect()
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.list(key).first().copied()
    }

    /// The value of a key that must be there.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.get(key).unwrap_or_else(|| panic!("{}: no {key}", self.name))
    }

    /// The number of a key, 0 if it is not there.
    pub(crate) fn number(&self, key: &str) -> u64 {
        self.get(key).map_or(0, |text| text.parse().unwrap_or_else(|e| panic!("{}: {key}: {e}", self.name)))
    }

    /// The request's datagram with its padding.
    pub(crate) fn request(&self) -> Vec<u8> {
        let mut bytes = self.bytes("request");
        bytes.resize(bytes.len() + usize::try_from(self.number("pad")).expect("a length"), 0);
        bytes
    }

    /// The bytes of a key.
    pub(crate) fn bytes(&self, key: &str) -> Vec<u8> {
        let digits: Vec<u8> = self.text(key).bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        assert!(digits.len().is_multiple_of(2), "{}: {key}: half a byte", self.name);
        let byte = |pair: &[u8]| {
            let pair = std::str::from_utf8(pair).expect("hexadecimal digits");
            u8::from_str_radix(pair, 16).unwrap_or_else(|e| panic!("{}: {key}: {pair}: {e}", self.name))
        };
        digits.chunks(2).map(byte).collect()
    }
}
