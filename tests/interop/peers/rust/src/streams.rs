//! What both roles do with streams: read the JSON object at the start without losing what follows it, and hash what passes.
use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use serde_json::Value;
use sha2::{Digest, Sha256};

pub const CHUNK: usize = 32 * 1024;
const OBJECT_LIMIT: usize = 64 * 1024;
const HEAD: usize = 1024;

/// The reading side of a stream, with what was read too far.
pub struct Inbox<R> {
    reader: R,
    surplus: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Inbox<R> {
    pub fn new(reader: R) -> Self {
        Inbox::behind(Vec::new(), reader)
    }

    /// Bytes that were read before, and what the reader brings after them.
    pub fn behind(surplus: Vec<u8>, reader: R) -> Self {
        Inbox { reader, surplus }
    }

    /// What was read behind the object.
    pub fn surplus(self) -> Vec<u8> {
        self.surplus
    }

    /// The next bytes; 0 at the end.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.surplus.is_empty() {
            return self.reader.read(buffer).await;
        }
        let count = buffer.len().min(self.surplus.len());
        buffer[..count].copy_from_slice(&self.surplus[..count]);
        self.surplus.drain(..count);
        Ok(count)
    }

    /// The JSON object at the start, without the newline behind it.
    pub async fn read_object(&mut self) -> io::Result<Value> {
        let mut text = Vec::new();
        let mut buffer = vec![0; 4096];
        loop {
            if let Some(length) = object_length(&text) {
                let newline = usize::from(text.get(length) == Some(&b'\n'));
                self.surplus = text.split_off(length + newline);
                return Ok(serde_json::from_slice(&text)?);
            }
            let count = self.reader.read(&mut buffer).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            text.extend_from_slice(&buffer[..count]);
            if text.len() > OBJECT_LIMIT {
                return Err(io::Error::other("the object is too long"));
            }
        }
    }
}

/// How many bytes the JSON object at the start takes, when it is complete.
fn object_length(text: &[u8]) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (index, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' if !quoted => depth += 1,
            b'}' if !quoted && depth == 1 => return Some(index + 1),
            b'}' if !quoted => depth -= 1,
            _ => (),
        }
    }
    None
}

/// Sends bytes, and sees them off.
pub async fn send(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    writer.write_all(bytes).await?;
    writer.flush().await
}

/// sha256(seed ":" 0), sha256(seed ":" 1), ... cut to so many bytes, in chunks.
pub fn random(seed: String, bytes: usize) -> impl Iterator<Item = Vec<u8>> + Send {
    (0..bytes).step_by(CHUNK).map(move |start| {
        let end = bytes.min(start + CHUNK);
        let blocks = (start / 32..end.div_ceil(32)).flat_map(|block| Sha256::digest(format!("{seed}:{block}")));
        blocks.take(end - start).collect()
    })
}

/// Counts and hashes what passes, and keeps its first bytes.
#[derive(Default)]
pub struct Tally {
    hash: Sha256,
    head: Vec<u8>,
    pub count: usize,
}

impl Tally {
    pub fn add(&mut self, bytes: &[u8]) {
        let room = bytes.len().min(HEAD - self.head.len());
        self.head.extend_from_slice(&bytes[..room]);
        self.hash.update(bytes);
        self.count += bytes.len();
    }

    pub fn sum(&self) -> String {
        hex(&self.hash.clone().finalize())
    }

    /// Puts `name`, `name_sha256` and `name_head` into a line.
    pub fn report(&self, line: &mut Value, name: &str) {
        line[name] = self.count.into();
        line[format!("{name}_sha256")] = self.sum().into();
        line[format!("{name}_head")] = hex(&self.head).into();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
