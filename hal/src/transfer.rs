//! Copies between devices.

use crate::{Buffer, Device, Error, Result, StreamId};

/// Bytes staged at a time, so that host memory stays small.
const PIECE: u64 = 64 << 20;

/// Copies `bytes` bytes from one device's buffer to another's through the host, in pieces. Each end is
/// `(device, stream, buffer, offset)`.
pub fn copy_across(
    from: (&dyn Device, StreamId, &Buffer, u64),
    to: (&dyn Device, StreamId, &Buffer, u64),
    bytes: u64,
) -> Result<()> {
    Error::check_range("copy_across", from.2, from.3, bytes)?;
    Error::check_range("copy_across", to.2, to.3, bytes)?;
    let mut done = 0;
    while done < bytes {
        let piece = PIECE.min(bytes - done);
        let data = from.0.download(from.1, from.2, from.3 + done, piece)?.wait()?;
        to.0.upload(to.1, to.2, to.3 + done, &data)?;
        done += piece;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::{NullDevice, TraceDevice, TraceEvent};
    use crate::{DeviceInfo, DeviceKind};
    use std::sync::Arc;

    #[test]
    fn nothing_is_copied_where_not_everything_can_be() {
        let s = StreamId(0);
        let null = |i| NullDevice::new(DeviceInfo::new("null", i, "null", DeviceKind::Software));
        let (a, b) = (null(0), TraceDevice::new(Arc::new(null(1))));
        let (from, to) = (a.allocate(PIECE + 8, 0).unwrap(), b.allocate(PIECE + 8, 0).unwrap());
        for (start, at, bytes) in [(0, 4, PIECE + 8), (4, 0, PIECE + 8), (u64::MAX, 0, PIECE + 1)] {
            let result = copy_across((&a, s, &from, start), (&b, s, &to, at), bytes);
            assert!(matches!(result, Err(Error::OutOfRange { .. })), "{result:?}");
        }
        assert_eq!(b.take(), []);
        copy_across((&a, s, &from, 4), (&b, s, &to, 1), PIECE + 4).unwrap();
        assert_eq!(b.take(), [TraceEvent::Upload(PIECE), TraceEvent::Upload(4)]);
    }
}
