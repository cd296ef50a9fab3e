//! Zstandard (RFC 8878) around an archive, in frames of their own for what is compressed already: those cost nothing.

use std::io::{self, Read, Write};

/// The first bytes of a frame.
pub(super) const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Reads what is compressed. A window of more than 8 MiB is refused.
pub(super) fn decoder(input: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let mut decoder = zstd::stream::read::Decoder::new(input)?;
    decoder.window_log_max(WINDOW_LOG)?;
    Ok(Box::new(decoder))
}

/// Writes frames: compressed ones, and ones that hold the bytes as they are.
pub(super) struct Frames<W: Write> {
    state: State<W>,
}

enum State<W: Write> {
    Between(W),
    Packing(zstd::stream::write::Encoder<'static, W>),
    Plain {
        output: W,
        block: Vec<u8>,
    },
    /// A write has failed.
    Broken,
}

impl<W: Write> Frames<W> {
    pub(super) fn new(output: W) -> Frames<W> {
        Frames { state: State::Between(output) }
    }

    /// Goes on in a frame that compresses.
    pub(super) fn pack(&mut self) -> io::Result<()> {
        if matches!(self.state, State::Packing(_)) {
            return Ok(());
        }
        let mut encoder = zstd::stream::write::Encoder::new(self.end()?, LEVEL)?;
        encoder.window_log(PACKED_WINDOW_LOG)?;
        encoder.include_contentsize(false)?;
        self.state = State::Packing(encoder);
        Ok(())
    }

    /// Goes on in a frame that does not compress.
    pub(super) fn plain(&mut self) -> io::Result<()> {
        if matches!(self.state, State::Plain { .. }) {
            return Ok(());
        }
        let mut output = self.end()?;
        // No size, no checksum, no dictionary; a window of one block (RFC 8878, 3.1.1.1).
        output.write_all(&MAGIC)?;
        output.write_all(&[0, ((BLOCK_LOG - 10) << 3) as u8])?;
        self.state = State::Plain { output, block: Vec::with_capacity(BLOCK) };
        Ok(())
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        match &mut self.state {
            State::Packing(encoder) => encoder.write_all(bytes),
            State::Plain { output, block } => {
                while !bytes.is_empty() {
                    if block.len() == BLOCK {
                        write_block(output, block, 0)?;
                        block.clear();
                    }
                    let (now, later) = bytes.split_at(bytes.len().min(BLOCK - block.len()));
                    block.extend_from_slice(now);
                    bytes = later;
                }
                Ok(())
            }
            State::Between(_) | State::Broken => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Ends the last frame.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.end()
    }

    fn end(&mut self) -> io::Result<W> {
        match std::mem::replace(&mut self.state, State::Broken) {
            State::Between(output) => Ok(output),
            State::Packing(encoder) => encoder.finish(),
            State::Plain { mut output, block } => {
                write_block(&mut output, &block, 1)?;
                Ok(output)
            }
            State::Broken => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

/// A block whose bytes are as they are (RFC 8878, 3.1.1.2).
fn write_block(output: &mut impl Write, bytes: &[u8], last: u32) -> io::Result<()> {
    let header = ((bytes.len() as u32) << 3 | last).to_le_bytes();
    output.write_all(&header[..3])?;
    output.write_all(bytes)
}

/// Whether content that begins so is compressed already: gzip, zstd, xz, bzip2, zip.
pub(super) fn is_packed(beginning: &[u8]) -> bool {
    const KNOWN: [&[u8]; 5] = [&[0x1f, 0x8b], &MAGIC, &[0xfd, b'7', b'z', b'X', b'Z'], b"BZh", b"PK\x03\x04"];
    KNOWN.iter().any(|known| beginning.starts_with(known))
}

/// What is read: a window of 8 MiB.
const WINDOW_LOG: u32 = 23;
/// What is written: a window of 2 MiB, so that compressing takes a few MiB of memory.
const PACKED_WINDOW_LOG: u32 = 21;
const LEVEL: i32 = 3;
/// The largest block of the format, 128 KiB.
const BLOCK: usize = 1 << BLOCK_LOG;
const BLOCK_LOG: u32 = 17;
