//! Zstandard (RFC 8878) around an archive, in frames of their own for what is compressed already: those cost nothing.

use std::io::{self, BufRead, BufReader, Read, Write};

use zstd::stream::raw::{DParameter, Decoder, Operation};

/// The first bytes of a frame.
pub(super) const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Reads what is compressed. A window of more than 8 MiB is refused, and so is what unpacks to nothing: skippable and
/// empty frames, in which anything could be carried along that nobody sealed.
pub(super) struct Unpacker<R> {
    input: BufReader<R>,
    decoder: Decoder<'static>,
    frame: Frame,
}

/// Where the reader is.
enum Frame {
    Between,
    /// The beginning of a frame that was read to know what it is, and how much of it the decoder took.
    Begun([u8; MAGIC.len()], usize),
    Inside {
        /// Whether the frame has unpacked to something yet.
        content: bool,
    },
}

impl<R: Read> Unpacker<R> {
    pub(super) fn new(input: R) -> io::Result<Unpacker<R>> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG))?;
        Ok(Unpacker { input: BufReader::with_capacity(BLOCK, input), decoder, frame: Frame::Between })
    }

    /// Begins a frame; `false` where the input ends.
    fn begin(&mut self) -> io::Result<bool> {
        let mut magic = [0; MAGIC.len()];
        if self.input.fill_buf()?.is_empty() {
            return Ok(false);
        }
        self.input.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "what follows is no frame with content"));
        }
        self.decoder.reinit()?;
        self.frame = Frame::Begun(magic, 0);
        Ok(true)
    }
}

impl<R: Read> Read for Unpacker<R> {
    fn read(&mut self, output: &mut [u8]) -> io::Result<usize> {
        if output.is_empty() {
            return Ok(0);
        }
        loop {
            let (status, content) = match &mut self.frame {
                Frame::Between => match self.begin()? {
                    true => continue,
                    false => return Ok(0),
                },
                Frame::Begun(magic, taken) => {
                    let status = self.decoder.run_on_buffers(&magic[*taken..], output)?;
                    *taken += status.bytes_read;
                    if *taken == magic.len() {
                        self.frame = Frame::Inside { content: false };
                    }
                    continue;
                }
                Frame::Inside { content } => {
                    let input = self.input.fill_buf()?;
                    let status = self.decoder.run_on_buffers(input, output)?;
                    // The decoder may still hold what came before the end of the input.
                    if input.is_empty() && status.bytes_written == 0 && status.remaining > 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    self.input.consume(status.bytes_read);
                    *content |= status.bytes_written > 0;
                    (status, *content)
                }
            };
            if status.remaining == 0 {
                if !content {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame has no content"));
                }
                self.frame = Frame::Between;
            }
            if status.bytes_written > 0 {
                return Ok(status.bytes_written);
            }
        }
    }
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
