//! Text that nobody may see.

use std::convert::Infallible;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::text::secrets;

/// A password or a token. It cannot be printed, and is wiped from memory when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text in, and enters it into the registry of [secrets](crate::text::secrets), so that no message repeats it.
    pub fn new(text: impl Into<String>) -> Self {
        let secret = Secret(Zeroizing::new(text.into()));
        secrets::remember(&secret.0);
        secret
    }

    /// The text itself, for the one request or file that it is meant for.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Hash for Secret {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.expose().hash(state);
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    /// Any text is one: a refusal would show it.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Secret::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Some(Secret::new("planted"))), "Some(***)");
    }
}
