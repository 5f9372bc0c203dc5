//! Signed and sealed names, and tokens (docs/names.md; P-10, P-15).
//!
//! A provider's page generator makes them with this crate and a key; a redirector that has the same key checks them. The
//! crate knows no configuration and does no input or output, so that any program can link it.
//!
//! ```
//! use redirector_names::{Key, Purpose, Scope, sign_name, verify_name};
//!
//! let key = Key::new(7, &[1; 32]);
//! let name = sign_name(&key, Purpose::Grade, "index.*.web.abc.cdn.acme.net", None)?;
//! let labels: Vec<&str> = name.split('.').collect();
//! assert!(verify_name(|id| (id == 7).then_some(&key), Purpose::Grade, &labels, 1, 0).is_ok());
//! # Ok::<(), redirector_names::NameError>(())
//! ```

mod error;
mod key;
mod name;
mod seal;
mod tag;
mod token;

pub use error::{NameError, Rejected};
pub use key::{Key, Purpose, SECRET};
pub use name::{sign_name, verify_name};
pub use seal::{Opened, is_part, longest_codepoint, open, seal};
pub use tag::{MAC, MARK, Tag};
pub use token::{Scope, sign_url, verify_url};
