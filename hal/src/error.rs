//! The errors of the hardware-abstraction layer.

use crate::{Buffer, DType};
use std::sync::Arc;

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong on a device. Cheap to clone, because asynchronous errors are sticky: every later
/// wait reports the first one again.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An op's operands or attributes contradict its definition.
    #[error("{op}: {message}")]
    InvalidOp {
        /// The op's name.
        op: String,
        /// What is wrong, with the value, and what would be right.
        message: String,
    },
    /// A tensor reference reaches outside its buffer, or is otherwise malformed.
    #[error("tensor of {dtype} {shape:?} with strides {strides:?} at element {offset}: {message}")]
    InvalidTensor {
        /// Element type.
        dtype: DType,
        /// Shape, outermost axis first.
        shape: Vec<usize>,
        /// Strides in elements.
        strides: Vec<usize>,
        /// Offset in elements from the start of the buffer.
        offset: usize,
        /// What is wrong.
        message: String,
    },
    /// The device can't do the op, neither itself nor composed of core ops.
    #[error("{device} can't do {op}: {reason}")]
    Unsupported {
        /// The device's selector.
        device: String,
        /// The op's name.
        op: String,
        /// Why not.
        reason: String,
    },
    /// A limit of the device would be exceeded.
    #[error("{what}: {requested} requested, at most {maximum} on {device}")]
    Limit {
        /// The device's selector.
        device: String,
        /// Which limit.
        what: String,
        /// The value asked for.
        requested: u64,
        /// The largest value allowed.
        maximum: u64,
    },
    /// The device has no memory left.
    #[error("{device} is out of memory: {requested} bytes requested, {available} of {limit} available")]
    OutOfMemory {
        /// The device's selector.
        device: String,
        /// Bytes asked for.
        requested: u64,
        /// Bytes still free.
        available: u64,
        /// Bytes the device may use in all.
        limit: u64,
    },
    /// A transfer or copy reaches outside a buffer.
    #[error("{action} of bytes {start}..{end} is outside the buffer of {size} bytes")]
    OutOfRange {
        /// The transfer: upload, download or copy.
        action: &'static str,
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
        /// The buffer's size.
        size: u64,
    },
    /// A buffer belongs to another device.
    #[error("a buffer of {found} was given to {device}; copy it with `copy_across` first")]
    WrongDevice {
        /// The device that was called.
        device: String,
        /// The device that owns the buffer.
        found: String,
    },
    /// A recording's slot was bound wrongly.
    #[error("slot {slot}: {message}")]
    Slot {
        /// The slot's number.
        slot: u32,
        /// What is wrong.
        message: String,
    },
    /// A selector names no device.
    #[error("no device {selector:?}: {reason}; available: {}", available.join(", "))]
    NoDevice {
        /// The selector as given.
        selector: String,
        /// Why it matches nothing.
        reason: String,
        /// Selectors that would work.
        available: Vec<String>,
    },
    /// No profile of that name exists.
    #[error("no profile {name:?}; there are: {}", available.join(", "))]
    NoProfile {
        /// The name as given.
        name: String,
        /// The profiles that exist.
        available: Vec<String>,
    },
    /// The device is gone: reset, unplugged or given up by its driver. Its memory is lost; open it anew.
    #[error("{device} is lost: {message}")]
    DeviceLost {
        /// The device's selector.
        device: String,
        /// What happened, in the driver's words.
        message: String,
    },
    /// Something failed inside a backend.
    #[error("{device}: {message}")]
    Backend {
        /// The device's selector.
        device: String,
        /// What failed, in the driver's words.
        message: String,
        /// The underlying error, where there is one.
        #[source]
        source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    },
}

impl Error {
    /// An [`Error::InvalidOp`].
    pub fn invalid_op(op: impl Into<String>, message: impl Into<String>) -> Self {
        Error::InvalidOp { op: op.into(), message: message.into() }
    }

    /// An [`Error::Backend`] without an underlying error.
    pub fn backend(device: impl Into<String>, message: impl Into<String>) -> Self {
        Error::Backend { device: device.into(), message: message.into(), source: None }
    }

    /// An [`Error::OutOfRange`] unless `bytes` bytes from `offset` lie inside `buffer`.
    pub fn check_range(action: &'static str, buffer: &Buffer, offset: u64, bytes: u64) -> Result<()> {
        let end = offset.saturating_add(bytes);
        if end > buffer.bytes() {
            return Err(Error::OutOfRange { action, start: offset, end, size: buffer.bytes() });
        }
        Ok(())
    }
}
