//! The SSH wire encoding (RFC 4251, section 5): big-endian numbers and length-prefixed strings.
//!
//! It knows nothing of keys or signatures. Reading past the end is `None`: the caller knows what was cut short.

/// Reads values off the front of a buffer.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader(bytes)
    }

    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|taken| taken[0])
    }

    pub(super) fn uint32(&mut self) -> Option<u32> {
        let taken = self.take(4)?;
        Some(u32::from_be_bytes(taken.try_into().ok()?))
    }

    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.uint32()?;
        self.take(usize::try_from(length).ok()?)
    }

    /// A string that must be UTF-8 without control characters: type, namespace and algorithm names.
    pub(super) fn name(&mut self) -> Option<&'a str> {
        let text = std::str::from_utf8(self.string()?).ok()?;
        (!text.contains(char::is_control)).then_some(text)
    }

    /// A positive `mpint` in its one shortest form, as its significant bytes.
    pub(super) fn positive_integer(&mut self) -> Option<&'a [u8]> {
        match self.string()? {
            [0, rest @ ..] if rest.first().is_some_and(|first| first & 0x80 != 0) => Some(rest),
            [0, ..] | [] => None,
            bytes if bytes[0] & 0x80 != 0 => None,
            bytes => Some(bytes),
        }
    }

    /// What is left.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Nothing may be left.
    pub(super) fn finish(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Appends a length-prefixed string. Callers pass keys, names and hashes, never anything near 4 GiB.
pub(super) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("keys, names and hashes are short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_longer_than_what_is_left_is_not_read() {
        assert_eq!(Reader::new(&[0, 0, 0, 5, b'a']).string(), None);
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff]).string(), None);
        assert_eq!(Reader::new(&[0, 0]).string(), None);
    }

    #[test]
    fn an_integer_has_one_form_only() {
        let read = |bytes: &[u8]| {
            let mut wire = Vec::new();
            put_string(&mut wire, bytes);
            Reader::new(&wire).positive_integer().map(<[u8]>::to_vec)
        };
        assert_eq!(read(&[1, 0, 1]), Some(vec![1, 0, 1]));
        assert_eq!(read(&[0, 0x80]), Some(vec![0x80]));
        assert_eq!(read(&[0, 0x7f]), None, "a zero in front that is not needed");
        assert_eq!(read(&[0x80]), None, "negative");
        assert_eq!(read(&[]), None, "zero");
        assert_eq!(read(&[0]), None, "zero, written long");
    }
}
