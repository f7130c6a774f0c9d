//! Copies between devices.

use crate::{Buffer, Device, Result, StreamId};

/// Bytes staged at a time, so that host memory stays small.
const PIECE: u64 = 64 << 20;

/// Copies `bytes` bytes from one device's buffer to another's through the host, in pieces. Each end is
/// `(device, stream, buffer, offset)`.
pub fn copy_across(
    from: (&dyn Device, StreamId, &Buffer, u64),
    to: (&dyn Device, StreamId, &Buffer, u64),
    bytes: u64,
) -> Result<()> {
    let mut done = 0;
    while done < bytes {
        let piece = PIECE.min(bytes - done);
        let data = from.0.download(from.1, from.2, from.3 + done, piece)?.wait()?;
        to.0.upload(to.1, to.2, to.3 + done, &data)?;
        done += piece;
    }
    Ok(())
}
