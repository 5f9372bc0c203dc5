//! What can be wrong with names that are made, and with tags and seals that are checked.

use std::fmt;

/// Why a name or token cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameError {
    /// The name, a label of it, or its characters are none that names can have; says what.
    Name(String),
    /// The name has not exactly one label `*` for the tag.
    Place,
    /// The URL is none that a token can be for; says what.
    Url(String),
    /// The codepoint has more bytes than a sealed name with this suffix can hold.
    TooLong {
        /// Bytes of the codepoint.
        bytes: usize,
        /// What there is room for.
        room: usize,
    },
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(what) | Self::Url(what) => f.write_str(what),
            Self::Place => f.write_str("write exactly one label `*`, where the tag is to stand"),
            Self::TooLong { bytes, room } => {
                write!(f, "the codepoint has {bytes} bytes, and a sealed name has room for {room}")
            }
        }
    }
}

impl std::error::Error for NameError {}

/// Why a tag, token or sealed name is good for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// There is none.
    Missing,
    /// It is not what such a thing looks like.
    Malformed,
    /// Its key is not one that may be used for this, or not at this time.
    UnknownKey(u8),
    /// Its time was over at this Unix time.
    Expired(u32),
    /// It is for clients of another network, or forged.
    OtherClient,
    /// It was not made with the key that it names, or for something else.
    Forged,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is none"),
            Self::Malformed => f.write_str("malformed"),
            Self::UnknownKey(id) => write!(f, "key {id} is not one that counts here and now"),
            Self::Expired(at) => write!(f, "expired at Unix time {at}"),
            Self::OtherClient => f.write_str("for clients of another network, or forged"),
            Self::Forged => f.write_str("forged, or made for something else"),
        }
    }
}

impl std::error::Error for Rejected {}
