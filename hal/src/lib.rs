//! Halite's hardware-abstraction layer: what a device is, the op catalogue and its reference meaning.
//!
//! A model is written against [`Device`]: *do these operations on these buffers.* Operations are data:
//! an [`Op`] is an [`OpKind`] (attributes) plus [`TensorRef`] operands; its [`OpDesc`] (attributes and
//! layouts, no buffers) is the key for support, tuning and conformance. A list of ops with planned
//! temporaries is a [`Graph`]; a device turns it into a [`Recording`] that is replayed without looking
//! at it again.
//!
//! About twenty ops are *core*; [`compose`] writes every other op in terms of them, so a backend that
//! has only the core ops trains and serves. [`mod@reference`] is the plain f64 meaning of each op, also as
//! a device of its own; `conformance` (a feature) checks any device
//! against it.

pub mod blocks;
mod buffer;
pub mod compose;
#[cfg(feature = "conformance")]
pub mod conformance;
mod device;
pub mod devices;
mod dtype;
mod error;
mod graph;
mod info;
mod op;
pub mod philox;
pub mod plan;
pub mod reference;
mod registry;
mod shape;
mod tensor;

mod transfer;

pub use buffer::{Buffer, Storage};
pub use device::{
    Binding, Device, Event, EventState, MemoryStats, Readback, Recording, StreamId, Support, TransferState,
    prepare,
};
pub use dtype::DType;
pub use error::{Error, Result};
pub use graph::{Graph, Slot, SlotKind};
pub use info::{DeviceInfo, DeviceKind, DeviceOptions, MatrixShape, Profile};
pub use op::{
    AdamW, Attention, BinaryFn, CustomOp, CustomRef, Distribution, GroupScore, Layout, Op, OpDesc, OpKind,
    ReduceFn, Router, Scalar, ScoreFn, UnaryFn,
};
pub use registry::{Backend, Registry, Selector};
pub use shape::{MAX_RANK, Shape, Strides};
pub use tensor::{Packing, Source, TensorRef};
pub use transfer::copy_across;
